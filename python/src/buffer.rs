//! Bytes of a tensor that numpy looks at without copying them.
//!
//! They are handed over by numpy's array interface: an address, a length, and this object, which the array keeps alive. The
//! buffer protocol would do the same, but is not part of the stable ABI before CPython 3.11.

use std::borrow::Cow;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use stitchpack::StitchedModel;

use crate::memory::Memory;

/// A run of bytes, and whatever has to live as long as they are looked at.
#[pyclass(frozen, module = "stitchpack")]
pub struct Buffer {
    address: usize,
    len: usize,
    owner: Owner,
}

#[expect(dead_code, reason = "held for their drop only: what lies at the address belongs to them")]
enum Owner {
    Memory(Memory),
    Model(Arc<StitchedModel<'static>>),
}

impl Buffer {
    /// Gives memory away: from here on it belongs to whoever looks at it, and nothing in Rust reads or writes it.
    pub fn owning(mut memory: Memory) -> Self {
        let (address, len) = memory.place();
        Buffer { address, len, owner: Owner::Memory(memory) }
    }

    /// The base's own bytes of a tensor, where no pack touches it and the base is mapped.
    pub fn viewing(model: &Arc<StitchedModel<'static>>, name: &str) -> stitchpack::Result<Option<Self>> {
        let mapped = || stitchpack::Result::Ok(matches!(model.base().units(name, 0, 0)?, Cow::Borrowed(_)));
        // Asked of no bytes first: all of a tensor that is not mapped would be read, and dropped.
        if model.touches(name) || !mapped()? {
            return Ok(None);
        }
        let Cow::Borrowed(bytes) = model.bytes(name)? else { return Ok(None) };
        let (address, len) = (bytes.as_ptr().expose_provenance(), bytes.len());
        Ok(Some(Buffer { address, len, owner: Owner::Model(model.clone()) }))
    }
}

#[pymethods]
impl Buffer {
    /// Version 3 of numpy's array interface: unsigned bytes, read-only where they are the base's own.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", "|u1")?;
        interface.set_item("shape", (self.len,))?;
        interface.set_item("data", (self.address, matches!(self.owner, Owner::Model(_))))?;
        Ok(interface)
    }
}
