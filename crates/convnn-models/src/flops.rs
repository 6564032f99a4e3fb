//! What the layers and architectures count their operations with; see [`ModelConfig::flops`](crate::ModelConfig::flops).

/// `rows` rows times a matrix (inputs, outputs).
pub(crate) const fn matmul(rows: usize, inputs: usize, outputs: usize) -> u64 {
    2 * rows as u64 * inputs as u64 * outputs as u64
}
