//! The known name nearest to a mistyped one.

/// The one of `known` with the smallest edit distance to `name`.
///
/// The part after the last point counts by itself too, so that `neighbours` finds `layer.neighbors`; a match of the
/// whole goes before.
pub(super) fn nearest<'a>(name: &str, known: &'a [String]) -> &'a str {
    let distance = |candidate: &str| {
        let last = candidate.rsplit('.').next().unwrap_or(candidate);
        edit_distance(name, candidate).min(edit_distance(name.rsplit('.').next().unwrap_or(name), last) + 1)
    };
    known.iter().min_by_key(|candidate| distance(candidate)).map_or("", |nearest| nearest)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", "abc"), 0);
    }

    #[test]
    fn the_nearest_name() {
        let known = ["epochs", "batch_size", "layer.neighbors", "layer.branch_ratio"].map(str::to_owned);
        for (name, expected) in [
            ("epoch", "epochs"),
            ("batchsize", "batch_size"),
            ("layer.neighbours", "layer.neighbors"),
            ("neighbours", "layer.neighbors"),
            ("model.branch_ratio", "layer.branch_ratio"),
        ] {
            assert_eq!(nearest(name, &known), expected);
        }
    }
}
