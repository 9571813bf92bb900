//! Rows of text in aligned columns, without lines around them. Knows no command.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// The side of a column that its text stands on.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Left,
    Right,
}

/// One line a row, two spaces between columns, no spaces at the end. Nothing is wrapped or cut.
pub(crate) fn lay_out<'r>(sides: &[Side], rows: impl IntoIterator<Item = Vec<&'r str>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).add_rows(rows);
    for (column, side) in table.column_iter_mut().zip(sides) {
        column.set_padding((0, 2));
        column.set_cell_alignment(match side {
            Side::Left => CellAlignment::Left,
            Side::Right => CellAlignment::Right,
        });
    }
    if table.is_empty() { Vec::new() } else { table.lines().map(|line| line.trim_end().to_owned()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_characters_take_two_places() {
        let rows = [vec!["模型", "1"], vec!["abcd", "20"], vec!["", "300"]];
        assert_eq!(lay_out(&[Side::Left, Side::Right], rows), ["模型    1", "abcd   20", "      300"]);
        assert_eq!(lay_out(&[Side::Left], Vec::<Vec<&str>>::new()), Vec::<String>::new());
    }
}
