//! What the layers and architectures count their operations and values with; see
//! [`ModelConfig::flops`](crate::ModelConfig::flops) and [`ModelConfig::memory`](crate::ModelConfig::memory).

/// A count beyond this stays there, so that sums of the counts of all layers do not overflow.
const MOST: u64 = 1 << 48;

/// `rows` rows times a matrix (inputs, outputs).
pub(crate) const fn matmul(rows: usize, inputs: usize, outputs: usize) -> u64 {
    elements(&[2, rows, inputs, outputs])
}

/// The product of `sides`: one operation per element.
pub(crate) const fn elements(sides: &[usize]) -> u64 {
    let (mut product, mut i) = (1u64, 0);
    while i < sides.len() {
        product = product.saturating_mul(sides[i] as u64);
        i += 1;
    }
    if product < MOST { product } else { MOST }
}

/// `rows` rows of `width` values.
pub(crate) const fn values(rows: usize, width: usize) -> u64 {
    elements(&[rows, width])
}
