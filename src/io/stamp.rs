//! What tells one state of an object from another, so that what was learned of it can be remembered.

use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One state of one object, as far as whoever keeps it shows that.
///
/// The cache of digests believes it: equal stamps mean equal bytes. Make one of a version id or a content digest that the store
/// vouches for, together with the object's address; a server that you do not trust with the model can forge its ETags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    key: Vec<u8>,
    changed: Option<SystemTime>,
}

/// How the key of a stamp begins that is no file's: what a store says must not pass for a device and an inode.
const GIVEN: &[u8] = b"stamp of a source that is no file\0";

impl Stamp {
    /// A stamp of bytes that no other state of any object has.
    pub fn new(key: &[u8]) -> Self {
        Stamp { key: [GIVEN, key].concat(), changed: None }
    }

    /// The state of a file: device, inode, size, mtime and ctime.
    pub(crate) fn of_file(file: &File) -> io::Result<(Self, FileState)> {
        use std::os::unix::fs::MetadataExt;
        let m = file.metadata()?;
        let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()];
        let numbers = [m.dev(), m.ino(), m.len()].into_iter().map(u64::to_le_bytes);
        let key = numbers.chain(times.map(i64::to_le_bytes)).flatten().collect();
        let changed = latest([(times[0], times[1]), (times[2], times[3])]);
        Ok((Stamp { key, changed: Some(changed) }, FileState { len: m.len(), modified: (times[0], times[1]) }))
    }

    /// The bytes that it is made of.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// When the object was changed last, where a further change at about the same time would not show in the stamp.
    pub(crate) fn changed(&self) -> Option<SystemTime> {
        self.changed
    }
}

fn latest(times: [(i64, i64); 2]) -> SystemTime {
    let time = |t: (i64, i64)| UNIX_EPOCH + Duration::new(t.0.max(0) as u64, t.1.clamp(0, 999_999_999) as u32);
    time(times[0]).max(time(times[1]))
}

/// What of a file's state its data depends on: links and permissions change only ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileState {
    pub len: u64,
    pub modified: (i64, i64),
}
