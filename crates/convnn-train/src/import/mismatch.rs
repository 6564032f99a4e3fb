//! How a checkpoint differs from a model.

use super::names::printable;

/// The tensors, by name and shape, that a checkpoint and a model do not share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mismatch {
    /// Parameters of the model that the checkpoint lacks.
    pub missing: Vec<(String, Vec<usize>)>,
    /// Tensors of the checkpoint that the model does not have.
    pub left_over: Vec<(String, Vec<usize>)>,
    /// Tensors of another shape: the shape found, then the shape expected.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Number of tensors that differ.
    pub fn count(&self) -> usize {
        self.missing.len() + self.left_over.len() + self.shapes.len()
    }

    /// The differences in one line, at most three of each kind by name.
    pub fn summary(&self) -> String {
        fn kind<T>(what: &str, all: &[T], name: impl Fn(&T) -> String) -> Option<String> {
            let shown: Vec<_> = all.iter().take(3).map(name).collect();
            let more = if all.len() > 3 { ", …" } else { "" };
            (!all.is_empty()).then(|| format!("{} {what}: {}{more}", all.len(), shown.join(", ")))
        }
        let named = |(name, shape): &(String, Vec<usize>)| format!("`{}` {shape:?}", printable(name));
        let parts = [
            kind("missing", &self.missing, named),
            kind("left over", &self.left_over, named),
            kind("of another shape", &self.shapes, |(name, found, expected)| {
                format!("`{}` is {found:?}, expected {expected:?}", printable(name))
            }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Every difference, one per line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let missing = self.missing.iter().map(|(name, shape)| format!("missing    {} {shape:?}", printable(name)));
        let left_over = self.left_over.iter().map(|(name, shape)| format!("left over  {} {shape:?}", printable(name)));
        let shapes = self
            .shapes
            .iter()
            .map(|(name, found, expected)| format!("shape      {} {found:?}, expected {expected:?}", printable(name)));
        missing.chain(left_over).chain(shapes)
    }
}
