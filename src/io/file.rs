//! A file, read by system calls or mapped: the one door to memmap2.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};
use crate::files::open_regular;
use crate::io::error::{ReadError, ReadErrorKind};
use crate::io::source::ReadAt;
use crate::io::stamp::{FileState, Stamp};

/// A regular file on this machine.
#[derive(Debug)]
pub struct LocalFile {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    state: FileState,
    map: Option<Mmap>,
}

impl LocalFile {
    /// Opens a file for reading by system calls. A file that the system proves immutable (fs-verity, a sealed memfd) is
    /// mapped, since that is safe.
    ///
    /// # Errors
    /// `Io` for what is missing, unreadable or no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = open_regular(path)?;
        let (stamp, state) = Stamp::of_file(&file).map_err(|e| Error::io(path, e))?;
        let map = MmapOptions::new().map_if_safe(&file).ok();
        Ok(LocalFile { path: path.to_owned(), file, stamp, state, map })
    }

    /// Opens a file and maps it; where mapping fails, it is read by system calls.
    ///
    /// # Errors
    /// As [`LocalFile::open`].
    ///
    /// # Safety
    /// Nobody may change the file while the value lives. A file that shrinks kills the process with SIGBUS, and one that is
    /// overwritten changes bytes that were already checked. Replacing it by rename is harmless.
    #[expect(unsafe_code, reason = "mapping a file is the caller's promise that it stays as it is")]
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self> {
        let mut opened = Self::open(path)?;
        if opened.map.is_none() && opened.state.len > 0 {
            // SAFETY: the caller promises that the file does not change.
            opened.map = unsafe { MmapOptions::new().map(&opened.file) }.ok();
        }
        Ok(opened)
    }
}

impl ReadAt for LocalFile {
    fn size(&self) -> u64 {
        self.state.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), ReadError> {
        self.file.read_exact_at(out, offset).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => changed(),
            _ => e.into(),
        })
    }

    fn stamp(&self) -> Option<Stamp> {
        Some(self.stamp.clone())
    }

    fn check_unchanged(&self) -> std::result::Result<(), ReadError> {
        let (_, now) = Stamp::of_file(&self.file)?;
        if now == self.state { Ok(()) } else { Err(changed()) }
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.map.as_deref()
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn changed() -> ReadError {
    ReadError::new(ReadErrorKind::Changed, "the file was changed while it was being read")
}
