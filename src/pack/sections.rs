//! The sections of a pack: where they lie, and their decoded bytes.
//!
//! A section is hashed each time it is read from its source, before anything in it is believed.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::compress;
use crate::error::{Error, Result};
use crate::format::manifest::{self, SectionRow};
use crate::io::{ReadAt, read_vec};
use crate::model::digest::{Digest, Role};

/// Sections kept in memory, verified, because neighbouring blocks are read one after another.
const CACHE_BYTES: usize = 8 << 20;

/// Sections of one sort, which lie end to end both in the file and in the stream that they cut up.
#[derive(Debug)]
pub(super) struct Sections {
    what: &'static str,
    rows: Vec<SectionRow>,
    /// Where each starts in the file, and in the stream.
    starts: Vec<(u64, u64)>,
    pub file_end: u64,
    cache: Mutex<Vec<(usize, Arc<Vec<u8>>)>>,
}

/// Part of a section.
pub(super) struct Part {
    section: Arc<Vec<u8>>,
    start: u64,
    len: u64,
}

impl Part {
    pub fn bytes(&self) -> Result<&[u8]> {
        let start = usize::try_from(self.start).ok();
        let end = usize::try_from(self.start.saturating_add(self.len)).ok();
        let range = start.zip(end).map(|(a, b)| a..b);
        range.and_then(|r| self.section.get(r)).ok_or_else(|| {
            Error::malformed("SEC-4", "section", "ends within a part, but parts never span two sections")
        })
    }
}

impl Sections {
    pub fn new(what: &'static str, rows: &[SectionRow], file_start: u64) -> Self {
        let mut at = (file_start, 0u64);
        let mut starts = Vec::with_capacity(rows.len());
        for row in rows {
            starts.push(at);
            at = (at.0.saturating_add(row.len), at.1.saturating_add(row.raw_len));
        }
        Sections { what, rows: rows.to_vec(), starts, file_end: at.0, cache: Mutex::default() }
    }

    /// `len` bytes of the stream from `start`, which lie in one section. [SEC-4]
    pub fn range(&self, source: &dyn ReadAt, start: u64, len: u64) -> Result<Part> {
        let i = self.starts.partition_point(|(_, s)| *s <= start).saturating_sub(1);
        let Some((_, section_start)) = self.starts.get(i) else {
            // Only an empty part can lie where there are no sections.
            return Ok(Part { section: Arc::default(), start: 0, len });
        };
        let section = self.section(source, i)?;
        Ok(Part { section, start: start.saturating_sub(*section_start), len })
    }

    /// A section's decoded bytes, hashed when they were read.
    fn section(&self, source: &dyn ReadAt, i: usize) -> Result<Arc<Vec<u8>>> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = lock().iter().find(|(j, _)| *j == i) {
            return Ok(bytes.clone());
        }
        let bytes = Arc::new(self.read(source, i)?);
        let mut cache = lock();
        cache.push((i, bytes.clone()));
        while cache.len() > 1 && cache.iter().map(|(_, b)| b.len()).sum::<usize>() > CACHE_BYTES {
            cache.remove(0);
        }
        Ok(bytes)
    }

    pub fn read(&self, source: &dyn ReadAt, i: usize) -> Result<Vec<u8>> {
        let place = format!("{} section {i}", self.what);
        let (Some(row), Some((offset, _))) = (self.rows.get(i), self.starts.get(i)) else {
            return Err(Error::Internal(format!("{place} does not exist")));
        };
        let len = usize::try_from(row.len).unwrap_or(usize::MAX);
        let stored = read_vec(source, *offset, len)?;
        check_digest(Role::Section, &place, &stored, manifest::digest(&row.digest))?;
        if row.raw_len == row.len {
            return Ok(stored);
        }
        let raw_len = usize::try_from(row.raw_len).unwrap_or(usize::MAX);
        compress::expand(&stored, raw_len).map_err(|e| e.within(&place))
    }

    /// Where the sections lie in the file that hold any of `len` bytes of the stream from `start`.
    pub fn place_of(&self, start: u64, len: u64) -> Range<u64> {
        let first = self.starts.partition_point(|(_, s)| *s <= start).saturating_sub(1);
        let end = self.starts.partition_point(|(_, s)| *s < start.saturating_add(len)).max(first);
        let place = |i: usize| self.starts.get(i).map_or(self.file_end, |(offset, _)| *offset);
        place(first)..place(end)
    }

    pub fn check_all(&self, source: &dyn ReadAt) -> Result<()> {
        (0..self.rows.len()).try_for_each(|i| self.read(source, i).map(drop))
    }
}

/// Hashes the very bytes that will be used, every time that they are read. [DIG-2]
pub(super) fn check_digest(role: Role, place: &str, bytes: &[u8], expected: Digest) -> Result<()> {
    let found = Digest::of(role, bytes);
    if found == expected {
        return Ok(());
    }
    Err(Error::DigestMismatch { place: place.into(), expected: expected.0, found: found.0 })
}
