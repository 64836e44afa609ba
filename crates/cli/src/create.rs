//! `stitchpack create`: base and fine-tuned model → pack.

use std::path::PathBuf;

use stitchpack::checkpoint::{BaseCheck, ModelSource};
use stitchpack::create::by_eval::Smallest;
use stitchpack::create::words::{MethodWords, notes};
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::report::create::CreateReport;
use stitchpack::{Checkpoint, Created, MergeOptions, Result, StitchedModel};

use super::console::Console;
use super::eval::{self, Eval};
use super::global::{Global, open_packs, output};
use super::text::{count, counted, fine_percent as percent, names, path_text, size};

/// Make a pack of the difference between a base and a fine-tuned model
#[derive(clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The base: a .safetensors file or a Hugging Face folder
    base: PathBuf,
    /// The fine-tuned model: a file, a folder, or the folder of a LoRA or SHiRA adapter (PEFT)
    fine_tuned: PathBuf,
    /// Where to write the pack
    #[arg(short, long, value_name = "PACK", value_parser = output(), required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Write a note on the pack (task, licence, metrics …); may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    meta: Vec<String>,
    /// Take companion files that differ from the base's (tokenizer, chat template …) into the pack
    #[arg(long)]
    carry_files: bool,
    /// Do everything but write the pack
    #[arg(long)]
    dry_run: bool,
    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
    /// Make the pack for the result of this pack on the base, as the next link of a chain; may be repeated
    #[arg(long, value_name = "PACK")]
    after: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    eval: Eval,
}

const EXAMPLES: &str = "\
Examples:
  stitchpack create base reviews -o reviews.stitch
  stitchpack create base reviews -o reviews.stitch --size 20MB
  stitchpack create base reviews -o reviews.stitch --exact
  stitchpack create base reviews -o reviews.stitch --eval './score.sh {}'";

#[derive(clap::Args)]
#[command(next_help_heading = "How the pack is made")]
struct How {
    /// Size limit: a share of the fine-tuned model (1%) or bytes (20MB); the best pack that fits is made [default: 1%]
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["exact", "density", "mask"])]
    size: Option<String>,
    /// Fail rather than make a lossy pack if the exact one exceeds --size
    #[arg(long, conflicts_with_all = ["density", "mask"])]
    require_exact: bool,
    /// Share of the float elements to keep, such as 0.05 or 5%
    #[arg(long, value_name = "D", conflicts_with = "exact")]
    density: Option<String>,
    /// Give back the fine-tuned model bit for bit
    #[arg(long, conflicts_with_all = ["values", "rescale", "scope", "scores", "mask", "groups"])]
    exact: bool,
    /// How kept deltas are stored: f32, f16, bf16, int8, int4, sign or codebook [default: sign]
    #[arg(long, value_name = "KIND")]
    values: Option<String>,
    /// Among which elements the largest are taken: global or tensor [default: global]
    #[arg(long)]
    scope: Option<String>,
    /// Which positions share a scale: tensor or row [default: tensor]
    #[arg(long)]
    groups: Option<String>,
    /// What the gain restores: none, energy, l1, balanced or a factor [default: balanced with --size; with --density energy, or none for float values]
    #[arg(long, value_name = "RULE")]
    rescale: Option<String>,
    /// Keep the positions with the largest scores: a safetensors file with the checkpoint's names and shapes
    #[arg(long, value_name = "FILE", conflicts_with = "mask")]
    scores: Option<PathBuf>,
    /// Keep the positions of a mask: a safetensors file of BOOL or U8 tensors
    #[arg(long, value_name = "FILE", conflicts_with_all = ["density", "scope"])]
    mask: Option<PathBuf>,
    /// Hash all of the base (full), or reuse digests of unchanged files (cached)
    #[arg(long, value_name = "HOW", default_value = "cached")]
    base_check: String,
    /// How hard to compress: fast (decodes at the speed of memory), default or small
    #[arg(long, value_name = "HOW", default_value = "default")]
    effort: String,
    #[command(flatten)]
    tensors: Tensors,
}

/// Which tensors take part.
#[derive(clap::Args)]
#[command(next_help_heading = "Which tensors take part")]
pub struct Tensors {
    /// Only tensors whose name matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No tensors whose name matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Round fine-tuned values to the base's dtype where the dtypes differ
    #[arg(long)]
    pub cast: bool,
    /// Tensors that only the fine-tuned model has, or has in another shape: refuse, carry or skip
    #[arg(long, value_name = "WHAT", default_value = "refuse")]
    pub new_tensors: String,
}

pub fn run(args: Args, global: &Global, console: &Console) -> Result<()> {
    let base = global.checkpoint(&args.base)?;
    let base_check = args.how.base_check.parse()?;
    let options = CreateOptions {
        method: method(&args.how, global)?,
        include: args.how.tensors.include,
        exclude: args.how.tensors.exclude,
        cast: args.how.tensors.cast,
        new_tensors: args.how.tensors.new_tensors.parse::<NewTensors>()?,
        carry_files: args.carry_files,
        notes: notes(args.meta.iter().map(String::as_str))?,
        force: args.force,
        record_result: true,
        folded: false,
        effort: args.how.effort.parse()?,
        base_check,
        workers: global.workers(),
    };
    if let (true, Some(out)) = (args.eval.is_asked(), &args.output) {
        let found = args.eval.create(&base, &global.checkpoint(&args.fine_tuned)?, out, &options, console)?;
        drop(options);
        return report("create", &found.created, args.output, args.carry_files, Some(&found), console);
    }
    let after = if args.after.is_empty() { None } else { Some(chain(&base, &args.after, base_check, global)?) };
    let ground: &dyn ModelSource = after.as_ref().map_or(&base, |model| model);
    let fine_tuned = fine_tuned(ground, &args.fine_tuned, global)?;
    let created = match (&args.output, args.dry_run) {
        (Some(out), false) => stitchpack::create(ground, &*fine_tuned, out, &options)?,
        _ => stitchpack::create_dry(ground, &*fine_tuned, &options)?,
    };
    drop(options);
    report("create", &created, args.output.filter(|_| !args.dry_run), args.carry_files, None, console)
}

/// A fine-tuned model, or the base with the adapter of a folder on it.
pub(super) fn fine_tuned<'a>(
    base: &'a dyn ModelSource,
    path: &std::path::Path,
    global: &Global,
) -> Result<Box<dyn ModelSource + 'a>> {
    Ok(match stitchpack::adapter::is_adapter(path) {
        true => Box::new(stitchpack::adapter::open(base, path)?),
        false => Box::new(global.checkpoint(path)?),
    })
}

/// What packs make of the base, each as it was made.
fn chain<'a>(base: &'a Checkpoint, packs: &[PathBuf], check: BaseCheck, global: &Global) -> Result<StitchedModel<'a>> {
    let identity = base.identity_with(check, &|_| true, &global.workers())?;
    let packs = open_packs(packs)?.into_iter().map(|pack| (pack, 1.0)).collect();
    StitchedModel::chain(base, &identity, packs, &MergeOptions::default(), &global.workers())
}

fn method(how: &How, global: &Global) -> Result<Method> {
    let open = |path: &Option<PathBuf>| path.as_ref().map(|path| global.checkpoint(path)).transpose();
    let (scores, mask) = (open(&how.scores)?, open(&how.mask)?);
    MethodWords {
        size: how.size.as_deref(),
        require_exact: how.require_exact,
        density: how.density.as_deref(),
        exact: how.exact,
        values: how.values.as_deref(),
        scope: how.scope.as_deref(),
        groups: how.groups.as_deref(),
        rescale: how.rescale.as_deref(),
        scores: scores.map(Into::into),
        mask: mask.map(Into::into),
    }
    .method()
}

/// What was made, and how it was measured where it was.
pub(super) fn report(
    command: &str,
    c: &Created,
    path: Option<PathBuf>,
    carry_files: bool,
    found: Option<&Smallest>,
    console: &Console,
) -> Result<()> {
    if !c.skipped.is_empty() {
        console.warn(format!("left out, because only the fine-tuned model has them so: {}", names(&c.skipped)));
    }
    if !c.only_in_base.is_empty() {
        console.warn(format!("only in the base, they stay as they are: {}", names(&c.only_in_base)));
    }
    if !c.companions.is_empty() && !carry_files {
        console.warn(format!(
            "files that differ from the base's and are not in the pack: {} (--carry-files takes them along)",
            names(&c.companions)
        ));
    }
    if console.json {
        return console.report(command, &CreateReport::of(c, path.as_deref(), found));
    }
    let share = c.pack_bytes as f64 / c.fine_tuned_bytes.max(1) as f64;
    let what = path.map_or("dry run".into(), |p| path_text(&p));
    console.line(format!("{what}: {} ({} of the fine-tuned model)", size(c.pack_bytes), percent(share)));
    console.line(format!("id       {}", c.id));
    let tensors = counted(c.touched as u64, "tensor");
    if c.exact {
        console.line(format!(
            "exact    gives back the fine-tuned model bit for bit; {} units of {tensors} changed",
            count(c.kept)
        ));
    } else if c.all_steps {
        let left = "but not all of the fine-tuned model is in it";
        console.line(format!("steps    {} units of {tensors} changed; {left}", count(c.kept)));
    } else {
        console.line(format!(
            "kept     {} of {} elements ({}), {} changed; {tensors}",
            count(c.kept),
            count(c.candidates),
            percent(c.kept as f64 / c.candidates.max(1) as f64),
            count(c.changed)
        ));
        console.line(format!("energy   {} of the task vector's squared norm; gain {:.4}", percent(c.energy), c.gain));
        let bits = c.pack_bytes as f64 * 8.0 / c.candidates.max(1) as f64;
        let worth = match found {
            Some(found) => format!("keeps {} of what fine-tuning gained", percent(found.chosen.kept)),
            None => "not evaluated, measure the applied model on your task".into(),
        };
        console.line(format!("lossy    {bits:.3} bits a parameter; {worth}"));
    }
    if c.unchanged_in_mask > 0 {
        console.line(format!("dropped  {} positions of the mask, where nothing changed", count(c.unchanged_in_mask)));
    }
    if !c.carried.is_empty() {
        console.line(format!("carried  {}", names(&c.carried)));
    }
    if let Some(found) = found {
        eval::report(found, console);
    }
    Ok(())
}
