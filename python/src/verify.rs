//! What can be proved of a pack.

use pyo3::prelude::*;
use stitchpack::Error;

use crate::base::Base;
use crate::call::Call;
use crate::inspect::check_base;
use crate::model::digest;
use crate::pack::Pack;

/// Checks every digest, decodes what decodes, and compares with what else is at hand: whether everything was decoded.
#[pyfunction]
#[pyo3(signature = (pack, base, base_check, expect_id, call))]
pub fn verify(
    py: Python<'_>,
    pack: &Pack,
    base: Option<&Base>,
    base_check: &str,
    expect_id: Option<&str>,
    call: Call,
) -> PyResult<bool> {
    let base = base.map(|b| b.checkpoint.clone());
    call.run(py, |workers| {
        let check = base_check.parse()?;
        let verified = pack.open()?.verify()?;
        if let Some(expected) = expect_id.map(digest).transpose()?.filter(|id| *id != verified.id()) {
            let place = "pack id".to_string();
            return Err(Error::DigestMismatch { place, expected: expected.0, found: verified.id().0 });
        }
        let needs_base = verified.needs_base()?;
        let Some(base) = &base else { return Ok(!needs_base) };
        check_base(std::slice::from_ref(&verified), base, check, workers)?;
        if needs_base {
            verified.check_content(Some(&**base))?;
        }
        Ok(true)
    })
}
