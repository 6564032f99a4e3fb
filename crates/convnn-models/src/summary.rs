//! What a model consists of and what it costs, row by row.

/// Which tokens a layer considers, and how many it keeps of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Number of candidates for each token.
    pub candidates: usize,
    /// K, the neighbors chosen among them.
    pub neighbors: usize,
}

/// A row of the summary of a model: one layer, or a part between layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// Prefix of its parameters, such as `features.0`.
    pub name: String,
    /// What it is, such as `branching_2d`.
    pub kind: String,
    /// Shape of its result for one image.
    pub output: Vec<usize>,
    /// Number of trainable values.
    pub parameters: usize,
    /// Floating-point operations of the forward pass of one image, as in
    /// [`ModelConfig::flops`](crate::ModelConfig::flops).
    pub flops: u64,
    /// Tokens that enter it, unless it has none.
    pub tokens: Option<usize>,
    /// The choice of neighbors, if there is one.
    pub choice: Option<Choice>,
    /// 4-byte values that a training step keeps for the backward pass, for one image.
    pub kept: u64,
}

impl LayerSummary {
    /// A row without tokens, parameters and costs; the number of parameters is filled in for the whole model.
    pub(crate) fn new(name: impl Into<String>, kind: impl Into<String>, output: &[usize]) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            output: output.to_vec(),
            parameters: 0,
            flops: 0,
            tokens: None,
            choice: None,
            kept: 0,
        }
    }
}
