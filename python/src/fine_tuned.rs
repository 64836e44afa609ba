//! The fine-tuned side of a task vector: a model, or its base with an adapter on it.

use std::path::PathBuf;

use pyo3::prelude::*;
use stitchpack::checkpoint::ModelSource;
use stitchpack::model::source::TensorSource;
use stitchpack::model::tensor::RUN;
use stitchpack::{Error, Result, adapter};

use crate::base::Base;
use crate::buffer::Buffer;
use crate::call::Call;
use crate::memory::{Memory, Pages};

/// A model on disk, or the folder of an adapter.
#[derive(FromPyObject)]
pub enum FineTuned {
    Model(Py<Base>),
    Adapter(PathBuf),
}

impl FineTuned {
    /// Works on the model that this is, given its base.
    ///
    /// # Errors
    /// As [`adapter::open`], and what the work gives.
    pub fn on<T>(&self, base: &dyn ModelSource, work: impl FnOnce(&dyn ModelSource) -> Result<T>) -> Result<T> {
        match self {
            FineTuned::Model(model) => work(&*model.get().checkpoint),
            FineTuned::Adapter(folder) => work(&adapter::open(base, folder)?),
        }
    }
}

/// Hands over the tensors that an adapter changes, replaces or adds, one after another: name, dtype, shape and bytes, as they are with
/// the adapter on its base. No more than one of them is held here.
#[pyfunction]
#[pyo3(signature = (base, adapter, receive, call))]
pub fn adapted(py: Python<'_>, base: &Base, adapter: PathBuf, receive: Py<PyAny>, call: Call) -> PyResult<()> {
    let base = base.checkpoint.clone();
    let mut raised = None;
    let done = call.run(py, |_| {
        let model = adapter::open(&*base, &adapter)?;
        for name in model.touched() {
            let info = model.info(name).ok_or_else(|| Error::Internal("a change of no tensor".into()))?;
            let hand_over = || {
                let mut memory = Memory::new(info.byte_len() as usize, Pages::Usual)?;
                let runs = memory.bytes_mut().chunks_mut(RUN as usize * info.dtype.unit_bytes());
                for (i, out) in runs.enumerate() {
                    let (start, len) = (i as u64 * RUN, (out.len() / info.dtype.unit_bytes()) as u64);
                    match model.units(name, start, len) {
                        Ok(units) => out.copy_from_slice(&units),
                        Err(e) => return Ok(Err(e)),
                    }
                }
                let tensor = (name, info.dtype.name(), info.shape.clone(), Buffer::owning(memory));
                Python::attach(|py| receive.call1(py, tensor)).map(|_| Ok(()))
            };
            hand_over().map_err(|e: PyErr| {
                raised = Some(e);
                // What was raised is raised again below; this only ends the work.
                Error::Interrupted
            })??;
        }
        Ok(())
    });
    raised.map_or(done, Err)
}
