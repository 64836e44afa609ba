//! What can be proved of packs.

use std::path::PathBuf;

use pyo3::prelude::*;
use stitchpack::report::document::success;
use stitchpack::{Error, VerifyOptions};

use crate::base::Base;
use crate::call::Call;
use crate::model::digest;
use crate::pack::Pack;

/// Checks packs, as JSON in the shape of `stitchpack verify --json`. The first thing that is wrong is the error.
#[pyfunction]
#[pyo3(signature = (packs, base, base_check, expect_id, result, call))]
pub fn verify(
    py: Python<'_>,
    packs: Vec<Py<Pack>>,
    base: Option<&Base>,
    base_check: &str,
    expect_id: Option<&str>,
    result: Option<&Base>,
    call: Call,
) -> PyResult<String> {
    let (base, result) = (base.map(|b| b.checkpoint.clone()), result.map(|r| r.checkpoint.clone()));
    call.run(py, |workers| {
        let options = VerifyOptions {
            base: base.as_deref(),
            base_check: base_check.parse()?,
            expect_id: expect_id.map(digest).transpose()?,
            result: result.as_deref(),
            workers: workers.clone(),
        };
        let names: Vec<PathBuf> = packs.iter().map(|pack| pack.get().name()).collect();
        let open = |i: usize| match packs.get(i) {
            Some(pack) => pack.get().open(),
            None => Err(Error::Internal("a pack that was not named".into())),
        };
        let found = stitchpack::verify(&names, &open, &options)?;
        let document = success("verify", &found)?.to_string();
        found.into_result().map(|_| document)
    })
}
