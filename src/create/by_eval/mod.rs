//! The smallest pack that is good enough, by a measure of the user's own.
//!
//! The distance of a pack from its fine-tuned model says little of what it is worth: that shows on the task. So packs of
//! several sizes are made, applied and measured, and the smallest is taken that keeps a given share of what fine-tuning gained.

mod search;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::apply::{ApplyOptions, apply};
use crate::checkpoint::output::{OutputFolder, refuse_existing, refuse_input};
use crate::checkpoint::{Checkpoint, ModelSource};
use crate::create::{Budget, CreateOptions, Created, Method, Size, create, resolve};
use crate::error::{Error, Result};
use crate::merge::{Layer, MergeOptions, StitchedModel};
use crate::model::identity::BaseIdentity;
use crate::pack::OpenedPack;

/// Measures a model: a path in, a number out. Whether more or less is better shows in what fine-tuning did to it.
pub type Evaluate<'e> = dyn FnMut(&Path) -> Result<f64> + 'e;

/// A pack that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trial {
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// What the applied pack was measured at.
    pub score: f64,
    /// The share of the fine-tuned model's gain that it keeps; 1 is all.
    pub kept: f64,
    /// Whether the pack is exact.
    pub exact: bool,
}

impl Trial {
    /// Whether it keeps a share of the gain. An exact pack does, however its measure wavers.
    fn is_enough(&self, share: f64) -> bool {
        self.kept >= share || self.exact
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Smallest {
    /// The pack that was written.
    pub created: Created,
    /// What the base was measured at.
    pub base: f64,
    /// What the fine-tuned model was measured at.
    pub fine_tuned: f64,
    /// What the pack was measured at.
    pub chosen: Trial,
    /// All that were tried, by size.
    pub trials: Vec<Trial>,
}

/// Writes the smallest pack that keeps `share` of what the fine-tuned model gained over the base, with the measurements as
/// notes: `eval.base`, `eval.fine-tuned`, `eval.pack` and `eval.kept`. The search begins at the budget of `options`, doubles or halves it,
/// and then closes in on the size; an exact pack ends it. Candidates lie in a folder beside `out` that is removed at the end.
///
/// # Errors
/// `InvalidInput` where the options give no budget, or a share that is not above 0 and at most 1; `Refused` where base and fine-tuned
/// model measure the same, or a measure is no number; otherwise as [`create`](crate::create()), [`apply`](crate::apply())
/// and `evaluate`.
pub fn smallest(
    base: &Checkpoint,
    fine_tuned: &Checkpoint,
    out: &Path,
    options: &CreateOptions,
    share: f64,
    evaluate: &mut Evaluate,
) -> Result<Smallest> {
    let Method::Sized(budget) = &options.method else {
        return Err(Error::InvalidInput(
            "how much is to be kept says how large the pack may be; give no density".into(),
        ));
    };
    if !(share > 0.0 && share <= 1.0) {
        return Err(Error::InvalidInput(format!("the share to keep is {share}, must be above 0 and at most 1")));
    }
    let inputs = [base.input_paths(), fine_tuned.input_paths(), options.input_paths()].concat();
    refuse_input(out, inputs.iter().map(PathBuf::as_path))?;
    refuse_existing(out, options.force)?;
    // What is refused at any size is refused before anything is measured, which may take long; later only the size can be what
    // is wrong.
    resolve(base, fine_tuned, &sized(options, budget, u64::MAX))?;
    let ends = (measured(evaluate, base.path())?, measured(evaluate, fine_tuned.path())?);
    if ends.0 == ends.1 {
        let detail = format!("base and fine-tuned model both measure {}: there is no gain to keep a share of", ends.0);
        return Err(Error::Refused(detail));
    }
    let identity = base.identity_with(options.base_check, &|_| true, &options.workers)?;
    let folder = OutputFolder::create(&out.with_extension("candidates"), false)?;
    let bench = Bench { base, fine_tuned, identity, folder, options, ends };
    let mut tried: Vec<(Trial, CreateOptions)> = Vec::new();
    let start = budget.size.of(fine_tuned.file_bytes());
    search::run(start, share, &mut |bytes| {
        let Some((trial, how)) = bench.try_size(budget, bytes, evaluate)? else { return Ok(None) };
        tried.push((trial.clone(), how));
        Ok(Some(trial))
    })?;
    tried.sort_by_key(|(trial, _)| trial.pack_bytes);
    let chosen = tried.iter().find(|(trial, _)| trial.is_enough(share));
    let (chosen, mut how) = chosen.cloned().ok_or_else(|| Error::Refused("no pack keeps so much".into()))?;
    how.notes.extend(evidence(ends, &chosen));
    let created = create(base, fine_tuned, out, &how)?;
    let trials = tried.into_iter().map(|(trial, _)| trial).collect();
    Ok(Smallest { created, base: ends.0, fine_tuned: ends.1, chosen, trials })
}

/// Options for a candidate of a size.
fn sized(options: &CreateOptions, budget: &Budget, bytes: u64) -> CreateOptions {
    let budget = Budget { size: Size::Bytes(bytes), ..budget.clone() };
    CreateOptions { method: Method::Sized(budget), force: true, ..options.clone() }
}

fn measured(evaluate: &mut Evaluate, path: &Path) -> Result<f64> {
    let score = evaluate(path)?;
    if score.is_finite() {
        Ok(score)
    } else {
        Err(Error::Refused(format!("the evaluation gave {score}, which is no number")))
    }
}

/// What the pack remembers of how it was chosen.
fn evidence(ends: (f64, f64), chosen: &Trial) -> [(String, String); 4] {
    let of = |key: &str, value: String| (format!("eval.{key}"), value);
    [
        of("base", ends.0.to_string()),
        of("fine-tuned", ends.1.to_string()),
        of("pack", chosen.score.to_string()),
        of("kept", format!("{:.4}", chosen.kept)),
    ]
}

/// Where candidates are made and measured.
struct Bench<'a> {
    base: &'a Checkpoint,
    fine_tuned: &'a Checkpoint,
    identity: BaseIdentity,
    folder: OutputFolder,
    options: &'a CreateOptions,
    ends: (f64, f64),
}

impl Bench<'_> {
    /// Makes the best pack of a size, applies and measures it; none where no pack is that small.
    fn try_size(&self, budget: &Budget, bytes: u64, evaluate: &mut Evaluate) -> Result<Option<(Trial, CreateOptions)>> {
        let how = match resolve(self.base, self.fine_tuned, &sized(self.options, budget, bytes)) {
            Ok(how) => how,
            Err(Error::Refused(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        let path = self.folder.path_of("candidate.stitch");
        let created = create(self.base, self.fine_tuned, &path, &how)?;
        let pack = OpenedPack::open(&path)?.verify_as_read().bind(&self.identity)?;
        let model = StitchedModel::new(self.base, vec![Layer { pack, weight: 1.0 }], &MergeOptions::default())?;
        // What the evaluation expects of the base it gets of a candidate: a file or a folder.
        let name = if self.base.is_folder() { "candidate" } else { "candidate.safetensors" };
        let at = self.folder.path_of(name);
        let write = ApplyOptions { force: true, workers: self.options.workers.clone(), ..ApplyOptions::default() };
        apply(&model, &self.identity, &at, &write)?;
        let score = measured(evaluate, &at)?;
        let kept = (score - self.ends.0) / (self.ends.1 - self.ends.0);
        let how = CreateOptions { force: self.options.force, ..how };
        Ok(Some((Trial { pack_bytes: created.pack_bytes, score, kept, exact: created.exact }, how)))
    }
}
