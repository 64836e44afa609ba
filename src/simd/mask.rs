//! Masks of one bit a value, in words of 64: made, counted, cut, extracted from and deposited into.
//!
//! `unsafe`: a few instructions of SSE2, which is part of every x86-64 processor, and of AVX2 and BMI2, behind a [`Wide`]. They
//! touch no memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use crate::simd::Wide;
use crate::simd::{Level, WORD, compiled_twice};

compiled_twice! {
    /// How many bits are set.
    pub(crate) fn count[_level](bits: &[u64]) -> u64 {
        bits.iter().fold(0, |sum, word| sum + u64::from(word.count_ones()))
    }
}

compiled_twice! {
    /// One bit a number: whether it is not 0.
    pub(crate) fn nonzero[level](numbers: &[u16], out: &mut Vec<u64>) {
        out.clear();
        let (words, rest) = numbers.as_chunks::<WORD>();
        let mut last = [0; WORD];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        for numbers in words.iter().chain((!rest.is_empty()).then_some(&last)) {
            out.push(!members(level, &numbers.map(|n| u8::from(n != 0)), 0));
        }
    }
}

/// One bit for each of 64 units: whether it is of `class`.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn members(level: impl Level, chunk: &[u8; WORD], class: u8) -> u64 {
    match level.wide() {
        Some(wide) => by_32(wide, chunk, class),
        None => by_16(chunk, class),
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn by_32(_: Wide, chunk: &[u8; WORD], class: u8) -> u64 {
    use std::arch::x86_64::{_mm256_cmpeq_epi8, _mm256_movemask_epi8, _mm256_set_epi64x, _mm256_set1_epi8};
    let (low, high) = chunk.split_at(32);
    let half = |bytes: &[u8]| {
        let mut words = [0i64; 4];
        for (word, b) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = i64::from_le_bytes(*b);
        }
        let [a, b, c, d] = words;
        // SAFETY: there is a `Wide`, so there is AVX2.
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
pub(crate) fn members(_: impl Level, chunk: &[u8; WORD], class: u8) -> u64 {
    slowly(chunk, class)
}

/// `word` without its `n` lowest bits that are set; `n` is below 64.
#[inline(always)]
pub(crate) fn without_lowest(level: impl Level, word: u64, n: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if level.wide().is_some() {
        // SAFETY: there is a `Wide`, so there is BMI2. Bit n of the deposited word is the first that stays, and none
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
pub(super) fn extract(level: impl Level, word: u64, places: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if level.wide().is_some() {
        // SAFETY: there is a `Wide`, so there is BMI2.
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
pub(crate) fn deposit(level: impl Level, bits: u64, places: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if level.wide().is_some() {
        // SAFETY: there is a `Wide`, so there is BMI2.
        return unsafe { std::arch::x86_64::_pdep_u64(bits, places) };
    }
    let (mut out, mut left, mut bits) = (0, places, bits);
    while left != 0 {
        out |= (left & left.wrapping_neg()) * (bits & 1);
        (left, bits) = (left & (left - 1), bits >> 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Narrow, Wide, narrowly};

    #[test]
    fn lowest_bits_go_one_by_one() {
        for seed in 0u64..200 {
            let word = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) & (seed * 77).wrapping_mul(0xff51_afd7_ed55_8ccd);
            for n in 0..64 {
                let slow = without_lowest(Narrow, word, n);
                assert_eq!(slow.count_ones(), word.count_ones().saturating_sub(n as u32));
                assert_eq!(slow & word, slow);
                if let Some(wide) = Wide::detect() {
                    assert_eq!(without_lowest(wide, word, n), slow, "{word:#x} {n}");
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
                assert_eq!(members(Narrow, &chunk, class), slowly(&chunk, class));
                if let Some(wide) = Wide::detect() {
                    assert_eq!(members(wide, &chunk, class), slowly(&chunk, class));
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
        assert_eq!(deposit(Narrow, 0b101, 0b1101_0010), 0b0100_0010);
        assert_eq!(extract(Narrow, 0b0100_0010, 0b1101_0010), 0b101);
        for seed in 0u64..200 {
            let (bits, places) = (random(seed), random(seed + 1000) & random(seed + 2000 * (seed % 3)));
            let slow = deposit(Narrow, bits, places);
            assert_eq!(slow & !places, 0);
            assert_eq!(deposit(Narrow, extract(Narrow, bits, places), places), bits & places);
            if let Some(wide) = Wide::detect() {
                assert_eq!(deposit(wide, bits, places), slow, "{bits:#x} {places:#x}");
                assert_eq!(extract(wide, bits, places), extract(Narrow, bits, places), "{bits:#x} {places:#x}");
            }
        }
    }

    #[test]
    fn bits_are_counted_and_found() {
        for len in [0usize, 1, 63, 64, 65, 130, 1000] {
            let numbers: Vec<u16> =
                (0..len as u64).map(|i| if random(i + 9).is_multiple_of(3) { 0 } else { random(i) as u16 }).collect();
            let check = || {
                let mut bits = Vec::new();
                nonzero(&numbers, &mut bits);
                assert_eq!(bits.len(), len.div_ceil(WORD));
                assert!(
                    (0..bits.len() * WORD)
                        .all(|i| (bits[i / 64] >> (i % 64) & 1 == 1) == numbers.get(i).is_some_and(|n| *n != 0))
                );
                assert_eq!(count(&bits), numbers.iter().filter(|n| **n != 0).count() as u64);
            };
            check();
            narrowly(check);
        }
    }
}
