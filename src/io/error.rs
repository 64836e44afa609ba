//! Why a read failed, and what that means for whoever asked.

use std::fmt;
use std::io;
use std::path::Path;

use crate::error::Error;

/// A read that failed.
#[derive(Debug)]
pub struct ReadError {
    kind: ReadErrorKind,
    source: io::Error,
}

/// What a failed read means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// It will fail again: no such object, no permission, a broken device.
    Permanent,
    /// The same read may succeed later: a timeout, a lost connection, a busy server.
    Transient,
    /// The object is no longer the one that was opened. Open it anew; bytes of the two must not be mixed.
    Changed,
    /// The object ends before the range does.
    Truncated,
    /// The caller stopped the read. Becomes [`Error::Interrupted`].
    Cancelled,
}

impl ReadErrorKind {
    /// What the system's or the network's error means, where the source knows nothing better. An error that was made from a
    /// [`ReadError`] keeps its kind.
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Io;
        if let Some(known) = error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>()) {
            return known.kind;
        }
        match error.kind() {
            Io::UnexpectedEof => ReadErrorKind::Truncated,
            Io::TimedOut
            | Io::Interrupted
            | Io::WouldBlock
            | Io::ConnectionRefused
            | Io::ConnectionReset
            | Io::ConnectionAborted
            | Io::NotConnected
            | Io::BrokenPipe
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::ResourceBusy => ReadErrorKind::Transient,
            _ => ReadErrorKind::Permanent,
        }
    }
}

impl ReadError {
    /// An error of a kind, with its cause or a sentence about it.
    pub fn new(kind: ReadErrorKind, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        ReadError { kind, source: io::Error::other(cause) }
    }

    /// What it means for the caller.
    pub fn kind(&self) -> ReadErrorKind {
        self.kind
    }

    /// A range that ends after the object does.
    pub(crate) fn past_end(offset: u64, len: usize, all: u64) -> Self {
        let detail = format!("a read of {len} bytes from byte {offset} goes past the end, byte {all}");
        ReadError::new(ReadErrorKind::Truncated, detail)
    }

    /// The error of the crate, with the name of what was read.
    pub(crate) fn of(self, name: Option<&Path>) -> Error {
        if self.kind == ReadErrorKind::Cancelled {
            return Error::Interrupted;
        }
        // What the system said stays as it was said, unless that would lose the kind.
        let source = match ReadErrorKind::of(&self.source) == self.kind {
            true => self.source,
            false => io::Error::new(self.source.kind(), self),
        };
        Error::io(name.unwrap_or(Path::new("-")), source)
    }
}

impl From<io::Error> for ReadError {
    fn from(source: io::Error) -> Self {
        ReadError { kind: ReadErrorKind::of(&source), source }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl Error {
    /// Why reading or writing failed, where that is what went wrong.
    pub fn read_failure(&self) -> Option<ReadErrorKind> {
        match self.root() {
            Error::Io { source, .. } => Some(ReadErrorKind::of(source)),
            Error::Interrupted => Some(ReadErrorKind::Cancelled),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.read_failure() == Some(ReadErrorKind::Transient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_its_words() {
        let name = Some(Path::new("https://host/a.stitch"));
        for kind in
            [ReadErrorKind::Permanent, ReadErrorKind::Transient, ReadErrorKind::Changed, ReadErrorKind::Truncated]
        {
            let error = ReadError::new(kind, "the ETag is another").of(name).in_file(Path::new("other"));
            assert_eq!(error.read_failure(), Some(kind));
            assert_eq!(error.is_retryable(), kind == ReadErrorKind::Transient);
            assert_eq!(error.to_string(), "https://host/a.stitch: the ETag is another");
            assert_eq!(error.exit_code(), 7);
        }
        let stopped = ReadError::new(ReadErrorKind::Cancelled, "by the caller").of(name);
        assert!(matches!(stopped, Error::Interrupted));
        assert_eq!(stopped.read_failure(), Some(ReadErrorKind::Cancelled));
    }

    #[test]
    fn what_the_system_says_is_passed_on_as_it_is() {
        let error = ReadError::from(io::Error::from_raw_os_error(2)).of(None);
        let Error::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.raw_os_error(), Some(2));
        assert_eq!(error.read_failure(), Some(ReadErrorKind::Permanent));
        assert_eq!(ReadError::from(io::Error::from(io::ErrorKind::TimedOut)).kind(), ReadErrorKind::Transient);
        assert_eq!(Error::Refused("no".into()).read_failure(), None);
    }
}
