//! `stitchpack completions`: what shells ask for.

use clap::CommandFactory;
use stitchpack::Result;

use super::Cli;
use super::console::Console;

/// Print shell completions
#[derive(clap::Args)]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub fn run(args: Args, console: &Console) -> Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "stitchpack", &mut out);
    console.raw(&out);
    Ok(())
}
