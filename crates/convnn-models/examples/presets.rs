//! Lists every preset with its size and cost, and runs the small ones on a random image.

use candle_core::{DType, Device, Tensor};
use candle_nn::Module;
use convnn_core::{Parameters, Streams};
use convnn_models::{Model, presets};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{:28} {:>12} {:>9}  summary", "preset", "parameters", "GFLOPs");
    for preset in presets() {
        let config = preset.config();
        let gflops = config.flops()? as f64 / 1e9;
        println!("{:28} {:>12} {gflops:>9.4}  {}", preset.name, config.parameter_count()?, preset.summary);
    }
    for preset in presets().iter().filter(|preset| preset.name.contains("compact")) {
        let config = preset.config();
        let parameters = Parameters::new(&Streams::new(42), DType::F32, &Device::Cpu);
        let model = Model::new(&config, parameters.builder())?;
        let side = config.image_size();
        let image = Tensor::randn(0f32, 1., (1, 3, side, side), &Device::Cpu)?;
        let logits = model.forward(&image)?;
        println!("{:28} predicts class {}", preset.name, logits.argmax(1)?.to_vec1::<u32>()?[0]);
    }
    Ok(())
}
