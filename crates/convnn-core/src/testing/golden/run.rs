//! A layer or model with the parameters of a case, computed.

use super::training::Training;
use super::{Case, Error, Result, Tensors};
use crate::{Parameters, Pass, Streams, backward, is_running_statistic};
use candle_core::{DType, Device, Tensor, Var};
use std::fmt::Display;

/// A forward pass.
pub type Forward = Box<dyn Fn(&Tensor, &Pass) -> crate::Result<Tensor>>;

/// A layer or model built from the options of a case.
pub struct Subject {
    /// Computes the output.
    pub forward: Forward,
    /// The shape of the input; `None` for a side that is free.
    pub input: Vec<Option<usize>>,
    /// Tensors that the model computes by itself and that the file may hold, by their names in the file.
    pub constants: Tensors,
    /// The number of classes of a model that can be trained.
    pub classes: Option<usize>,
}

impl Subject {
    /// A layer: no constants, and no training.
    pub fn layer(
        forward: impl Fn(&Tensor, &Pass) -> crate::Result<Tensor> + 'static,
        input: Vec<Option<usize>>,
    ) -> Self {
        Self { forward: Box::new(forward), input, constants: Tensors::new(), classes: None }
    }
}

/// What is compared besides the output.
enum Task {
    Nothing,
    Gradients,
    Losses(Training),
}

/// A subject with its parameters, checked against the case.
pub(super) struct Run<'a> {
    case: &'a Case,
    parameters: Parameters,
    subject: Subject,
    task: Task,
}

impl<'a> Run<'a> {
    pub fn new<E: Display>(
        case: &'a Case,
        build: &impl Fn(&Case, &Parameters) -> std::result::Result<Subject, E>,
        dtype: DType,
    ) -> Result<Self> {
        let parameters = Parameters::new(&Streams::new(0), dtype, &Device::Cpu);
        let mut subject = build(case, &parameters).map_err(Error::new)?;
        let input = case.values("input")?;
        let fits = |(found, side): (&usize, &Option<usize>)| side.is_none_or(|side| side == *found);
        if input.rank() != subject.input.len() || !input.dims().iter().zip(&subject.input).all(fits) {
            let sides = subject.input.iter().map(|side| side.map_or("_".to_owned(), |side| side.to_string()));
            let (found, expected) = (input.dims(), sides.collect::<Vec<_>>().join(", "));
            return Err(Error::new(format!("tensor `input` has shape {found:?}; expected [{expected}]")));
        }
        let has_gradients = case.tensors.keys().any(|name| name == "grad_output" || name.starts_with("grad."));
        let task = match subject.classes {
            Some(classes) if case.tensors.contains_key("losses") => Task::Losses(Training::read(case, classes)?),
            _ if has_gradients => Task::Gradients,
            _ => Task::Nothing,
        };
        subject.constants.retain(|name, _| case.tensors.contains_key(name));
        let run = Self { case, parameters, subject, task };
        run.check_tensors()?;
        Ok(run)
    }

    /// Fails if a tensor of the case is missing, has the wrong shape, or has no meaning.
    fn check_tensors(&self) -> Result<()> {
        let case = self.case;
        let output = case.values("output")?;
        let mut known = vec!["input".to_owned(), "output".to_owned()];
        match self.task {
            Task::Nothing => {}
            Task::Losses(_) => known.extend(["target", "losses"].map(str::to_owned)),
            Task::Gradients => {
                case.tensor("grad.input", case.values("input")?.dims())?;
                case.tensor("grad_output", output.dims())?;
                known.extend(["grad.input", "grad_output"].map(str::to_owned));
            }
        }
        if self.subject.classes.is_none() {
            known.push("candidates".to_owned());
        }
        for (name, var) in self.parameters.all() {
            let (value, gradient) = (format!("param.{name}"), format!("grad.{name}"));
            if case.tensors.contains_key(&value) || !is_running_statistic(&name) {
                case.tensor(&value, var.dims())?;
            }
            known.push(value);
            if matches!(self.task, Task::Gradients) && !is_running_statistic(&name) {
                case.tensor(&gradient, var.dims())?;
                known.push(gradient);
            }
        }
        for (name, tensor) in &self.subject.constants {
            case.tensor(name, tensor.dims())?;
            known.push(name.clone());
        }
        let is_counter = |name: &str| name.starts_with("param.") && name.ends_with(".num_batches_tracked");
        match case.tensors.keys().find(|name| !known.contains(name) && !is_counter(name)) {
            None => Ok(()),
            Some(name) => {
                let layer = &case.layer;
                Err(Error::new(format!("tensor `{name}` is unknown: {layer} has no tensor of that name")))
            }
        }
    }

    /// Everything that the case must hold, computed from `input`.
    pub fn compute(&self, input: &Tensor) -> Result<Tensors> {
        self.set_parameters()?;
        let dtype = self.parameters.builder().dtype();
        let input = Var::from_tensor(&input.to_dtype(dtype)?.detach())?;
        let output = (self.subject.forward)(&input, &Pass::evaluation())?;
        let mut computed = self.subject.constants.clone();
        match &self.task {
            Task::Nothing => {}
            Task::Gradients => {
                let weights = self.case.tensor("grad_output", output.dims())?.to_dtype(dtype)?;
                let gradients = backward(&(&output * weights)?.sum_all()?)?;
                // If the output does not depend on it, the gradient is zero.
                let gradient = |var: &Var| gradients.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()));
                computed.insert("grad.input".to_owned(), gradient(&input)?);
                for (name, var) in self.parameters.trainable() {
                    computed.insert(format!("grad.{name}"), gradient(&var)?);
                }
            }
            Task::Losses(training) => {
                let losses = training.losses(&self.parameters, |pass| (self.subject.forward)(&input, pass))?;
                computed.insert("losses".to_owned(), losses);
            }
        }
        computed.insert("output".to_owned(), output.detach());
        Ok(computed)
    }

    /// Sets parameters and running statistics to those of the case, and running statistics that it lacks to their
    /// initial values.
    fn set_parameters(&self) -> Result<()> {
        for (name, var) in self.parameters.all() {
            match self.case.tensors.get(&format!("param.{name}")) {
                Some(value) => var.set(&value.to_dtype(var.dtype())?)?,
                None if name.ends_with("running_mean") => var.set(&var.zeros_like()?)?,
                None => var.set(&var.ones_like()?)?,
            }
        }
        Ok(())
    }
}
