//! `stitchpack inspect`: what a pack is and where its bytes went.

use std::path::PathBuf;

use stitchpack::checkpoint::ModelSource;
use stitchpack::model::source::TensorSource;
use stitchpack::report::inspect::inspect;
use stitchpack::{Error, Result};

use super::inspect_view::Style;
use super::say::Say;
use super::{Global, inspect_html, inspect_view};

/// Show what a pack is, where its bytes went, and its density by layer and kind of module
#[derive(clap::Args)]
pub struct Args {
    /// The pack; `-` reads it from standard input
    pack: PathBuf,
    /// The base of the pack; with it, also what is coded by what the base has is decoded and counted
    #[arg(long, value_name = "BASE")]
    base: Option<PathBuf>,
    /// Write the report as one HTML file
    #[arg(long, value_name = "FILE", value_parser = super::output())]
    html: Option<PathBuf>,
    /// Replace the HTML file if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let packs = [super::open_pack(&args.pack)?.verify()?];
    let base = super::base_of(&packs, args.base.as_deref(), global)?;
    let [pack] = &packs;
    let inspection = inspect(pack, base.as_ref().map(|b| b as &dyn TensorSource))?;
    if let Some(path) = &args.html {
        let base = base.iter().flat_map(|base| base.input_paths());
        let inputs: Vec<PathBuf> = base.chain([args.pack.clone()]).collect();
        stitchpack::checkpoint::refuse_input(path, inputs.iter().map(PathBuf::as_path))?;
        stitchpack::checkpoint::write_whole(path, inspect_html::html(&inspection).as_bytes(), args.force)?;
    }
    if say.json {
        let document = serde_json::to_value(&inspection).map_err(|e| Error::Internal(e.to_string()))?;
        say.document(&document);
    } else if args.html.is_none() {
        let width = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).unwrap_or(80);
        say.raw(inspect_view::text(&inspection, &Style { colour: say.colour(), width }).as_bytes());
    }
    Ok(())
}
