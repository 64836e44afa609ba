//! A base, opened once for as many merges as are wanted.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use stitchpack::{Checkpoint, Result};

use crate::error::raise;

/// A base: one safetensors file or a Hugging Face folder.
#[pyclass(frozen, module = "stitchpack")]
pub struct Base {
    pub checkpoint: Arc<Checkpoint>,
}

#[pymethods]
impl Base {
    #[new]
    #[pyo3(signature = (path, *, mmap = true))]
    fn new(py: Python<'_>, path: PathBuf, mmap: bool) -> PyResult<Self> {
        let opened = py.detach(|| open(path, mmap));
        Ok(Base { checkpoint: Arc::new(opened.map_err(|e| raise(py, &e))?) })
    }

    /// The path that was opened.
    #[getter]
    fn path(&self) -> PathBuf {
        self.checkpoint.path().to_owned()
    }

    /// Bytes of the weight files, headers included.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.checkpoint.file_bytes()
    }
}

/// Opens a checkpoint, mapped unless that was declined.
pub fn open(path: PathBuf, mmap: bool) -> Result<Checkpoint> {
    if !mmap {
        return Checkpoint::open(path);
    }
    #[expect(unsafe_code, reason = "the package maps what it is given, and mmap=False declines it")]
    // SAFETY: whoever opens a base keeps its files as they are meanwhile; the documentation of `stitchpack.open` says so.
    let mapped = unsafe { Checkpoint::map(path) };
    mapped
}
