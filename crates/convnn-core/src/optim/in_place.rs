//! An optimizer over named variables.

use super::apply::{Update, apply};
use super::gradient_norm;
use crate::error::ensure;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;

/// The options of an optimizer, which say how it updates a variable.
pub trait Rule: Clone {
    /// The update of a variable.
    type Update: Update;

    /// What the names of the tensors that are remembered add to the name of the variable; at most two.
    fn memory(&self) -> &'static [&'static str];

    /// The options that all optimizers have.
    fn common(&self) -> Common;

    /// Its decay rates by name: numbers of at least 0 below 1.
    fn decays(&self) -> Vec<(&'static str, f64)>;

    /// Fails if an option has a value that no step can be made with.
    fn check(&self) -> Result<()> {
        let layer = Self::Update::NAME;
        let Common { learning_rate, weight_decay, clip_grad_norm, clip_grad_value, .. } = self.common();
        for (name, decay) in self.decays() {
            ensure((0.0..1.0).contains(&decay), layer, name, decay, "a number of at least 0 below 1")?;
        }
        for (name, value) in [("learning_rate", learning_rate), ("weight_decay", weight_decay)] {
            ensure(value.is_finite() && value >= 0.0, layer, name, value, "a number of at least 0")?;
        }
        for (name, clip) in [("clip_grad_norm", clip_grad_norm), ("clip_grad_value", clip_grad_value)] {
            let clip = clip.unwrap_or(1.0);
            ensure(clip > 0.0, layer, name, clip, "a number above 0")?;
        }
        Ok(())
    }

    /// Replaces the learning rate.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The update that a step makes.
    fn update(&self, step: Step) -> Self::Update;
}

/// The options that all optimizers have.
pub struct Common {
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub decay_norms_and_biases: bool,
    pub clip_grad_norm: Option<f64>,
    pub clip_grad_value: Option<f64>,
}

impl Common {
    /// [`Step::grad_scale`] and [`Step::grad_limit`] for a gradient with this norm.
    pub fn clip(&self, norm: f64) -> (f64, f64) {
        // As in torch.nn.utils.clip_grad_norm_.
        let scale = self.clip_grad_norm.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        (scale, self.clip_grad_value.unwrap_or(f64::INFINITY))
    }
}

/// The numbers of a step for one variable.
#[derive(Clone, Copy)]
pub struct Step {
    /// The number of the step, counted from 1.
    pub number: u64,
    /// The gradient is multiplied by this first.
    pub grad_scale: f64,
    /// Then its numbers are moved into −limit … limit.
    pub grad_limit: f64,
    /// The weight decay of the variable.
    pub weight_decay: f64,
}

/// An optimizer with options `C`: [`AdamW`](super::AdamW) or [`Sgd`](super::Sgd).
#[derive(Debug)]
pub struct InPlace<C> {
    config: C,
    slots: Vec<Slot>,
    updates: u64,
}

/// A variable with what is remembered of it.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    memory: Vec<Var>,
}

impl<C: Rule> InPlace<C> {
    /// An optimizer of `vars`, such as those of [`Parameters::trainable`](crate::Parameters::trainable). The names are
    /// those of [`Self::state`].
    ///
    /// # Errors
    /// [`Error::Option`] for options that no optimizer can work with, and [`Error::DType`] for variables in half precision,
    /// in which the small numbers of a step would be 0.
    pub fn named(vars: Vec<(String, Var)>, config: C) -> Result<Self> {
        config.check()?;
        let memories = config.memory();
        let slot = |(name, var): (String, Var)| {
            refuse_half(C::Update::NAME, &var)?;
            let zeros = memories.iter().map(|_| Var::zeros(var.shape(), var.dtype(), var.device()));
            Ok(Slot { name, memory: zeros.collect::<candle_core::Result<_>>()?, var })
        };
        let slots = vars.into_iter().map(slot).collect::<Result<_>>()?;
        Ok(Self { config, slots, updates: 0 })
    }

    /// Updates every variable that has a gradient; returns the norm of all gradients together, before clipping.
    ///
    /// If the norm is not finite, nothing is updated.
    ///
    /// # Errors
    /// [`Error::Shape`] if a gradient does not have the shape of its variable.
    pub fn update(&mut self, gradients: &GradStore) -> Result<f64> {
        let norm = gradient_norm(&self.gradients(gradients).collect::<Vec<_>>())?;
        if norm.is_finite() {
            self.update_given_norm(gradients, norm)?;
        }
        Ok(norm)
    }

    /// The gradients of its variables.
    pub(super) fn gradients<'a>(&self, gradients: &'a GradStore) -> impl Iterator<Item = &'a Tensor> {
        self.slots.iter().filter_map(|slot| gradients.get(&slot.var))
    }

    /// [`Self::update`], where `norm` is the norm of all gradients, those of other optimizers included.
    pub(super) fn update_given_norm(&mut self, gradients: &GradStore, norm: f64) -> Result<()> {
        let options = self.config.common();
        let (grad_scale, grad_limit) = options.clip(norm);
        self.updates += 1;
        for Slot { var, memory, .. } in &self.slots {
            let Some(gradient) = gradients.get(var) else { continue };
            let decays = options.decay_norms_and_biases || var.rank() > 1;
            let weight_decay = if decays { options.weight_decay } else { 0.0 };
            let step = Step { number: self.updates, grad_scale, grad_limit, weight_decay };
            apply(&self.config.update(step), var, memory, gradient)?;
        }
        Ok(())
    }

    /// The number of updates so far.
    pub const fn updates(&self) -> u64 {
        self.updates
    }

    /// What is remembered of every variable, by name, such as `NAME.first_moment`.
    ///
    /// The tensors share storage with the optimizer: the next update changes them.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let named = |slot: &Slot| {
            let tensors = slot.memory.iter().map(|var| var.as_tensor().clone());
            self.names(slot).zip(tensors).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(named).collect()
    }

    /// Continues after `updates` updates with a copy of what [`Self::state`] returned then.
    ///
    /// A variable of which `state` holds nothing starts with zeros, as before its first gradient.
    ///
    /// # Errors
    /// [`Error::OptimizerState`] if `state` holds only one of a variable's two tensors, a tensor that belongs to no
    /// variable, or one of another shape; the optimizer is then unchanged.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        let mut memories = Vec::with_capacity(self.slots.len());
        let mut found = 0;
        for slot in &self.slots {
            let tensors: Vec<_> = self.names(slot).filter_map(|name| Some((state.get(&name)?, name))).collect();
            found += tensors.len();
            let memory = match tensors.len() {
                0 => slot.memory.iter().map(|var| Ok(Var::from_tensor(&var.zeros_like()?)?)).collect::<Result<_>>()?,
                n if n == slot.memory.len() => {
                    tensors.iter().map(|(tensor, name)| copy(name, tensor, &slot.var)).collect::<Result<Vec<_>>>()?
                }
                _ => return Err(Error::OptimizerState(format!("tensors of `{}` are missing", slot.name))),
            };
            memories.push(memory);
        }
        if found < state.len() {
            let others = state.len() - found;
            return Err(Error::OptimizerState(format!("{others} of {} tensors belong to no parameter", state.len())));
        }
        for (slot, memory) in self.slots.iter_mut().zip(memories) {
            slot.memory = memory;
        }
        self.updates = updates;
        Ok(())
    }

    fn names(&self, slot: &Slot) -> impl Iterator<Item = String> {
        self.config.memory().iter().map(|suffix| format!("{}{suffix}", slot.name))
    }
}

/// Fails for half precision, in which the small numbers of a step would round to 0.
pub(super) fn refuse_half(op: &'static str, var: &Var) -> Result<()> {
    let expected = || "F32 or F64; train such a copy of weights in half precision".to_owned();
    match var.dtype() {
        DType::F16 | DType::BF16 => {
            Err(Error::DType { op, tensor: "variable", found: var.dtype(), expected: expected() })
        }
        _ => Ok(()),
    }
}

/// A copy of `tensor` in the precision of `var` and on its device.
///
/// # Errors
/// [`Error::OptimizerState`] if it has another shape.
pub(super) fn copy(name: &str, tensor: &Tensor, var: &Var) -> Result<Var> {
    if tensor.dims() != var.dims() {
        let (found, expected) = (tensor.dims(), var.dims());
        return Err(Error::OptimizerState(format!("tensor `{name}` has shape {found:?}; expected {expected:?}")));
    }
    // Detached, because `Var::from_tensor` shares the storage of a variable and copies that of any other tensor.
    let tensor = tensor.detach().to_dtype(var.dtype())?.to_device(var.device())?;
    Ok(Var::from_tensor(&tensor)?)
}

/// Variables are named by their positions. A gradient whose norm is not finite is an error.
impl<C: Rule> candle_nn::Optimizer for InPlace<C> {
    type Config = C;

    fn new(vars: Vec<Var>, config: C) -> candle_core::Result<Self> {
        Ok(Self::named(vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect(), config)?)
    }

    fn step(&mut self, gradients: &GradStore) -> candle_core::Result<()> {
        let (name, norm) = (C::Update::NAME, self.update(gradients)?);
        match norm.is_finite() {
            true => Ok(()),
            false => candle_core::bail!("{name}: the norm of the gradient is {norm}; no parameter was updated"),
        }
    }

    fn learning_rate(&self) -> f64 {
        self.config.common().learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.config.set_learning_rate(learning_rate);
    }

    fn backward_step(&mut self, loss: &Tensor) -> candle_core::Result<()> {
        self.step(&crate::backward(loss)?)
    }
}
