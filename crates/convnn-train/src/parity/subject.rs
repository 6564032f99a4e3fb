//! The layer or model that a case is about, with its parameters.

use super::fixture::{Fixture, line};
use super::{Tensors, optimize};
use crate::Result;
use candle_core::{DType, Device, Tensor, Var};
use convnn_core::{
    Branching2d, Branching2dAttention, ConvNn1d, ConvNn2d, ConvNn2dAttention, ConvNnAttention, Parameters, Pass,
    Streams, backward, is_running_statistic,
};
use convnn_models::{Mixer, MixerConfig, Model, ModelConfig, Network};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is computed of a case beside the output.
enum Task {
    /// Gradients of the output's product with `grad_output`.
    Gradients,
    /// Losses of the first steps of training.
    Losses { settings: optimize::Settings, targets: Tensor, steps: usize },
}

type Forward = Box<dyn Fn(&Tensor, &Pass) -> convnn_core::Result<Tensor>>;

/// A layer or model built from the options of a case.
pub(super) struct Subject {
    parameters: Parameters,
    forward: Forward,
    task: Task,
    /// What the model computes for itself and the file may hold too, by the name there.
    constants: Tensors,
}

/// A layer before its parameters are checked.
struct Built {
    forward: Forward,
    /// The shape of the input, `None` where a side is free.
    input: Vec<Option<usize>>,
    constants: Tensors,
    /// Number of classes, of a model.
    classes: Option<usize>,
}

/// The kinds that a case may be about.
const KINDS: [&str; 13] = [
    "conv_nn_1d",
    "conv_nn_2d",
    "conv_nn_2d_attention",
    "branching_2d",
    "branching_2d_attention",
    "conv_nn_attention",
    "multi_head_attention",
    "kvt_attention",
    "sparse_attention",
    "local_attention",
    "branching_tokens",
    "vgg",
    "vit",
];

impl Subject {
    /// Builds the layer and holds every tensor of the file against it.
    ///
    /// # Errors
    /// For an unknown layer or option, and for a tensor that is missing, left over or of another shape.
    pub(super) fn new(fixture: &Fixture, dtype: DType) -> Result<Self> {
        let parameters = Parameters::new(&Streams::new(0), dtype, &Device::Cpu);
        let built = build(fixture, &parameters)?;
        let input = fixture.values("input")?;
        let fits = input.rank() == built.input.len()
            && input.dims().iter().zip(&built.input).all(|(found, side)| side.is_none_or(|side| side == *found));
        if !fits {
            let sides = built.input.iter().map(|side| side.map_or("_".to_owned(), |side| side.to_string()));
            let (found, expected) = (input.dims(), sides.collect::<Vec<_>>().join(", "));
            return Err(fixture.wrong(format!("tensor `input` has shape {found:?}; expected [{expected}]")));
        }
        let task = match (fixture.tensors.contains_key("losses"), built.classes) {
            (true, Some(classes)) => losses(fixture, classes)?,
            _ => Task::Gradients,
        };
        let mut subject = Self { parameters, forward: built.forward, task, constants: built.constants };
        subject.check(fixture)?;
        subject.constants.retain(|name, _| fixture.tensors.contains_key(name));
        Ok(subject)
    }

    /// Every tensor of the file has a meaning, and every parameter its value and gradient.
    fn check(&self, fixture: &Fixture) -> Result<()> {
        let mut known = vec!["input".to_owned(), "output".to_owned(), "candidates".to_owned()];
        let input = fixture.values("input")?.dims();
        match self.task {
            Task::Losses { .. } => known.extend(["target", "losses"].map(str::to_owned)),
            Task::Gradients => {
                fixture.tensor("grad.input", input)?;
                fixture.tensor("grad_output", fixture.values("output")?.dims())?;
                known.extend(["grad.input", "grad_output"].map(str::to_owned));
            }
        }
        for (name, var) in self.parameters.all() {
            let (value, gradient) = (format!("param.{name}"), format!("grad.{name}"));
            if fixture.tensors.contains_key(&value) || !is_running_statistic(&name) {
                fixture.tensor(&value, var.dims())?;
            }
            known.push(value);
            if matches!(self.task, Task::Gradients) && !is_running_statistic(&name) {
                fixture.tensor(&gradient, var.dims())?;
                known.push(gradient);
            }
        }
        for (name, tensor) in &self.constants {
            // A file of parameters alone lacks it.
            if fixture.tensors.contains_key(name) {
                fixture.tensor(name, tensor.dims())?;
            }
            known.push(name.clone());
        }
        let counter = |name: &str| name.starts_with("param.") && name.ends_with(".num_batches_tracked");
        match fixture.tensors.keys().find(|name| !known.contains(name) && !counter(name)) {
            None => Ok(()),
            Some(name) => {
                let layer = &fixture.layer;
                Err(fixture.wrong(format!("tensor `{name}` is left over; {layer} has no tensor of that name")))
            }
        }
    }

    /// The tensors that the case starts from, in the precision of the subject.
    pub(super) fn given(&self, fixture: &Fixture) -> Result<Tensors> {
        let parameters = self.parameters.all().into_iter().map(|(name, _)| format!("param.{name}"));
        let names = parameters.chain(["input".to_owned(), "grad_output".to_owned()]);
        let mut given = Tensors::new();
        for name in names {
            if let Some(tensor) = fixture.tensors.get(&name) {
                given.insert(name, tensor.to_dtype(self.parameters.builder().dtype())?);
            }
        }
        Ok(given)
    }

    /// The output alone, of an input that a gradient may be asked for.
    pub(super) fn output(&self, given: &Tensors, input: &Var) -> Result<Tensor> {
        self.set(given)?;
        Ok((self.forward)(input, &Pass::evaluation())?)
    }

    /// Everything that the file must hold equal values of.
    pub(super) fn compute(&self, given: &Tensors) -> Result<Tensors> {
        let input = Var::from_tensor(&given["input"])?;
        let output = self.output(given, &input)?;
        let mut actual = self.constants.clone();
        match &self.task {
            Task::Gradients => {
                let gradients = backward(&(&output * &given["grad_output"])?.sum_all()?)?;
                // What the output does not depend on has a gradient of zeros.
                let gradient = |var: &Var| gradients.get(var).map_or_else(|| var.zeros_like(), |g| Ok(g.clone()));
                actual.insert("grad.input".to_owned(), gradient(&input)?);
                for (name, var) in self.parameters.trainable() {
                    actual.insert(format!("grad.{name}"), gradient(&var)?);
                }
            }
            Task::Losses { settings, targets, steps } => {
                let forward = |pass: &Pass| (self.forward)(&input, pass);
                let losses = optimize::losses(settings, &self.parameters, forward, targets, *steps)?;
                actual.insert("losses".to_owned(), losses);
            }
        }
        actual.insert("output".to_owned(), output.detach());
        Ok(actual)
    }

    /// Parameters and running statistics as the case has them; a running statistic it lacks as it is at first.
    fn set(&self, given: &Tensors) -> Result<()> {
        for (name, var) in self.parameters.all() {
            match given.get(&format!("param.{name}")) {
                Some(value) => var.set(value)?,
                None if name.ends_with("running_mean") => var.set(&var.zeros_like()?)?,
                None => var.set(&var.ones_like()?)?,
            }
        }
        Ok(())
    }

    /// The parameters by the names they have in the file.
    pub(super) fn vars(&self) -> Vec<(String, Var)> {
        self.parameters.trainable().into_iter().map(|(name, var)| (format!("param.{name}"), var)).collect()
    }
}

fn losses(fixture: &Fixture, classes: usize) -> Result<Task> {
    let settings = optimize::Settings::read(fixture)?;
    let targets = fixture.numbers("target", classes, "class labels")?;
    let images = fixture.values("input")?.dim(0)?;
    if targets.len() != images {
        let found = targets.len();
        return Err(fixture.wrong(format!("tensor `target` has shape [{found}]; expected [{images}]")));
    }
    let losses = fixture.values("losses")?;
    let steps = losses.elem_count();
    fixture.tensor("losses", &[steps])?;
    let targets = Tensor::from_vec(targets, images, &Device::Cpu)?;
    Ok(Task::Losses { settings, targets, steps })
}

fn build(fixture: &Fixture, parameters: &Parameters) -> Result<Built> {
    let sample = sample(fixture)?;
    let side = |name: &str| fixture.config.get(name).and_then(Value::as_u64).map(|side| side as usize);
    let failed = |error: convnn_core::Error| fixture.wrong(line(&error));
    macro_rules! layer {
        ($layer:ident, $input:expr) => {{
            let layer = $layer::new(&fixture.options(words)?, parameters.builder()).map_err(failed)?;
            let layer = match sample {
                Some(sample) => layer.with_candidates(sample),
                None => layer,
            };
            plain(Box::new(move |x, pass| layer.forward(x, pass)), $input)
        }};
    }
    let channels = side("in_channels");
    Ok(match fixture.layer.as_str() {
        "conv_nn_1d" => layer!(ConvNn1d, vec![None, channels, None]),
        "conv_nn_2d" => layer!(ConvNn2d, vec![None, channels, None, None]),
        "conv_nn_2d_attention" => layer!(ConvNn2dAttention, vec![None, channels, None, None]),
        "branching_2d" => layer!(Branching2d, vec![None, channels, None, None]),
        "branching_2d_attention" => layer!(Branching2dAttention, vec![None, channels, None, None]),
        "conv_nn_attention" => layer!(ConvNnAttention, vec![None, None, side("dim")]),
        "vgg" | "vit" => model(fixture, parameters)?,
        kind if KINDS.contains(&kind) => {
            let read = |words: &Map<_, _>| MixerConfig::from_fixture(kind, words).map_err(|e| e.to_string());
            let (dim, config) = fixture.options(read)?;
            let mixer = Mixer::new(dim, &config, parameters.builder()).map_err(failed)?;
            let mixer = match sample {
                Some(sample) => mixer.with_candidates(sample),
                None => mixer,
            };
            plain(Box::new(move |x, pass| mixer.forward(x, pass)), vec![None, None, Some(dim)])
        }
        kind => {
            let expected = KINDS.join(", ");
            return Err(fixture.wrong(format!("the metadata `layer` is `{kind}`; expected one of {expected}")));
        }
    })
}

fn plain(forward: Forward, input: Vec<Option<usize>>) -> Built {
    Built { forward, input, constants: Tensors::new(), classes: None }
}

fn words<T: DeserializeOwned>(config: &Map<String, Value>) -> std::result::Result<T, String> {
    serde_json::from_value(Value::Object(config.clone())).map_err(|error| error.to_string())
}

fn model(fixture: &Fixture, parameters: &Parameters) -> Result<Built> {
    let read = |words: &Map<_, _>| ModelConfig::from_fixture(&fixture.layer, words).map_err(|e| e.to_string());
    let mut config = fixture.options(read)?;
    if let (ModelConfig::Vgg { model, .. }, None) = (&mut config, fixture.config.get("image")) {
        // A VGG takes images of every size, so that a case need not name it.
        model.image = fixture.values("input")?.dims().last().copied().unwrap_or(model.image);
    }
    let mut model = Model::new(&config, parameters.builder()).map_err(|error| fixture.wrong(line(&error)))?;
    let mut constants = Tensors::new();
    if let Network::Vit(vit) = model.network_mut() {
        constants.insert("param.positional_encoding.pe".to_owned(), vit.positions().clone());
    }
    let side = Some(config.image_size());
    let forward: Forward = Box::new(move |x, pass| model.forward(x, pass));
    Ok(Built { forward, input: vec![None, Some(3), side, side], constants, classes: Some(config.classes()) })
}

/// The candidates that were drawn when the file was made.
fn sample(fixture: &Fixture) -> Result<Option<Vec<u32>>> {
    let kind = |name: &str| fixture.config.get("candidates").is_some_and(|candidates| candidates.get(name).is_some());
    let given = fixture.tensors.contains_key("candidates");
    let is_model = matches!(fixture.layer.as_str(), "vgg" | "vit");
    match (kind("random"), given) {
        (true, _) if is_model => Err(fixture.wrong(
            "config: option `candidates` is random, so that another sample is drawn in each step; expected all or \
             spatial"
                .to_owned(),
        )),
        (true, _) => fixture.numbers("candidates", u32::MAX as usize, "token numbers").map(Some),
        (false, true) if is_model || !kind("spatial") => {
            Err(fixture.wrong("tensor `candidates` is left over; no candidates are drawn".to_owned()))
        }
        (false, true) => fixture.numbers("candidates", u32::MAX as usize, "token numbers").map(Some),
        (false, false) => Ok(None),
    }
}
