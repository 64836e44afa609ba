//! The bytes of a file, mapped or read: the one door to memmap2.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, Result};
use crate::files::open_regular;

/// A file that can be read by range.
#[derive(Debug)]
pub(crate) struct FileBytes {
    path: PathBuf,
    file: File,
    stamp: Stamp,
    map: Option<Mmap>,
}

/// What tells one state of a file from another, as far as the system shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub device: u64,
    pub inode: u64,
    pub len: u64,
    pub modified: (i64, i64),
    pub changed: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> std::io::Result<Self> {
        let m = file.metadata()?;
        Ok(Stamp {
            device: m.dev(),
            inode: m.ino(),
            len: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        })
    }
}

impl FileBytes {
    /// Opens a file for reading by system calls. A file that the system proves immutable (fs-verity, a sealed memfd) is
    /// mapped, since that is safe.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let stamp = Stamp::of(&file).map_err(|e| Error::io(path, e))?;
        let map = MmapOptions::new().map_if_safe(&file).ok();
        Ok(FileBytes { path: path.to_owned(), file, stamp, map })
    }

    /// Opens a file and maps it; where mapping fails, it is read by system calls.
    ///
    /// # Safety
    /// Nobody may change the file while the value lives. A file that shrinks kills the process with SIGBUS, and one that is
    /// overwritten changes bytes that were already checked. Replacing it by rename is harmless.
    #[expect(unsafe_code, reason = "mapping a file is the caller's promise that it stays as it is")]
    pub unsafe fn map(path: &Path) -> Result<Self> {
        let mut opened = Self::open(path)?;
        if opened.map.is_none() && opened.stamp.len > 0 {
            // SAFETY: the caller promises that the file does not change.
            opened.map = unsafe { MmapOptions::new().map(&opened.file) }.ok();
        }
        Ok(opened)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.stamp.len
    }

    /// The state of the file when it was opened.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// A range of bytes: borrowed from the mapping, or read.
    pub fn bytes(&self, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let (start, end) = (range.start as usize, range.end as usize);
        match &self.map {
            Some(map) => match map.get(start..end) {
                Some(bytes) => Ok(Cow::Borrowed(bytes)),
                None => Err(self.changed()),
            },
            None => {
                let mut out = vec![0; end - start];
                self.read_into(range.start, &mut out)?;
                Ok(Cow::Owned(out))
            }
        }
    }

    /// Whether the file is mapped.
    pub fn is_mapped(&self) -> bool {
        self.map.is_some()
    }

    /// Fills `out` with the bytes from `start`, by a system call.
    pub fn read_into(&self, start: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(out, start).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::io(&self.path, e),
        })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fails when the file is no longer in the state in which it was opened, as far as the system shows it.
    pub fn check_unchanged(&self) -> Result<()> {
        let now = Stamp::of(&self.file).map_err(|e| Error::io(&self.path, e))?;
        // Links and permissions change ctime; the data they leave alone.
        let same = (now.len, now.modified) == (self.stamp.len, self.stamp.modified);
        if same { Ok(()) } else { Err(self.changed()) }
    }

    fn changed(&self) -> Error {
        Error::io(&self.path, std::io::Error::other("the file was changed while it was being read"))
    }
}
