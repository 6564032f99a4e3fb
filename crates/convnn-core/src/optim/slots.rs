//! The variables of an optimizer, each with what the optimizer remembers of it.

use super::gradient_norm;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// What an optimizer remembers of a variable: tensors of its shape.
pub(super) trait Memory: Sized {
    /// What the names of the tensors add to the name of the variable.
    const SUFFIXES: &'static [&'static str];

    /// The tensors, in the order of the suffixes.
    fn tensors(&self) -> Vec<&Var>;

    /// The inverse of [`Self::tensors`]; `None` if tensors are missing.
    fn from_tensors(tensors: Vec<Var>) -> Option<Self>;
}

/// Variables by name, in the order given.
#[derive(Debug)]
pub(super) struct Slots<M>(Vec<Slot<M>>);

#[derive(Debug)]
struct Slot<M> {
    name: String,
    var: Var,
    memory: M,
}

impl<M: Memory> Slots<M> {
    pub fn new(vars: Vec<(String, Var)>, memory: impl Fn(&Var) -> Result<M>) -> Result<Self> {
        let slot = |(name, var): (String, Var)| Ok(Slot { name, memory: memory(&var)?, var });
        Ok(Self(vars.into_iter().map(slot).collect::<Result<_>>()?))
    }

    /// Calls `step` for every variable that has a gradient; its last argument is the factor that clips the gradient.
    ///
    /// Returns the norm of all gradients together. If it is not finite, `step` is not called.
    pub fn update(
        &mut self,
        gradients: &GradStore,
        clip: Option<f64>,
        step: impl Fn(&Var, &mut M, &Tensor, f64) -> Result<()>,
    ) -> Result<f64> {
        let present: Vec<&Tensor> = self.0.iter().filter_map(|slot| gradients.get(&slot.var)).collect();
        let norm = gradient_norm(&present)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        // As in torch.nn.utils.clip_grad_norm_.
        let scale = clip.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0));
        for Slot { var, memory, .. } in &mut self.0 {
            if let Some(gradient) = gradients.get(var) {
                step(var, memory, gradient, scale)?;
            }
        }
        Ok(norm)
    }

    pub fn state(&self) -> Vec<(String, Tensor)> {
        let named = |slot: &Slot<M>| {
            let tensors = slot.memory.tensors().into_iter().map(|var| var.as_tensor().clone());
            slot.names().zip(tensors).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(named).collect()
    }

    /// Takes over copies of what [`Self::state`] returned; an error changes nothing.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut memories = Vec::with_capacity(self.0.len());
        let mut found = 0;
        for slot in &self.0 {
            let tensors = slot.names().filter_map(|name| Some((state.get(&name)?, name)));
            let tensors: Vec<Var> = tensors.map(|(tensor, name)| slot.copy(&name, tensor)).collect::<Result<_>>()?;
            found += tensors.len();
            let missing = || Error::OptimizerState(format!("tensors of `{}` are missing", slot.name));
            memories.push(M::from_tensors(tensors).ok_or_else(missing)?);
        }
        if found < state.len() {
            let others = state.len() - found;
            return Err(Error::OptimizerState(format!("{others} of {} tensors belong to no parameter", state.len())));
        }
        for (slot, memory) in self.0.iter_mut().zip(memories) {
            slot.memory = memory;
        }
        Ok(())
    }
}

impl<M: Memory> Slot<M> {
    fn names(&self) -> impl Iterator<Item = String> {
        M::SUFFIXES.iter().map(|suffix| format!("{}{suffix}", self.name))
    }

    /// A copy in the variable's precision and on its device.
    fn copy(&self, name: &str, tensor: &Tensor) -> Result<Var> {
        if tensor.dims() != self.var.dims() {
            let (found, expected) = (tensor.dims(), self.var.dims());
            return Err(Error::OptimizerState(format!("tensor `{name}` has shape {found:?}; expected {expected:?}")));
        }
        // Detached, because `Var::from_tensor` shares the storage of a variable and copies that of any other tensor.
        let tensor = tensor.detach().to_dtype(self.var.dtype())?.to_device(self.var.device())?;
        Ok(Var::from_tensor(&tensor)?)
    }
}

/// Names for variables that come without: their positions.
pub(super) fn numbered(vars: Vec<Var>) -> Vec<(String, Var)> {
    vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect()
}

/// Fails if the norm that [`Slots::update`] returned is not finite.
pub(super) fn ensure_finite(optimizer: &str, norm: f64) -> candle_core::Result<()> {
    match norm.is_finite() {
        true => Ok(()),
        false => candle_core::bail!("{optimizer}: the norm of the gradient is {norm}; no parameter was updated"),
    }
}
