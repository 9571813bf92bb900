//! What was measured of a group, as a table in Markdown, which a terminal shows well enough.

use std::fmt;

use crate::groups::Group;
use crate::sample::Sample;
use crate::subjects::{Side, Subject};

/// What was measured of a group.
pub struct Table {
    pub group: &'static Group,
    pub rows: Vec<Row>,
}

/// What was measured of a subject.
pub struct Row {
    pub subject: &'static Subject,
    pub samples: Vec<Sample>,
    /// Why there is nothing.
    pub failure: Option<String>,
}

impl Row {
    /// The median time in milliseconds.
    pub fn median_ms(&self) -> Option<f64> {
        self.median(|sample| Some(sample.seconds * 1e3))
    }

    fn least_ms(&self) -> Option<f64> {
        self.samples.iter().map(|sample| sample.seconds * 1e3).min_by(f64::total_cmp)
    }

    fn median(&self, number: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        if self.failure.is_some() {
            return None;
        }
        let mut numbers: Vec<f64> = self.samples.iter().filter_map(number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.get(numbers.len() / 2).copied()
    }
}

impl Table {
    /// Whether ptser or a floor failed; peers may.
    pub fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.subject.side != Side::Peer && row.failure.is_some())
    }

    fn cells(&self) -> Vec<[String; 6]> {
        let first = self.rows.first().and_then(Row::median_ms);
        let heads = ["", "median ms", "least ms", "× the first", "peak MiB", "anonymous MiB"];
        let mut cells = vec![heads.map(str::to_owned)];
        for row in &self.rows {
            let name = match (&row.failure, row.subject.side) {
                (Some(failure), _) => format!("{} ({failure})", row.subject.name),
                (None, Side::Ptser) => format!("**{}**", row.subject.name),
                (None, _) => row.subject.name.to_owned(),
            };
            let ratio = row.median_ms().zip(first).map(|(median, first)| median / first);
            let cell = |number: Option<f64>, show: fn(f64) -> String| number.map_or("–".to_owned(), show);
            cells.push([
                name,
                cell(row.median_ms(), milliseconds),
                cell(row.least_ms(), milliseconds),
                cell(ratio, |ratio| format!("{ratio:.2}")),
                cell(row.median(|sample| Some(sample.peak_mib)), mebibytes),
                cell(row.median(|sample| sample.anonymous_mib), mebibytes),
            ]);
        }
        cells
    }
}

/// Three digits, or more where they stand before the point.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        100.0.. => format!("{ms:.0}"),
        10.0.. => format!("{ms:.1}"),
        1.0.. => format!("{ms:.2}"),
        _ => format!("{ms:.3}"),
    }
}

fn mebibytes(mib: f64) -> String {
    format!("{mib:.1}")
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Group { id, title, .. } = self.group;
        let cells = self.cells();
        let width = |column: usize| {
            cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
        };
        let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
        writeln!(f, "### {id}. {title}\n")?;
        for (place, row) in cells.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if place == 0 {
                for (column, width) in widths.into_iter().enumerate() {
                    match column {
                        0 => write!(f, "|-{:-<width$}-|", "")?,
                        _ => write!(f, "-{:-<width$}:|", "")?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}
