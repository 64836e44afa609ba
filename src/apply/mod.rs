//! Journey two: base + packs → a model on disk.
//!
//! Blocks are stitched by all threads and written where they belong; the output gets its name when all of it is there, and the
//! base, where it was digested on the way, was found to be the packs' own.

mod base;
mod deferred;
mod run;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::output::{OutputFile, OutputFolder, refuse_input, reserve, write_whole};
use crate::checkpoint::plan::Plan;
use crate::checkpoint::{ModelSource, copy_pieces};
use crate::error::{Error, Escaped, Result};
use crate::io::ReadAt;
use crate::merge::StitchedModel;
use crate::merge::recipe::Recipe;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::parallel::Workers;

use base::Base;
pub use deferred::DeferredModel;
use run::run;

/// How a merged model is written.
#[derive(Debug, Clone, Default)]
pub struct ApplyOptions {
    /// Replace an output that exists.
    pub force: bool,
    /// Fail unless the result is the one that the pack recorded. Only for one pack, alone, as it was made.
    pub check: bool,
    /// Fail unless the result has this digest.
    pub expect: Option<Digest>,
    /// Threads and progress.
    pub workers: Workers,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Applied {
    /// What the model was made of, with the digest of the result.
    pub recipe: Recipe,
    /// Bytes of the weight files.
    pub bytes: u64,
    /// Tensors that some pack in play touches.
    pub touched: usize,
    /// Whether the result was compared with one that was recorded.
    pub checked: bool,
}

/// Writes a stitched model: one file where `out` ends in `.safetensors`, a folder otherwise.
///
/// # Errors
/// `InvalidInput` for an output that is an input, `Refused` for one that exists, for an overlap under `refuse`, and for finite
/// elements that would become infinite or NaN; `DigestMismatch` for a damaged pack or an unexpected result; `Io`. Whatever
/// the error, nothing is left behind.
pub fn apply(model: &StitchedModel, base: &BaseIdentity, out: &Path, options: &ApplyOptions) -> Result<Applied> {
    write(model, Base::Proven(base), out, options)
}

/// Computes a stitched model and writes nothing: its recipe, with the digest of the result.
///
/// # Errors
/// As [`apply`].
pub fn lock(model: &StitchedModel, base: &BaseIdentity, options: &ApplyOptions) -> Result<Applied> {
    lock_on(model, Base::Proven(base), options)
}

fn write(model: &StitchedModel, base: Base, out: &Path, options: &ApplyOptions) -> Result<Applied> {
    refuse_inputs_of(model, out)?;
    let is_file = out.extension().is_some_and(|e| e == "safetensors");
    if is_file { apply_file(model, base, out, options) } else { apply_folder(model, base, out, options) }
}

fn lock_on(model: &StitchedModel, base: Base, options: &ApplyOptions) -> Result<Applied> {
    let plan = Plan::single(model.base(), "-".into(), &model.carried())?;
    run(model, base, &plan, &[], options)
}

/// Writes the recipe of a model to a file, whole or not at all.
///
/// # Errors
/// `InvalidInput` for an output that is an input of the model, `Refused` where the file exists and `force` is not set; `Io`.
pub fn write_recipe(model: &StitchedModel, recipe: &Recipe, out: &Path, force: bool) -> Result<()> {
    refuse_inputs_of(model, out)?;
    write_whole(out, &recipe.to_json()?, force)
}

/// Fails where an output would replace the base or a pack.
fn refuse_inputs_of(model: &StitchedModel, out: &Path) -> Result<()> {
    refuse_input(out, model.input_paths().iter().map(PathBuf::as_path))
}

fn apply_file(model: &StitchedModel, base: Base, out: &Path, options: &ApplyOptions) -> Result<Applied> {
    let name = out.to_string_lossy().into_owned();
    let plan = Plan::single(model.base(), name, &model.carried())?;
    let output = OutputFile::create(out, options.force)?;
    output.reserve(plan.len())?;
    let applied = run(model, base, &plan, &[output.file()], options)?;
    output.commit()?;
    Ok(applied)
}

fn apply_folder(model: &StitchedModel, base: Base, out: &Path, options: &ApplyOptions) -> Result<Applied> {
    let plan = Plan::folder(model.base(), &model.carried())?;
    let output = OutputFolder::create(out, options.force)?;
    let mut files = Vec::new();
    for planned in &plan.files {
        let file = output.file(&planned.name)?;
        reserve(&file, &output.path_of(&planned.name), planned.len)?;
        files.push(file);
    }
    let applied = run(model, base, &plan, &files.iter().collect::<Vec<_>>(), options)?;
    let carried = carried_files(model)?;
    for name in model.base().companion_names()?.iter().filter(|name| !carried.contains_key(*name)) {
        copy_companion(&*model.base().companion(name)?, &output, name)?;
    }
    let recipe = [("stitch.json".to_string(), applied.recipe.to_json()?)];
    for (name, bytes) in carried.into_iter().chain(plan.index).chain(recipe) {
        let path = output.path_of(&name);
        output.file(&name)?.write_all_at(&bytes, 0).map_err(|e| Error::io(&path, e))?;
    }
    output.commit()?;
    Ok(applied)
}

/// Copies a file that goes along with the weights, with its permissions where it is on disk.
fn copy_companion(from: &dyn ReadAt, output: &OutputFolder, name: &str) -> Result<()> {
    if let Some(path) = from.path() {
        return std::fs::copy(path, output.path_of(name)).map(drop).map_err(|e| Error::io(path, e));
    }
    let file = output.file(name)?;
    copy_pieces(from, |start, piece| file.write_all_at(piece, start).map_err(|e| Error::io(&output.path_of(name), e)))
}

/// Companion files that packs in play carry; two packs must not carry different ones, but the next link of a chain may.
fn carried_files(model: &StitchedModel) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = model.below().map_or(Ok(BTreeMap::new()), carried_files)?;
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for layer in model.layers().iter().filter(|l| l.weight != 0.0) {
        for file in layer.pack.files() {
            let (name, bytes) = file?;
            if files.get(name).is_some_and(|other| *other != bytes) {
                return Err(Error::Refused(format!(
                    "two packs carry different files \"{}\"; apply them one by one",
                    Escaped(name)
                )));
            }
            files.insert(name.to_string(), bytes);
        }
    }
    all.extend(files);
    Ok(all)
}
