//! `stitchpack lock`: base + packs → the recipe of their model.

use std::path::PathBuf;

use stitchpack::{ApplyOptions, DeferredModel, Error, Result};

use super::apply::report;
use super::console::Console;
use super::global::{Global, output};
use super::merge::{Merge, Parts, parts, warn_of_folded};
use super::text::path_text;

/// Write the recipe of a merged model without making it
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write the recipe
    #[arg(short, long, value_name = "FILE", value_parser = output(), default_value = "stitch.json")]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let Parts { base, packs, options, .. } = parts(&args.merge, None, global)?;
    // Said before the work, and again when the file gets its name.
    if args.output.exists() && !args.force {
        return Err(Error::Refused(format!("{}: exists; use --force to replace it", path_text(&args.output))));
    }
    warn_of_folded(&packs, console);
    let model = DeferredModel::new(&base, packs, None, &options)?;
    let locked = model.lock(&ApplyOptions { workers: options.workers, ..Default::default() })?;
    model.write_recipe(&locked.recipe, &args.output, args.force)?;
    report("lock", &locked, &args.output, args.merge.base_check()?, console)
}
