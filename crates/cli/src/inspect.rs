//! `stitchpack inspect`: what a pack is and where its bytes went.

use std::path::PathBuf;

use stitchpack::Result;
use stitchpack::checkpoint::ModelSource;
use stitchpack::model::source::TensorSource;
use stitchpack::report::inspect::inspect;

use super::console::Console;
use super::global::{Global, open_pack, output};
use super::terminal::Style;
use super::{html, terminal};

/// Show what a pack is, where its bytes went, and its density by layer and kind of module
#[derive(clap::Args)]
pub struct Args {
    /// The pack; `-` reads it from standard input
    pack: PathBuf,
    /// The pack's base, to decode and count what is coded against it
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE", value_parser = output())]
    html: Option<PathBuf>,
    /// Replace the HTML file if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let packs = [open_pack(&args.pack)?.verify()?];
    let base = global.base_of(&packs, args.base.as_deref())?;
    let [pack] = &packs;
    let inspection = inspect(pack, base.as_ref().map(|b| b as &dyn TensorSource))?;
    if let Some(path) = &args.html {
        let base = base.iter().flat_map(|base| base.input_paths());
        let inputs: Vec<PathBuf> = base.chain([args.pack.clone()]).collect();
        stitchpack::checkpoint::refuse_input(path, inputs.iter().map(PathBuf::as_path))?;
        stitchpack::checkpoint::write_whole(path, html::html(&inspection).as_bytes(), args.force)?;
    }
    if console.json {
        console.report("inspect", &inspection)?;
    } else if args.html.is_none() {
        let width = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(80);
        console.raw(terminal::text(&inspection, &Style { colour: console.colour(), width }).as_bytes());
    }
    Ok(())
}
