//! `stitchpack fold`: packs → one pack.

use std::path::PathBuf;

use stitchpack::{FoldOptions, Result};

use super::Global;
use super::apply::{Merge, model};
use super::say::Say;

/// Make one pack of a chain, or of several packs of one base under a rule and weights
///
/// The pack gives the folded model bit for bit. A merge is marked as folded: merged again with others it is an average of averages.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write the pack
    #[arg(short, long, value_name = "PACK", value_parser = super::output())]
    output: PathBuf,
    /// How hard to compress: fast (decodes at the speed of memory), default or small
    #[arg(long, value_name = "HOW", default_value = "default")]
    effort: String,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let (model, _) = model(&args.merge, global)?;
    let options = FoldOptions { force: args.force, effort: args.effort.parse()?, workers: global.workers() };
    let created = stitchpack::fold(&model, &args.output, &options)?;
    drop(options);
    super::create::report(&created, Some(args.output), true, None, say);
    Ok(())
}
