//! Small files that are read whole: keys, bundles, policies.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use stitchpack::error::{Error, Result};
use zeroize::Zeroizing;

/// Whether a file holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// It does, and is refused where others than its owner may read or write it. [KEY-5]
    Yes,
    /// It does not.
    No,
}

/// All of a regular file of at most `most` bytes, overwritten in memory when it is dropped.
///
/// # Errors
/// `Io`; `LimitExceeded`; `Refused` where a secret is open to others.
pub(crate) fn read(path: &Path, most: usize, secret: Secret) -> Result<Zeroizing<Vec<u8>>> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    // A pipe without a writer must not hold the process. What is judged is what was opened, not what has the name.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| io(e.into()))?);
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::new(std::io::ErrorKind::InvalidInput, "is not a regular file")));
    }
    if secret == Secret::Yes && metadata.mode() & 0o077 != 0 {
        let detail = format!(
            "the private key is open to others (mode {:04o}); make it yours alone (chmod 600) [KEY-5]",
            metadata.mode() & 0o7777
        );
        return Err(within(path, Error::Refused(detail)));
    }
    // Room for all of it from the start: growing would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(most + 1));
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() > most {
        let error = Error::LimitExceeded { limit: "size in bytes", asked: metadata.len(), allowed: most as u64 };
        return Err(within(path, error));
    }
    Ok(bytes)
}

/// [`read`] of text.
///
/// # Errors
/// As [`read`]; `InvalidInput` where it is not UTF-8.
pub(crate) fn read_text(path: &Path, most: usize, secret: Secret) -> Result<Zeroizing<String>> {
    let bytes = read(path, most, secret)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(within(path, Error::InvalidInput("is not text in UTF-8".into()))),
    }
}

/// Names the file in which an error was met.
pub(crate) fn within(path: &Path, source: Error) -> Error {
    match source {
        Error::Io { .. } | Error::InFile { .. } => source,
        source => Error::InFile { path: path.to_owned(), source: Box::new(source) },
    }
}
