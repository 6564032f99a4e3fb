//! The roof: how fast this machine multiplies matrices, with which all other speeds are compared.

use super::work::normal;
use crate::Result;
use convnn_core::nn;
use std::time::Instant;

/// Rows, inner dimension, columns: a neighbor aggregation, a classifier, the hidden layer of a Vision Transformer, and a
/// large square.
const SHAPES: [[usize; 3]; 4] = [[8192, 1152, 256], [128, 4096, 4096], [6304, 192, 768], [2048, 2048, 2048]];

/// Repeats of each shape after a warm-up.
const REPEATS: usize = 5;

/// The speed of the fastest product of two f32 matrices.
#[derive(Clone, Copy, Debug)]
pub struct GemmRoof {
    /// Billions of operations per second, 2 per multiply-add.
    pub gflops: f64,
    /// Number of threads.
    pub threads: usize,
}

/// Multiplies matrices of a few shapes on all threads, with Candle's matrix product and the tiled one of [`nn::linear()`],
/// both of which use the crate `gemm`.
pub fn gemm_roof() -> Result<GemmRoof> {
    let mut best = f64::INFINITY; // seconds per operation
    for [rows, inner, columns] in SHAPES {
        let (x, weight) = (normal((rows, inner), "x")?, normal((columns, inner), "weight")?);
        let transposed = weight.t()?.contiguous()?;
        let operations = (2 * rows * inner * columns) as f64;
        for repeat in 0..=REPEATS {
            for tiled in [false, true] {
                let started = Instant::now();
                match tiled {
                    false => drop(x.matmul(&transposed)?),
                    true => drop(nn::linear(&x, &weight, None)?),
                }
                if repeat > 0 {
                    best = best.min(started.elapsed().as_secs_f64() / operations);
                }
            }
        }
    }
    Ok(GemmRoof { gflops: 1e-9 / best, threads: rayon::current_num_threads() })
}
