//! The same bits for any number of threads.

use candle_core::{DType, Device, Tensor};
use convnn_core::{Pass, Streams, backward, nn, random::streams};
use convnn_train::config::RunConfig;
use convnn_train::optimizer::Optimizer;
use convnn_train::session::Session;
use sha2::{Digest, Sha256};
use std::process::Command;

/// The variable that tells this test to compute, in a process whose number of threads is set.
const COMPUTE: &str = "CONVNN_TEST_THREADS_COMPUTE";

/// A training step of every compact preset, from 1 to 16 threads.
///
/// The number of threads of a process is fixed at its start, so the test runs itself in other processes.
#[test]
fn a_training_step_has_the_same_bits() {
    if std::env::var_os(COMPUTE).is_some() {
        for preset in presets() {
            println!("\nSTEP {preset} {} threads {}", rayon::current_num_threads(), step(preset));
        }
        return;
    }
    let mut expected = Vec::new();
    for threads in [1, 2, 4, 8, 16] {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "threads::a_training_step_has_the_same_bits", "--nocapture"]);
        let output = test.env(COMPUTE, "").env("RAYON_NUM_THREADS", threads.to_string()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        let lines = text.lines().filter_map(|line| line.strip_prefix("STEP "));
        let found: Vec<_> = lines.map(|line| line.split_once(&format!(" {threads} threads ")).unwrap()).collect();
        let found: Vec<_> = found.into_iter().map(|(preset, hash)| (preset.to_owned(), hash.to_owned())).collect();
        assert!(found.iter().map(|(preset, _)| preset.as_str()).eq(presets()), "{text}");
        if threads == 1 {
            expected = found;
        } else {
            assert_eq!(found, expected, "{threads} threads");
        }
    }
    let hashes: std::collections::BTreeSet<_> = expected.iter().map(|(_, hash)| hash).collect();
    assert_eq!(hashes.len(), expected.len(), "different presets give different numbers");
}

fn presets() -> impl Iterator<Item = &'static str> {
    convnn_models::presets().iter().map(|preset| preset.name).filter(|name| name.contains("_compact"))
}

/// The SHA-256 of the loss, the parameters and the optimizer after the first training step of `preset`.
fn step(preset: &str) -> String {
    const BATCH: usize = 4;
    let config = RunConfig::from_preset(preset).unwrap();
    let session = Session::new(&config.model, 1).unwrap();
    let mut optimizer = Optimizer::new(&config, session.parameters.trainable()).unwrap();
    let side = config.model.image_size();
    let mut generator = Streams::new(0).generator("images");
    let images: Vec<f32> = (0..BATCH * 3 * side * side).map(|_| streams::normal(&mut generator) as f32).collect();
    let images = Tensor::from_vec(images, (BATCH, 3, side, side), &Device::Cpu).unwrap();
    let labels = Tensor::arange(0, BATCH as u32, &Device::Cpu).unwrap();

    let logits = session.model.forward_t(&images, &Pass::training(&session.streams, 0)).unwrap();
    let loss = nn::cross_entropy(&logits, &labels).unwrap();
    let norm = optimizer.step(&backward(&loss).unwrap(), config.learning_rate).unwrap();
    assert!(norm.is_finite() && norm > 0.0);

    let mut hasher = Sha256::new();
    hasher.update(norm.to_le_bytes());
    let tensors = [vec![("loss".to_owned(), loss)], session.tensors(), optimizer.state()].concat();
    assert!(tensors.iter().all(|(_, tensor)| tensor.dtype() == DType::F32));
    for (_, tensor) in tensors {
        let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.iter().for_each(|value| hasher.update(value.to_le_bytes()));
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
