//! Numbers of a word's bits put side by side, and back in their places.
//!
//! `unsafe`: an instruction of SSSE3, where the caller found AVX2 ([`crate::cpu::is_wide`]), and the same sixteen bytes taken as a
//! register. Neither touches memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_shuffle_epi8};
#[cfg(target_arch = "x86_64")]
use std::mem::transmute;

use crate::words::WORD;
use crate::words::bits::{deposit, extract};

/// A number of which those that are kept can be put side by side.
pub(crate) trait Lane: Copy + Default {
    /// Puts the numbers whose bits are set to the front of `to`; what follows them there means nothing.
    fn compress<const WIDE: bool>(from: &[Self; WORD], kept: u64, to: &mut [Self; WORD]);
}

impl Lane for u8 {
    #[inline(always)]
    fn compress<const WIDE: bool>(from: &[u8; WORD], kept: u64, to: &mut [u8; WORD]) {
        compress_bytes::<WIDE>(from, kept, to);
    }
}

impl Lane for u16 {
    #[inline(always)]
    fn compress<const WIDE: bool>(from: &[u16; WORD], kept: u64, to: &mut [u16; WORD]) {
        compress_shorts::<WIDE>(from, kept, to);
    }
}

/// The lowest bytes' worth of bits spread to all bits of eight bytes.
#[inline(always)]
fn bytes_of<const WIDE: bool>(bits: u64) -> u64 {
    deposit::<WIDE>(bits, 0x0101_0101_0101_0101) * 0xff
}

/// [`Lane::compress`].
#[inline(always)]
fn compress_bytes<const WIDE: bool>(from: &[u8; WORD], kept: u64, to: &mut [u8; WORD]) {
    let (mut kept, mut n) = (kept, 0);
    for group in from.as_chunks::<8>().0 {
        let found = extract::<WIDE>(u64::from_le_bytes(*group), bytes_of::<WIDE>(kept & 0xff));
        if let Some(slot) = to.get_mut(n..).and_then(<[u8]>::first_chunk_mut::<8>) {
            *slot = found.to_le_bytes();
        }
        n += (kept & 0xff).count_ones() as usize;
        kept >>= 8;
    }
}

/// [`Lane::compress`].
#[inline(always)]
fn compress_shorts<const WIDE: bool>(from: &[u16; WORD], kept: u64, to: &mut [u16; WORD]) {
    let mut n = 0;
    for (group, own) in from.as_chunks::<8>().0.iter().zip(kept.to_le_bytes()) {
        if let Some(slot) = to.get_mut(n..).and_then(<[u16]>::first_chunk_mut::<8>) {
            *slot = shuffle::<WIDE>(*group, COMPRESS.get(usize::from(own)).unwrap_or(&[NONE; 16]));
        }
        n += own.count_ones() as usize;
    }
}

/// Puts the numbers at the front of `from` where bits are set, zeros elsewhere: the inverse of [`compress_shorts`].
#[inline(always)]
pub(crate) fn expand_shorts<const WIDE: bool>(from: &[u16; WORD], kept: u64) -> [u16; WORD] {
    let (mut n, mut to) = (0, [0; WORD]);
    for (slot, own) in to.as_chunks_mut::<8>().0.iter_mut().zip(kept.to_le_bytes()) {
        // Behind the last eight there may be too few, of which what is there has to do.
        let start = n.min(WORD - 8);
        let group = from.get(start..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
        *slot = if n == start {
            shuffle::<WIDE>(group, EXPAND.get(usize::from(own)).unwrap_or(&[NONE; 16]))
        } else {
            let late: [u16; 8] = std::array::from_fn(|i| from.get(n + i).copied().unwrap_or(0));
            shuffle::<WIDE>(late, EXPAND.get(usize::from(own)).unwrap_or(&[NONE; 16]))
        };
        n += own.count_ones() as usize;
    }
    to
}

/// Where a byte is to be 0.
const NONE: u8 = 0x80;

/// For each choice of eight numbers of two bytes where the bytes of those that are chosen go to, which is the front, and where
/// they come from on the way back.
static COMPRESS: [[u8; 16]; 256] = places(false);
static EXPAND: [[u8; 16]; 256] = places(true);

#[expect(clippy::indexing_slicing, reason = "computed when this is compiled, where nothing else is possible")]
const fn places(back: bool) -> [[u8; 16]; 256] {
    let mut out = [[NONE; 16]; 256];
    let mut kept = 0;
    while kept < 256 {
        let (mut lane, mut n) = (0, 0);
        while lane < 8 {
            if kept >> lane & 1 == 1 {
                let (to, from) = if back { (lane, n) } else { (n, lane) };
                out[kept][2 * to] = 2 * from as u8;
                out[kept][2 * to + 1] = 2 * from as u8 + 1;
                n += 1;
            }
            lane += 1;
        }
        kept += 1;
    }
    out
}

/// Bytes of numbers, each from where `places` says.
#[inline(always)]
fn shuffle<const WIDE: bool>(numbers: [u16; 8], places: &[u8; 16]) -> [u16; 8] {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: whoever asks for the wide form has found AVX2, and with it SSSE3. All four are sixteen bytes, of which every
        // pattern is a value.
        return unsafe {
            let (numbers, places) = (transmute::<[u16; 8], __m128i>(numbers), transmute::<[u8; 16], __m128i>(*places));
            transmute::<__m128i, [u16; 8]>(_mm_shuffle_epi8(numbers, places))
        };
    }
    let pick = |place: &u8| if *place == NONE { 0 } else { numbers.get(usize::from(place / 2)).copied().unwrap_or(0) };
    let mut out = [0; 8];
    out.iter_mut().zip(places.iter().step_by(2)).for_each(|(to, place)| *to = pick(place));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::is_wide;
    use crate::words::list_shorts_inline;

    fn random(seed: u64) -> u64 {
        let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 29).wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    fn check<const WIDE: bool>(kept: u64, shorts: &[u16; WORD]) {
        let bytes = shorts.map(|s| s as u8);
        let slow: Vec<u16> = (0..WORD).filter(|i| kept >> i & 1 != 0).map(|i| shorts[i]).collect();
        let (mut narrow, mut wide) = ([0; WORD], [0; WORD]);
        compress_bytes::<WIDE>(&bytes, kept, &mut narrow);
        compress_shorts::<WIDE>(shorts, kept, &mut wide);
        assert_eq!(wide[..slow.len()], slow, "{kept:#x}");
        assert!(narrow.iter().zip(&slow).all(|(byte, short)| *byte == *short as u8), "{kept:#x}");
        let mut listed = Vec::new();
        list_shorts_inline::<WIDE>(&[kept, 0, kept], &mut listed);
        let numbers = (0..3 * WORD as u16).filter(|i| i / 64 != 1 && kept >> (i % 64) & 1 != 0);
        assert!(listed.iter().copied().eq(numbers), "{kept:#x}");
        let back = expand_shorts::<WIDE>(&wide, kept);
        assert!((0..WORD).all(|i| back[i] == if kept >> i & 1 != 0 { shorts[i] } else { 0 }), "{kept:#x}");
    }

    #[test]
    fn those_that_are_kept_stand_side_by_side() {
        for seed in 0..200 {
            let shorts = std::array::from_fn(|i| random(seed * 64 + i as u64) as u16);
            for kept in [0, u64::MAX, random(seed), random(seed) & random(seed + 7), random(seed) | random(seed + 7)] {
                check::<false>(kept, &shorts);
                if is_wide() {
                    check::<true>(kept, &shorts);
                }
            }
        }
    }
}
