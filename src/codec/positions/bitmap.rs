//! One bit a position, lowest bit first, zeros after the end. [MSK-4]

use bitvec::prelude::{BitVec, Lsb0};

use crate::error::{Error, Result};

/// `ceil(len / 8)` bytes.
pub(crate) fn encode(positions: &[u32], len: u32) -> Vec<u8> {
    let mut bits: BitVec<u8, Lsb0> = BitVec::repeat(false, len as usize);
    let bytes = bits.as_raw_mut_slice();
    for p in positions {
        // Straight into the bytes: setting bits one at a time through `BitVec` checks far more than we need.
        if let Some(byte) = bytes.get_mut((p >> 3) as usize) {
            *byte |= 1 << (p & 7);
        }
    }
    bits.into_vec()
}

/// Reads positions from all of `bytes`.
pub(crate) fn decode(bytes: &[u8], kept: u32, len: u32, out: &mut Vec<u32>) -> Result<()> {
    check(bytes, kept, len)?;
    out.reserve(kept as usize);
    for (start, mut word) in (0u32..).step_by(64).zip(words_of(bytes)) {
        while word != 0 {
            out.push(start.saturating_add(word.trailing_zeros()));
            word &= word.wrapping_sub(1);
        }
    }
    Ok(())
}

/// Reads positions from all of `bytes`, as one bit each in words.
pub(crate) fn words(bytes: &[u8], kept: u32, len: u32, out: &mut Vec<u64>) -> Result<()> {
    check(bytes, kept, len)?;
    out.clear();
    out.extend(words_of(bytes));
    Ok(())
}

/// Little-endian words, the last filled up with zeros.
pub(crate) fn words_of(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| match chunk.first_chunk::<8>() {
        Some(whole) => u64::from_le_bytes(*whole),
        None => chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    })
}

fn check(bytes: &[u8], kept: u32, len: u32) -> Result<()> {
    let bad = |detail: String| Err(Error::malformed("MSK-4", "bitmap", detail));
    let expected = len.div_ceil(8) as usize;
    if bytes.len() != expected {
        return bad(format!("has {} bytes, must have {expected}", bytes.len()));
    }
    let ones: u64 = bytes.iter().map(|b| u64::from(b.count_ones())).sum();
    if ones != u64::from(kept) {
        return bad(format!("has {ones} bits set, must have {kept}"));
    }
    let used = len & 7;
    if used != 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return bad("has a bit set after its end".into());
    }
    Ok(())
}
