//! The manifest as it is stored: plain, or one zstd frame where that is smaller. [MAN-1]

use crate::codec::compress;
use crate::error::{Error, Result};
use crate::format::manifest::Manifest;
use crate::limits::Limits;

/// Most decoded bytes of a manifest for each stored one: memory has to be earned. [MAN-6]
const MOST_PER_BYTE: usize = 256;

/// The bytes to store, and how many they decode to.
pub(crate) fn encode(manifest: &Manifest) -> Result<(Vec<u8>, usize)> {
    let raw = manifest.encode()?;
    let raw_len = raw.len();
    let frame = compress::smaller(&raw).filter(|frame| raw_len <= frame.len().saturating_mul(MOST_PER_BYTE));
    Ok((frame.unwrap_or(raw), raw_len))
}

/// Reads a manifest from its stored bytes, whose digest has been checked.
pub(crate) fn decode(stored: &[u8], raw_len: u32, limits: &Limits) -> Result<Manifest> {
    Limits::check("manifest size in bytes", raw_len.into(), limits.manifest_bytes)?;
    if stored.len() == raw_len as usize {
        return Manifest::decode(stored, limits);
    }
    if raw_len as usize > stored.len().saturating_mul(MOST_PER_BYTE) {
        let detail = format!("claims {raw_len} bytes from {}, at most {MOST_PER_BYTE} each are allowed", stored.len());
        return Err(Error::malformed("MAN-6", "manifest", detail));
    }
    let raw = compress::expand(stored, raw_len as usize).map_err(|e| e.within("manifest"))?;
    Manifest::decode(&raw, limits)
}
