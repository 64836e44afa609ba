//! `stitchpack inspect`: what a pack is and where its bytes went.

use std::path::PathBuf;

use stitchpack::Result;

use super::Global;
use super::say::Say;

/// Show what a pack is, where its bytes went, and its density by layer and kind of module
#[derive(clap::Args)]
pub struct Args {
    /// The pack; `-` reads it from standard input
    pack: PathBuf,
}

pub fn run(args: Args, _: &Global, say: &Say) -> Result<()> {
    let pack = super::open_pack(&args.pack)?.verify_as_read();
    say.line(format!("{:#?}", pack.manifest()));
    Ok(())
}
