//! What the layers and architectures count their operations and values with; see
//! [`ModelConfig::flops`](crate::ModelConfig::flops) and [`ModelConfig::memory`](crate::ModelConfig::memory).

/// `rows` rows times a matrix (inputs, outputs).
pub(crate) const fn matmul(rows: usize, inputs: usize, outputs: usize) -> u64 {
    2 * rows as u64 * inputs as u64 * outputs as u64
}

/// `rows` rows of `width` values.
pub(crate) const fn values(rows: usize, width: usize) -> u64 {
    (rows as u64).saturating_mul(width as u64)
}
