//! Symbols of the specification, and common words for keys.

/// A word for a key.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// The word.
    pub word: &'static str,
    /// The key that is meant.
    pub key: &'static str,
    /// What comes before the value; `lambda=0.5` is `layer.compare=blend:0.5`.
    pub before: &'static str,
}

const fn word(word: &'static str, key: &'static str) -> Word {
    Word { word, key, before: "" }
}

/// The symbols, which are words for their keys too.
const SYMBOLS: &[Word] = &[
    word("B", "batch_size"),
    word("K", "layer.neighbors"),
    word("κ", "layer.kernel_size"),
    word("p", "layer.padding"),
    word("s", "layer.shuffle_scale"),
    Word { word: "λ", key: "layer.compare", before: "blend:" },
    word("M", "layer.candidates"),
    word("ρ", "layer.modulation"),
    word("P", "model.patch"),
    word("D", "model.dim"),
];

const WORDS: &[Word] = &[
    word("aug", "augmentation"),
    word("augment", "augmentation"),
    word("batch", "batch_size"),
    word("batchsize", "batch_size"),
    Word { word: "blend", key: "layer.compare", before: "blend:" },
    word("bs", "batch_size"),
    word("clip", "clip_grad_norm"),
    word("depth", "model.layers"),
    word("distance", "layer.similarity"),
    word("k", "layer.neighbors"),
    word("kappa", "layer.kernel_size"),
    Word { word: "lambda", key: "layer.compare", before: "blend:" },
    word("lr", "learning_rate"),
    word("metric", "layer.similarity"),
    word("num_neighbors", "layer.neighbors"),
    word("opt", "optimizer"),
    word("ratio", "layer.branch_ratio"),
    word("rho", "layer.modulation"),
    word("sampling", "layer.candidates"),
    word("scheduler", "schedule"),
    word("warmup", "warmup_epochs"),
    word("wd", "weight_decay"),
    word("width", "model.dim"),
];

/// The symbol of a key.
pub(super) fn symbol(key: &str) -> Option<&'static str> {
    SYMBOLS.iter().find(|word| word.key == key).map(|word| word.word)
}

/// What `text` may mean: letters of either case, and hyphens for underscores, unless it is a symbol.
pub(super) fn meanings(text: &str) -> impl Iterator<Item = &'static Word> {
    let symbol = SYMBOLS.iter().find(|word| word.word == text);
    let plain = text.to_lowercase().replace('-', "_");
    symbol.into_iter().chain(WORDS.iter().filter(move |word| symbol.is_none() && word.word == plain))
}

#[cfg(test)]
mod tests {
    use super::super::keys::keys;
    use super::*;

    #[test]
    fn every_word_is_for_a_key() {
        let all = keys().joined();
        for Word { word, key, .. } in SYMBOLS.iter().chain(WORDS) {
            assert!(all.iter().any(|(known, _)| known.name == *key), "{word}: there is no key `{key}`");
            assert!(all.iter().all(|(known, _)| known.name != *word), "{word} is a key itself");
        }
    }
}
