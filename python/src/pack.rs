//! A pack as Python holds it: what its manifest says, and where its bytes are.

use std::borrow::Cow;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use stitchpack::format::manifest::DeltaRow;
use stitchpack::model::digest::Digest;
use stitchpack::{Error, Limits, OpenedPack, Result};

use crate::error::raise;

/// A pack of which header and manifest are checked. Its sections are checked when they are used.
#[pyclass(frozen, module = "stitchpack")]
pub struct Pack {
    opened: OpenedPack,
    bytes: Bytes,
}

/// What [`Pack::_restore`] is given.
type Restored = (Option<String>, Py<PyBytes>, String);

/// Where a pack's bytes are. Every use opens it anew, since using a pack consumes it.
enum Bytes {
    File(PathBuf),
    Memory(Vec<u8>),
}

impl Bytes {
    fn open(&self) -> Result<OpenedPack> {
        match self {
            Bytes::File(path) => OpenedPack::open(path),
            Bytes::Memory(bytes) => OpenedPack::from_bytes(bytes.clone(), &Limits::default()),
        }
    }
}

impl Pack {
    fn of(py: Python<'_>, bytes: Bytes) -> PyResult<Self> {
        let opened = py.detach(|| bytes.open()).map_err(|e| raise(py, &e))?;
        Ok(Pack { opened, bytes })
    }

    /// The file's path; `-` for a pack in memory.
    pub fn name(&self) -> PathBuf {
        match &self.bytes {
            Bytes::File(path) => path.clone(),
            Bytes::Memory(_) => PathBuf::from("-"),
        }
    }

    /// The pack, ready to be used.
    ///
    /// # Errors
    /// As [`OpenedPack::open`]; `DigestMismatch` where the file is another one than when this value was made.
    pub fn open(&self) -> Result<OpenedPack> {
        let now = self.bytes.open()?;
        if now.id() == self.opened.id() {
            return Ok(now);
        }
        let place = "pack id, of a file that was replaced since it was opened".to_string();
        Err(Error::DigestMismatch { place, expected: self.opened.id().0, found: now.id().0 })
    }
}

#[pymethods]
impl Pack {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Pack::of(py, Bytes::File(path))
    }

    /// A pack in memory.
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: Cow<'_, [u8]>) -> PyResult<Self> {
        Pack::of(py, Bytes::Memory(data.into_owned()))
    }

    #[getter]
    fn path(&self) -> Option<PathBuf> {
        match &self.bytes {
            Bytes::File(path) => Some(path.clone()),
            Bytes::Memory(_) => None,
        }
    }

    #[getter]
    fn id(&self) -> String {
        self.opened.id().to_string()
    }

    #[getter]
    fn content_id(&self) -> String {
        Digest(self.opened.manifest().content).to_string()
    }

    #[getter]
    fn base(&self) -> String {
        Digest(self.opened.manifest().base).to_string()
    }

    #[getter]
    fn result(&self) -> Option<String> {
        self.opened.manifest().result.map(|digest| Digest(digest).to_string())
    }

    #[getter]
    fn exact(&self) -> bool {
        self.opened.manifest().exact
    }

    #[getter]
    fn all_steps(&self) -> bool {
        self.opened.manifest().all_steps
    }

    #[getter]
    fn gain(&self) -> f32 {
        self.opened.manifest().gain
    }

    #[getter]
    fn tool(&self) -> String {
        self.opened.manifest().tool.clone()
    }

    #[getter]
    fn notes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let notes = PyDict::new(py);
        self.opened.manifest().notes.iter().try_for_each(|(key, value)| notes.set_item(key, value))?;
        Ok(notes)
    }

    /// Positions kept, by name of each touched tensor.
    #[getter]
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (rows, kept) = (&self.opened.manifest().tensors, PyDict::new(py));
        for row in rows.iter() {
            let own = match row.delta {
                DeltaRow::SameAs(earlier) => rows.get(*earlier as usize).map(|r| r.delta),
                own => Some(own),
            };
            let Some(DeltaRow::Own(own)) = own else { continue };
            kept.set_item(row.name, own.kept)?;
        }
        Ok(kept)
    }

    #[getter]
    fn nbytes(&self) -> PyResult<u64> {
        match &self.bytes {
            Bytes::File(path) => Ok(std::fs::metadata(path)?.len()),
            Bytes::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Opens what was pickled, and refuses another pack in its place.
    #[staticmethod]
    fn _restore(py: Python<'_>, path: Option<PathBuf>, data: Cow<'_, [u8]>, id: &str) -> PyResult<Self> {
        let pack = Pack::of(py, path.map_or_else(|| Bytes::Memory(data.into_owned()), Bytes::File))?;
        if pack.id() == id {
            return Ok(pack);
        }
        let (expected, found) = (crate::model::digest(id).map_err(|e| raise(py, &e))?.0, pack.opened.id().0);
        Err(raise(py, &Error::DigestMismatch { place: "pack id".into(), expected, found }))
    }

    /// A pack travels to another process as its path and id, or as its bytes.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Restored)> {
        let pack = slf.get();
        let bytes = match &pack.bytes {
            Bytes::File(_) => Vec::new(),
            Bytes::Memory(bytes) => bytes.clone(),
        };
        let path = pack.path().map(|p| p.to_string_lossy().into_owned());
        Ok((slf.getattr("_restore")?, (path, PyBytes::new(slf.py(), &bytes).unbind(), pack.id())))
    }

    fn __repr__(&self) -> String {
        let file = self.path().map_or("in memory".into(), |p| p.to_string_lossy().into_owned());
        let kind = match (self.exact(), self.all_steps()) {
            (true, _) => "exact",
            (false, true) => "steps",
            (false, false) => "lossy",
        };
        format!("<stitchpack.Pack {:.16} {kind}, {} tensors, {file}>", self.id(), self.opened.manifest().tensors.len())
    }
}
