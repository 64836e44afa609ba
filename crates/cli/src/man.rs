//! `stitchpack man`: manual pages.

use std::path::PathBuf;

use clap::CommandFactory;
use stitchpack::{Error, Result};

use super::Cli;

/// Write man pages to a folder
#[derive(clap::Args)]
pub struct Args {
    /// The folder
    folder: PathBuf,
}

pub fn run(args: Args) -> Result<()> {
    let io = |source| Error::Io { path: args.folder.clone(), source };
    std::fs::create_dir_all(&args.folder).map_err(io)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(io)
}
