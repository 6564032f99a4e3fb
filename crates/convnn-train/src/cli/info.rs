//! `convnn info`.

use super::keys;
use super::output::print;
use convnn_models::{ModelConfig, presets};
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::{Error, Result};

/// List the presets, or show the configuration, parameters and GFLOPs of one
///
/// The output for a preset is a configuration file for `convnn train --config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The preset to show
    preset: Option<String>,
    /// Set a configuration key of the preset; repeatable
    #[arg(long, value_name = "KEY=VALUE", requires = "preset")]
    set: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the configuration keys that WORD is about, or all of them: type, range, default, symbol and meaning
    #[arg(long, value_name = "WORD", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["preset", "json"])]
    keys: Option<String>,
    /// The format of --keys
    #[arg(long, value_enum, default_value_t, requires = "keys")]
    format: keys::Format,
}

/// Prints the list, or the preset.
pub fn run(args: &Args) -> Result<()> {
    match (&args.keys, &args.preset) {
        (Some(word), _) => keys::run(word, args.format),
        (None, Some(name)) => show(args, name),
        (None, None) => list(args.json),
    }
}

fn list(json: bool) -> Result<()> {
    let width = presets().iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    if !json {
        print(&format!("{:width$}  {:>12}  {:>8}  description", "preset", "parameters", "GFLOPs"))?;
    }
    for preset in presets() {
        let (params, gflops) = size(&(preset.config)())?;
        print(&match json {
            true => serde_json::json!({
                "preset": preset.name, "params": params, "gflops": gflops, "summary": preset.summary,
            })
            .to_string(),
            false => format!("{:width$}  {params:>12}  {gflops:>8.3}  {}", preset.name, preset.summary),
        })?;
    }
    Ok(())
}

fn show(args: &Args, name: &str) -> Result<()> {
    let overrides = args.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
    let config = Sources { preset: Some(name), overrides, ..Sources::default() }.resolve()?;
    let (params, gflops) = size(&config.model)?;
    let summary = convnn_models::preset(name).map_or("", |preset| preset.summary);
    print(&match args.json {
        true => json(&config, params, gflops, summary)?,
        false => {
            format!(
                "# {summary}\n# {params} parameters, {gflops:.3} GFLOPs per image\n\n{}",
                config.to_toml()?.trim_end()
            )
        }
    })
}

fn json(config: &RunConfig, params: usize, gflops: f64, summary: &str) -> Result<String> {
    let unwritable =
        |error: &dyn std::fmt::Display| Error::Config { place: config.preset.clone(), message: error.to_string() };
    let table: toml::Table = config.to_toml()?.parse().map_err(|error: toml::de::Error| unwritable(&error))?;
    let config = serde_json::to_value(table).map_err(|error| unwritable(&error))?;
    Ok(serde_json::json!({ "summary": summary, "params": params, "gflops": gflops, "config": config }).to_string())
}

/// The number of parameters, and billions of operations per image.
fn size(model: &ModelConfig) -> Result<(usize, f64)> {
    Ok((model.parameter_count()?, model.flops()? as f64 / 1e9))
}
