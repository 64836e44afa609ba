//! A source that fails on purpose, and remembers what it was asked.

use std::ops::Range;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use stitchpack::io::{ReadAt, ReadError, ReadErrorKind, Stamp};

/// What happens at one read. Reads are counted from 0.
#[derive(Debug, Clone, Copy, Default)]
pub enum Fault {
    #[default]
    None,
    /// This read and all after it fail.
    From(u64, ReadErrorKind),
    /// Only this read fails.
    At(u64, ReadErrorKind),
    /// One bit of what this read gives is another.
    Flips(u64),
    /// This read waits until another one begins.
    Meets(u64),
}

/// Bytes in memory behind a fault.
#[derive(Debug)]
pub struct Faulty {
    bytes: Vec<u8>,
    size: u64,
    state: Mutex<State>,
    begun: Condvar,
    stamp: Option<Stamp>,
}

#[derive(Debug, Default)]
struct State {
    fault: Fault,
    reads: u64,
    announced: Vec<Range<u64>>,
    unannounced: Vec<Range<u64>>,
}

impl Faulty {
    /// Bytes that say of themselves that they are `size`.
    pub fn new(bytes: Vec<u8>, size: u64, fault: Fault) -> Self {
        let state = State { fault, ..State::default() };
        Faulty { bytes, size, state: Mutex::new(state), begun: Condvar::new(), stamp: None }
    }

    pub fn healthy(bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u64;
        Faulty::new(bytes, size, Fault::None)
    }

    /// Of an object whose state a key tells.
    pub fn stamped(bytes: Vec<u8>, key: &str) -> Self {
        Faulty { stamp: Some(Stamp::new(key.as_bytes())), ..Faulty::healthy(bytes) }
    }

    /// Another fault from now on, and reads counted anew.
    pub fn arm(&self, fault: Fault) {
        let mut state = self.state.lock().unwrap();
        (state.fault, state.reads) = (fault, 0);
    }

    pub fn reads(&self) -> u64 {
        self.state.lock().unwrap().reads
    }

    /// Reads of bytes that were not announced before.
    pub fn unannounced(&self) -> Vec<Range<u64>> {
        self.state.lock().unwrap().unannounced.clone()
    }
}

impl ReadAt for Faulty {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
        let mut state = self.state.lock().unwrap();
        let n = state.reads;
        state.reads += 1;
        self.begun.notify_all();
        let range = offset..offset + out.len() as u64;
        let covered = |at: u64| state.announced.iter().any(|a| a.contains(&at));
        if !range.is_empty() && (!covered(range.start) || !covered(range.end - 1)) {
            state.unannounced.push(range);
        }
        match state.fault {
            Fault::From(from, kind) if n >= from => return Err(ReadError::new(kind, "fails on purpose")),
            Fault::At(at, kind) if n == at => return Err(ReadError::new(kind, "fails on purpose")),
            Fault::Meets(at) if n == at => {
                let patience = Duration::from_secs(30);
                let (_guard, waited) =
                    self.begun.wait_timeout_while(state, patience, |state| state.reads == n + 1).unwrap();
                assert!(!waited.timed_out(), "no second read came while the first was waiting");
            }
            Fault::None | Fault::From(..) | Fault::At(..) | Fault::Flips(_) | Fault::Meets(_) => drop(state),
        }
        self.bytes.read_at(offset, out)?;
        if let Fault::Flips(at) = self.state.lock().unwrap().fault
            && n == at
            && let Some(byte) = out.get_mut(n as usize * 7 % out.len().max(1))
        {
            *byte ^= 4;
        }
        Ok(())
    }

    fn will_need(&self, ranges: &[Range<u64>]) {
        self.state.lock().unwrap().announced.extend_from_slice(ranges);
    }

    fn stamp(&self) -> Option<Stamp> {
        self.stamp.clone()
    }

    fn name(&self) -> Option<&Path> {
        Some(Path::new("https://host/a.stitch"))
    }
}
