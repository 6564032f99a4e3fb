//! Attention over all tokens and over the K best, and the sum that ends a residual branch.

use super::{time_op, variable};
use convnn_core::nn::{self, Attention, DropoutMask};
use convnn_core::{Streams, reference};
use criterion::{Criterion, criterion_group};

/// Name, heads, K.
const HEADS: &[(&str, usize, Option<usize>)] = &[("vit_tiny", 1, None), ("heads3", 3, None), ("kvt100", 1, Some(100))];
/// Images, tokens and width of ViT-Tiny.
const SIZES: (usize, usize, usize) = (8, 197, 192);

fn mask() -> DropoutMask {
    DropoutMask::draw(0.1, &mut Streams::new(0).generator("dropout/0/bench")).unwrap()
}

fn attention(c: &mut Criterion) {
    let (batch, tokens, width) = SIZES;
    for &(name, heads, neighbors) in HEADS {
        let qkv = &variable((batch, tokens, 3 * width), name);
        let options = Attention { heads, neighbors, dropout: Some(mask()) };
        let (kernel, reference) = (|| nn::attention(qkv, options), || reference::attention(qkv, options));
        time_op(c, &format!("attention/{name}"), (batch * tokens * tokens) as u64, &[qkv], kernel, reference);
    }
}

fn residual(c: &mut Criterion) {
    let (batch, tokens, width) = SIZES;
    let [x, y] = &["residual", "branch"].map(|name| variable((batch, tokens, width), name));
    let mask = Some(mask());
    let (kernel, reference) = (|| nn::add_dropout(x, y, mask), || reference::add_dropout(x, y, mask));
    time_op(c, "add_dropout/vit_tiny", (batch * tokens * width) as u64, &[x, y], kernel, reference);
}

criterion_group!(benches, attention, residual);
