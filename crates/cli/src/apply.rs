//! `stitchpack apply` and `lock`: base + packs → model, or its recipe.

use std::path::{Path, PathBuf};

use stitchpack::checkpoint::BaseCheck;
use stitchpack::error::Escaped;
use stitchpack::merge::OpenOptions;
use stitchpack::merge::recipe::Recipe;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::model::origin::LocalizerName;
use stitchpack::{
    Applied, ApplyOptions, Checkpoint, Error, GainChoice, MergeOptions, Result, StitchedModel, UnprovenModel,
    VerifiedPack,
};

use super::Global;
use super::say::{Say, counted, size};

/// Apply packs to their base: a complete model folder, or one file
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    merge: Merge,
    /// Where to write: X.safetensors is one file, anything else a folder
    #[arg(short, long, value_name = "MODEL", value_parser = super::output())]
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

/// Write the recipe of a merged model without making it
#[derive(clap::Args)]
pub struct LockArgs {
    #[command(flatten)]
    merge: Merge,
    /// Where to write the recipe
    #[arg(short, long, value_name = "FILE", value_parser = super::output(), default_value = "stitch.json")]
    output: PathBuf,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

#[derive(clap::Args)]
pub(super) struct Merge {
    /// The base: a .safetensors file or a Hugging Face folder
    base: PathBuf,
    /// Packs, each with an optional weight: PACK or PACK@0.6. A pack that was made after others goes onto their result
    #[arg(value_name = "PACK[@WEIGHT]")]
    packs: Vec<String>,
    /// The base, for those who name it by an option as other commands do; then every other name is a pack
    #[arg(long = "base", value_name = "BASE")]
    named_base: Option<PathBuf>,
    /// A factor of everything that is added to the base [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    lambda: Option<f32>,
    /// Where packs keep the same position: average, weighted-average, sum, elect, max, priority or refuse [default: average]
    #[arg(long, value_name = "RULE")]
    overlap: Option<String>,
    /// The gain of lossy packs: auto, stored, none or a number
    #[arg(long, default_value = "auto")]
    gain: String,
    /// How much of the base is read to know it: full, touched or cached
    #[arg(long, value_name = "HOW", default_value = "cached")]
    base_check: String,
}

impl Merge {
    /// The base, and the packs as they were named.
    fn parts(&self) -> (PathBuf, Vec<String>) {
        let first = self.base.to_string_lossy().into_owned();
        match &self.named_base {
            Some(base) => (base.clone(), std::iter::once(first).chain(self.packs.iter().cloned()).collect()),
            None => (self.base.clone(), self.packs.clone()),
        }
    }
}

/// Packs, each with its weight.
type Packs = Vec<(VerifiedPack, f32)>;

/// What the arguments name.
struct Parts {
    base: Checkpoint,
    packs: Packs,
    options: OpenOptions,
    recipe: Option<Recipe>,
}

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    if let Some(recipe) = &args.recipe {
        stitchpack::checkpoint::refuse_input(&args.output, [recipe.as_path()].into_iter())?;
    }
    let Parts { base, packs, options, recipe } = parts(&args.merge, args.recipe.as_deref(), global)?;
    let expect = recipe.as_ref().and_then(Recipe::result_digest);
    let carries_files = packs.iter().any(|(p, _)| !p.manifest().files.is_empty());
    warn_of_folded(&packs, say);
    let model = UnprovenModel::new(&base, packs, recipe.as_ref(), &options)?;
    let OpenOptions { workers, .. } = options;
    let options = ApplyOptions { force: args.force, check: args.check, expect, workers };
    let applied = model.apply(&args.output, &options)?;
    drop(options);
    if carries_files && args.output.extension().is_some_and(|e| e == "safetensors") {
        say.warn("the packs carry companion files, which a single file cannot hold; apply to a folder to get them");
    }
    report(&applied, &args.output, &args.merge.base_check, say)
}

pub fn run_lock(args: LockArgs, global: &Global, say: &Say) -> Result<()> {
    let Parts { base, packs, options, .. } = parts(&args.merge, None, global)?;
    // Said before the work, and again when the file gets its name.
    if args.output.exists() && !args.force {
        let path = args.output.to_string_lossy();
        return Err(Error::Refused(format!("{}: exists; use --force to replace it", Escaped(&path))));
    }
    warn_of_folded(&packs, say);
    let model = UnprovenModel::new(&base, packs, None, &options)?;
    let locked = model.lock(&ApplyOptions { workers: options.workers, ..Default::default() })?;
    model.write_recipe(&locked.recipe, &args.output, args.force)?;
    report(&locked, &args.output, &args.merge.base_check, say)
}

/// An average of averages is not the average of all.
fn warn_of_folded(packs: &Packs, say: &Say) {
    let folded: Vec<String> = packs
        .iter()
        .filter(|(pack, weight)| *weight != 0.0 && pack.manifest().origin.localizer == LocalizerName::Folded.name())
        .map(|(pack, _)| pack.path().map_or("-".into(), |p| p.to_string_lossy().into_owned()))
        .collect();
    if packs.len() > 1 && !folded.is_empty() {
        let why = "merging it with others is not merging all packs at once";
        say.warn(format!("already a merge: {}; {why}", super::say::names(&folded)));
    }
}

/// The recipe with its numbers as `stitch.json` has them: f32, not widened to f64.
fn recipe_as_written(recipe: &Recipe) -> Result<serde_json::Value> {
    serde_json::from_slice(&recipe.to_json()?).map_err(|e| Error::Internal(format!("recipe: {e}")))
}

fn report(applied: &Applied, out: &Path, base_check: &str, say: &Say) -> Result<()> {
    let recipe = &applied.recipe;
    if say.json {
        let document = serde_json::json!({
            "path": out, "bytes": applied.bytes, "touched_tensors": applied.touched, "base_check": base_check,
            "result_checked": applied.checked, "recipe": recipe_as_written(recipe)?,
        });
        say.document(&document);
        return Ok(());
    }
    let (packs, tensors) = (counted(recipe.packs.len() as u64, "pack"), counted(applied.touched as u64, "tensor"));
    say.line(format!("{}: {}, {packs}, {tensors} changed", out.display(), size(applied.bytes)));
    for pack in &recipe.packs {
        let by_tensor = if pack.tensor_gains.is_empty() { "" } else { ", by tensor" };
        let (id, gain) = (&pack.id, pack.gain);
        say.line(format!("pack     {id:.16}  weight {}  gain {gain:.4}{by_tensor}  {}", pack.weight, pack.file));
    }
    let checked = if applied.checked { ", as recorded" } else { "" };
    say.line(format!("overlap  {}, lambda {}", recipe.overlap, recipe.lambda));
    say.line(format!("result   {}{checked}", recipe.result));
    let base = match base_check {
        "touched" => "the touched tensors were checked, the others were not read",
        "full" => "checked, every byte",
        _ => "checked, every byte now or when the file was last in this state",
    };
    say.note(format!("base     {base}"));
    Ok(())
}

/// The packs on the base, which is read as far as they need it, or on each other.
pub(super) fn model(args: &Merge, global: &Global) -> Result<(StitchedModel<'static>, BaseIdentity)> {
    let Parts { base, packs, options, .. } = parts(args, None, global)?;
    StitchedModel::from_packs(base, packs, &options)
}

fn parts(args: &Merge, recipe: Option<&Path>, global: &Global) -> Result<Parts> {
    let mut check: BaseCheck = args.base_check.parse()?;
    let (base, named) = args.parts();
    let named = named.iter().map(|p| pack_and_weight(p)).collect::<Result<Vec<_>>>()?;
    let mut merge = MergeOptions {
        overlap: args.overlap.as_deref().map(str::parse::<OverlapRule>).transpose()?,
        lambda: args.lambda.unwrap_or(1.0),
        gain: args.gain.parse::<GainChoice>()?,
        gains: None,
    };
    let found = recipe.map(Recipe::open).transpose()?;
    if let Some(recipe) = &found {
        merge = recipe.merge_options()?;
        // A recipe is a promise about the whole model.
        check = if check == BaseCheck::Touched { BaseCheck::Full } else { check };
    } else if named.is_empty() {
        return Err(Error::InvalidInput("name at least one pack".into()));
    }
    let base = global.checkpoint(&base)?;
    let paths: Vec<PathBuf> = named.iter().map(|(path, _)| path.clone()).collect();
    let at_hand = super::open_packs(&paths)?.into_iter().zip(named.into_iter().map(|(_, weight)| weight));
    let packs: Packs = match (&found, recipe) {
        (Some(recipe), Some(path)) => {
            let beside = path.parent().unwrap_or(Path::new(""));
            recipe.find_packs(at_hand.collect(), &[beside, Path::new("")])?
        }
        _ => at_hand.map(|(pack, weight)| (pack, weight.unwrap_or(1.0))).collect(),
    };
    let options = OpenOptions { merge, base_check: check, workers: global.workers() };
    Ok(Parts { base, packs, options, recipe: found })
}

/// A pack's file, and the weight that was said.
type Named = (PathBuf, Option<f32>);

/// `PACK` or `PACK@WEIGHT`: the last `@` before a number, unless a file of the whole name exists.
fn pack_and_weight(text: &str) -> Result<Named> {
    let whole = PathBuf::from(text);
    let Some((path, weight)) = text.rsplit_once('@').filter(|_| !whole.exists()) else { return Ok((whole, None)) };
    match weight.parse::<f32>() {
        Ok(w) if w.is_finite() => Ok((PathBuf::from(path), Some(w))),
        Ok(_) => Err(Error::InvalidInput(format!("weight \"{weight}\" of \"{path}\" is not a finite number"))),
        Err(_) if weight.is_empty() => Err(Error::InvalidInput(format!("\"{text}\" has no weight after the @"))),
        Err(_) => Ok((whole, None)),
    }
}
