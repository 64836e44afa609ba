//! What a thread needs for one block after another.

use std::cell::RefCell;

use crate::codec::classes::mask;
use crate::model::delta::StepBlock;

/// Buffers of a thread: a map of a quarter of a million classes is too much to allocate for every block.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub mask: mask::Decoded,
    pub bits: Vec<u64>,
    /// The classes of the kept units.
    pub classes: Vec<u8>,
    pub codes: Vec<u64>,
    pub steps: StepBlock,
    /// A step for every unit.
    pub all: Vec<u16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `work` with this thread's buffers.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with(|cell| match cell.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut Scratch::default()),
    })
}
