//! Names of tensors: as wrappers and the authors' later code write them, and as they may be shown.

use candle_core::Tensor;
use std::collections::BTreeMap;

/// Prefixes that wrappers put before every name: data parallel training, compilation, lightning modules.
const WRAPPERS: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// The kernel's name in the fast layers of the authors' 2026 code, and in every other layer.
const FAST_KERNEL: (&str, &str) = (".attention.conv_weight", ".attention.conv.weight");

/// What marks the authors' branching over tokens.
const BRANCHING_TOKENS: &str = ".attention.convnn.";

/// The longest part of a foreign name that a message shows.
const SHOWN: usize = 120;

/// `text` from a foreign file with control characters escaped, so that it cannot steer a terminal, and cut if long.
pub(super) fn printable(text: &str) -> String {
    let mut escaped = text.chars().flat_map(char::escape_debug);
    let mut shown: String = escaped.by_ref().take(SHOWN).collect();
    if escaped.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Removes prefixes that every name has.
pub(super) fn unwrap(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    while let Some(wrapper) =
        WRAPPERS.iter().find(|wrapper| !tensors.is_empty() && tensors.keys().all(|name| name.starts_with(**wrapper)))
    {
        tensors = tensors.into_iter().map(|(name, tensor)| (name[wrapper.len()..].to_owned(), tensor)).collect();
    }
    tensors
}

/// Renames the kernels of fast layers; returns whether there were any.
pub(super) fn rename_fast_kernels(tensors: &mut BTreeMap<String, Tensor>) -> bool {
    let fast: Vec<_> = tensors.keys().filter(|name| name.ends_with(FAST_KERNEL.0)).cloned().collect();
    for name in &fast {
        if let Some(tensor) = tensors.remove(name) {
            tensors.insert(name.replace(FAST_KERNEL.0, FAST_KERNEL.1), tensor);
        }
    }
    !fast.is_empty()
}

/// Exchanges the query and key projections of every ViT block.
pub(super) fn exchange_queries_and_keys(tensors: &mut BTreeMap<String, Tensor>) {
    const QUERY: &str = ".attention.W_q.weight";
    let queries: Vec<_> = tensors.keys().filter(|name| name.ends_with(QUERY)).cloned().collect();
    for query in queries {
        let key = query.replace(".W_q.", ".W_k.");
        if let (Some(first), Some(second)) = (tensors.remove(&query), tensors.remove(&key)) {
            tensors.insert(key, first);
            tensors.insert(query, second);
        }
    }
}

/// The first name that belongs to the authors' branching over tokens.
pub(super) fn branching_tokens(tensors: &BTreeMap<String, Tensor>) -> Option<&str> {
    tensors.keys().find(|name| name.contains(BRANCHING_TOKENS)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn foreign_text_is_shown_without_control_characters() {
        assert_eq!(printable("features.0.weight"), "features.0.weight");
        assert_eq!(printable("a\x1b[2J\r\n\u{202e}b"), "a\\u{1b}[2J\\r\\n\\u{202e}b");
        assert_eq!(printable(&"x".repeat(500)).chars().count(), 121);
    }
}
