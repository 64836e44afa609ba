//! What one word of bits says of 64 numbers: which of them are meant, those put side by side, and back where they were. The
//! inner loops of masks.
//!
//! `unsafe`: a few instructions of SSE2, which is part of every x86-64 processor, and of AVX2 and BMI2, where the caller found
//! them ([`crate::cpu::is_wide`]). They touch no memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m128i, _mm_shuffle_epi8};
#[cfg(target_arch = "x86_64")]
use std::mem::transmute;

#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;

/// Numbers that one word speaks of.
pub(crate) const WORD: usize = 64;
/// So few bits are looked at one by one.
pub(crate) const FEW: u32 = 8;

/// How many bits are set.
pub(crate) fn count(bits: &[u64]) -> u64 {
    #[inline(always)]
    fn sum(bits: &[u64]) -> u64 {
        bits.iter().fold(0, |sum, word| sum + u64::from(word.count_ones()))
    }
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(bits: &[u64]) -> u64 {
            sum(bits)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(bits) };
    }
    sum(bits)
}

/// The numbers of the bits that are set, of at most 2^16.
pub(crate) fn list_shorts(bits: &[u64], out: &mut Vec<u16>) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(bits: &[u64], out: &mut Vec<u16>) {
            list_shorts_inline::<true>(bits, out);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(bits, out) };
    }
    list_shorts_inline::<false>(bits, out);
}

#[inline(always)]
fn list_shorts_inline<const WIDE: bool>(bits: &[u64], out: &mut Vec<u16>) {
    out.clear();
    let all: [u16; WORD] = std::array::from_fn(|i| i as u16);
    for (start, word) in (0u16..).step_by(WORD).zip(bits) {
        let from = out.len();
        extend_kept::<u16, WIDE>(&all, *word, out);
        out.get_mut(from..).unwrap_or_default().iter_mut().for_each(|place| *place |= start);
    }
}

/// Puts the steps of what is kept in their places among zeros, whole words of them.
pub(crate) fn spread_shorts(mask: &[u64], steps: &[u16], out: &mut Vec<u16>) {
    #[inline(always)]
    fn spread<const WIDE: bool>(mask: &[u64], steps: &[u16], out: &mut Vec<u16>) {
        out.resize(mask.len() * WORD, 0);
        let mut steps = steps;
        for (word, places) in mask.iter().zip(out.as_chunks_mut::<WORD>().0) {
            let (own, rest) = steps.split_at_checked(word.count_ones() as usize).unwrap_or_default();
            let mut first = [0; WORD];
            match steps.first_chunk::<WORD>() {
                Some(all) => first = *all,
                None => first.iter_mut().zip(own).for_each(|(to, from)| *to = *from),
            }
            *places = expand_shorts::<WIDE>(&first, *word);
            steps = rest;
        }
    }
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(mask: &[u64], steps: &[u16], out: &mut Vec<u16>) {
            spread::<true>(mask, steps, out);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(mask, steps, out) };
    }
    spread::<false>(mask, steps, out);
}

/// One bit a number: whether it is not 0.
pub(crate) fn find_kept(numbers: &[u16], out: &mut Vec<u64>) {
    #[inline(always)]
    fn find<const WIDE: bool>(numbers: &[u16], out: &mut Vec<u64>) {
        out.clear();
        let (words, rest) = numbers.as_chunks::<WORD>();
        let mut last = [0; WORD];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for numbers in words.iter().chain((!rest.is_empty()).then_some(&last)) {
            out.push(!members::<WIDE>(&numbers.map(|n| u8::from(n != 0)), 0));
        }
    }
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(numbers: &[u16], out: &mut Vec<u64>) {
            find::<true>(numbers, out);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(numbers, out) };
    }
    find::<false>(numbers, out);
}

/// Adds those of whole words of steps whose bits are set.
pub(crate) fn pick(all: &[u16], mask: &[u64], out: &mut Vec<u16>) {
    for (steps, kept) in all.as_chunks::<WORD>().0.iter().zip(mask) {
        extend_kept::<u16, false>(steps, *kept, out);
    }
}

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

/// Adds the numbers whose bits are set, in order.
#[inline(always)]
pub(crate) fn extend_kept<T: Lane, const WIDE: bool>(from: &[T; WORD], kept: u64, out: &mut Vec<T>) {
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
            T::compress::<WIDE>(from, many, &mut found);
            let n = out.len() + many.count_ones() as usize;
            // Always the same length is copied faster.
            out.extend_from_slice(&found);
            out.truncate(n);
        }
    }
}

/// One bit for each of 64 units: whether it is of `class`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn members<const WIDE: bool>(chunk: &[u8; WORD], class: u8) -> u64 {
    if WIDE { by_32(chunk, class) } else { by_16(chunk, class) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn by_32(chunk: &[u8; WORD], class: u8) -> u64 {
    use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_set_epi64x, _mm256_set1_epi8};
    let (low, high) = chunk.split_at(32);
    let half = |bytes: &[u8]| {
        let mut words = [0i64; 4];
        for (word, b) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = i64::from_le_bytes(*b);
        }
        let [a, b, c, d] = words;
        // SAFETY: whoever asks for the wide form has found AVX2.
        let found = unsafe {
            let units = _mm256_set_epi64x(d, c, b, a);
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(units, _mm256_set1_epi8(class.cast_signed())))
        };
        u64::from(found.cast_unsigned())
    };
    half(low) | half(high) << 32
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn by_16(chunk: &[u8; WORD], class: u8) -> u64 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    let word = |b: &[u8]| b.first_chunk::<8>().map_or(0, |b| i64::from_le_bytes(*b));
    let mut out = 0u64;
    for (i, part) in (0u32..).zip(chunk.as_chunks::<16>().0) {
        let (low, high) = part.split_at(8);
        // SAFETY: SSE2 is there on every x86-64 processor, and that is all these instructions ask for.
        let found = unsafe {
            let units = _mm_set_epi64x(word(high), word(low));
            _mm_movemask_epi8(_mm_cmpeq_epi8(units, _mm_set1_epi8(class.cast_signed())))
        };
        out |= u64::from(found.cast_unsigned()) << i.wrapping_mul(16);
    }
    out
}

/// One bit for each of 64 units: whether it is of `class`.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn members<const WIDE: bool>(chunk: &[u8; WORD], class: u8) -> u64 {
    slowly(chunk, class)
}

/// `word` without its `n` lowest bits that are set; `n` is below 64.
#[inline(always)]
pub(crate) fn without_lowest<const WIDE: bool>(word: u64, n: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: whoever asks for the wide form has found BMI2. Bit n of the deposited word is the first that stays, and none
        // below it does.
        let first = unsafe { std::arch::x86_64::_pdep_u64(1u64.wrapping_shl(n as u32), word) };
        return word & first.wrapping_neg();
    }
    (0..n).fold(word, |word, _| word & word.wrapping_sub(1))
}

/// The judge of [`members`], and its stand-in elsewhere.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn slowly(chunk: &[u8; WORD], class: u8) -> u64 {
    chunk.iter().rev().fold(0, |word, c| word << 1 | u64::from(*c == class))
}

/// The bits of `word` at `places`, side by side.
#[inline(always)]
fn extract<const WIDE: bool>(word: u64, places: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: whoever asks for the wide form has found BMI2.
        return unsafe { std::arch::x86_64::_pext_u64(word, places) };
    }
    let (mut out, mut left, mut at) = (0, places, 0);
    while left != 0 {
        out |= (word >> left.trailing_zeros() & 1) << at;
        (left, at) = (left & (left - 1), at + 1);
    }
    out
}

/// The lowest bits of `bits`, one for each bit that is set in `places`, in order: the inverse of [`extract`].
#[inline(always)]
pub(crate) fn deposit<const WIDE: bool>(bits: u64, places: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: whoever asks for the wide form has found BMI2.
        return unsafe { std::arch::x86_64::_pdep_u64(bits, places) };
    }
    let (mut out, mut left, mut bits) = (0, places, bits);
    while left != 0 {
        out |= (left & left.wrapping_neg()) * (bits & 1);
        (left, bits) = (left & (left - 1), bits >> 1);
    }
    out
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

    #[test]
    fn lowest_bits_go_one_by_one() {
        for seed in 0u64..200 {
            let word = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & (seed * 77).wrapping_mul(0xff51_afd7_ed55_8ccd);
            for n in 0..64 {
                let slow = without_lowest::<false>(word, n);
                assert_eq!(slow.count_ones(), word.count_ones().saturating_sub(n as u32));
                assert_eq!(slow & word, slow);
                if is_wide() {
                    assert_eq!(without_lowest::<true>(word, n), slow, "{word:#x} {n}");
                }
            }
        }
    }

    #[test]
    fn members_are_those_of_the_slow_way() {
        let mut chunk = [0u8; WORD];
        for seed in 0u64..50 {
            for (i, c) in chunk.iter_mut().enumerate() {
                *c = ((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(i as u64 + 3) >> 61) as u8;
            }
            for class in [0, 1, 5, 7, 255] {
                assert_eq!(members::<false>(&chunk, class), slowly(&chunk, class));
                if is_wide() {
                    assert_eq!(members::<true>(&chunk, class), slowly(&chunk, class));
                }
            }
        }
    }

    fn random(seed: u64) -> u64 {
        let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (x ^ x >> 29).wrapping_mul(0xff51_afd7_ed55_8ccd)
    }

    #[test]
    fn bits_are_dealt_in_order_and_taken_back() {
        assert_eq!(deposit::<false>(0b101, 0b1101_0010), 0b0100_0010);
        assert_eq!(extract::<false>(0b0100_0010, 0b1101_0010), 0b101);
        for seed in 0u64..200 {
            let (bits, places) = (random(seed), random(seed + 1000) & random(seed + 2000 * (seed % 3)));
            let slow = deposit::<false>(bits, places);
            assert_eq!(slow & !places, 0);
            assert_eq!(deposit::<false>(extract::<false>(bits, places), places), bits & places);
            if is_wide() {
                assert_eq!(deposit::<true>(bits, places), slow, "{bits:#x} {places:#x}");
                assert_eq!(extract::<true>(bits, places), extract::<false>(bits, places), "{bits:#x} {places:#x}");
            }
        }
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
