//! What a pack is and where its bytes went.

use pyo3::prelude::*;
use stitchpack::checkpoint::BaseCheck;
use stitchpack::model::source::TensorSource;
use stitchpack::{Checkpoint, Error, Result, VerifiedPack, Workers};

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
            check_base(&pack, base, BaseCheck::Touched, workers)?;
        }
        let inspection = stitchpack::inspect::inspect(&pack, base.as_deref().map(|b| b as &dyn TensorSource))?;
        // As the command does: numbers of 32 bits widened, not written shorter.
        let document = serde_json::to_value(&inspection).map_err(|e| Error::Internal(e.to_string()))?;
        Ok(document.to_string())
    })
}

/// Checks that a base is the pack's, as far as `check` reads it.
pub fn check_base(pack: &VerifiedPack, base: &Checkpoint, check: BaseCheck, workers: &Workers) -> Result<()> {
    let touched: std::collections::HashSet<String> = pack.tensors().map(|t| t.name).collect();
    let identity = base.identity_with(check, &|name| touched.contains(name), workers)?;
    pack.check_base(&identity)
}
