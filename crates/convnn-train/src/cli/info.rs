//! `convnn info`.

use super::keys;
use super::output::print;
use convnn_models::{LayerSummary, ModelConfig, presets};
use convnn_train::config::{Assignment, RunConfig, Sources};
use convnn_train::expected::at_batch_size;
use convnn_train::text::{Table, grouped};
use convnn_train::{Error, Result};

/// List the presets, or show the layers and costs of one
///
/// Columns: `tokens` is the number of positions that choose neighbors, `cand.` the number of candidates for each, and K
/// the number of neighbors kept. A GFLOP is 10⁹
/// operations of the forward pass of one image, two per multiply-add.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The preset to show
    preset: Option<String>,
    /// Set a configuration key of the preset; repeatable
    #[arg(long, value_name = "KEY=VALUE", requires = "preset")]
    set: Vec<String>,
    /// Print the configuration instead, as a file for `convnn train --config`
    #[arg(long, requires = "preset", conflicts_with = "json")]
    toml: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// List the configuration keys that match WORD, or all of them: type, range, default, symbol and meaning
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
    let mut table = Table::new(&["preset", "parameters", "GFLOPs"]);
    for preset in presets() {
        let (params, gflops) = size(&preset.config())?;
        if json {
            print(
                &serde_json::json!({
                    "preset": preset.name, "params": params, "gflops": gflops, "summary": preset.summary,
                })
                .to_string(),
            )?;
        }
        table.row(vec![preset.name.to_owned(), grouped(params as u64), format!("{gflops:.3}")]);
    }
    if json {
        return Ok(());
    }
    // Beside the table, the descriptions would have a third of the width.
    let mut lines = table.lines();
    let heading = lines.remove(0);
    let rows = lines.into_iter().zip(presets());
    let rows = rows.flat_map(|(line, preset)| std::iter::once(line).chain(wrapped(preset.summary, "    ")));
    print(&std::iter::once(heading).chain(rows).collect::<Vec<_>>().join("\n"))
}

/// Columns of a terminal that every output fits in, unless a name is too long.
const COLUMNS: usize = 80;

/// `text` in lines that start with `indent`.
fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMNS => *line += &format!(" {word}"),
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

fn show(args: &Args, name: &str) -> Result<()> {
    let overrides = args.set.iter().map(|text| Assignment::parse(text)).collect::<Result<Vec<_>>>()?;
    let config = Sources { preset: Some(name), overrides, ..Sources::default() }.resolve()?;
    let summary = convnn_models::preset(name).map_or("", |preset| preset.summary);
    let (params, gflops) = size(&config.model)?;
    print(&match (args.json, args.toml) {
        (true, _) => json(&config, params, gflops, summary)?,
        (_, true) => {
            let totals = format!("{params} parameters, {gflops:.3} GFLOPs per image");
            format!("# {summary}\n# {totals}\n\n{}", config.to_toml()?.trim_end())
        }
        _ => layers(&config, params, gflops, summary)?,
    })
}

/// The table of the layers, and the totals.
fn layers(config: &RunConfig, params: usize, gflops: f64, summary: &str) -> Result<String> {
    let headings = ["layer", "kind", "output", "params", "GFLOPs", "tokens", "cand.", "K"];
    let mut table = Table::new(&headings).left(1);
    let dash = |value: Option<usize>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    for row in config.model.layers()? {
        table.row(vec![
            short_name(&row).to_owned(),
            row.kind.clone(),
            shape(&row.output),
            grouped(row.parameters as u64),
            if row.flops == 0 { "–".to_owned() } else { format!("{:.4}", row.flops as f64 / 1e9) },
            dash(row.tokens),
            dash(row.choice.map(|choice| choice.candidates)),
            dash(row.choice.map(|choice| choice.neighbors)),
        ]);
    }
    let name = &config.preset;
    let mut lines = wrapped(summary, "");
    lines.push(String::new());
    lines.extend(table.lines_within(COLUMNS));
    lines.extend([
        String::new(),
        format!("parameters  {}", grouped(params as u64)),
        format!("operations  {gflops:.3} GFLOPs per image, forward; training takes about 3 times that"),
        format!("memory      {}", at_batch_size(&config.model.memory()?, config)),
        String::new(),
        format!("convnn info {name} --toml > my.toml    # to be edited"),
        format!("convnn train --preset {name} --data sample --epochs 2"),
    ]);
    Ok(lines.join("\n"))
}

/// The name without what all layers of an architecture have in common.
fn short_name(row: &LayerSummary) -> &str {
    if row.name == "positional_encoding" {
        return "positions";
    }
    let common = ["features.", "transformer_encoder."];
    common.iter().find_map(|prefix| row.name.strip_prefix(prefix)).unwrap_or(&row.name)
}

/// `64×32×32`
fn shape(dims: &[usize]) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

fn json(config: &RunConfig, params: usize, gflops: f64, summary: &str) -> Result<String> {
    let unwritable =
        |error: &dyn std::fmt::Display| Error::Config { place: config.preset.clone(), message: error.to_string() };
    let table: toml::Table = config.to_toml()?.parse().map_err(|error: toml::de::Error| unwritable(&error))?;
    let memory = config.model.memory()?.training(config.batch_size, convnn_train::expected::slots(config));
    let layers: Vec<_> = config
        .model
        .layers()?
        .into_iter()
        .map(|row| {
            serde_json::json!({
                "name": row.name,
                "kind": row.kind,
                "output": row.output,
                "params": row.parameters,
                "gflops": row.flops as f64 / 1e9,
                "tokens": row.tokens,
                "candidates": row.choice.map(|choice| choice.candidates),
                "neighbors": row.choice.map(|choice| choice.neighbors),
            })
        })
        .collect();
    let config = serde_json::to_value(table).map_err(|error| unwritable(&error))?;
    Ok(serde_json::json!({
        "summary": summary,
        "params": params,
        "gflops": gflops,
        "memory_bytes": memory,
        "layers": layers,
        "config": config,
    })
    .to_string())
}

/// The number of parameters, and billions of operations per image.
fn size(model: &ModelConfig) -> Result<(usize, f64)> {
    Ok((model.parameter_count()?, model.flops()? as f64 / 1e9))
}
