//! Values that the bits of words select: put side by side, back in their places, or listed.
//!
//! `unsafe`: an instruction of SSSE3, behind a [`Wide`](crate::simd::Wide), and the same sixteen bytes taken as a register. Neither
//! touches memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_shuffle_epi8};
#[cfg(target_arch = "x86_64")]
use std::mem::transmute;

use crate::simd::mask::{deposit, extract};
use crate::simd::{FEW, Level, WORD, compiled_twice};

/// A value that can be put side by side with others.
pub(crate) trait Lane: Copy + Default {
    /// Puts the values whose bits are set to the front of `to`; what follows them there means nothing.
    fn compress(level: impl Level, from: &[Self; WORD], kept: u64, to: &mut [Self; WORD]);
}

impl Lane for u8 {
    #[inline(always)]
    fn compress(level: impl Level, from: &[u8; WORD], kept: u64, to: &mut [u8; WORD]) {
        compress_bytes(level, from, kept, to);
    }
}

impl Lane for u16 {
    #[inline(always)]
    fn compress(level: impl Level, from: &[u16; WORD], kept: u64, to: &mut [u16; WORD]) {
        compress_shorts(level, from, kept, to);
    }
}

compiled_twice! {
    /// Adds the values, in whole words, whose bits are set.
    pub(crate) fn compress<T: Lane>[level](all: &[T], kept: &[u64], out: &mut Vec<T>) {
        for (values, kept) in all.as_chunks::<WORD>().0.iter().zip(kept) {
            compress_word(level, values, *kept, out);
        }
    }
}

/// Adds the values whose bits are set, in order.
#[inline(always)]
pub(crate) fn compress_word<T: Lane>(level: impl Level, from: &[T; WORD], kept: u64, out: &mut Vec<T>) {
    match kept {
        0 => {}
        u64::MAX => out.extend_from_slice(from),
        few if few.count_ones() <= FEW => {
            let mut left = few;
            while left != 0 {
                out.extend(from.get(left.trailing_zeros() as usize));
                left &= left - 1;
            }
        }
        many => {
            let mut found = [T::default(); WORD];
            T::compress(level, from, many, &mut found);
            let n = out.len() + many.count_ones() as usize;
            // Always the same length is copied faster.
            out.extend_from_slice(&found);
            out.truncate(n);
        }
    }
}

compiled_twice! {
    /// The numbers of the bits that are set, of at most 2^16.
    pub(crate) fn list_shorts[level](bits: &[u64], out: &mut Vec<u16>) {
        out.clear();
        let all: [u16; WORD] = std::array::from_fn(|i| i as u16);
        for (start, word) in (0u16..).step_by(WORD).zip(bits) {
            let from = out.len();
            compress_word(level, &all, *word, out);
            out.get_mut(from..).unwrap_or_default().iter_mut().for_each(|place| *place |= start);
        }
    }
}

compiled_twice! {
    /// Puts numbers in the places whose bits are set, among zeros, in whole words: the inverse of [`compress`].
    pub(crate) fn expand[level](mask: &[u64], numbers: &[u16], out: &mut Vec<u16>) {
        out.resize(mask.len() * WORD, 0);
        let mut numbers = numbers;
        for (word, places) in mask.iter().zip(out.as_chunks_mut::<WORD>().0) {
            let rest = numbers.get(word.count_ones() as usize..).unwrap_or_default();
            *places = expand_word(level, numbers, *word);
            numbers = rest;
        }
    }
}

/// The lowest bytes' worth of bits spread to all bits of eight bytes.
#[inline(always)]
fn bytes_of(level: impl Level, bits: u64) -> u64 {
    deposit(level, bits, 0x0101_0101_0101_0101) * 0xff
}

/// [`Lane::compress`].
#[inline(always)]
fn compress_bytes(level: impl Level, from: &[u8; WORD], kept: u64, to: &mut [u8; WORD]) {
    let (mut kept, mut n) = (kept, 0);
    for group in from.as_chunks::<8>().0 {
        let found = extract(level, u64::from_le_bytes(*group), bytes_of(level, kept & 0xff));
        if let Some(slot) = to.get_mut(n..).and_then(<[u8]>::first_chunk_mut::<8>) {
            *slot = found.to_le_bytes();
        }
        n += (kept & 0xff).count_ones() as usize;
        kept >>= 8;
    }
}

/// [`Lane::compress`].
#[inline(always)]
fn compress_shorts(level: impl Level, from: &[u16; WORD], kept: u64, to: &mut [u16; WORD]) {
    let mut n = 0;
    for (group, own) in from.as_chunks::<8>().0.iter().zip(kept.to_le_bytes()) {
        if let Some(slot) = to.get_mut(n..).and_then(<[u16]>::first_chunk_mut::<8>) {
            *slot = shuffle(level, *group, COMPRESS.get(usize::from(own)).unwrap_or(&[NONE; 16]));
        }
        n += own.count_ones() as usize;
    }
}

/// Puts the first of `numbers` where bits are set, zeros elsewhere: the inverse of [`compress_word`].
#[inline(always)]
pub(crate) fn expand_word(level: impl Level, numbers: &[u16], kept: u64) -> [u16; WORD] {
    let mut first = [0; WORD];
    match numbers.first_chunk::<WORD>() {
        Some(all) => first = *all,
        None => first.iter_mut().zip(numbers).for_each(|(to, from)| *to = *from),
    }
    expand_shorts(level, &first, kept)
}

/// Puts the numbers at the front of `from` where bits are set, zeros elsewhere: the inverse of [`compress_shorts`].
#[inline(always)]
fn expand_shorts(level: impl Level, from: &[u16; WORD], kept: u64) -> [u16; WORD] {
    let (mut n, mut to) = (0, [0; WORD]);
    for (slot, own) in to.as_chunks_mut::<8>().0.iter_mut().zip(kept.to_le_bytes()) {
        // Behind the last eight there may be too few, of which what is there has to do.
        let start = n.min(WORD - 8);
        let group = from.get(start..).and_then(|rest| rest.first_chunk::<8>()).copied().unwrap_or_default();
        *slot = if n == start {
            shuffle(level, group, EXPAND.get(usize::from(own)).unwrap_or(&[NONE; 16]))
        } else {
            let late: [u16; 8] = std::array::from_fn(|i| from.get(n + i).copied().unwrap_or(0));
            shuffle(level, late, EXPAND.get(usize::from(own)).unwrap_or(&[NONE; 16]))
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
fn shuffle(level: impl Level, numbers: [u16; 8], places: &[u8; 16]) -> [u16; 8] {
    #[cfg(target_arch = "x86_64")]
    if level.wide().is_some() {
        // SAFETY: there is a `Wide`, so there is AVX2, and with it SSSE3. All four are sixteen bytes, of which every
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
    use crate::simd::{Narrow, Wide, narrowly};

    fn random(seed: u64) -> u64 {
        let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 29).wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    fn check(level: impl Level, kept: u64, shorts: &[u16; WORD]) {
        let bytes = shorts.map(|s| s as u8);
        let slow: Vec<u16> = (0..WORD).filter(|i| kept >> i & 1 != 0).map(|i| shorts[i]).collect();
        let (mut short_front, mut byte_front) = ([0; WORD], [0; WORD]);
        compress_bytes(level, &bytes, kept, &mut byte_front);
        compress_shorts(level, shorts, kept, &mut short_front);
        assert_eq!(short_front[..slow.len()], slow, "{kept:#x}");
        assert!(byte_front.iter().zip(&slow).all(|(byte, short)| *byte == *short as u8), "{kept:#x}");
        let back = expand_word(level, &slow, kept);
        assert!((0..WORD).all(|i| back[i] == if kept >> i & 1 != 0 { shorts[i] } else { 0 }), "{kept:#x}");
        assert_eq!(expand_shorts(level, &short_front, kept), back, "{kept:#x}");
    }

    /// Three words, of which the second selects nothing, by what picks the level itself.
    fn check_slices(kept: u64, shorts: &[u16; WORD]) {
        let (mask, all) = ([kept, 0, kept], shorts.repeat(3));
        let places: Vec<u16> =
            (0..3 * WORD as u16).filter(|i| mask[usize::from(i / 64)] >> (i % 64) & 1 != 0).collect();
        let (mut listed, mut front, mut back) = <(Vec<u16>, Vec<u16>, Vec<u16>)>::default();
        list_shorts(&mask, &mut listed);
        assert_eq!(listed, places, "{kept:#x}");
        compress(&all, &mask, &mut front);
        assert!(front.iter().copied().eq(places.iter().map(|i| all[usize::from(*i)])), "{kept:#x}");
        expand(&mask, &front, &mut back);
        let kept_only = |i: usize| if mask[i / 64] >> (i % 64) & 1 != 0 { all[i] } else { 0 };
        assert!(back.iter().copied().eq((0..3 * WORD).map(kept_only)), "{kept:#x}");
    }

    #[test]
    fn those_that_are_kept_stand_side_by_side() {
        for seed in 0..200 {
            let shorts = std::array::from_fn(|i| random(seed * 64 + i as u64) as u16);
            for kept in [0, u64::MAX, random(seed), random(seed) & random(seed + 7), random(seed) | random(seed + 7)] {
                check(Narrow, kept, &shorts);
                check_slices(kept, &shorts);
                narrowly(|| check_slices(kept, &shorts));
                if let Some(wide) = Wide::detect() {
                    check(wide, kept, &shorts);
                }
            }
        }
    }
}
