//! `convnn push`.

use super::output::{print_line, start_log};
use convnn_train::Result;
use convnn_train::hub::{Publication, config};
use convnn_train::progress::Progress;
use std::path::PathBuf;

/// Upload a weights folder to the Hugging Face hub (in builds with `--features hub`)
///
/// The repository is created if it is missing. The files are those that SHA256SUMS lists, in one commit; other files there
/// stay. The token is HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the one that `hf auth login` stored.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  convnn export runs/mine weights/mine --half --flips
  convnn push weights/mine OWNER/NAME
  convnn predict cat.jpg --weights hub:OWNER/NAME")]
pub struct Args {
    /// A weights folder that `convnn export` made
    dir: PathBuf,
    /// The name of the model on the hub
    #[arg(value_name = "OWNER/NAME")]
    name: String,
    /// Make the repository private, if it does not exist yet
    #[arg(long)]
    private: bool,
    /// The branch to upload to; it is created if it is missing
    #[arg(long, value_name = "BRANCH", default_value = "main")]
    revision: String,
    /// URL of the hub [default: HF_ENDPOINT, or that of the Hugging Face hub]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
}

/// Uploads, and prints the URL of the commit.
pub fn run(args: &Args) -> Result<()> {
    start_log(&Progress::stderr());
    let mut hub = config()?;
    hub.endpoint = args.endpoint.clone().unwrap_or(hub.endpoint);
    let publication =
        Publication { folder: &args.dir, name: &args.name, branch: &args.revision, private: args.private };
    print_line(&publication.upload(&hub)?)
}
