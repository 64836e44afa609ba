//! How much tasks collide.

use pyo3::prelude::*;
use stitchpack::model::source::TensorSource;
use stitchpack::{Result, VerifiedPack};

use crate::base::Base;
use crate::call::Call;
use crate::inspect::{check_base, document};
use crate::pack::Pack;

/// What every two packs share, as JSON: the `overlaps` of `stitchpack overlap --json`.
#[pyfunction]
#[pyo3(signature = (packs, base, call))]
pub fn overlap(py: Python<'_>, packs: Vec<Py<Pack>>, base: Option<&Base>, call: Call) -> PyResult<String> {
    let base = base.map(|b| b.checkpoint.clone());
    call.run(py, |workers| {
        let open = |pack: &Py<Pack>| Ok(pack.get().open()?.verify_as_read());
        let packs: Vec<VerifiedPack> = packs.iter().map(open).collect::<Result<_>>()?;
        if let Some(base) = &base {
            check_base(&packs, base, stitchpack::checkpoint::BaseCheck::Touched, workers)?;
        }
        let found = stitchpack::report::overlap::overlap(&packs, base.as_deref().map(|b| b as &dyn TensorSource))?;
        document(serde_json::to_value(found))
    })
}
