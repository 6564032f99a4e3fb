//! A walk along the spectrum between convolution and attention, from trained layers in ConvNN form.
//!
//! `cargo run --release -p convnn-core --example spectrum`
//!
//! A convolution and an attention layer are trained to remove noise, then converted: the ConvNN forms give equal
//! outputs. From there one number at a time moves to its other end, and the table tells how far the outputs move,
//! ‖y − y₀‖ / ‖y₀‖, and the squared error that is left of the task:
//!
//! - λ, what makes two pixels neighbors: 0 their positions, as in a convolution, 1 their features. From `position` to
//!   λ = 0 the nine pixels stay the same, but no longer come in raster order: the kernel meets them by their rank, so
//!   its columns are put in the order of distance first, and only pixels equally far change places.
//! - branch ratio: the share of the output channels whose neighbors are chosen by features.
//! - K: how many tokens attention reaches, from all of them (attention) down to one (KVT attention between the two).

use candle_core::{DType, Device, Tensor};
use candle_nn::{Linear, Module, VarBuilder};
use convnn_core::nn::softmax;
use convnn_core::operator::convolution;
use convnn_core::optim::{AdamW, AdamWConfig};
use convnn_core::random::streams;
use convnn_core::{
    AttentionWeights, Branching2d, Branching2dConfig, Compare, ConvNn2d, ConvNn2dConfig, ConvNnAttention, Grid,
    Parameters, Pass, Result, Similarity, Streams, backward, fan_in_uniform,
};
use std::collections::HashMap;

const CHANNELS: usize = 8;
const SIDE: usize = 16;

fn main() -> Result<()> {
    let streams = Streams::new(0);
    let (noisy, clean) = maps(&streams)?;
    let (weight, bias) = trained_convolution(&streams, &noisy, &clean)?;
    let start = ConvNn2d::from_convolution(&weight, Some(&bias))?;
    let pass = Pass::evaluation();
    let y0 = start.forward_t(&noisy, &pass)?;
    println!("From a trained 3x3 convolution on {SIDE}x{SIDE} maps of {CHANNELS} channels to ConvNN with K = 9");
    let convolved = convolution(&tokens(&noisy)?, Grid::new(SIDE, SIDE), &weight, Some(&bias))?;
    println!("  the ConvNN form is off by {:.1e}", distance(&tokens(&y0)?, &convolved)?);

    let table = Table::new(&y0, &clean);
    table.head("λ");
    table.row("position", &y0)?;
    let by_rank = by_distance(&weight)?;
    for step in 0..=10 {
        let share = f64::from(step) / 10.0;
        table.row(&format!("{share:.1}"), &blended(&by_rank, &bias, share)?.forward_t(&noisy, &pass)?)?;
    }

    table.head("branch ratio");
    for step in 0..=8 {
        let ratio = f64::from(step) / 8.0;
        table.row(&format!("{ratio:.3}"), &hybrid(&weight, &by_rank, &bias, ratio)?.forward_t(&noisy, &pass)?)?;
    }

    let (noisy, clean) = sequences(&streams)?;
    let tokens = noisy.dim(1)?;
    let weights = trained_attention(&streams, &noisy, &clean)?;
    let y0 = ConvNnAttention::from_attention(&weights, 1, tokens)?.forward_t(&noisy, &pass)?;
    println!("\nFrom trained self-attention over {tokens} tokens to K = 1");
    println!("  the ConvNN form is off by {:.1e}", distance(&y0, &attention(&noisy, &weights)?)?);
    let table = Table::new(&y0, &clean);
    table.head("K");
    for neighbors in [tokens, 24, 16, 12, 9, 6, 4, 3, 2, 1] {
        // As a KVT layer keeps K scores of each row.
        let layer = ConvNnAttention::from_attention(&weights, 1, neighbors)?;
        table.row(&neighbors.to_string(), &layer.forward_t(&noisy, &pass)?)?;
    }
    Ok(())
}

/// The columns of a 3×3 kernel by distance from its middle: (O, C, 9).
fn by_distance(weight: &Tensor) -> Result<Tensor> {
    let order = Tensor::new(&[4u32, 1, 3, 5, 7, 0, 2, 6, 8], weight.device())?;
    Ok(weight.flatten_from(2)?.contiguous()?.index_select(&order, 2)?)
}

/// The layer whose neighbors are chosen by positions and features together.
fn blended(by_rank: &Tensor, bias: &Tensor, share: f64) -> Result<ConvNn2d> {
    let config =
        ConvNn2dConfig { similarity: Similarity::Euclidean, compare: Compare::Blend(share), ..Default::default() };
    ConvNn2d::from_tensors(&config, by_rank.clone(), bias.clone())
}

/// The first channels from neighbors by features, the others from the convolution.
fn hybrid(weight: &Tensor, by_rank: &Tensor, bias: &Tensor, ratio: f64) -> Result<Branching2d> {
    let branch = ConvNn2dConfig { similarity: Similarity::Euclidean, ..Default::default() };
    let config = Branching2dConfig { branch_ratio: ratio, branch, ..Default::default() };
    let first = config.branch_channels(CHANNELS);
    let eye = Tensor::eye(CHANNELS, weight.dtype(), weight.device())?;
    let mut tensors = HashMap::from([
        ("pointwise_conv.weight".to_owned(), eye.reshape((CHANNELS, CHANNELS, 1, 1))?),
        ("pointwise_conv.bias".to_owned(), bias.zeros_like()?),
    ]);
    if first > 0 {
        tensors.insert("branch1.conv1d_layer.weight".to_owned(), by_rank.narrow(0, 0, first)?.contiguous()?);
        tensors.insert("branch1.conv1d_layer.bias".to_owned(), bias.narrow(0, 0, first)?);
    }
    if first < CHANNELS {
        tensors.insert("branch2.weight".to_owned(), weight.narrow(0, first, CHANNELS - first)?.contiguous()?);
        tensors.insert("branch2.bias".to_owned(), bias.narrow(0, first, CHANNELS - first)?);
    }
    Branching2d::new(CHANNELS, CHANNELS, &config, VarBuilder::from_tensors(tensors, DType::F32, weight.device()))
}

/// Prints where the outputs are on the way.
struct Table<'a> {
    start: &'a Tensor,
    clean: &'a Tensor,
}

impl<'a> Table<'a> {
    const fn new(start: &'a Tensor, clean: &'a Tensor) -> Self {
        Self { start, clean }
    }

    fn head(&self, name: &str) {
        println!("\n  {name:>12}   moved   error");
    }

    fn row(&self, value: &str, y: &Tensor) -> Result<()> {
        let error = (y - self.clean)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
        println!("  {value:>12}  {:6.3}  {error:6.3}", distance(y, self.start)?);
        Ok(())
    }
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &Tensor, b: &Tensor) -> Result<f32> {
    let square = |t: &Tensor| t.sqr()?.sum_all()?.to_scalar::<f32>();
    Ok((square(&(a - b)?)? / square(b)?).sqrt())
}

fn tokens(map: &Tensor) -> Result<Tensor> {
    Ok(map.flatten_from(2)?.t()?.contiguous()?)
}

/// Maps of disks, each with a color, with noise and without: (4, C, H, W).
fn maps(streams: &Streams) -> Result<(Tensor, Tensor)> {
    let mut generator = streams.generator("maps");
    let mut values = vec![0f32; 4 * CHANNELS * SIDE * SIDE];
    for map in values.chunks_mut(CHANNELS * SIDE * SIDE) {
        for _ in 0..6 {
            let [y, x, radius] = [SIDE, SIDE, 4].map(|most| streams::uniform(&mut generator) * most as f64 + 1.0);
            for channel in map.chunks_mut(SIDE * SIDE) {
                let color = streams::normal(&mut generator) as f32;
                for (pixel, value) in channel.iter_mut().enumerate() {
                    let (down, right) = ((pixel / SIDE) as f64 - y, (pixel % SIDE) as f64 - x);
                    if down.hypot(right) < radius {
                        *value = color;
                    }
                }
            }
        }
    }
    let clean = Tensor::from_vec(values, (4, CHANNELS, SIDE, SIDE), &Device::Cpu)?;
    Ok(((&clean + noise(streams, "maps/noise", clean.dims())?)?, clean))
}

/// Sequences whose tokens are one of four vectors, with noise and without: (4, 32, C).
fn sequences(streams: &Streams) -> Result<(Tensor, Tensor)> {
    let kinds = (noise(streams, "kinds", &[4, CHANNELS])? * 3.0)?;
    let mut generator = streams.generator("sequences");
    let choice: Vec<u32> = (0..4 * 32).map(|_| streams::below(&mut generator, 4) as u32).collect();
    let clean = kinds.index_select(&Tensor::new(choice, &Device::Cpu)?, 0)?.reshape((4, 32, CHANNELS))?;
    Ok(((&clean + noise(streams, "sequences/noise", clean.dims())?)?, clean))
}

fn noise(streams: &Streams, name: &str, shape: &[usize]) -> Result<Tensor> {
    let mut generator = streams.generator(name);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| 0.5 * streams::normal(&mut generator) as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// A 3×3 convolution (C, C, 3, 3) with its bias (C), trained to give the clean maps.
fn trained_convolution(streams: &Streams, noisy: &Tensor, clean: &Tensor) -> Result<(Tensor, Tensor)> {
    let parameters = Parameters::new(streams, DType::F32, &Device::Cpu);
    let init = fan_in_uniform(9 * CHANNELS);
    let weight = parameters.builder().get_with_hints((CHANNELS, CHANNELS, 3, 3), "weight", init)?;
    let bias = parameters.builder().get_with_hints(CHANNELS, "bias", init)?;
    let (x, target) = (tokens(noisy)?, tokens(clean)?);
    let grid = Grid::new(SIDE, SIDE);
    train(&parameters, || Ok((convolution(&x, grid, &weight, Some(&bias))? - &target)?))?;
    Ok((weight, bias))
}

/// Attention of one head, trained to give the clean tokens.
fn trained_attention(streams: &Streams, noisy: &Tensor, clean: &Tensor) -> Result<AttentionWeights> {
    let parameters = Parameters::new(streams, DType::F32, &Device::Cpu);
    let vb = parameters.builder();
    let matrix = |name: &str| -> Result<Linear> {
        Ok(Linear::new(vb.get_with_hints((CHANNELS, CHANNELS), name, fan_in_uniform(CHANNELS))?, None))
    };
    let weights =
        AttentionWeights { query: matrix("query")?, key: matrix("key")?, value: matrix("value")?, out: matrix("out")? };
    train(&parameters, || Ok((attention(noisy, &weights)? - clean)?))?;
    Ok(weights)
}

/// softmax(Q Kᵀ / √d) V, then the output projection.
fn attention(x: &Tensor, weights: &AttentionWeights) -> Result<Tensor> {
    let (q, k, v) = (weights.query.forward(x)?, weights.key.forward(x)?, weights.value.forward(x)?);
    let scores = (q.matmul(&k.t()?)? / (CHANNELS as f64).sqrt())?;
    Ok(weights.out.forward(&softmax(&scores)?.matmul(&v)?)?)
}

/// Makes the mean square of what `error` gives small.
fn train(parameters: &Parameters, error: impl Fn() -> Result<Tensor>) -> Result<()> {
    let config = AdamWConfig { learning_rate: 1e-2, weight_decay: 0.0, ..AdamWConfig::default() };
    let mut optimizer = AdamW::named(parameters.trainable(), config)?;
    for _ in 0..300 {
        optimizer.update(&backward(&error()?.sqr()?.mean_all()?)?)?;
    }
    Ok(())
}
