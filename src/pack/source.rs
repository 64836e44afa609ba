//! Where a pack's bytes come from. A pack is never mapped: what was hashed must be what is used.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::header::{HEADER_LEN_MAX, Header};
use crate::limits::Limits;

/// Bytes that can be read by range into memory of our own.
#[derive(Debug)]
pub(crate) enum Source {
    /// All bytes, held.
    Memory(Arc<[u8]>),
    /// A file, read by range. Another program may change it at any time, so every read is hashed anew.
    File { file: File, path: PathBuf, len: u64 },
}

impl Source {
    /// Opens a regular file; anything else could block for ever.
    pub fn open(path: &Path) -> Result<Self> {
        let file = crate::files::open_regular(path)?;
        let len = file.metadata().map_err(|e| Error::io(path, e))?.len();
        Ok(Source::File { file, path: path.to_owned(), len })
    }

    /// Reads a stream to its end, which is where its header says, at most `limit` bytes from its start. Of a stream without a header
    /// no more is read than a header has.
    pub fn from_stream(mut stream: impl Read, limit: u64) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut read = |bytes: &mut Vec<u8>, most: u64| {
            let part = stream.by_ref().take(most.saturating_sub(bytes.len() as u64));
            { part }.read_to_end(bytes).map_err(|e| Error::io(Path::new("-"), e))
        };
        read(&mut bytes, HEADER_LEN_MAX.into())?;
        if let Some(declared) = Header::declared_len(&bytes) {
            Limits::check("size of a pack from a stream in bytes", declared, limit)?;
            // One more shows that something follows.
            read(&mut bytes, declared.saturating_add(1))?;
        }
        Ok(Source::Memory(bytes.into()))
    }

    /// Bytes in all.
    pub fn len(&self) -> u64 {
        match self {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::File { len, .. } => *len,
        }
    }

    /// Exactly `len` bytes from `offset`, which the caller has checked to lie within the source and its limits.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        match self {
            Source::Memory(bytes) => {
                let start = usize::try_from(offset).ok();
                let range = start.and_then(|s| s.checked_add(len).map(|end| s..end));
                let part = range.and_then(|r| bytes.get(r));
                part.map(<[u8]>::to_vec).ok_or_else(|| Error::Internal("a read past the end of a pack".into()))
            }
            Source::File { file, path, .. } => {
                let mut out = vec![0; len];
                file.read_exact_at(&mut out, offset).map_err(|e| Error::io(path, e))?;
                Ok(out)
            }
        }
    }

    /// The file's path, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Source::Memory(_) => None,
            Source::File { path, .. } => Some(path),
        }
    }
}
