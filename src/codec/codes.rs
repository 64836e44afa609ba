//! The codes of one block: packed by the width of the kind, then a zstd frame where that is smaller. [VAL-2]

use std::borrow::Cow;

use crate::codec::compress;
use crate::codec::positions::bitmap::words_of;
use crate::error::{Error, Result};
use crate::model::codec::ValueCodec;
use crate::model::delta::ValueKind;
use crate::model::dtype::Dtype;

/// How many bits a code of this kind takes when packed.
fn width(kind: ValueKind, dtype: Dtype) -> u32 {
    match kind {
        ValueKind::Step => u32::try_from(dtype.unit_bytes()).unwrap_or(8).saturating_mul(8),
        ValueKind::F32 => 32,
        ValueKind::F16 | ValueKind::Bf16 => 16,
        ValueKind::Int8 => 8,
        ValueKind::Int4 | ValueKind::Codebook => 4,
        ValueKind::Sign => 1,
    }
}

/// Bytes of `n` packed codes.
pub(crate) fn packed_len(kind: ValueKind, dtype: Dtype, n: u32) -> u64 {
    u64::from(n).saturating_mul(u64::from(width(kind, dtype))).div_ceil(8)
}

/// The smaller of both forms: the codec and its bytes.
pub(crate) fn encode(kind: ValueKind, dtype: Dtype, codes: &[u64]) -> (ValueCodec, Vec<u8>) {
    let packed = pack(kind, dtype, codes);
    match compress::smaller(&packed) {
        Some(frame) => (ValueCodec::Zstd, frame),
        None => (ValueCodec::Stored, packed),
    }
}

/// Reads exactly `n` codes from all of `stored`, each in the range of its kind. `zero_steps` allows a step of 0, which only a
/// carried tensor has. [VAL-2]
pub(crate) fn decode(
    codec: ValueCodec,
    stored: &[u8],
    kind: ValueKind,
    dtype: Dtype,
    n: u32,
    zero_steps: bool,
    out: &mut Vec<u64>,
) -> Result<()> {
    out.clear();
    unpack(kind, dtype, &packed_of(codec, stored, packed_len(kind, dtype, n))?, n, out)?;
    check(kind, out, zero_steps)
}

/// Reads exactly `n` signs from all of `stored`, as one bit each in words.
pub(crate) fn decode_signs(codec: ValueCodec, stored: &[u8], n: u32, out: &mut Vec<u64>) -> Result<()> {
    out.clear();
    let packed = packed_of(codec, stored, packed_len(ValueKind::Sign, Dtype::BF16, n))?;
    out.extend(words_of(&packed));
    let used = n & 7;
    if used != 0 && packed.last().is_some_and(|last| last >> used != 0) {
        return Err(after_end());
    }
    Ok(())
}

/// The packed codes behind an optional zstd frame, `len` bytes of them.
fn packed_of(codec: ValueCodec, stored: &[u8], len: u64) -> Result<Cow<'_, [u8]>> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    match codec {
        ValueCodec::Stored if stored.len() == len => Ok(Cow::Borrowed(stored)),
        ValueCodec::Stored => {
            let detail = format!("have {} bytes, must have {len}", stored.len());
            Err(Error::malformed("VAL-2", "codes", detail))
        }
        ValueCodec::Zstd => Ok(Cow::Owned(compress::expand(stored, len)?)),
        ValueCodec::Classes | ValueCodec::AllUnits => {
            Err(Error::Internal(format!("codes of codec {codec} without the coder of their tensor")))
        }
    }
}

fn after_end() -> Error {
    Error::malformed("VAL-2", "codes", "have a bit set after their end")
}

/// Refuses codes that a kind does not have.
pub(crate) fn check(kind: ValueKind, codes: &[u64], zero_steps: bool) -> Result<()> {
    match codes.iter().position(|code| !is_legal(kind, *code, zero_steps)) {
        Some(i) => {
            let code = codes.get(i).copied().unwrap_or(0);
            Err(Error::malformed("VAL-2", "codes", format!("code {i} is {code:#x}, which {kind} does not have")))
        }
        None => Ok(()),
    }
}

/// [`check`] for steps of 16 bits.
pub(crate) fn check_short(steps: &[u16], zero_steps: bool) -> Result<()> {
    // The place matters only where there is one to be told.
    if zero_steps || !steps.contains(&0) {
        return Ok(());
    }
    let codes: Vec<u64> = steps.iter().map(|step| u64::from(*step)).collect();
    check(ValueKind::Step, &codes, zero_steps)
}

fn is_legal(kind: ValueKind, code: u64, zero_steps: bool) -> bool {
    match kind {
        ValueKind::Step => zero_steps || code != 0,
        ValueKind::F32 => code & 0x7f80_0000 != 0x7f80_0000,
        ValueKind::F16 => code & 0x7c00 != 0x7c00,
        ValueKind::Bf16 => code & 0x7f80 != 0x7f80,
        ValueKind::Int8 => code != 0x80,
        ValueKind::Int4 => code != 0x8,
        ValueKind::Sign | ValueKind::Codebook => true,
    }
}

/// Kinds of a byte and more go in planes, the lowest byte of every code first: the high ones are nearly constant.
pub(crate) fn pack(kind: ValueKind, dtype: Dtype, codes: &[u64]) -> Vec<u8> {
    match width(kind, dtype) {
        1 => pack_below_byte(codes, 1),
        4 => pack_below_byte(codes, 4),
        bits => {
            let folded = |code: &u64| if kind == ValueKind::Step { fold(*code, bits) } else { *code };
            let planes = (0..bits).step_by(8);
            planes.flat_map(|shift| codes.iter().map(move |c| low_byte(folded(c) >> shift))).collect()
        }
    }
}

fn unpack(kind: ValueKind, dtype: Dtype, packed: &[u8], n: u32, out: &mut Vec<u64>) -> Result<()> {
    match width(kind, dtype) {
        1 => unpack_below_byte(packed, 1, n, out),
        4 => unpack_below_byte(packed, 4, n, out),
        bits => {
            out.resize(n as usize, 0);
            for (shift, plane) in (0..bits).step_by(8).zip(packed.chunks((n as usize).max(1))) {
                out.iter_mut().zip(plane).for_each(|(code, byte)| *code |= u64::from(*byte) << shift);
            }
            if kind == ValueKind::Step {
                out.iter_mut().for_each(|code| *code = unfold(*code, bits));
            }
            Ok(())
        }
    }
}

/// Codes of 1 or 4 bits, the first in the lowest bits, zeros after the end.
fn pack_below_byte(codes: &[u64], bits: u32) -> Vec<u8> {
    let each = 8u32.checked_div(bits).unwrap_or(1);
    codes
        .chunks(each as usize)
        .map(|chunk| {
            let shifts = (0..8).step_by(bits as usize);
            chunk.iter().zip(shifts).fold(0u8, |byte, (code, shift)| byte | low_byte(*code).wrapping_shl(shift))
        })
        .collect()
}

fn unpack_below_byte(packed: &[u8], bits: u32, n: u32, out: &mut Vec<u64>) -> Result<()> {
    let mask = (1u8 << bits).wrapping_sub(1);
    let each = 8usize.checked_div(bits as usize).unwrap_or(1);
    out.resize(packed.len().saturating_mul(each), 0);
    for (codes, byte) in out.chunks_exact_mut(each).zip(packed) {
        for (code, shift) in codes.iter_mut().zip((0u32..8).step_by(bits as usize)) {
            *code = u64::from(byte.wrapping_shr(shift) & mask);
        }
    }
    if out.iter().skip(n as usize).any(|code| *code != 0) {
        return Err(after_end());
    }
    out.truncate(n as usize);
    Ok(())
}

fn low_byte(x: u64) -> u8 {
    x.to_le_bytes().first().copied().unwrap_or(0)
}

/// Two's complement of `bits` bits to 0, −1, 1, −2, 2 … as 0, 1, 2, 3, 4 …
fn fold(code: u64, bits: u32) -> u64 {
    let unused = 64u32.saturating_sub(bits);
    let signed = (code << unused).cast_signed() >> unused;
    ((signed << 1) ^ (signed >> 63)).cast_unsigned() & (u64::MAX >> unused)
}

fn unfold(folded: u64, bits: u32) -> u64 {
    let magnitude = folded >> 1;
    let code = if folded & 1 == 0 { magnitude } else { !magnitude };
    code & (u64::MAX >> 64u32.saturating_sub(bits))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    const KINDS: [ValueKind; 8] = [
        ValueKind::Step,
        ValueKind::F32,
        ValueKind::F16,
        ValueKind::Bf16,
        ValueKind::Int8,
        ValueKind::Int4,
        ValueKind::Sign,
        ValueKind::Codebook,
    ];

    #[test]
    fn codes_survive_for_every_kind_and_width() {
        for kind in KINDS {
            for dtype in [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::U8] {
                let mask = u64::MAX >> (64 - width(kind, dtype));
                for n in [0u32, 1, 2, 3, 7, 8, 9, 1000] {
                    let all = (0..u64::from(n)).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 5) & mask);
                    let codes: Vec<u64> = all.map(|c| if is_legal(kind, c, false) { c } else { 1 }).collect();
                    let (codec, bytes) = encode(kind, dtype, &codes);
                    let mut back = Vec::new();
                    decode(codec, &bytes, kind, dtype, n, false, &mut back).unwrap();
                    assert_eq!(back, codes, "{kind} {dtype} {n}");
                    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
                    assert!(decode(codec, &longer, kind, dtype, n, false, &mut back).is_err());
                }
            }
        }
    }

    #[test]
    fn codes_that_a_kind_lacks_are_refused() {
        let refused = [
            (ValueKind::Int8, vec![0x80u8]),
            (ValueKind::Int4, vec![0x08]),
            (ValueKind::Sign, vec![0x02]),
            (ValueKind::F32, vec![0, 0, 0x80, 0x7f]),
            (ValueKind::Bf16, vec![0x80, 0x7f]),
            (ValueKind::F16, vec![0x00, 0xfc]),
        ];
        for (kind, bytes) in refused {
            let mut out = Vec::new();
            assert!(decode(ValueCodec::Stored, &bytes, kind, Dtype::F32, 1, false, &mut out).is_err(), "{kind}");
        }
        let mut out = Vec::new();
        assert!(decode(ValueCodec::Stored, &[0], ValueKind::Step, Dtype::U8, 1, false, &mut out).is_err());
        assert!(decode(ValueCodec::Stored, &[0], ValueKind::Step, Dtype::U8, 1, true, &mut out).is_ok());
    }
}
