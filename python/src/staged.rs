//! A staged set of packs, for tensors that live elsewhere: positions and values to write.

use std::sync::Arc;

use pyo3::prelude::*;
use self_cell::self_cell;
use stitchpack::Checkpoint;
use stitchpack::live::{Staged as Set, Update};

use crate::base::Base;
use crate::buffer::Buffer;
use crate::call::Call;
use crate::memory::Memory;
use crate::merge::Merge;

self_cell!(
    /// A set and the base that it borrows names from.
    struct Held {
        owner: Arc<Checkpoint>,
        #[covariant]
        dependent: Set,
    }
);

/// What packs keep of a base, computed once: what a commit writes, and what the one after it puts back.
#[pyclass(frozen, module = "stitchpack")]
pub struct Staged {
    held: Held,
}

/// Name, dtype, shape, positions (64 bits each) and the bytes of each unit.
type Written = (String, &'static str, Vec<u64>, Buffer, Buffer);

#[pymethods]
impl Staged {
    #[new]
    fn new(py: Python<'_>, base: &Base, merge: Merge, call: Call) -> PyResult<Self> {
        let base = base.checkpoint.clone();
        call.run(py, |workers| {
            let (model, _) = merge.onto(&base, workers)?;
            Ok(Staged { held: Held::try_new(base, |base| Set::of(&**base, &model, workers))? })
        })
    }

    /// What turns tensors that hold the set `held` (none: the base) into those of this one. Both must be of the same base.
    fn updates(&self, py: Python<'_>, held: Option<&Staged>) -> Vec<Written> {
        let before = held.map(|s| s.held.borrow_dependent());
        py.detach(|| self.held.borrow_dependent().updates(before).map(written).collect())
    }

    /// Names of the tensors of which something is held.
    fn names(&self) -> Vec<String> {
        self.held.borrow_dependent().tensors().map(|t| t.name.clone()).collect()
    }

    /// Bytes of positions and values in memory.
    #[getter]
    fn nbytes(&self) -> u64 {
        self.held.borrow_dependent().memory()
    }

    /// Units that are held.
    #[getter]
    fn units(&self) -> u64 {
        self.held.borrow_dependent().units()
    }
}

fn written(update: Update) -> Written {
    let Update { tensor, positions, values, .. } = update;
    let (positions, values) = (Buffer::owning(Memory::Positions(positions)), Buffer::owning(Memory::Small(values)));
    (tensor.name.clone(), tensor.dtype.name(), tensor.shape.clone(), positions, values)
}
