//! Packs written onto their base, which is read once.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use stitchpack::checkpoint::refuse_input;
use stitchpack::model::digest::Digest;
use stitchpack::{Applied, ApplyOptions, DeferredModel, Error, Recipe, Result};

use crate::base::Base;
use crate::call::Call;
use crate::error::raise;
use crate::merge::{Found, Merge};
use crate::model::digest;

/// Writes the model to a file or folder.
#[pyfunction]
#[pyo3(signature = (base, merge, out, check, expect, force, call))]
#[allow(clippy::too_many_arguments)]
pub fn apply<'py>(
    py: Python<'py>,
    base: &Base,
    merge: Merge,
    out: PathBuf,
    check: bool,
    expect: Option<&str>,
    force: bool,
    call: Call,
) -> PyResult<Bound<'py, PyDict>> {
    let base = base.checkpoint.clone();
    let applied = call.run(py, |workers| {
        let Found { packs, options, recipe } = merge.find(workers)?;
        let (recipe, file) = recipe.unzip();
        refuse_input(&out, file.flatten().iter().map(PathBuf::as_path))?;
        let expect = expected(expect, recipe.as_ref())?;
        let options_of_apply = ApplyOptions { force, check, expect, workers: workers.clone() };
        DeferredModel::new(&*base, packs, recipe.as_ref(), &options)?.apply(&out, &options_of_apply)
    })?;
    report(py, &applied)
}

/// Computes the model's digest, and writes the recipe where one is asked for.
#[pyfunction]
#[pyo3(signature = (base, merge, out, expect, force, call))]
pub fn lock<'py>(
    py: Python<'py>,
    base: &Base,
    merge: Merge,
    out: Option<PathBuf>,
    expect: Option<&str>,
    force: bool,
    call: Call,
) -> PyResult<Bound<'py, PyDict>> {
    let base = base.checkpoint.clone();
    let locked = call.run(py, |workers| {
        let Found { packs, options, recipe } = merge.find(workers)?;
        let recipe = recipe.map(|(recipe, _)| recipe);
        let expect = expected(expect, recipe.as_ref())?;
        let model = DeferredModel::new(&*base, packs, recipe.as_ref(), &options)?;
        let locked = model.lock(&ApplyOptions { expect, workers: workers.clone(), ..ApplyOptions::default() })?;
        if let Some(out) = &out {
            model.write_recipe(&locked.recipe, out, force)?;
        }
        Ok(locked)
    })?;
    report(py, &locked)
}

/// The digest that the result must have: the one that was said, and the recipe's.
fn expected(said: Option<&str>, recipe: Option<&Recipe>) -> Result<Option<Digest>> {
    let said = said.map(digest).transpose()?;
    match (said, recipe.and_then(Recipe::result_digest)) {
        (Some(a), Some(b)) if a != b => Err(Error::InvalidInput(format!("the recipe leads to {b}, not to {a}"))),
        (said, recorded) => Ok(said.or(recorded)),
    }
}

fn report<'py>(py: Python<'py>, applied: &Applied) -> PyResult<Bound<'py, PyDict>> {
    let recipe = applied.recipe.to_json().map_err(|e| raise(py, &e))?;
    let fields = PyDict::new(py);
    fields.set_item("recipe", String::from_utf8_lossy(&recipe))?;
    fields.set_item("nbytes", applied.bytes)?;
    fields.set_item("touched", applied.touched)?;
    fields.set_item("checked", applied.checked)?;
    Ok(fields)
}
