//! What a pack is and where its bytes went.

use pyo3::prelude::*;
use serde::Serialize;
use stitchpack::checkpoint::BaseCheck;
use stitchpack::model::source::TensorSource;
use stitchpack::{Checkpoint, Result, VerifiedPack, Workers};

use crate::base::Base;
use crate::call::Call;
use crate::pack::Pack;

/// An inspection as JSON, in the shape of `stitchpack inspect --json`.
#[pyfunction]
#[pyo3(signature = (pack, base, call))]
pub fn inspect(py: Python<'_>, pack: &Pack, base: Option<&Base>, call: Call) -> PyResult<String> {
    let base = base.map(|b| b.checkpoint.clone());
    call.run(py, |workers| {
        let pack = pack.open()?.verify()?;
        if let Some(base) = &base {
            check_base(std::slice::from_ref(&pack), base, BaseCheck::Touched, workers)?;
        }
        let inspection = stitchpack::report::inspect::inspect(&pack, base.as_deref().map(|b| b as &dyn TensorSource))?;
        document("inspect", &inspection)
    })
}

/// A report as the document that the command prints.
pub fn document(command: &str, report: &impl Serialize) -> Result<String> {
    Ok(stitchpack::report::document::success(command, report)?.to_string())
}

/// Checks that a base is that of packs, as far as `check` reads it.
pub fn check_base(packs: &[VerifiedPack], base: &Checkpoint, check: BaseCheck, workers: &Workers) -> Result<()> {
    let touched = |name: &str| packs.iter().any(|pack| pack.touches(name));
    let identity = base.identity_with(check, &touched, workers)?;
    packs.iter().try_for_each(|pack| pack.check_base(&identity))
}
