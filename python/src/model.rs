//! A stitched model that owns its base, for Python, which knows no borrows.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use stitchpack::model::digest::Digest;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::report::create::CreateReport;
use stitchpack::{Error, ExportOptions, FoldOptions, Result, StitchedModel};

use crate::base::Base;
use crate::buffer::Buffer;
use crate::call::Call;
use crate::error::raise;
use crate::inspect::document;
use crate::memory::Pages;
use crate::merge::Merge;
use crate::read;

/// A base with packs on it. Nothing is decoded before it is asked for; any thread may ask.
#[pyclass(frozen, module = "stitchpack")]
pub struct Model {
    stitched: Arc<StitchedModel<'static>>,
    identity: BaseIdentity,
    /// Bytes of all tensors.
    nbytes: usize,
}

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, base: &Base, merge: Merge, call: Call) -> PyResult<Self> {
        let base = base.checkpoint.clone();
        call.run(py, |workers| {
            let (model, identity) = merge.onto(&base, workers)?;
            let nbytes = model.tensors().map(|t| t.byte_len() as usize).sum();
            Ok(Model { stitched: Arc::new(model), identity, nbytes })
        })
    }

    /// Names of all tensors, in byte order.
    fn names(&self) -> Vec<String> {
        self.stitched.tensors().map(|t| t.name.clone()).collect()
    }

    /// Dtype, as safetensors names it, shape, whether a pack touches the tensor, and its bytes.
    fn info(&self, py: Python<'_>, name: &str) -> PyResult<(&'static str, Vec<u64>, bool, u64)> {
        let found = self.stitched.tensor(name);
        let info = found.ok_or_else(|| raise(py, &read::unknown(name)))?;
        Ok((info.dtype.name(), info.shape.clone(), self.stitched.touches(name), info.byte_len()))
    }

    /// What the base's files have as `__metadata__`; of a key in several files the last.
    fn metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let metadata = PyDict::new(py);
        self.stitched.base().metadata().into_iter().try_for_each(|(key, value)| metadata.set_item(key, value))?;
        Ok(metadata)
    }

    /// The base's own bytes of a tensor, read-only; none where a pack touches it or the base is not mapped.
    fn view(&self, py: Python<'_>, name: &str) -> PyResult<Option<Buffer>> {
        Buffer::viewing(&self.stitched, name).map_err(|e| raise(py, &e))
    }

    /// Tensors in memory of their own, all threads at work on all of them.
    fn read(&self, py: Python<'_>, names: Vec<String>, call: Call) -> PyResult<Vec<Buffer>> {
        read::tensors(py, &self.stitched, &names, Pages::suiting(self.nbytes), call)
    }

    /// The bytes `start..end` of a tensor.
    fn read_range(&self, py: Python<'_>, name: &str, start: u64, end: u64) -> PyResult<Buffer> {
        read::range(py, &self.stitched, name, start..end)
    }

    /// Makes one pack of all that lies on the base.
    #[pyo3(signature = (out, effort, force, call))]
    fn fold(&self, py: Python<'_>, out: PathBuf, effort: &str, force: bool, call: Call) -> PyResult<String> {
        call.run(py, |workers| {
            let options = FoldOptions { force, effort: effort.parse()?, workers: workers.clone() };
            let folded = stitchpack::fold(&self.stitched, &out, &options)?;
            document("fold", &CreateReport::of(&folded, Some(&out), None))
        })
    }

    /// Writes what the packs change, for other programs.
    fn export<'py>(
        &self,
        py: Python<'py>,
        out: PathBuf,
        format: &str,
        force: bool,
        call: Call,
    ) -> PyResult<Bound<'py, PyDict>> {
        let (model, identity) = (&self.stitched, &self.identity);
        let done = call.run(py, |workers| {
            let format = format.parse()?;
            let options = ExportOptions { force, workers: workers.clone(), ..ExportOptions::new(format) };
            stitchpack::export(model, identity, &out, &options)
        })?;
        let hex = |digest: Option<Digest>| digest.map(|d| d.to_string());
        let fields = PyDict::new(py);
        fields.set_item("nbytes", done.bytes)?;
        fields.set_item("tensors", done.tensors)?;
        fields.set_item("changed", done.changed)?;
        fields.set_item("whole", done.whole)?;
        fields.set_item("base", hex(done.base))?;
        fields.set_item("result", hex(done.result))?;
        fields.set_item("rank", done.rank)?;
        Ok(fields)
    }
}

/// Reads 64 hex digits.
pub fn digest(text: &str) -> Result<Digest> {
    Digest::from_hex(text).ok_or_else(|| Error::InvalidInput(format!("\"{text}\" is not a digest of 64 hex digits")))
}
