//! Max pooling.

use super::{time_op, variable};
use convnn_core::{Grid, nn, reference};
use criterion::{Criterion, criterion_group};

/// Name, batch, side, channels: the pooled maps of VGG-11 at batch 128.
const MAPS: &[(&str, usize, usize, usize)] =
    &[("32x32x64", 128, 32, 64), ("8x8x256", 128, 8, 256), ("2x2x512", 128, 2, 512)];

fn max_pool(c: &mut Criterion) {
    for &(name, batch, side, channels) in MAPS {
        let grid = Grid::new(side, side);
        let x = &variable((batch, grid.tokens(), channels), name);
        let kernel = || Ok(nn::max_pool_2x2(x, grid)?.0);
        let reference = || Ok(reference::max_pool_2x2(x, grid)?.0);
        time_op(c, &format!("max_pool/{name}"), (batch * grid.tokens() * channels) as u64, &[x], kernel, reference);
    }
}

criterion_group!(benches, max_pool);
