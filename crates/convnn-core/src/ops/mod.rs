//! Tensor operations with exact gradients: a plain reference of each, and a fused CPU kernel where one is worth it.
//!
//! Tokens are rows: (B, N, C) contiguous. Unless said otherwise, inputs may be strided, and all of it works in f32 and f64.

