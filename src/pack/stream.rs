//! A pack that comes as a stream, read to its end.

use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::header::{HEADER_LEN_MAX, Header};
use crate::limits::Limits;

/// Reads a stream to its end, which is where its header says, at most `limit` bytes from its start. Of a stream without a header
/// no more is read than a header has.
pub(super) fn read(mut stream: impl Read, limit: u64) -> Result<Vec<u8>> {
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
    Ok(bytes)
}
