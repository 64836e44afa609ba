//! What changed, before anything is packed.

use pyo3::prelude::*;
use stitchpack::CreateOptions;

use crate::base::Base;
use crate::call::Call;
use crate::fine_tuned::FineTuned;
use crate::inspect::document;

/// What changed between a base and a fine-tuned model, as JSON in the shape of `stitchpack diff --json`.
#[pyfunction]
#[pyo3(signature = (base, fine_tuned, include, exclude, cast, call))]
pub fn diff(
    py: Python<'_>,
    base: &Base,
    fine_tuned: FineTuned,
    include: Vec<String>,
    exclude: Vec<String>,
    cast: bool,
    call: Call,
) -> PyResult<String> {
    let base = base.checkpoint.clone();
    call.run(py, |workers| {
        let workers = workers.clone();
        let options = CreateOptions { include, exclude, cast, workers, ..CreateOptions::default() };
        let found = fine_tuned.on(&*base, |fine_tuned| stitchpack::report::diff::diff(&*base, fine_tuned, options))?;
        document("diff", &found)
    })
}
