//! `stitchpack fold`: packs → one pack.

use std::path::PathBuf;

use stitchpack::{FoldOptions, Result};

use super::console::Console;
use super::global::{Global, output};
use super::merge::{Merge, model};

/// Make one pack of a chain, or of several packs of one base under a rule and weights
///
/// The pack gives the folded model bit for bit. A folded merge is marked as such:
/// merging it with other packs averages averages.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write the pack
    #[arg(short, long, value_name = "PACK", value_parser = output())]
    output: PathBuf,
    /// How hard to compress: fast (decodes at the speed of memory), default or small
    #[arg(long, value_name = "HOW", default_value = "default")]
    effort: String,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let (model, _) = model(&args.merge, global)?;
    let options = FoldOptions { force: args.force, effort: args.effort.parse()?, workers: global.workers() };
    let created = stitchpack::fold(&model, &args.output, &options)?;
    drop(options);
    super::create::report("fold", &created, Some(args.output), true, None, console)
}
