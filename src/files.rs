//! Small help with files, used by packs and checkpoints alike.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::path::Path;

use rustix::fs::{Advice, Mode, OFlags};

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

/// All bytes of a small regular file, such as an index.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    Ok(bytes)
}

/// Copies a range of one file to another without taking it through memory of ours, or by sharing it where the file system can.
/// False where it could not be done: then what was copied means nothing, and whoever reads the range hears why.
pub(crate) fn copy_range(from: (&File, u64), to: (&File, u64), len: u64) -> bool {
    let ((from, mut at), (to, mut there), mut left) = (from, to, len);
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut there), most) {
            Ok(0) => return false,
            Ok(copied) => left = left.saturating_sub(copied as u64),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Lets the system begin to write a range to its disk that was just written to the file, so that the disk works meanwhile and not
/// only when all is synced. Linux does that when it hears that the range is not needed; it stays in memory, as it is being written.
/// Where it cannot be done, nothing is lost.
pub(crate) fn begin_sync(file: &File, start: u64, len: u64) {
    if let Some(len) = NonZeroU64::new(len) {
        rustix::fs::fadvise(file, start, Some(len), Advice::DontNeed).unwrap_or(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_copied_to_its_place_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(folder.path().join("from"), &bytes).unwrap();
        let from = File::open(folder.path().join("from")).unwrap();
        let to = File::create(folder.path().join("to")).unwrap();
        assert!(copy_range((&from, 10), (&to, 7), 90_000));
        begin_sync(&to, 7, 90_000);
        begin_sync(&to, 7, 0);
        assert_eq!(std::fs::read(folder.path().join("to")).unwrap()[7..], bytes[10..90_010]);
        assert!(!copy_range((&from, 10), (&to, 7), 100_000), "the file ends before that");
    }
}
