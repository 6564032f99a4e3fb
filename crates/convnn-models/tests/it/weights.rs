//! Weights folders: what is written is read back, and what is damaged is named.

use crate::{normal, parameters};
use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, Pass, Streams};
use convnn_models::weights::{self, CARD_FILE, CLASSES_FILE, CONFIG_FILE, MODEL_FILE};
use convnn_models::{Model, ModelCard, ModelConfig, preset};
use std::path::Path;

fn small() -> ModelConfig {
    let mut config = (preset("vit_compact").unwrap().config)();
    if let ModelConfig::Vit { model, .. } = &mut config {
        (model.layers, model.dim, model.mlp) = (1, 8, 8);
    }
    config
}

/// A saved model, and its parameters.
fn saved(folder: &Path, config: &ModelConfig) -> Parameters {
    let parameters = parameters(DType::F32);
    Model::new(config, parameters.builder()).unwrap();
    let card = ModelCard {
        title: "vit_compact on CIFAR-10".into(),
        metrics: vec![("top-1".into(), "81.2 %".into())],
        classes: vec!["cat".into(), "line\nfeed".into()],
    };
    weights::save(folder, config, &parameters, &card).unwrap();
    parameters
}

#[test]
fn a_model_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vit_compact", "vgg11_compact"] {
        let folder = folder.path().join("deep").join(name);
        let config = (preset(name).unwrap().config)();
        let before = saved(&folder, &config);
        let (read, tensors) = weights::load(&folder).unwrap();
        assert_eq!(read, config);
        let after = Parameters::new(&Streams::new(99), DType::F32, &Device::Cpu);
        let model = Model::new(&config, after.builder()).unwrap();
        weights::load_into(&after, &tensors).unwrap();
        let images = normal("images", &[1, 3, 32, 32], DType::F32);
        let logits = |model: &Model| model.forward_t(&images, &Pass::evaluation()).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(logits(&model), logits(&Model::new(&config, before.builder()).unwrap()));
        let mut names: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [CARD_FILE, CLASSES_FILE, CONFIG_FILE, MODEL_FILE]);
        assert_eq!(weights::classes(&folder).unwrap().unwrap(), ["cat", "line\nfeed"]);
    }
}

#[test]
fn the_card_tells_size_and_results() {
    let folder = tempfile::tempdir().unwrap();
    let config = small();
    saved(folder.path(), &config);
    let card = std::fs::read_to_string(folder.path().join(CARD_FILE)).unwrap();
    assert!(card.starts_with("---\nlibrary_name: convnn\n"), "{card}");
    let parameters = format!("| parameters | {} |", config.parameter_count().unwrap());
    for part in ["# vit_compact on CIFAR-10", "| top-1 | 81.2 % |", "conv_nn_attention", &parameters] {
        assert!(card.contains(part), "{part}: {card}");
    }
}

#[cfg(unix)]
#[test]
fn files_have_the_mode_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    let mode = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    std::fs::write(folder.path().join("plain"), "").unwrap();
    for name in [MODEL_FILE, CONFIG_FILE, CARD_FILE] {
        assert_eq!(mode(name), mode("plain"), "{name}");
    }
}

/// The line that loading gives after `damage`.
fn line(damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    damage(folder.path());
    let error = weights::load(folder.path()).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// Changes the tensors of the folder.
fn change(folder: &Path, change: impl FnOnce(&mut std::collections::HashMap<String, Tensor>)) {
    let path = folder.join(MODEL_FILE);
    let mut tensors = weights::read(&path).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

#[test]
fn damage_is_named() {
    let error = line(|folder| std::fs::remove_file(folder.join(MODEL_FILE)).unwrap());
    assert!(error.contains("model.safetensors: No such file"), "{error}");
    let error = line(|folder| std::fs::remove_file(folder.join(CONFIG_FILE)).unwrap());
    assert!(error.contains("config.json: No such file"), "{error}");
    let error = line(|folder| std::fs::write(folder.join(CONFIG_FILE), "{").unwrap());
    assert!(error.contains("config.json: EOF"), "{error}");
    let error = line(|folder| {
        let path = folder.join(MODEL_FILE);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 10]).unwrap();
    });
    assert!(error.contains("model.safetensors: not a safetensors file"), "{error}");
}

#[test]
fn names_and_shapes_are_checked() {
    let error = line(|folder| {
        change(folder, |tensors| {
            let tensor = tensors.remove("classifier.bias").unwrap();
            tensors.insert("head.bias".into(), tensor);
        });
    });
    assert!(error.ends_with("1 missing: `classifier.bias`; 1 unexpected: `head.bias`"), "{error}");
    let error = line(|folder| {
        change(folder, |tensors| {
            tensors.insert("classifier.bias".into(), normal("x", &[11], DType::F32));
        });
    });
    assert!(error.ends_with("`classifier.bias` is of shape [11]; expected [10]"), "{error}");
    let error = line(|folder| {
        change(folder, |tensors| {
            let zeros = Tensor::zeros(10, DType::U32, &Device::Cpu).unwrap();
            tensors.insert("classifier.bias".into(), zeros);
        });
    });
    assert!(error.ends_with("`classifier.bias` is of type u32; expected f32"), "{error}");
    let error = line(|folder| {
        change(folder, |tensors| {
            let positions = tensors["positional_encoding.pe"].zeros_like().unwrap();
            tensors.insert("positional_encoding.pe".into(), positions);
        });
    });
    assert!(error.contains("`positional_encoding.pe` is another constant"), "{error}");
}

#[test]
fn buffers_of_pytorch_and_other_float_types_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let config = (preset("vgg11_compact").unwrap().config)();
    saved(folder.path(), &config);
    change(folder.path(), |tensors| {
        let counter = Tensor::new(7i64, &Device::Cpu).unwrap();
        tensors.insert("features.1.num_batches_tracked".into(), counter);
        let wide = tensors["classifier.bias"].to_dtype(DType::F64).unwrap();
        tensors.insert("classifier.bias".into(), wide);
    });
    let (_, tensors) = weights::load(folder.path()).unwrap();
    assert_eq!(tensors["classifier.bias"].dtype(), DType::F32);
}

#[test]
fn saving_parameters_of_another_model_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = small();
    saved(folder.path(), &config);
    let mut other = config.clone();
    other.set_classes(3);
    let parameters = parameters(DType::F32);
    Model::new(&other, parameters.builder()).unwrap();
    let before = std::fs::read(folder.path().join(MODEL_FILE)).unwrap();
    weights::save(folder.path(), &config, &parameters, &ModelCard::default()).unwrap_err();
    assert_eq!(std::fs::read(folder.path().join(MODEL_FILE)).unwrap(), before);
}
