//! A new head for a pretrained model: its features stay, and a linear layer learns classes of your own.
//!
//! `cargo run --release --example fine_tune [-- PICTURES [WEIGHTS]]`
//!
//! PICTURES is a folder with a folder of pictures for each class (`train/CLASS/*.jpg`, and `test/CLASS` or a fifth set
//! aside). Without it, the embedded sample of CIFAR-10 learns to tell animals from vehicles.

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use convnn_core::nn::{Linear, cross_entropy};
use convnn_core::optim::{AdamW, AdamWConfig};
use convnn_core::{Parameters, Streams};
use convnn_data::{Dataset, DatasetName, Directory, Labels, Source, Split};
use convnn_models::Model;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pictures = arguments.next();
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/cifar10_hybrid");
    let loaded = Model::load(arguments.next().map_or_else(default, PathBuf::from), DType::F32, &Device::Cpu)?;
    let preprocessing = loaded.preprocessing.ok_or("the weights do not say how pictures are normalized")?;

    let (data, classes) = match pictures {
        Some(folder) => {
            let folder = Directory { image_size: preprocessing.size, ..Directory::from(folder) };
            let data = Dataset::open(DatasetName::Folder, &Source::Directory(folder))?;
            let classes = data.classes.to_vec();
            (data, classes)
        }
        None => (Dataset::sample(), vec!["animal".to_owned(), "vehicle".to_owned()]),
    };
    // The classes of the sample by their names; those of a folder are their own.
    let is_vehicle = |name: &str| ["airplane", "automobile", "ship", "truck"].contains(&name);
    let is_sample = data.name == DatasetName::Cifar10;
    let class = |label: u16| match is_sample {
        true => u32::from(is_vehicle(&data.classes[usize::from(label)])),
        false => u32::from(label),
    };
    let labelled = |split: &Split| -> Result<(Tensor, Tensor), Box<dyn std::error::Error>> {
        let features = loaded.model.features(&preprocessing.tensor(split.images())?)?;
        let labels: Vec<u32> = split.labels(Labels::Fine).unwrap_or_default().iter().map(|&l| class(l)).collect();
        Ok((features, Tensor::new(labels, &Device::Cpu)?))
    };
    let (train, test) = (labelled(&data.train)?, labelled(&data.test)?);

    let parameters = Parameters::new(&Streams::new(0), DType::F32, &Device::Cpu);
    let head = Linear::new(train.0.dim(1)?, classes.len(), parameters.builder())?;
    let mut optimizer =
        AdamW::named(parameters.trainable(), AdamWConfig { learning_rate: 0.01, ..Default::default() })?;
    println!("{} training and {} test pictures of {}", data.train.len(), data.test.len(), classes.join(", "));
    for step in 0..=200 {
        let loss = cross_entropy(&head.forward(&train.0)?, &train.1)?;
        if step % 50 == 0 {
            let accuracy = accuracy(&head, &test)?;
            println!("step {step:3}  training loss {:.4}  test accuracy {accuracy:.1} %", loss.to_scalar::<f32>()?);
        }
        optimizer.update(&loss.backward()?)?;
    }
    Ok(())
}

/// In percent.
fn accuracy(head: &Linear, (features, labels): &(Tensor, Tensor)) -> candle_core::Result<f32> {
    let right = head.forward(features)?.argmax(1)?.eq(labels)?.to_dtype(DType::F32)?;
    Ok(100.0 * right.mean_all()?.to_scalar::<f32>()?)
}
