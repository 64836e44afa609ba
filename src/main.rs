//! The command `stitchpack`. Everything it does goes through the public API.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
