//! The mask of one block. Each codec bids with its exact size, and the smallest is taken. [MSK-1]

pub(crate) mod bitmap;
pub(crate) mod gaps;
pub(crate) mod rice;
mod wide;

use std::borrow::Cow;

use crate::codec::compress;
use crate::error::{Error, Result};
use crate::model::delta::set_bits;

/// No position is kept; no bytes.
pub(crate) const EMPTY: u8 = 0;
/// Every position is kept; no bytes.
pub(crate) const ALL: u8 = 1;
/// One bit a position.
pub(crate) const BITMAP: u8 = 2;
/// One or more bytes a kept position.
pub(crate) const GAPS: u8 = 3;
/// `BITMAP` in a zstd frame.
pub(crate) const BITMAP_ZSTD: u8 = 4;
/// `GAPS` in a zstd frame.
pub(crate) const GAPS_ZSTD: u8 = 5;
/// Gaps in Rice codes.
pub(crate) const RICE: u8 = 8;

/// The name of a mask codec, for reports.
pub(crate) fn name(codec: u8) -> &'static str {
    match codec {
        EMPTY => "empty",
        ALL => "all",
        BITMAP => "bitmap",
        GAPS => "gaps",
        BITMAP_ZSTD => "bitmap+zstd",
        GAPS_ZSTD => "gaps+zstd",
        RICE => "Rice codes",
        crate::codec::block::CLASSED_MASK => "classes",
        crate::codec::block::SPREAD_MASK => "in the codes",
        _ => "unknown",
    }
}

/// The smallest encoding of strictly ascending positions below `len`: the codec and its bytes.
pub(crate) fn encode(positions: &[u32], len: u32) -> (u8, Vec<u8>) {
    if positions.is_empty() {
        return (EMPTY, Vec::new());
    }
    if positions.len() == len as usize {
        return (ALL, Vec::new());
    }
    let bitmap = bitmap::encode(positions, len);
    let gaps = gaps::encode(positions);
    let packed_bitmap = compress::smaller(&bitmap);
    let packed_gaps = compress::smaller(&gaps);
    let bids = [
        Some((RICE, rice::encode(positions))),
        Some((BITMAP, bitmap)),
        Some((GAPS, gaps)),
        packed_bitmap.map(|b| (BITMAP_ZSTD, b)),
        packed_gaps.map(|b| (GAPS_ZSTD, b)),
    ];
    // The first of equal size wins, so the choice is the same everywhere.
    bids.into_iter().flatten().min_by_key(|(_, bytes)| bytes.len()).unwrap_or((EMPTY, Vec::new()))
}

/// Reads exactly `kept` strictly ascending positions below `len` from all of `stored`. [MSK-2]
pub(crate) fn decode(codec: u8, stored: &[u8], kept: u32, len: u32, out: &mut Vec<u32>) -> Result<()> {
    out.clear();
    check(codec, stored, kept, len)?;
    match codec {
        EMPTY => Ok(()),
        ALL => {
            out.extend(0..len);
            Ok(())
        }
        BITMAP | BITMAP_ZSTD => bitmap::decode(&bitmap_bytes(codec, stored, len)?, kept, len, out),
        RICE => rice::decode(stored, kept, len, out),
        _ => {
            let bytes = unpacked(codec == GAPS_ZSTD, stored, |claimed| gaps::bounded_len(claimed, kept, len))?;
            gaps::decode(&bytes, kept, len, out)
        }
    }
}

/// [`decode`] to one bit a position, in whole words; `listed` is a buffer.
pub(crate) fn decode_bits(
    codec: u8,
    stored: &[u8],
    kept: u32,
    len: u32,
    listed: &mut Vec<u32>,
    out: &mut Vec<u64>,
) -> Result<()> {
    if matches!(codec, BITMAP | BITMAP_ZSTD) {
        check(codec, stored, kept, len)?;
        return bitmap::words(&bitmap_bytes(codec, stored, len)?, kept, len, out);
    }
    decode(codec, stored, kept, len, listed)?;
    set_bits(listed, len, out);
    Ok(())
}

fn bitmap_bytes(codec: u8, stored: &[u8], len: u32) -> Result<Cow<'_, [u8]>> {
    unpacked(codec == BITMAP_ZSTD, stored, |_| Ok(len.div_ceil(8) as usize))
}

/// What can be said of a mask before it is decoded.
fn check(codec: u8, stored: &[u8], kept: u32, len: u32) -> Result<()> {
    if codec > GAPS_ZSTD && codec != RICE {
        return Err(Error::Unsupported { what: "mask codec".into(), found: codec.into(), known: RICE.into() });
    }
    if kept > len {
        return Err(Error::malformed("MSK-2", "mask", format!("keeps {kept} of {len} positions")));
    }
    let trivial = if kept == 0 {
        Some(EMPTY)
    } else if kept == len {
        Some(ALL)
    } else {
        None
    };
    if trivial.is_some_and(|t| t != codec) || (trivial.is_none() && matches!(codec, EMPTY | ALL)) {
        let detail = format!("codec {codec} ({}) does not go with {kept} of {len} kept", name(codec));
        return Err(Error::malformed("MSK-3", "mask", detail));
    }
    match codec {
        EMPTY | ALL if !stored.is_empty() => {
            Err(Error::malformed("MSK-3", "mask", format!("has {} bytes, must have none", stored.len())))
        }
        _ => Ok(()),
    }
}

/// The bytes behind an optional zstd frame; `len` turns the length that the frame claims into the one that is believed.
fn unpacked(zstd: bool, stored: &[u8], len: impl Fn(u64) -> Result<usize>) -> Result<Cow<'_, [u8]>> {
    if !zstd {
        return Ok(Cow::Borrowed(stored));
    }
    let len = len(compress::claimed_len(stored)?)?;
    Ok(Cow::Owned(compress::expand(stored, len)?))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_survives_at_every_edge() {
        for len in [1u32, 2, 7, 8, 9, 63, 64, 65, 254, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537] {
            let every = |n: u32| (0..len).filter(|i| i % n == 0).collect::<Vec<_>>();
            let lists =
                [vec![], vec![0], vec![len - 1], every(1), every(2), every(3), every(100), every(255), every(256)];
            for positions in lists {
                let kept = positions.len() as u32;
                let mut back = Vec::new();
                let (codec, bytes) = encode(&positions, len);
                decode(codec, &bytes, kept, len, &mut back).unwrap();
                assert_eq!(back, positions);
                if kept > 0 && kept < len {
                    for (codec, bytes) in [
                        (BITMAP, bitmap::encode(&positions, len)),
                        (GAPS, gaps::encode(&positions)),
                        (RICE, rice::encode(&positions)),
                    ] {
                        decode(codec, &bytes, kept, len, &mut back).unwrap();
                        assert_eq!(back, positions);
                        let (mut bits, mut set) = (Vec::new(), Vec::new());
                        decode_bits(codec, &bytes, kept, len, &mut back, &mut bits).unwrap();
                        set_bits(&positions, len, &mut set);
                        assert_eq!(bits, set);
                        assert!(decode_bits(codec, &bytes, kept - 1, len, &mut back, &mut bits).is_err());
                        assert!(decode(codec, &bytes, kept - 1, len, &mut back).is_err());
                        assert!(decode(codec, &bytes[..bytes.len() - 1], kept, len, &mut back).is_err());
                        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
                        assert!(decode(codec, &longer, kept, len, &mut back).is_err());
                    }
                }
            }
        }
    }
}
