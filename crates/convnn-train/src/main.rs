//! The command `convnn`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    convnn_core::allocator::keep_freed_memory();
    ExitCode::from(cli::run(std::env::args_os()))
}
