//! The trait.

use std::borrow::Cow;
use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use crate::error::Result;
use crate::io::error::ReadError;
use crate::io::stamp::Stamp;

/// An object whose bytes can be read by range, from any thread.
///
/// Reads block. Several are in flight at once, one a worker thread, so a source that waits for a network needs no threads of its
/// own; one that wants more in flight fetches ahead what [`will_need`](ReadAt::will_need) announces.
///
/// A source need not be trusted: packs check every byte against a digest before it is used, and a base is digested while it is
/// read. It has to be one object, though. Where its bytes may have been replaced since the length was learned, a read fails with
/// [`ReadErrorKind::Changed`](crate::io::ReadErrorKind::Changed) and never mixes old bytes with new.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use stitchpack::io::{ReadAt, ReadError};
///
/// /// Counts the reads of another source.
/// #[derive(Debug)]
/// struct Counted<S>(S, std::sync::atomic::AtomicU64);
///
/// impl<S: ReadAt> ReadAt for Counted<S> {
///     fn size(&self) -> u64 {
///         self.0.size()
///     }
///     fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), ReadError> {
///         self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
///         self.0.read_at(offset, out)
///     }
/// }
///
/// let counted = Arc::new(Counted(b"no pack".to_vec(), 0.into()));
/// assert!(stitchpack::OpenedPack::from_source(counted.clone(), &Default::default()).is_err());
/// assert_eq!(counted.1.load(std::sync::atomic::Ordering::Relaxed), 1);
/// ```
pub trait ReadAt: Debug + Send + Sync {
    /// Bytes in all. Learned when the source was made; never changes.
    fn size(&self) -> u64;

    /// Fills all of `out` with the bytes from `offset`.
    ///
    /// # Errors
    /// A [`ReadError`] of the kind that tells the caller what to do. What `out` holds then means nothing.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), ReadError>;

    /// Hears which bytes will be read soon, in about the order in which they will be: a hint. Ranges that touch are joined
    /// already. They may be gigabytes; how much is fetched ahead and held is the source's decision, and an announced read may
    /// never come. Returns at once.
    fn will_need(&self, ranges: &[Range<u64>]) {
        let _ = ranges;
    }

    /// What tells this state of the object from every other, for the cache of digests; none where nothing does. Then the bytes are
    /// digested each time.
    fn stamp(&self) -> Option<Stamp> {
        None
    }

    /// Fails with [`ReadErrorKind::Changed`](crate::io::ReadErrorKind::Changed) where the object is no longer what it was when the
    /// source was made. Asked once, after all reads. A source whose every read would fail then has nothing to do here.
    fn check_unchanged(&self) -> std::result::Result<(), ReadError> {
        Ok(())
    }

    /// What errors and recipes call the source: a path, or an address without credentials. None for bytes without a name.
    fn name(&self) -> Option<&Path> {
        self.path()
    }

    /// The local file that holds the bytes: no output may replace it.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// All bytes, where they are in memory and cannot change. They are then borrowed instead of copied.
    fn mapped(&self) -> Option<&[u8]> {
        None
    }

    /// The open file whose bytes these are, from its first. Ranges of it may then be copied to a file by the system.
    fn file(&self) -> Option<&File> {
        None
    }
}

/// [`ReadAt::will_need`] of one range.
pub(crate) fn announce(source: &dyn ReadAt, range: Range<u64>) {
    source.will_need(std::slice::from_ref(&range));
}

/// Exactly `len` bytes from `offset`, in memory of our own.
pub(crate) fn read_vec(source: &dyn ReadAt, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut out = vec![0; len];
    read_into(source, offset, &mut out)?;
    Ok(out)
}

/// [`ReadAt::read_at`] with the error of the crate.
pub(crate) fn read_into(source: &dyn ReadAt, offset: u64, out: &mut [u8]) -> Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    source.read_at(offset, out).map_err(|e| e.of(source.name()))
}

/// A range of bytes: borrowed where they are in memory, or read.
pub(crate) fn bytes(source: &dyn ReadAt, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let Some(mapped) = source.mapped() else { return Ok(Cow::Owned(read_vec(source, range.start, len)?)) };
    let start = usize::try_from(range.start).ok();
    let part = start.and_then(|start| mapped.get(start..start.checked_add(len)?));
    let past_end = || ReadError::past_end(range.start, len, source.size()).of(source.name());
    part.map(Cow::Borrowed).ok_or_else(past_end)
}

/// Ranges without the empty ones, and those that touch as one.
pub(crate) fn joined(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for range in ranges.filter(|range| !range.is_empty()) {
        match all.last_mut() {
            Some(last) if (last.start..=last.end).contains(&range.start) => last.end = last.end.max(range.end),
            _ => all.push(range),
        }
    }
    all
}
