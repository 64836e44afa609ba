//! The mask of one block. Each codec bids with its exact size, and the smallest is taken. [MSK-1]

pub(crate) mod bitmap;
pub(crate) mod gaps;
pub(crate) mod rice;

use std::borrow::Cow;

use crate::codec::compress;
use crate::error::{Error, Result};
use crate::model::codec::MaskCodec;
use crate::model::delta::set_bits;

/// The smallest encoding of strictly ascending positions below `len`: the codec and its bytes.
pub(crate) fn encode(positions: &[u32], len: u32) -> (MaskCodec, Vec<u8>) {
    if positions.is_empty() {
        return (MaskCodec::Empty, Vec::new());
    }
    if positions.len() == len as usize {
        return (MaskCodec::All, Vec::new());
    }
    let bitmap = bitmap::encode(positions, len);
    let gaps = gaps::encode(positions);
    let packed_bitmap = compress::smaller(&bitmap);
    let packed_gaps = compress::smaller(&gaps);
    let bids = [
        Some((MaskCodec::Rice, rice::encode(positions))),
        Some((MaskCodec::Bitmap, bitmap)),
        Some((MaskCodec::Gaps, gaps)),
        packed_bitmap.map(|b| (MaskCodec::BitmapZstd, b)),
        packed_gaps.map(|b| (MaskCodec::GapsZstd, b)),
    ];
    // The first of equal size wins, so the choice is the same everywhere.
    bids.into_iter().flatten().min_by_key(|(_, bytes)| bytes.len()).unwrap_or((MaskCodec::Empty, Vec::new()))
}

/// Reads exactly `kept` strictly ascending positions below `len` from all of `stored`. [MSK-2]
pub(crate) fn decode(codec: MaskCodec, stored: &[u8], kept: u32, len: u32, out: &mut Vec<u32>) -> Result<()> {
    out.clear();
    check(codec, stored, kept, len)?;
    match codec {
        MaskCodec::Empty => Ok(()),
        MaskCodec::All => {
            out.extend(0..len);
            Ok(())
        }
        MaskCodec::Bitmap | MaskCodec::BitmapZstd => bitmap::decode(&bitmap_bytes(codec, stored, len)?, kept, len, out),
        MaskCodec::Rice => rice::decode(stored, kept, len, out),
        MaskCodec::Gaps | MaskCodec::GapsZstd => {
            let bytes =
                unpacked(codec == MaskCodec::GapsZstd, stored, |claimed| gaps::bounded_len(claimed, kept, len))?;
            gaps::decode(&bytes, kept, len, out)
        }
        MaskCodec::Classes | MaskCodec::InCodes => {
            Err(Error::Internal(format!("a mask of codec {codec} without the coder of its tensor")))
        }
    }
}

/// [`decode`] to one bit a position, in whole words; `listed` is a buffer.
pub(crate) fn decode_bits(
    codec: MaskCodec,
    stored: &[u8],
    kept: u32,
    len: u32,
    listed: &mut Vec<u32>,
    out: &mut Vec<u64>,
) -> Result<()> {
    if matches!(codec, MaskCodec::Bitmap | MaskCodec::BitmapZstd) {
        check(codec, stored, kept, len)?;
        return bitmap::words(&bitmap_bytes(codec, stored, len)?, kept, len, out);
    }
    decode(codec, stored, kept, len, listed)?;
    set_bits(listed, len, out);
    Ok(())
}

fn bitmap_bytes(codec: MaskCodec, stored: &[u8], len: u32) -> Result<Cow<'_, [u8]>> {
    unpacked(codec == MaskCodec::BitmapZstd, stored, |_| Ok(len.div_ceil(8) as usize))
}

/// What can be said of a mask before it is decoded.
fn check(codec: MaskCodec, stored: &[u8], kept: u32, len: u32) -> Result<()> {
    if kept > len {
        return Err(Error::malformed("MSK-2", "mask", format!("keeps {kept} of {len} positions")));
    }
    let trivial = if kept == 0 {
        Some(MaskCodec::Empty)
    } else if kept == len {
        Some(MaskCodec::All)
    } else {
        None
    };
    if trivial.is_some_and(|t| t != codec) || (trivial.is_none() && matches!(codec, MaskCodec::Empty | MaskCodec::All))
    {
        let detail = format!("codec {} ({codec}) does not go with {kept} of {len} kept", codec.code());
        return Err(Error::malformed("MSK-3", "mask", detail));
    }
    if trivial.is_some() && !stored.is_empty() {
        return Err(Error::malformed("MSK-3", "mask", format!("has {} bytes, must have none", stored.len())));
    }
    Ok(())
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
                        (MaskCodec::Bitmap, bitmap::encode(&positions, len)),
                        (MaskCodec::Gaps, gaps::encode(&positions)),
                        (MaskCodec::Rice, rice::encode(&positions)),
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
