//! Small help with files, used by packs and checkpoints alike.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::error::{Error, Result};

/// Opens a regular file for reading. A pipe or device is refused without blocking on it.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::io(path, e.into()))?;
    let file = File::from(fd);
    let kind = file.metadata().map_err(|e| Error::io(path, e))?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "is a folder, must be a regular file" } else { "is not a regular file" };
        return Err(Error::io(path, io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    Ok(file)
}
