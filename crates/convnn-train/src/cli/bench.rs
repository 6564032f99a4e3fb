//! `convnn bench`.

use super::output::print;
use super::set_threads;
use convnn_train::bench::{Case, GemmRoof, Measurement, gemm_roof, measure};
use convnn_train::{Error, Result};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// Time training steps, inference, selection and aggregation
///
/// Every case runs in its own process, so that its peak memory can be measured. The time is that of the fastest repeat
/// after a warm-up.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Run the cases whose names contain this; `scaling` selects among 1,024 to 65,536 tokens [default: all others]
    #[arg(long, value_name = "SUBSTRING", default_value = "", hide_default_value = true)]
    cases: String,
    /// Number of repeats of each case
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
    /// Number of threads [default: RAYON_NUM_THREADS, or one per processor]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print one JSON object per case: case, seconds, repeats, peak_rss_mib
    #[arg(long)]
    json: bool,
    /// Time a case in this process
    #[arg(long, value_name = "CASE", hide = true)]
    one: Option<String>,
}

const AFTER_HELP: &str = "\
GFLOP/s is the arithmetic that a case needs (2 operations per multiply-add; a step counts as three forward passes)
divided by its time; `of roof` compares it with the fastest matrix product on this machine, which is measured first.

Examples:
  convnn bench --cases vgg11_hybrid
  convnn bench --cases _step --repeats 5 --json";

/// Times every requested case and prints a line for each.
pub fn run(args: &Args) -> Result<()> {
    set_threads(args.threads)?;
    if let Some(name) = &args.one {
        let case = Case::named(name).ok_or_else(|| unknown("--one", name))?;
        return print(&json(&measure(&case, args.repeats.into())?));
    }
    let cases = Case::matching(&args.cases);
    if cases.is_empty() {
        return Err(unknown("--cases", &args.cases));
    }
    if args.json {
        return cases.iter().try_for_each(|case| print(&json(&in_own_process(case, args.repeats)?)));
    }
    let roof = gemm_roof()?;
    print(&format!("GEMM roof: {:.1} GFLOP/s, f32, threads: {}", roof.gflops, roof.threads))?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    print(&format!("{:width$}  {:>9}  {:>8}  {:>7}  {:>8}", "case", "seconds", "GFLOP/s", "of roof", "peak MiB"))?;
    for case in &cases {
        print(&row(case, &in_own_process(case, args.repeats)?, roof, width)?)?;
    }
    Ok(())
}

fn row(case: &Case, measured: &Measurement, roof: GemmRoof, width: usize) -> Result<String> {
    let gflops = case.flops()? as f64 / 1e9 / measured.seconds;
    let share = format!("{:.0} %", 100.0 * gflops / roof.gflops);
    let memory = measured.peak_rss_mib.map_or("-".to_owned(), |mib| mib.to_string());
    let Measurement { case, seconds, .. } = measured;
    Ok(format!("{case:width$}  {seconds:>9.5}  {gflops:>8.1}  {share:>7}  {memory:>8}"))
}

/// Times `case` in a new process of this program, with the same number of threads.
fn in_own_process(case: &Case, repeats: u16) -> Result<Measurement> {
    let failed = |error: io::Error| Error::io("time", Path::new(&case.name))(error);
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(["bench", "--one", &case.name, "--repeats", &repeats.to_string()]);
    // Candle reads this variable.
    command.env("RAYON_NUM_THREADS", rayon::current_num_threads().to_string());
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(failed)?;
    if !output.status.success() {
        return Err(failed(io::Error::other(format!("its process failed with {}", output.status))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.into()))
}

fn json(measured: &Measurement) -> String {
    serde_json::json!(measured).to_string()
}

fn unknown(key: &str, found: &str) -> Error {
    let expected =
        "part of the name of a case, such as vgg11_hybrid_step, vit_tiny, _infer, select, aggregate or scaling";
    Error::Value { key: key.to_owned(), found: format!("`{found}`"), expected: expected.to_owned() }
}
