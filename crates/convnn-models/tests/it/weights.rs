//! Weights folders: what is written is read back, and what is damaged is named.

use crate::{normal, parameters};
use candle_core::{DType, Device, Tensor};
use convnn_core::{Parameters, Pass, Streams};
use convnn_models::digests::SUMS_FILE;
use convnn_models::weights::{self, CARD_FILE, CONFIG_FILE, MODEL_FILE};
use convnn_models::{Model, ModelCard, ModelConfig, Preprocessing, preset};
use std::path::Path;

fn small() -> ModelConfig {
    let mut config = preset("vit_compact").unwrap().config();
    if let ModelConfig::Vit { model, .. } = &mut config {
        (model.layers, model.dim, model.mlp) = (1, 8, 8);
    }
    config
}

const PREPROCESSING: Preprocessing = Preprocessing { size: 32, mean: [0.5, 0.25, 0.1], sd: [0.5, 0.2, 0.3] };

fn labels(classes: usize) -> Vec<String> {
    (0..classes).map(|class| format!("line\nfeed {class}")).collect()
}

/// A saved model, and its parameters.
fn saved(folder: &Path, config: &ModelConfig) -> Parameters {
    let parameters = parameters(DType::F32);
    Model::new(config, parameters.builder()).unwrap();
    let card = ModelCard {
        title: "vit_compact on CIFAR-10".into(),
        metrics: vec![("top-1".into(), "81.2 %".into())],
        preprocessing: Some(PREPROCESSING),
        labels: labels(config.classes()),
        ..ModelCard::default()
    };
    weights::save(folder, config, &parameters, &card).unwrap();
    parameters
}

#[test]
fn a_model_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["vit_compact", "vgg11_compact"] {
        let folder = folder.path().join("deep").join(name);
        let config = preset(name).unwrap().config();
        let before = saved(&folder, &config);
        let stored = weights::load(&folder).unwrap();
        assert_eq!(stored.config, config);
        assert_eq!((stored.preprocessing, stored.labels), (Some(PREPROCESSING), Some(labels(10))));
        let after = Parameters::new(&Streams::new(99), DType::F32, &Device::Cpu);
        let model = Model::new(&config, after.builder()).unwrap();
        weights::load_into(&after, &stored.tensors).unwrap();
        let images = normal("images", &[1, 3, 32, 32], DType::F32);
        let logits = |model: &Model| model.forward_t(&images, &Pass::evaluation()).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(logits(&model), logits(&Model::new(&config, before.builder()).unwrap()));
        let loaded = Model::load(&folder, DType::F32, &Device::Cpu).unwrap();
        assert_eq!(logits(&model), logits(&loaded.model));
        let read = |name| std::fs::read(folder.join(name)).unwrap();
        let embedded = Model::load_bytes(&read(CONFIG_FILE), &read(MODEL_FILE), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(logits(&model), logits(&embedded.model));
        assert_eq!(embedded.labels, loaded.labels);
        let mut names: Vec<String> =
            std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [CARD_FILE, SUMS_FILE, CONFIG_FILE, MODEL_FILE]);
    }
}

/// Folders of earlier versions, and of other tools, say less.
#[test]
fn preprocessing_and_labels_are_optional() {
    let folder = tempfile::tempdir().unwrap();
    let config = small();
    saved(folder.path(), &config);
    std::fs::remove_file(folder.path().join(SUMS_FILE)).unwrap();
    std::fs::write(folder.path().join(CONFIG_FILE), serde_json::to_string(&config).unwrap()).unwrap();
    let stored = weights::load(folder.path()).unwrap();
    assert_eq!((stored.preprocessing, stored.labels), (None, None));
    // Where the names used to be.
    let classes = folder.path().join("classes.json");
    std::fs::write(&classes, serde_json::to_string(&labels(10)).unwrap()).unwrap();
    assert_eq!(weights::load(folder.path()).unwrap().labels.unwrap(), labels(10));
    std::fs::write(&classes, "[\"cat\", \"dog\"]").unwrap();
    let error = weights::load(folder.path()).unwrap_err().to_string();
    let expected = "classes.json: `labels` is a list of 2; expected 10, one for each class of the model";
    assert!(error.ends_with(expected), "{error}");
    std::fs::write(folder.path().join("classes.json"), "{}").unwrap();
    let error = weights::load(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("classes.json: line 1: the file is {}; expected a list of strings, the names of the classes")
    );
}

/// `classes.json` of an earlier version stays when a new model is saved over it, and has nothing to say.
#[test]
fn saving_over_a_folder_of_an_earlier_version_leaves_a_folder_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("classes.json"), "[\"cat\", \"dog\"]").unwrap();
    let parameters = parameters(DType::F32);
    Model::new(&small(), parameters.builder()).unwrap();
    weights::save(folder.path(), &small(), &parameters, &ModelCard::default()).unwrap();
    assert_eq!(weights::load(folder.path()).unwrap().labels, None);
}

#[test]
fn weights_are_floating_point() {
    let folder = tempfile::tempdir().unwrap();
    let stored = {
        saved(folder.path(), &small());
        weights::load(folder.path()).unwrap()
    };
    let card = ModelCard::default();
    let error = weights::encode(&small(), stored.tensors, &card, DType::U8).unwrap_err().to_string();
    assert_eq!(error, "`dtype` is u8; expected f16, bf16, f32 or f64");
}

#[test]
fn a_description_that_does_not_fit_the_model_is_refused() {
    let changed = |key: &str, value: serde_json::Value| {
        line(|folder| {
            let path = folder.join(CONFIG_FILE);
            let mut keys: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            *keys.pointer_mut(key).unwrap() = value;
            std::fs::write(path, keys.to_string()).unwrap();
        })
    };
    let error = changed("/preprocessing/size", 64.into());
    assert!(error.ends_with("config.json: `preprocessing.size` is 64; expected 32, the model's image size"), "{error}");
    let error = changed("/preprocessing/sd", [1.0, 0.0, 1.0].as_slice().into());
    assert!(error.ends_with("`preprocessing.sd` is 0; expected finite numbers above 0"), "{error}");
    let error = changed("/labels", ["cat"].as_slice().into());
    assert!(error.ends_with("`labels` is a list of 1; expected 10, one for each class of the model"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let parameters = saved(folder.path(), &small());
    let card = ModelCard { labels: labels(9), ..ModelCard::default() };
    weights::save(folder.path(), &small(), &parameters, &card).unwrap_err();
}

/// `config.json` as people and other tools may write it: the line, the key, what is there and what is expected.
#[test]
fn a_malformed_description_is_named_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    let text = std::fs::read_to_string(folder.path().join(CONFIG_FILE)).unwrap();
    let line_of = |part: &str| text.lines().position(|line| line.contains(part)).unwrap() + 1;
    let check = |text: &str, line: usize, expected: &str| {
        let error = line_after(text);
        let place = format!("config.json: line {line}");
        assert!(error.contains(&place) && error.ends_with(expected), "{error}\nexpected {place} … {expected}");
        for word in ["invalid", "variant", "struct", "field", "usize", "f64", "string", "sequence", "map", "[layer]"] {
            assert!(!error.rsplit("config.json").next().unwrap().contains(word), "{word}: {error}");
        }
    };
    for (from, to, expected) in [
        (
            "\"neighbors\": 9",
            "\"neighbors\": \"nine\"",
            "`layer.neighbors` is \"nine\"; expected a whole number, not below 0",
        ),
        ("\"neighbors\": 9", "\"neighbors\": -1", "`layer.neighbors` is -1; expected a whole number, not below 0"),
        ("\"neighbors\": 9", "\"neighbors\": null", "`layer.neighbors` is null; expected a whole number, not below 0"),
        ("\"neighbors\": 9", "\"neighbours\": 9", "`layer.neighbours` is not a key; expected "),
        ("\"classes\": 10", "\"classes\": [10]", "`model.classes` is [10]; expected a whole number, not below 0"),
        ("\"dropout\": 0.1", "\"dropout\": \"0.1\"", "`model.dropout` is \"0.1\"; expected a number"),
        (
            "\"architecture\": \"vit\"",
            "\"architecture\": \"resnet\"",
            "`model.architecture` is \"resnet\"; expected `vgg` or `vit`",
        ),
        ("\"architecture\": \"vit\"", "\"architecture\": 5", "`model.architecture` is 5; expected `vgg` or `vit`"),
        ("\"similarity\": ", "\"similarity\": 5, \"seed\": ", "`layer.similarity` is 5; expected "),
        (
            "\"candidates\": \"all\"",
            "\"candidates\": \"random\"",
            "`layer.candidates` is \"random\"; expected \"all\", {\"random\": {\"n\": NUMBER}} or \
             {\"spatial\": {\"n\": NUMBER, \"margin\": NUMBER}}",
        ),
        (
            "\"candidates\": \"all\"",
            "\"candidates\": {\"random\": {}}",
            "{\"spatial\": {\"n\": NUMBER, \"margin\": NUMBER}}",
        ),
        ("\"kind\": \"conv_nn_attention\"", "\"kind\": \"conv2d\"", "`layer.kind` is \"conv2d\"; expected "),
        (
            "\"labels\": [",
            "\"labels\": [7, ",
            "an entry of `labels` is 7; expected a list of strings, the names of the classes",
        ),
        (
            "\"labels\": [",
            "\"names\": [",
            "`names` is not a key; expected `model`, `layer`, `preprocessing` or `labels`",
        ),
        ("\"size\": 32", "\"size\": \"32\"", "`preprocessing.size` is \"32\"; expected a whole number, not below 0"),
        ("\"mean\": [", "\"mean\": [0, ", "expected a list of 3 numbers, for red, green and blue"),
        ("\"size\": 32", "\"sizes\": 32", "`preprocessing.sizes` is not a key; expected `size`, `mean` or `sd`"),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        let error = line_after(&text.replacen(from, to, 1));
        let place = format!("config.json: line {}: ", line_of(from));
        assert!(error.contains(&place) && error.contains(expected), "{error}\nexpected {place}{expected}");
    }
    check("nine", 1, "column 2: found \"ine\"; expected JSON");
    check("", 1, "column 0: the file ends here; expected the rest of a JSON object");
    check("[]", 1, "the file is []; expected an object with `model` and `layer`");
    check("{\n\"model\": 5, \"layer\": {}}", 2, "`model` is 5; expected an object with `architecture`");
    check("{\"model\": {}}", 1, "`layer` is missing; expected an object with `kind`");
    check("{\"layer\": {},\n\"model\": {}}", 2, "`model.architecture` is missing; expected `vgg` or `vit`");
    check("{\"model\": {\"architecture\": \"vgg\"},\n\"layer\": {},,}", 2, "column 13: found \",}\"; expected JSON");
}

#[test]
fn half_precision_is_read_back_within_its_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let config = small();
    let parameters = saved(folder.path(), &config);
    let tensors = || parameters.all().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
    weights::save_as(folder.path(), &config, tensors(), &ModelCard::default(), DType::F16).unwrap();
    let stored = weights::load(folder.path()).unwrap();
    for (name, tensor) in tensors() {
        let expected = tensor.to_dtype(DType::F16).unwrap().to_dtype(DType::F32).unwrap();
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&stored.tensors[&name]), values(&expected), "{name}");
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

/// The line that loading gives after `damage` to a folder without digests, as other tools write it.
fn line(damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    std::fs::remove_file(folder.path().join(SUMS_FILE)).unwrap();
    damage(folder.path());
    let error = weights::load(folder.path()).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

/// The same with another `config.json`.
fn line_after(text: &str) -> String {
    line(|folder| std::fs::write(folder.join(CONFIG_FILE), text).unwrap())
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
    let parts = "config.json: line 1, column 1: the file ends here; expected the rest of a JSON object";
    assert!(error.ends_with(parts), "{error}");
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
    let config = preset("vgg11_compact").unwrap().config();
    saved(folder.path(), &config);
    std::fs::remove_file(folder.path().join(SUMS_FILE)).unwrap();
    change(folder.path(), |tensors| {
        let counter = Tensor::new(7i64, &Device::Cpu).unwrap();
        tensors.insert("features.1.num_batches_tracked".into(), counter);
        let wide = tensors["classifier.bias"].to_dtype(DType::F64).unwrap();
        tensors.insert("classifier.bias".into(), wide);
    });
    let tensors = weights::load(folder.path()).unwrap().tensors;
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

/// Loading gives the whole model or an error.
#[test]
fn cuts_and_flipped_bits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    let values = |tensors: &weights::Tensors| {
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        tensors.iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect::<Vec<_>>()
    };
    let expected = weights::load(folder.path()).unwrap();
    for name in [MODEL_FILE, CONFIG_FILE, SUMS_FILE] {
        let path = folder.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        let refuses = |damaged: &[u8], what: &str| {
            std::fs::write(&path, damaged).unwrap();
            match weights::load(folder.path()) {
                Err(error) => assert!(error.to_string().contains(folder.path().to_str().unwrap()), "{error}"),
                // The line of the card in the list of digests may change.
                Ok(stored) => {
                    assert_eq!(name, SUMS_FILE, "{what}");
                    assert!(stored.config == expected.config, "{what}");
                    assert!(values(&stored.tensors) == values(&expected.tensors), "{what}");
                }
            }
        };
        for part in 0..64 {
            refuses(&bytes[..bytes.len() * part / 64], &format!("{name} cut to {part}/64"));
        }
        for number in 0..200 {
            let mut damaged = bytes.clone();
            damaged[bytes.len() * number / 200] ^= 1 << (number % 8);
            refuses(&damaged, &format!("{name}, bit {number}"));
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    weights::load(folder.path()).unwrap();
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let error = line(|folder| {
            change(folder, |tensors| {
                tensors.insert("classifier.bias".into(), Tensor::full(value, 10, &Device::Cpu).unwrap());
            });
        });
        assert!(error.contains(&format!("`classifier.bias` is {value} at position 0; expected finite")), "{error}");
    }
    // Nor are they written.
    let folder = tempfile::tempdir().unwrap();
    let parameters = saved(folder.path(), &small());
    let (name, bias) = parameters.all().into_iter().find(|(name, _)| name == "classifier.bias").unwrap();
    bias.set(&Tensor::full(f32::NAN, 10, &Device::Cpu).unwrap()).unwrap();
    let error = weights::save(folder.path(), &small(), &parameters, &ModelCard::default()).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");
    weights::load(folder.path()).unwrap();
}

/// `sha256sum` reads the list of digests.
#[cfg(target_os = "linux")]
#[test]
fn other_tools_can_check_the_digests() {
    let folder = tempfile::tempdir().unwrap();
    saved(folder.path(), &small());
    let mut command = std::process::Command::new("sha256sum");
    let output = command.args(["--check", "--strict", SUMS_FILE]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 3);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_instead_of_waited_for() {
    let error = line(|folder| {
        let path = folder.join(MODEL_FILE);
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    });
    assert!(error.ends_with("model.safetensors: it is not a regular file"), "{error}");
}
