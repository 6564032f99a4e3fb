//! The small parts that both architectures are made of, with PyTorch's names, shapes and initial values.

use candle_core::{Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::init::{Init, ONE, ZERO};
use convnn_core::ops::{self, Activation, DropoutMask, Statistics};
use convnn_core::{Pass, Result, fan_in_uniform};

/// y = x Wᵀ + b over the last dimension: (…, I) → (…, O).
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// `weight` (O, I) and `bias` (O).
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(inputs: usize, outputs: usize, builder: VarBuilder) -> Result<Self> {
        Self::with_gain(inputs, outputs, 1.0, builder)
    }

    /// As [`Self::new`], with initial values of `gain` times the usual size.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub(crate) fn with_gain(inputs: usize, outputs: usize, gain: f64, builder: VarBuilder) -> Result<Self> {
        let bound = gain / (inputs as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let weight = builder.get_with_hints((outputs, inputs), "weight", init)?;
        Ok(Self { weight, bias: Some(builder.get_with_hints(outputs, "bias", init)?) })
    }

    /// `weight` (O, I) alone.
    ///
    /// # Errors
    /// Where `builder` holds another shape.
    pub fn without_bias(inputs: usize, outputs: usize, builder: VarBuilder) -> Result<Self> {
        let weight = builder.get_with_hints((outputs, inputs), "weight", fan_in_uniform(inputs))?;
        Ok(Self { weight, bias: None })
    }

    /// The layer that gives the `i`th of `parts` equal shares of the outputs; it has no bias.
    ///
    /// Slices of the weight are cheaper than slices of the output, whose gradients would have to be put together.
    pub(crate) fn part(&self, i: usize, parts: usize) -> Result<Self> {
        let outputs = self.weight.dim(0)? / parts;
        Ok(Self { weight: self.weight.narrow(0, i * outputs, outputs)?, bias: None })
    }

    /// (O, I).
    pub const fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// (O), where the layer has one.
    pub const fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// (…, I) → (…, O).
    ///
    /// # Errors
    /// Where the last dimension is not I.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }

    /// The linear layer over `repeats` copies of each input, side by side as an average pool of a 1×1 map leaves them.
    pub(crate) fn forward_repeated(&self, x: &Tensor, repeats: usize) -> Result<Tensor> {
        ops::repeated_linear(x, &self.weight, self.bias.as_ref(), repeats)
    }
}

/// Normalises the last dimension, eps 1e-5, and scales and shifts it: `weight` (C) = 1, `bias` (C) = 0.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    /// Over `width` channels.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(width: usize, builder: VarBuilder) -> Result<Self> {
        let weight = builder.get_with_hints(width, "weight", ONE)?;
        Ok(Self { weight, bias: builder.get_with_hints(width, "bias", ZERO)? })
    }

    /// (…, C) → (…, C).
    ///
    /// # Errors
    /// Where the last dimension is not C.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias)
    }
}

/// Normalises each channel over batch and tokens, eps 1e-5, and applies ReLU.
///
/// `weight` (C) = 1, `bias` (C) = 0, and the running statistics `running_mean` (C) = 0 and `running_var` (C) = 1, which
/// training moves by a tenth of the way to those of the batch, the variance unbiased, and evaluation uses.
#[derive(Clone, Debug)]
pub struct BatchNormRelu {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl BatchNormRelu {
    /// Over `width` channels.
    ///
    /// # Errors
    /// Where `builder` holds other shapes.
    pub fn new(width: usize, builder: VarBuilder) -> Result<Self> {
        let get = |name, init| builder.get_with_hints(width, name, init);
        Ok(Self {
            weight: get("weight", ONE)?,
            bias: get("bias", ZERO)?,
            // A variable stays the same variable, so that the statistics are saved with the other parameters.
            running_mean: Var::from_tensor(&get("running_mean", ZERO)?)?,
            running_var: Var::from_tensor(&get("running_var", ONE)?)?,
        })
    }

    /// (…, C) → (…, C).
    ///
    /// # Errors
    /// Where the last dimension is not C.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (running_mean, running_var) = (&self.running_mean, &self.running_var);
        let statistics = if pass.is_training() {
            Statistics::Batch { running_mean, running_var }
        } else {
            Statistics::Running { mean: running_mean.as_tensor(), variance: running_var.as_tensor() }
        };
        ops::batch_norm(x, &self.weight, &self.bias, statistics, Activation::Relu)
    }
}

/// Zeroes each element with probability p in training, and divides the others by 1 − p.
#[derive(Clone, Debug)]
pub struct Dropout {
    probability: f64,
    path: String,
}

impl Dropout {
    /// Draws from the stream of `path`, the name of the layer in the model.
    pub fn new(probability: f64, path: impl Into<String>) -> Self {
        Self { probability, path: path.into() }
    }

    /// The mask of this pass, for ops that take dropout in; `None` in evaluation.
    ///
    /// # Errors
    /// A probability outside 0 to 1.
    pub fn mask(&self, pass: &Pass) -> Result<Option<DropoutMask>> {
        if !pass.is_training() || self.probability == 0.0 {
            return Ok(None);
        }
        DropoutMask::draw(self.probability, &mut pass.generator("dropout", &self.path)).map(Some)
    }

    /// (…) → (…); the input itself in evaluation.
    ///
    /// # Errors
    /// As [`Self::mask`].
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        if !pass.is_training() || self.probability == 0.0 {
            return Ok(x.clone());
        }
        ops::dropout(x, self.probability, &mut pass.generator("dropout", &self.path))
    }
}
