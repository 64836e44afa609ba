//! The number of positions skipped before each kept one, in Rice codes (Golomb 1966, Rice 1971): low bits as they are, what is
//! above them in unary. [MSK-6]
//!
//! Where positions are kept at random this costs 0.3 to 1.5 % more than there is to know at a density of 1 % and below, and up to
//! 4 % where a third is kept. Reading waits for nothing: every kept position is a bit that is set, and low bits stand where they
//! are expected.
// Bits are cut out of larger numbers all over.
#![allow(clippy::cast_possible_truncation)]

use crate::codec::positions::bitmap::words_of;
use crate::error::{Error, Result};
use crate::simd::{Level, WORD, compiled_twice, count, deposit, list_shorts};

/// Most low bits.
const MOST: u32 = 31;

/// The shortest, of equal ones that of fewest low bits.
pub(crate) fn encode(positions: &[u32]) -> Vec<u8> {
    let gaps = gaps_of(positions);
    encode_gaps(&gaps, shortest(&gaps))
}

fn gaps_of(positions: &[u32]) -> Vec<u32> {
    let next = std::iter::once(0).chain(positions.iter().map(|p| p.saturating_add(1)));
    positions.iter().zip(next).map(|(p, next)| p.saturating_sub(next)).collect()
}

/// The number of low bits, the low bits of all, the high parts of all.
fn encode_gaps(gaps: &[u32], low_bits: u32) -> Vec<u8> {
    let mut out = vec![low_bits as u8];
    let (mut pending, mut filled) = (0u64, 0u32);
    for gap in gaps {
        pending |= (u64::from(*gap) & mask(low_bits)) << filled;
        filled = filled.wrapping_add(low_bits);
        while filled >= 8 {
            out.push(pending as u8);
            (pending, filled) = (pending >> 8, filled.wrapping_sub(8));
        }
    }
    out.extend((filled > 0).then_some(pending as u8));
    let (start, mut ends) = (out.len(), 0usize);
    for gap in gaps {
        ends = ends.saturating_add((gap >> low_bits) as usize);
        out.resize(start.saturating_add(ends / 8).saturating_add(1), 0);
        out.last_mut().into_iter().for_each(|last| *last |= 1 << (ends & 7));
        ends = ends.saturating_add(1);
    }
    out
}

/// The number of low bits that costs least. One more costs a bit a gap and saves ever less, so the first that saves nothing ends it.
fn shortest(gaps: &[u32]) -> u32 {
    let unary = |low_bits: u32| gaps.iter().map(|gap| u64::from(gap >> low_bits)).sum::<u64>();
    let mut left = unary(0);
    for low_bits in 0..MOST {
        let next = unary(low_bits.saturating_add(1));
        if left.saturating_sub(next) <= gaps.len() as u64 {
            return low_bits;
        }
        left = next;
    }
    MOST
}

/// Whether `bytes` are what is written with as many low bits as they say.
pub(crate) fn is_written_so(bytes: &[u8], positions: &[u32]) -> bool {
    bytes.first().is_some_and(|low_bits| encode_gaps(&gaps_of(positions), (*low_bits).into()) == bytes)
}

/// Reads positions from all of `bytes`.
pub(crate) fn decode(bytes: &[u8], kept: u32, len: u32, out: &mut Vec<u32>) -> Result<()> {
    let bad = |rule, detail: String| Err(Error::malformed(rule, "Rice codes", detail));
    let Some((low_bits, rest)) = bytes.split_first() else { return bad("MSK-6", "are empty".into()) };
    let low_bits = u32::from(*low_bits);
    if low_bits > MOST {
        return bad("MSK-6", format!("have {low_bits} low bits, at most {MOST} are possible"));
    }
    let used = u64::from(kept).saturating_mul(low_bits.into());
    let Some((lows, highs)) = rest.split_at_checked(used.div_ceil(8) as usize) else {
        return bad("MSK-6", "are cut off in their low bits".into());
    };
    if used & 7 != 0 && lows.last().is_some_and(|last| last >> (used & 7) != 0) {
        return bad("MSK-6", "have a bit set after their low bits".into());
    }
    if highs.last().is_none_or(|last| *last == 0) {
        return bad("MSK-6", "do not end with their last position".into());
    }
    let most = u64::from(kept).saturating_add(u64::from(len >> low_bits)).div_ceil(8);
    if highs.len() as u64 > most {
        return bad("MSK-2", format!("lead beyond position {} in {} bytes, {most} are possible", len, highs.len()));
    }
    let highs: Vec<u64> = words_of(highs).collect();
    let ones = count(&highs);
    if ones != u64::from(kept) {
        return bad("MSK-2", format!("hold {ones} positions, must hold {kept}"));
    }
    out.resize(kept as usize, 0);
    // Behind the low bits others may be read with them, which are not taken.
    let last = place(&highs, rest, low_bits, out);
    if last >= u64::from(len) {
        return bad("MSK-2", format!("lead to position {last} of {len}"));
    }
    Ok(())
}

compiled_twice! {
    /// Finds the positions, and gives the last. Of the bits of the high parts before the i-th that is set all but i are skips of
    /// 2^`low_bits`, so it stands for (its number − i) × 2^`low_bits` + i + all low bits so far. What is too large for a position is so
    /// in the last one as well, which nothing was lost of.
    fn place[level](highs: &[u64], lows: &[u8], low_bits: u32, out: &mut [u32]) -> u64 {
        let sum = Lows { bytes: lows, bits: low_bits, at: 0 }.sum_up(level, out);
        let (mut out, mut numbers, mut last) = (out, Vec::new(), 0);
        let step = 1u32.wrapping_sub(1 << low_bits);
        let mut done = 0u64;
        for (start, segment) in (0u64..).step_by(SEGMENT.saturating_mul(WORD)).zip(highs.chunks(SEGMENT)) {
            list_shorts(segment, &mut numbers);
            let (here, rest) = out.split_at_mut_checked(numbers.len()).unwrap_or_default();
            out = rest;
            let mut before = ((start << low_bits) as u32).wrapping_add((done as u32).wrapping_mul(step));
            for (slot, number) in here.iter_mut().zip(&numbers) {
                *slot = slot.wrapping_add(u32::from(*number) << low_bits).wrapping_add(before);
                before = before.wrapping_add(step);
            }
            done = done.wrapping_add(numbers.len() as u64);
            last = numbers.last().map_or(last, |number| start.wrapping_add((*number).into()));
        }
        let before = done.saturating_sub(1);
        (last.wrapping_sub(before) << low_bits).wrapping_add(before).wrapping_add(sum)
    }
}

/// Words of high parts that are listed at once, so that their bits have numbers of 16 bits.
const SEGMENT: usize = 512;
/// Four numbers of so many bits, and their sums, have 16 bits each.
const SHORT: u32 = 14;

/// Low bits, one after another.
struct Lows<'a> {
    bytes: &'a [u8],
    bits: u32,
    /// Bits that were read.
    at: u64,
}

impl Lows<'_> {
    /// At least the next 57 bits, zeros where there are none; `n` of them are passed.
    #[inline(always)]
    fn pass(&mut self, n: u32) -> u64 {
        let (byte, bit) = ((self.at >> 3) as usize, self.at & 7);
        self.at = self.at.wrapping_add(n.into());
        match self.bytes.get(byte..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(word) => u64::from_le_bytes(*word) >> bit,
            None => self.bytes.iter().skip(byte).rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) >> bit,
        }
    }

    /// For each of them the sum of those up to it; the last sum.
    #[inline(always)]
    fn sum_up(mut self, level: impl Level, out: &mut [u32]) -> u64 {
        const ONES: u64 = 0x0001_0001_0001_0001;
        let (low, mut sum) = (mask(self.bits), 0u64);
        let mut rest = out;
        if self.bits <= SHORT {
            let (fours, after) = rest.as_chunks_mut::<4>();
            for four in fours {
                let apart = deposit(level, self.pass(self.bits << 2), low.wrapping_mul(ONES));
                // Each lane of the product has all lanes up to it added up.
                let sums = apart.wrapping_mul(ONES);
                let before = sum as u32;
                *four = [0, 16, 32, 48].map(|lane| u32::from((sums >> lane) as u16).wrapping_add(before));
                sum = sum.wrapping_add(sums >> 48);
            }
            rest = after;
        }
        for slot in rest {
            sum = sum.wrapping_add(self.pass(self.bits) & low);
            *slot = sum as u32;
        }
        sum
    }
}

fn mask(bits: u32) -> u64 {
    (1u64 << (bits & 63)).wrapping_sub(1)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::simd::narrowly;

    /// Gap by gap, bit by bit.
    fn slowly(bytes: &[u8], kept: usize) -> Vec<u64> {
        let bit = |from: usize, i: usize| u64::from(bytes[from + i / 8] >> (i % 8) & 1);
        let low_bits = usize::from(bytes[0]);
        let (highs, mut at, mut next) = (1 + (kept * low_bits).div_ceil(8), 0, 0u64);
        let mut out = Vec::new();
        for i in 0..kept {
            let low: u64 = (0..low_bits).map(|b| bit(1, i * low_bits + b) << b).sum();
            let mut high = 0;
            while bit(highs, at) == 0 {
                (high, at) = (high + 1, at + 1);
            }
            at += 1;
            let position = next + (high << low_bits) + low;
            out.push(position);
            next = position + 1;
        }
        out
    }

    /// Positions of which one in `every` is kept, some of them side by side.
    fn some(len: u32, every: u32, seed: u32) -> Vec<u32> {
        let random = |i: u32| (i ^ seed).wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_mul(0x85eb_ca6b) >> 8;
        (0..len).filter(|i| random(*i) % every == 0 || i % 1000 == seed % 7).collect()
    }

    #[test]
    fn any_number_of_low_bits_gives_the_same_positions() {
        for (len, every) in [(1 << 18, 100), (1 << 18, 2), (70_000, 3000), (500, 5), (3, 1)] {
            let positions = some(len, every, len);
            let (gaps, mut back) = (gaps_of(&positions), Vec::new());
            for low_bits in 0..=MOST {
                let bytes = encode_gaps(&gaps, low_bits);
                decode(&bytes, positions.len() as u32, len, &mut back).unwrap();
                assert!(back == positions, "{low_bits} low bits, one in {every}");
                let slow = slowly(&bytes, positions.len());
                assert!(slow.iter().zip(&positions).all(|(a, b)| *a == u64::from(*b)), "{low_bits} low bits");
                assert!(is_written_so(&bytes, &positions));
                assert!(encode(&positions).len() <= bytes.len(), "{low_bits} low bits are shorter");
                // The narrow code finds the same.
                let lows = 1 + (positions.len() * low_bits as usize).div_ceil(8);
                let highs: Vec<u64> = words_of(&bytes[lows..]).collect();
                back.fill(0);
                let last = narrowly(|| place(&highs, &bytes[1..], low_bits, &mut back));
                assert_eq!(last as u32, positions[back.len() - 1]);
                assert!(back == positions, "{low_bits} low bits, narrow");
            }
        }
    }

    #[test]
    fn random_positions_cost_little_more_than_there_is_to_know() {
        for every in [3, 7, 20, 50, 100, 130, 700] {
            let len = 1 << 18;
            let positions: Vec<u32> = some(len, every, 5).into_iter().filter(|p| p % 1000 != 5).collect();
            let p = positions.len() as f64 / f64::from(len);
            let known = f64::from(len) * (-p * p.log2() - (1.0 - p) * (1.0 - p).log2()) / 8.0;
            let found = encode(&positions).len() as f64;
            assert!(found < known * 1.04, "one in {every}: {found} bytes, {known} to know");
        }
    }

    #[test]
    fn what_leads_beyond_is_refused() {
        let rule = |bytes: &[u8], kept, len| match decode(bytes, kept, len, &mut Vec::new()) {
            Err(Error::Malformed { rule, .. }) => rule,
            other => unreachable!("{other:?}"),
        };
        // One low bit, gaps 1 and 2: low bits 1 and 0, high parts 0 and 1.
        let good = [1, 0b01, 0b101];
        let mut out = Vec::new();
        decode(&good, 2, 5, &mut out).unwrap();
        assert_eq!(out, [1, 4]);
        assert_eq!(rule(&good, 2, 4), "MSK-2");
        assert_eq!(rule(&good, 1, 9), "MSK-2");
        assert_eq!(rule(&[], 2, 9), "MSK-6");
        assert_eq!(rule(&[32, 0, 0, 0, 0, 0, 0, 0, 0, 3], 2, 9), "MSK-6");
        assert_eq!(rule(&[1], 2, 9), "MSK-6");
        assert_eq!(rule(&[1, 1], 2, 9), "MSK-6");
        assert_eq!(rule(&[1, 0b101, 0b101], 2, 9), "MSK-6");
        assert_eq!(rule(&[1, 1, 0b101, 0], 2, 9), "MSK-6");
        // Numbers as large as they get: nothing wraps.
        assert_eq!(rule(&[31, 255, 255, 255, 127, 1], 1, u32::MAX / 4), "MSK-2");
        assert_eq!(rule(&[[31, 0, 0, 0, 0].as_slice(), &[0; 600], &[1]].concat(), 1, u32::MAX), "MSK-2");
        decode(&[31, 254, 255, 255, 127, 2], 1, u32::MAX, &mut out).unwrap();
        assert_eq!(out, [u32::MAX - 1]);
    }
}
