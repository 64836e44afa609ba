//! How much tasks collide.

use std::path::Path;

use pyo3::prelude::*;
use stitchpack::model::source::TensorSource;
use stitchpack::report::overlap::overlaps;
use stitchpack::{Result, VerifiedPack};

use crate::base::Base;
use crate::call::Call;
use crate::inspect::{check_base, document};
use crate::pack::Pack;

/// What every two packs share, as JSON in the shape of `stitchpack overlap --json`.
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
        let names: Vec<&Path> = packs.iter().map(|pack| pack.path().unwrap_or(Path::new("-"))).collect();
        let found = overlaps(&names, &packs, base.as_deref().map(|b| b as &dyn TensorSource))?;
        document("overlap", &found)
    })
}
