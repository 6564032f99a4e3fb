//! `convnn equivalences`.

use super::output::print;
use convnn_train::Result;
use convnn_train::equivalences::all;
use convnn_train::text::Table;

/// Show that convolution and attention are ConvNN: how far the outputs of both forms differ
///
/// Random weights and inputs, outputs of order one. ConvNN layers against Candle's conv2d and the
/// attention layer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the table.
pub fn run(args: &Args) -> Result<()> {
    let all = all()?;
    if args.json {
        let rows: Vec<_> = all
            .iter()
            .map(|found| {
                serde_json::json!({
                    "operation": found.operation, "choices": found.choices, "f64": found.f64, "f32": found.f32,
                })
            })
            .collect();
        return print(&serde_json::Value::Array(rows).to_string());
    }
    let mut table = Table::new(&["operation", "as ConvNN", "f64", "f32"]).left(1);
    for found in all {
        let difference = |value: f64| if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") };
        table.row(vec![
            found.operation.to_owned(),
            found.choices.to_owned(),
            difference(found.f64),
            difference(found.f32),
        ]);
    }
    print(&table.lines().join("\n"))
}
