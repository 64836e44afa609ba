//! The manifest as it is stored: plain, or one zstd frame where that is smaller. [MAN-1]

use crate::codec::compress;
use crate::error::{Error, Result};
use crate::format::manifest::{MOST_PER_BYTE, Manifest};
use crate::limits::Limits;

/// A zstd frame of `bytes`, where that is smaller and a reader will accept the ratio.
pub(crate) fn frame(bytes: &[u8]) -> Option<Vec<u8>> {
    compress::smaller(bytes).filter(|frame| bytes.len() as u64 <= (frame.len() as u64).saturating_mul(MOST_PER_BYTE))
}

/// The bytes to store, and how many they decode to.
pub(crate) fn encode(manifest: &Manifest) -> Result<(Vec<u8>, usize)> {
    let raw = manifest.encode()?;
    let raw_len = raw.len();
    Ok((frame(&raw).unwrap_or(raw), raw_len))
}

/// Reads a manifest from its stored bytes, whose digest has been checked.
pub(crate) fn decode(stored: &[u8], raw_len: u32, limits: &Limits) -> Result<Manifest> {
    Limits::check("manifest size in bytes", raw_len.into(), limits.manifest_bytes)?;
    if stored.len() == raw_len as usize {
        return Manifest::decode(stored, limits);
    }
    if u64::from(raw_len) > (stored.len() as u64).saturating_mul(MOST_PER_BYTE) {
        let detail = format!("claims {raw_len} bytes from {}, at most {MOST_PER_BYTE} each are allowed", stored.len());
        return Err(Error::malformed("MAN-6", "manifest", detail));
    }
    let raw = compress::expand(stored, raw_len as usize).map_err(|e| e.within("manifest"))?;
    Manifest::decode(&raw, limits)
}
