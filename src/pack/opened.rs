//! A pack whose header and manifest are parsed; its sections are unbelieved.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::io::{LocalFile, ReadAt};
use crate::limits::Limits;
use crate::model::digest::Digest;
use crate::pack::body::Body;
use crate::pack::stream;
use crate::pack::verified::VerifiedPack;

/// A pack that has been opened: header and manifest are checked against their digests and parsed, nothing else is.
#[derive(Debug)]
pub struct OpenedPack {
    body: Body,
}

impl OpenedPack {
    /// Opens a file with the default [`Limits`].
    ///
    /// # Errors
    /// `Io` where the file cannot be read; `Malformed`, `DigestMismatch`, `Unsupported` or `LimitExceeded` for what is in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Limits::default())
    }

    /// Opens a file.
    pub fn open_with(path: impl AsRef<Path>, limits: &Limits) -> Result<Self> {
        Self::from_source(Arc::new(LocalFile::open(path)?), limits)
    }

    /// Opens bytes in memory.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>, limits: &Limits) -> Result<Self> {
        Self::from_source(Arc::new(bytes.into()), limits)
    }

    /// Reads a stream to its end, at most `most` bytes, and opens it.
    pub fn from_stream(stream: impl Read, most: u64, limits: &Limits) -> Result<Self> {
        Self::from_source(Arc::new(stream::read(stream, most)?), limits)
    }

    /// Opens a pack wherever its bytes are: in an object store, in a cache, behind HTTP. What is used of it is read when it is
    /// used; what was announced by [`ReadAt::will_need`] may be fetched ahead.
    ///
    /// Opening reads both ends of the object, the header and the manifest, and announces both before it reads the first: one round
    /// trip where the source fetches what is announced. A source that learns the length by asking for the last 64 KiB has nearly every
    /// manifest with the same answer.
    ///
    /// # Errors
    /// As [`OpenedPack::open`].
    pub fn from_source(source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Self> {
        Ok(OpenedPack { body: Body::open(source, limits)? })
    }

    /// What the pack says it is.
    pub fn manifest(&self) -> &Manifest {
        &self.body.manifest
    }

    /// The digest that names the file.
    pub fn id(&self) -> Digest {
        self.body.header.id
    }

    /// Checks the digest of every section, then decodes everything that decodes without the base, and compares the content
    /// id where that is everything. Reads the whole file.
    ///
    /// # Errors
    /// `DigestMismatch` naming the section, or `Malformed` with the rule that what it holds breaks.
    pub fn verify(self) -> Result<VerifiedPack> {
        self.body.check_sections()?;
        let verified = VerifiedPack::new(self.body);
        // What is coded by what the base has is decoded when a base is at hand.
        verified.check_content(None)?;
        Ok(verified)
    }

    /// Leaves each section to be checked when it is read: the same trust for less reading, where only a part is used or all of
    /// it is used once.
    pub fn verify_as_read(self) -> VerifiedPack {
        VerifiedPack::new(self.body)
    }
}
