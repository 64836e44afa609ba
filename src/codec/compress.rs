//! The one door to zstd: a single frame of exactly known length. [ZST-1]

use std::cell::RefCell;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::error::{Error, Result};

/// Level of every frame that we write: higher ones gain little on masks and codes, which are nearly incompressible.
const LEVEL: i32 = 3;

const FRAME_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

thread_local! {
    // Contexts cost more to make than a block to decode.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// One zstd frame, where that is smaller than `bytes`.
pub(crate) fn smaller(bytes: &[u8]) -> Option<Vec<u8>> {
    let frame = COMPRESSOR.with(|cell| {
        let mut slot = cell.try_borrow_mut().ok()?;
        if slot.is_none() {
            *slot = Compressor::new(LEVEL).ok();
        }
        slot.as_mut()?.compress(bytes).ok()
    })?;
    (frame.len() < bytes.len()).then_some(frame)
}

/// The decoded length that a frame claims, after checking that `stored` is one frame and nothing else. [ZST-1]
pub(crate) fn claimed_len(stored: &[u8]) -> Result<u64> {
    let bad = |detail: String| Error::malformed("ZST-1", "zstd frame", detail);
    if !stored.starts_with(&FRAME_MAGIC) {
        return Err(bad("does not start with the magic number of a frame".into()));
    }
    if zstd_safe::get_dict_id_from_frame(stored).is_some() {
        return Err(bad("names a dictionary, must name none".into()));
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(size) if size == stored.len() => {}
        Ok(size) => return Err(bad(format!("ends after {size} bytes, must end after {}", stored.len()))),
        Err(_) => return Err(bad("is cut or damaged".into())),
    }
    match zstd_safe::get_frame_content_size(stored) {
        Ok(Some(len)) => Ok(len),
        _ => Err(bad("does not say how long its content is".into())),
    }
}

/// Decodes a frame to exactly `len` bytes. The caller has bounded `len` by what the bytes at hand can earn.
pub(crate) fn expand(stored: &[u8], len: usize) -> Result<Vec<u8>> {
    let claimed = claimed_len(stored)?;
    if claimed != len as u64 {
        let detail = format!("claims {claimed} decoded bytes, must be {len}");
        return Err(Error::malformed("ZST-1", "zstd frame", detail));
    }
    let decoded = DECOMPRESSOR.with(|cell| {
        let mut slot = cell.try_borrow_mut().ok()?;
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        slot.as_mut()?.decompress(stored, len).ok()
    });
    match decoded {
        Some(bytes) if bytes.len() == len => Ok(bytes),
        _ => Err(Error::malformed("ZST-1", "zstd frame", format!("does not decode to {len} bytes"))),
    }
}
