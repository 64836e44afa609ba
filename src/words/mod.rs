//! What one word of bits says of 64 numbers: which of them are meant, those put side by side, and back where they were. The
//! inner loops of masks.
//!
//! `unsafe`: the calls of functions that are compiled for AVX2 and BMI2, where the processor has them ([`crate::cpu::is_wide`]).
#![allow(unsafe_code)]

mod bits;
mod lanes;

#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;

pub(crate) use bits::{deposit, members, without_lowest};
pub(crate) use lanes::{Lane, expand_shorts};

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

/// Adds those of whole words of numbers whose bits are set.
pub(crate) fn pick<T: Lane>(all: &[T], kept: &[u64], out: &mut Vec<T>) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<T: Lane>(all: &[T], kept: &[u64], out: &mut Vec<T>) {
            pick_inline::<T, true>(all, kept, out);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(all, kept, out) };
    }
    pick_inline::<T, false>(all, kept, out);
}

/// [`pick`], for wide registers or not.
#[inline(always)]
pub(crate) fn pick_inline<T: Lane, const WIDE: bool>(all: &[T], kept: &[u64], out: &mut Vec<T>) {
    for (numbers, kept) in all.as_chunks::<WORD>().0.iter().zip(kept) {
        extend_kept::<T, WIDE>(numbers, *kept, out);
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
