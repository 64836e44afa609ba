//! Memory that tensors are written into.

use memmap2::{Advice, MmapMut};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

/// From this size on memory is taken from the system, in pages of the size that suits.
const LARGE: usize = 1 << 20;

/// Blocks of 2^9 pages of 4 KiB and more: what a huge page is made of.
const HUGE_ORDER: usize = 9;

/// Bytes of huge pages that are left to others.
const RESERVE: usize = 2 << 30;

/// Which pages memory is asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As the system gives them.
    Usual,
    /// Large ones: filling small ones is mostly page faults.
    Huge,
}

impl Pages {
    /// The pages for a model of so many bytes, also where its tensors are asked for one by one: who asks for one will ask for the
    /// next. Huge ones only where the system has plenty of them ready: one that has to make them first
    /// moves other memory about, for longer than they save.
    pub fn suiting(bytes: usize) -> Self {
        let ready = std::fs::read_to_string("/proc/buddyinfo").map_or(0, |text| ready_bytes(&text));
        if ready.saturating_sub(RESERVE) / 4 >= bytes { Pages::Huge } else { Pages::Usual }
    }
}

/// Bytes in free blocks that hold a huge page: a line a zone, after four words how many free blocks there are of 2^0, 2^1 … pages.
fn ready_bytes(buddyinfo: &str) -> usize {
    let of_zone = |line: &str| -> usize {
        let counts = line.split_whitespace().skip(4).enumerate().skip(HUGE_ORDER);
        counts.map(|(order, n)| n.parse::<usize>().map_or(0, |n| n.saturating_mul(4096 << order))).sum()
    };
    buddyinfo.lines().map(of_zone).sum()
}

/// Memory that a tensor is written into.
pub enum Memory {
    Small(Vec<u8>),
    Large(MmapMut),
    /// 64-bit numbers in the machine's order.
    Positions(Vec<u64>),
}

impl Memory {
    /// `len` bytes, zero.
    ///
    /// # Errors
    /// MemoryError where the system has no more.
    pub fn new(len: usize, pages: Pages) -> PyResult<Self> {
        let none = |e: String| PyMemoryError::new_err(format!("{len} bytes for a tensor: {e}"));
        if len < LARGE {
            return Ok(Memory::Small(vec![0; len]));
        }
        let map = MmapMut::map_anon(len).map_err(|e| none(e.to_string()))?;
        if pages == Pages::Huge {
            // A kernel without them is slower, that is all.
            drop(map.advise(Advice::HugePage));
        }
        Ok(Memory::Large(map))
    }

    /// The bytes to write into.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Memory::Small(bytes) => bytes,
            Memory::Large(map) => map,
            // Nothing is read into numbers; they come as they are.
            Memory::Positions(_) => &mut [],
        }
    }

    /// Where the bytes are, and how many.
    pub fn place(&mut self) -> (usize, usize) {
        match self {
            Memory::Small(bytes) => (bytes.as_mut_ptr().expose_provenance(), bytes.len()),
            Memory::Large(map) => (map.as_mut_ptr().expose_provenance(), map.len()),
            Memory::Positions(all) => (all.as_mut_ptr().expose_provenance(), size_of_val(&all[..])),
        }
    }
}
