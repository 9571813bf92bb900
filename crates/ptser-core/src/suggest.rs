//! The names nearest to one that is not there.

/// Up to three of `names` that a typing error or a lost prefix would turn into `wanted`, nearest first.
pub(crate) fn nearest<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Vec<&'n str> {
    let mut ranked: Vec<(usize, &str)> =
        names.into_iter().filter_map(|name| Some((distance(wanted, name)?, name))).collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.truncate(3);
    ranked.into_iter().map(|(_, name)| name).collect()
}

/// How far apart two names are; `None` where nobody would confuse them.
fn distance(wanted: &str, name: &str) -> Option<usize> {
    // A prefix such as `module.` or `encoder.` more or less is the usual mistake.
    let suffix =
        |long: &str, short: &str| long.strip_suffix(short).is_some_and(|prefix| prefix.ends_with('.'));
    if suffix(name, wanted) || suffix(wanted, name) {
        return Some(1);
    }
    let longest = wanted.len().max(name.len());
    let most = (longest / 6).saturating_add(1);
    if name.is_empty() || wanted.len().abs_diff(name.len()) > 3 || longest > 200 {
        return None;
    }
    levenshtein(wanted.as_bytes(), name.as_bytes(), most).map(|found| found.saturating_add(1))
}

/// The edit distance, if it is at most `most`.
fn levenshtein(a: &[u8], b: &[u8], most: usize) -> Option<usize> {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i.saturating_add(1);
        let mut least = left;
        let mut cells = row.iter_mut();
        if let Some(first) = cells.next() {
            *first = left;
        }
        for (cell, b) in cells.zip(b) {
            let replace = diagonal.saturating_add(usize::from(a != b));
            diagonal = *cell;
            left = replace.min(cell.saturating_add(1)).min(left.saturating_add(1));
            *cell = left;
            least = least.min(left);
        }
        // No later row falls below this one: most names are given up after a few letters.
        if least > most {
            return None;
        }
    }
    row.last().copied().filter(|&distance| distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_and_lost_prefixes_are_near() {
        let names = ["fc.weight", "fc.bias", "module.conv.weight", "classifier.weight"];
        assert_eq!(nearest("fc.wieght", names), ["fc.weight"]);
        assert_eq!(nearest("conv.weight", names), ["module.conv.weight"]);
        assert!(nearest("embedding.table", names).is_empty());
        assert_eq!(levenshtein(b"kitten", b"sitting", 3), Some(3));
        assert_eq!(levenshtein(b"kitten", b"sitting", 2), None);
    }
}
