//! A full-size network in ConvNN form, on real images.

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use convnn_core::{ConvNn2d, Parameters, Streams, testing};
use convnn_data::{Dataset, DatasetName, Loader, LoaderConfig};
use convnn_models::{Model, Vgg};
use std::any::Any;
use std::sync::Arc;

/// Two test images of the embedded sample, normalised.
fn images() -> Tensor {
    let streams = Streams::new(0);
    let generator = Arc::new(move |name: &str| streams.generator(name));
    let loader = Loader::new(Dataset::sample().test, LoaderConfig::new(DatasetName::Cifar10, 2), generator).unwrap();
    loader.epoch(0).unwrap().next().unwrap().unwrap().images
}

/// VGG-11 with random weights, every convolution converted, gives equal logits.
#[test]
fn vgg11_layer_by_layer() {
    let config = convnn_models::preset("vgg11_conv2d").unwrap().config();
    let parameters = Parameters::new(&Streams::new(1), DType::F32, &Device::Cpu);
    let model = Model::new(&config, parameters.builder()).unwrap();
    // At PyTorch's initial scale each layer shrinks its input, until all images have the same logits.
    for (name, var) in parameters.trainable() {
        if name.ends_with(".weight") && var.rank() > 1 {
            var.set(&(var.as_tensor() * 6f64.sqrt()).unwrap()).unwrap();
        }
    }
    let form = model.to_conv_nn().unwrap();
    let vgg = (form.network() as &dyn Any).downcast_ref::<Vgg>().unwrap();
    assert_eq!(vgg.layers().filter(|(_, layer)| (&***layer as &dyn Any).is::<ConvNn2d>()).count(), 8);
    let images = images();
    assert_eq!(images.dims(), [2, 3, 32, 32]);
    let expected = model.forward(&images).unwrap();
    let found = form.forward(&images).unwrap();
    testing::compare("logits", &found, &expected, 1e-4).unwrap();
    // The logits do depend on the images.
    let swapped = Tensor::cat(&[images.narrow(0, 1, 1).unwrap(), images.narrow(0, 0, 1).unwrap()], 0).unwrap();
    let others = form.forward(&swapped).unwrap();
    testing::compare("logits", &others, &expected, 0.1).unwrap_err();
}
