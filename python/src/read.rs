//! Tensors and ranges of a stitched model in memory. The one place that knows how the library is asked for them.

use std::ops::Range;

use pyo3::prelude::*;
use stitchpack::error::Escaped;
use stitchpack::{Error, StitchedModel};

use crate::buffer::Buffer;
use crate::call::Call;
use crate::error::raise;
use crate::memory::{Memory, Pages};

/// Reads tensors into memory of such pages, all threads at work on all of them.
pub fn tensors(
    py: Python<'_>,
    model: &StitchedModel,
    names: &[String],
    pages: Pages,
    call: Call,
) -> PyResult<Vec<Buffer>> {
    let len = |name: &String| model.tensor(name).map(|info| info.byte_len() as usize);
    let lens =
        names.iter().map(|name| len(name).ok_or_else(|| raise(py, &unknown(name)))).collect::<PyResult<Vec<_>>>()?;
    let mut memory = lens.into_iter().map(|len| Memory::new(len, pages)).collect::<PyResult<Vec<_>>>()?;
    let bytes: Vec<&mut [u8]> = memory.iter_mut().map(Memory::bytes_mut).collect();
    call.run(py, move |workers| model.fill(names.iter().map(String::as_str).zip(bytes), workers))?;
    Ok(memory.into_iter().map(Buffer::owning).collect())
}

/// Reads a range of one tensor.
pub fn range(py: Python<'_>, model: &StitchedModel, name: &str, range: Range<u64>) -> PyResult<Buffer> {
    let len = range.end.saturating_sub(range.start);
    let all = model.tensor(name).ok_or_else(|| raise(py, &unknown(name)))?.byte_len();
    // Nobody gets memory for more than the tensor has; the library says what is wrong with the range.
    let mut memory = Memory::new(len.min(all) as usize, Pages::Usual)?;
    let bytes = memory.bytes_mut();
    py.detach(|| model.read_into(name, range, bytes)).map_err(|e| raise(py, &e))?;
    Ok(Buffer::owning(memory))
}

/// The error for a name that the model lacks.
pub fn unknown(name: &str) -> Error {
    Error::InvalidInput(format!("the model has no tensor \"{}\"", Escaped(name)))
}
