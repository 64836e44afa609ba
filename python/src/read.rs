//! Tensors and ranges of a stitched model in memory. The one place that knows how the library is asked for them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use stitchpack::checkpoint::ModelSource;
use stitchpack::error::Escaped;
use stitchpack::stitched::{Buffers, TensorReader};
use stitchpack::{Error, Result, StitchedModel, Workers};

use crate::buffer::{Buffer, Memory};
use crate::call::Call;
use crate::error::raise;

/// Units that a thread makes at a time: a block of most packs.
const RUN: u64 = 1 << 18;

/// Reads tensors, all threads at work on all of them.
pub fn tensors(py: Python<'_>, model: &StitchedModel, names: &[String], call: Call) -> PyResult<Vec<Buffer>> {
    let mut memory = Vec::with_capacity(names.len());
    for name in names {
        let info = model.tensor(name).ok_or_else(|| raise(py, &unknown(name)))?;
        memory.push(Memory::new(info.byte_len() as usize)?);
    }
    let bytes: Vec<&mut [u8]> = memory.iter_mut().map(Memory::bytes_mut).collect();
    call.run(py, move |workers| fill(model, names, bytes, workers))?;
    Ok(memory.into_iter().map(Buffer::owning).collect())
}

/// Reads a range of one tensor.
pub fn range(py: Python<'_>, model: &StitchedModel, name: &str, range: Range<u64>) -> PyResult<Buffer> {
    let len = range.end.saturating_sub(range.start);
    let all = model.tensor(name).ok_or_else(|| raise(py, &unknown(name)))?.byte_len();
    // Nobody gets memory for more than the tensor has; the library says what is wrong with the range.
    let mut memory = Memory::new(len.min(all) as usize)?;
    let bytes = memory.bytes_mut();
    py.detach(|| model.read_into(name, range, bytes)).map_err(|e| raise(py, &e))?;
    Ok(Buffer::owning(memory))
}

/// The error for a name that the model lacks.
pub fn unknown(name: &str) -> Error {
    Error::InvalidInput(format!("the model has no tensor \"{}\"", Escaped(name)))
}

/// A run of one tensor, and where it goes.
struct Item<'a> {
    reader: usize,
    start: u64,
    out: Mutex<&'a mut [u8]>,
}

fn fill(model: &StitchedModel, names: &[String], memory: Vec<&mut [u8]>, workers: &Workers) -> Result<()> {
    let readers = names.iter().map(|name| model.reader(name)).collect::<Result<Vec<TensorReader>>>()?;
    let mut items = Vec::new();
    for (reader, (tensor, bytes)) in readers.iter().zip(memory).enumerate() {
        let run = RUN * tensor.info().dtype.unit_bytes() as u64;
        let runs = bytes.chunks_mut(run as usize).enumerate();
        items.extend(runs.map(|(i, out)| Item { reader, start: i as u64 * run, out: Mutex::new(out) }));
    }
    workers.progress().stage("reading", readers.iter().map(|r| r.info().byte_len()).sum());
    workers.for_each(items.len(), Buffers::default, |buffers, i| {
        let Some((item, reader)) = items.get(i).and_then(|item| Some((item, readers.get(item.reader)?))) else {
            return Ok(());
        };
        let mut out = item.out.lock().unwrap_or_else(PoisonError::into_inner);
        reader.read_into(item.start, &mut out, buffers)?;
        workers.progress().advance(out.len() as u64);
        Ok(())
    })?;
    model.unchanged()
}
