//! `stitchpack create`: base and fine-tuned model → pack.

use std::path::PathBuf;

use stitchpack::checkpoint::{BaseCheck, ModelSource};
use stitchpack::create::by_eval::Found;
use stitchpack::create::{Budget, CreateOptions, Localizer, Lossy, Method, NewTensors, Rescale, Scope, Size};
use stitchpack::method::density::Density;
use stitchpack::model::delta::{Groups, ValueKind};
use stitchpack::{Checkpoint, Created, Error, MergeOptions, Result, StitchedModel};

use super::Global;
use super::eval::{self, Eval};
use super::say::{Say, count, counted, names, percent, size};

/// Make a pack of the difference between a base and a fine-tuned model
#[derive(clap::Args)]
pub struct Args {
    /// The base: a .safetensors file or a Hugging Face folder
    base: PathBuf,
    /// The fine-tuned model: a file or folder, which may be sharded in another way; or the folder of a LoRA or SHiRA adapter as
    /// PEFT saves it (adapter_config.json), which stands for the base with the adapter on it
    fine_tuned: PathBuf,
    /// Where to write the pack
    #[arg(short, long, value_name = "PACK", value_parser = super::output(), required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Make the pack for the result of this pack on the base, as the next link of a chain; may be repeated
    #[arg(long, value_name = "PACK")]
    after: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    eval: Eval,
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
}

#[derive(clap::Args)]
struct How {
    /// How large the pack may be: a share of the fine-tuned model such as 1%, or bytes such as 20MB; what makes the best model
    /// for that is chosen [default: 1%]
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["exact", "density", "mask"])]
    size: Option<String>,
    /// An error rather than a lossy pack, where the exact one does not fit --size
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
    /// What the gain makes up for: none, energy, l1, balanced or a factor [default: balanced with --size; with --density energy,
    /// or none for float values]
    #[arg(long, value_name = "RULE")]
    rescale: Option<String>,
    /// Keep the positions with the largest scores: a safetensors file with the checkpoint's names and shapes
    #[arg(long, value_name = "FILE", conflicts_with = "mask")]
    scores: Option<PathBuf>,
    /// Keep the positions of a mask: a safetensors file of BOOL or U8 tensors
    #[arg(long, value_name = "FILE", conflicts_with_all = ["density", "scope"])]
    mask: Option<PathBuf>,
    /// Whether every byte of the base is hashed again (full) or what was hashed before is believed while the file's size and
    /// times are the same (cached)
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

pub fn run(args: Args, global: &Global, say: &Say) -> Result<()> {
    let base = global.checkpoint(&args.base)?;
    let base_check = args.how.base_check()?;
    let options = CreateOptions {
        method: method(&args.how, global)?,
        include: args.how.tensors.include,
        exclude: args.how.tensors.exclude,
        cast: args.how.tensors.cast,
        new_tensors: args.how.tensors.new_tensors.parse::<NewTensors>()?,
        carry_files: args.carry_files,
        notes: notes(&args.meta)?,
        force: args.force,
        record_result: true,
        folded: false,
        effort: args.how.effort.parse()?,
        base_check,
        workers: global.workers(),
    };
    if let (true, Some(out)) = (args.eval.is_asked(), &args.output) {
        let found = args.eval.create(&base, &global.checkpoint(&args.fine_tuned)?, out, &options, say)?;
        drop(options);
        report(&found.created, args.output, args.carry_files, Some(&found), say);
        return Ok(());
    }
    let after = if args.after.is_empty() { None } else { Some(chain(&base, &args.after, base_check, global)?) };
    let ground: &dyn ModelSource = after.as_ref().map_or(&base, |model| model);
    let fine_tuned = fine_tuned(ground, &args.fine_tuned, global)?;
    let created = match (&args.output, args.dry_run) {
        (Some(out), false) => stitchpack::create(ground, &*fine_tuned, out, &options)?,
        _ => stitchpack::create_dry(ground, &*fine_tuned, &options)?,
    };
    drop(options);
    report(&created, args.output.filter(|_| !args.dry_run), args.carry_files, None, say);
    Ok(())
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
    let packs = super::open_packs(packs)?.into_iter().map(|pack| (pack, 1.0)).collect();
    StitchedModel::chain(base, &identity, packs, &MergeOptions::default(), &global.workers())
}

impl How {
    fn base_check(&self) -> Result<BaseCheck> {
        match self.base_check.parse()? {
            BaseCheck::Touched => Err(Error::InvalidInput("create reads all of the base: use full or cached".into())),
            check => Ok(check),
        }
    }
}

fn method(how: &How, global: &Global) -> Result<Method> {
    if how.exact {
        return Ok(Method::Exact);
    }
    let defaults = Lossy::default();
    let values = how.values.as_deref().map_or(Ok(defaults.values), str::parse::<ValueKind>)?;
    let localizer = match (&how.scores, &how.mask) {
        (Some(file), _) => Localizer::Scores(global.checkpoint(file)?.into()),
        (None, Some(file)) => Localizer::Mask(global.checkpoint(file)?.into()),
        (None, None) => Localizer::Magnitude,
    };
    let lossy = Lossy {
        density: how.density.as_deref().map_or(Ok(defaults.density), str::parse::<Density>)?,
        localizer,
        scope: how.scope.as_deref().map_or(Ok(Scope::default()), str::parse)?,
        values,
        groups: match how.groups.as_deref() {
            None | Some("tensor") => Groups::Tensor,
            Some("row") => Groups::Row,
            Some(other) => return Err(Error::InvalidInput(format!("groups \"{other}\" is not tensor or row"))),
        },
        rescale: how.rescale.as_deref().map(str::parse::<Rescale>).transpose()?,
    };
    if how.density.is_some() || how.mask.is_some() {
        return Ok(Method::Lossy(lossy));
    }
    let size = how.size.as_deref().map_or(Ok(Budget::default().size), str::parse::<Size>)?;
    Ok(Method::Sized(Budget { size, lossy, keep_values: how.values.is_some(), require_exact: how.require_exact }))
}

fn notes(meta: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    let mut notes = std::collections::BTreeMap::new();
    for text in meta {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| Error::InvalidInput(format!("--meta \"{text}\" is not KEY=VALUE")))?;
        if notes.insert(key.to_string(), value.to_string()).is_some() {
            return Err(Error::InvalidInput(format!("--meta {key} is given twice")));
        }
    }
    Ok(notes)
}

/// What was made, and how it was measured where it was.
pub(super) fn report(c: &Created, path: Option<PathBuf>, carry_files: bool, found: Option<&Found>, say: &Say) {
    if !c.skipped.is_empty() {
        say.warn(format!("left out, because only the fine-tuned model has them so: {}", names(&c.skipped)));
    }
    if !c.only_in_base.is_empty() {
        say.warn(format!("only in the base, they stay as they are: {}", names(&c.only_in_base)));
    }
    if !c.companions.is_empty() && !carry_files {
        say.warn(format!(
            "files that differ from the base's and are not in the pack: {} (--carry-files takes them along)",
            names(&c.companions)
        ));
    }
    let share = c.pack_bytes as f64 / c.fine_tuned_bytes.max(1) as f64;
    if say.json {
        let mut document = serde_json::json!({
            "path": path, "id": c.id.to_string(), "content_id": c.content.to_string(), "pack_bytes": c.pack_bytes,
            "fine_tuned_bytes": c.fine_tuned_bytes, "size_share": share, "touched_tensors": c.touched,
            "candidates": c.candidates, "changed": c.changed, "kept": c.kept, "energy_kept": c.energy, "gain": c.gain,
            "exact": c.exact, "all_steps": c.all_steps, "unchanged_in_mask": c.unchanged_in_mask, "carried": c.carried, "skipped": c.skipped,
            "only_in_base": c.only_in_base, "differing_files": c.companions,
        });
        if let (Some(found), Some(members)) = (found, document.as_object_mut()) {
            members.insert("evaluation".into(), eval::document(found));
        }
        return say.document(&document);
    }
    let what = path.map_or("dry run".into(), |p| p.display().to_string());
    say.line(format!("{what}: {} ({} of the fine-tuned model)", size(c.pack_bytes), percent(share)));
    say.line(format!("id       {}", c.id));
    let tensors = counted(c.touched as u64, "tensor");
    if c.exact {
        say.line(format!(
            "exact    gives back the fine-tuned model bit for bit; {} units of {tensors} changed",
            count(c.kept)
        ));
    } else if c.all_steps {
        let left = "but not all of the fine-tuned model is in it";
        say.line(format!("steps    {} units of {tensors} changed; {left}", count(c.kept)));
    } else {
        say.line(format!(
            "kept     {} of {} elements ({}), {} changed; {tensors}",
            count(c.kept),
            count(c.candidates),
            percent(c.kept as f64 / c.candidates.max(1) as f64),
            count(c.changed)
        ));
        say.line(format!("energy   {} of the task vector's squared norm; gain {:.4}", percent(c.energy), c.gain));
        let bits = c.pack_bytes as f64 * 8.0 / c.candidates.max(1) as f64;
        let worth = match found {
            Some(found) => format!("keeps {} of what fine-tuning gained", percent(found.chosen.kept)),
            None => "not evaluated, measure the applied model on your task".into(),
        };
        say.line(format!("lossy    {bits:.3} bits a parameter; {worth}"));
    }
    if c.unchanged_in_mask > 0 {
        say.line(format!("dropped  {} positions of the mask, where nothing changed", count(c.unchanged_in_mask)));
    }
    if !c.carried.is_empty() {
        say.line(format!("carried  {}", names(&c.carried)));
    }
    if let Some(found) = found {
        eval::report(found, say);
    }
}
