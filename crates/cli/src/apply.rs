//! `stitchpack apply`: base + packs → model.

use std::path::{Path, PathBuf};

use stitchpack::checkpoint::BaseCheck;
use stitchpack::merge::OpenOptions;
use stitchpack::merge::recipe::Recipe;
use stitchpack::report::apply::ApplyReport;
use stitchpack::{Applied, ApplyOptions, DeferredModel, Result};

use super::console::Console;
use super::global::{Global, output};
use super::merge::{Merge, Parts, parts, warn_of_folded};
use super::text::{counted, escaped, path_text, size};

/// Apply packs to their base: a complete model folder, or one file
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write: X.safetensors is one file, anything else a folder
    #[arg(short, long, value_name = "MODEL", value_parser = output())]
    output: PathBuf,
    /// Make the model that this recipe describes, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lambda", "overlap", "gain"])]
    recipe: Option<PathBuf>,
    /// Fail unless the result is the one that the pack recorded (one pack, applied as it was made)
    #[arg(long)]
    check: bool,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

const EXAMPLES: &str = "\
Examples:
  stitchpack apply base reviews.stitch -o reviews
  stitchpack apply base.safetensors a.stitch b.stitch@0.6 -o merged.safetensors
  stitchpack apply base --recipe stitch.json -o merged";

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    if let Some(recipe) = &args.recipe {
        stitchpack::checkpoint::refuse_input(&args.output, [recipe.as_path()].into_iter())?;
    }
    let Parts { base, packs, options, recipe } = parts(&args.merge, args.recipe.as_deref(), global)?;
    let expect = recipe.as_ref().and_then(Recipe::result_digest);
    let carries_files = packs.iter().any(|(p, _)| !p.manifest().files.is_empty());
    warn_of_folded(&packs, console);
    let model = DeferredModel::new(&base, packs, recipe.as_ref(), &options)?;
    let OpenOptions { workers, .. } = options;
    let options = ApplyOptions { force: args.force, check: args.check, expect, workers };
    let applied = model.apply(&args.output, &options)?;
    drop(options);
    if carries_files && args.output.extension().is_some_and(|e| e == "safetensors") {
        console.warn("the packs carry companion files, which a single file cannot hold; apply to a folder to get them");
    }
    report("apply", &applied, &args.output, args.merge.base_check()?, console)
}

/// What was made of the packs: a model, or a recipe.
pub fn report(command: &str, applied: &Applied, out: &Path, check: BaseCheck, console: &Console) -> Result<()> {
    if console.json {
        return console.report(command, &ApplyReport::of(applied, out, check)?);
    }
    let recipe = &applied.recipe;
    let (packs, tensors) = (counted(recipe.packs.len() as u64, "pack"), counted(applied.touched as u64, "tensor"));
    console.line(format!("{}: {}, {packs}, {tensors} changed", path_text(out), size(applied.bytes)));
    for pack in &recipe.packs {
        let by_tensor = if pack.tensor_gains.is_empty() { "" } else { ", by tensor" };
        let (id, gain, file) = (&pack.id, pack.gain, escaped(&pack.file));
        console.line(format!("pack     {id:.16}  weight {}  gain {gain:.4}{by_tensor}  {file}", pack.weight));
    }
    let checked = if applied.checked { ", as recorded" } else { "" };
    console.line(format!("overlap  {}, lambda {}", recipe.overlap, recipe.lambda));
    console.line(format!("result   {}{checked}", recipe.result));
    let base = match check {
        BaseCheck::Touched => "the touched tensors were checked, the others were not read",
        BaseCheck::Full => "checked, every byte",
        BaseCheck::Cached => "checked, every byte now or when the file was last in this state",
    };
    console.note(format!("base     {base}"));
    Ok(())
}
