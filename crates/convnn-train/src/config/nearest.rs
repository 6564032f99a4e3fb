//! The known name nearest to a mistyped one.

use strsim::levenshtein;

/// The name in `known` with the smallest edit distance to `name`.
///
/// The parts after the last dot are compared by themselves too, so that `neighbours` finds `layer.neighbors`; a match of
/// whole names takes precedence.
pub(super) fn nearest<'a>(name: &str, known: &'a [String]) -> &'a str {
    fn last(name: &str) -> &str {
        name.rsplit('.').next().unwrap_or(name)
    }
    let distance = |known: &str| levenshtein(name, known).min(levenshtein(last(name), last(known)) + 1);
    known.iter().min_by_key(|known| distance(known)).map_or("", |nearest| nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

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
