//! Steps: the signed distance between two bit patterns. spec/numbers.md, "Steps".

use crate::method::float::{load_unit, store_unit};
use crate::model::delta::{BlockDelta, StepBlock};
use crate::model::dtype::Dtype;
use crate::simd::{FEW, Level, WORD, compiled_twice, compress_word, expand_word, members};

/// The place of a float's bits in the order of the floats, as a two's-complement number of the same width: magnitude m for
/// plus, −1 − m for minus. For what is no float, the bits themselves. [STP-1]
pub fn order(dtype: Dtype, bits: u64) -> u64 {
    let b = dtype.unit_bytes() as u32 * 8;
    let sign = 1u64 << (b - 1);
    // −1 − m in two's complement is !m; with the sign bit set in both, only the magnitude bits flip.
    if dtype.is_float() && bits & sign != 0 { bits ^ (sign - 1) } else { bits }
}

/// order(to) − order(from), modulo 2^b. [STP-1]
pub fn step(dtype: Dtype, from: u64, to: u64) -> u64 {
    order(dtype, to).wrapping_sub(order(dtype, from)) & width_mask(dtype)
}

/// The bits that lie `step` away from `from`. [STP-1]
pub fn apply_step(dtype: Dtype, from: u64, step: u64) -> u64 {
    // `order` is its own inverse: it flips the magnitude bits where the sign bit is set.
    order(dtype, order(dtype, from).wrapping_add(step) & width_mask(dtype))
}

/// Moves the units at `positions` of a run by one step each. [STP-1]
pub(crate) fn apply_steps(dtype: Dtype, run: &mut [u8], positions: &[u32], steps: &[u64]) {
    match (dtype.unit_bytes(), dtype.is_float()) {
        (1, true) => steps_of::<1, true>(run, positions, steps),
        (2, true) => steps_of::<2, true>(run, positions, steps),
        (4, true) => steps_of::<4, true>(run, positions, steps),
        (8, true) => steps_of::<8, true>(run, positions, steps),
        (1, false) => steps_of::<1, false>(run, positions, steps),
        (2, false) => steps_of::<2, false>(run, positions, steps),
        (4, false) => steps_of::<4, false>(run, positions, steps),
        _ => steps_of::<8, false>(run, positions, steps),
    }
}

/// [`apply_steps`] of a block of steps of 16 bits.
pub(crate) fn apply_short_steps(dtype: Dtype, run: &mut [u8], block: &StepBlock) {
    if dtype.is_float() { move_short::<true>(run, block) } else { move_short::<false>(run, block) }
}

compiled_twice! {
    fn move_short<const FLOAT: bool>[level](run: &mut [u8], block: &StepBlock) {
        let mut steps = block.steps.as_slice();
        if block.spread {
            for (unit, step) in run.as_chunks_mut::<2>().0.iter_mut().zip(steps) {
                *unit = moved_short::<FLOAT>(*unit, *step);
            }
            return;
        }
        for (word, units) in block.mask.iter().zip(run.as_chunks_mut::<2>().0.chunks_mut(WORD)) {
            let (own, rest) = steps.split_at_checked(word.count_ones() as usize).unwrap_or_default();
            // Where many are moved, all of the word are, the others by nothing.
            if own.len() > FEW as usize {
                for (unit, step) in units.iter_mut().zip(expand_word(level, steps, *word)) {
                    *unit = moved_short::<FLOAT>(*unit, step);
                }
            } else {
                let mut left = *word;
                for step in own {
                    if let Some(unit) = units.get_mut(left.trailing_zeros() as usize) {
                        *unit = moved_short::<FLOAT>(*unit, *step);
                    }
                    left &= left.wrapping_sub(1);
                }
            }
            steps = rest;
        }
    }
}

/// A unit of 16 bits moved by a step. [STP-1]
#[inline(always)]
fn moved_short<const FLOAT: bool>(unit: [u8; 2], step: u16) -> [u8; 2] {
    short_order::<FLOAT>(short_order::<FLOAT>(u16::from_le_bytes(unit)).wrapping_add(step)).to_le_bytes()
}

/// [`order`] of 16 bits: the magnitude bits flip where the sign bit is set.
#[inline(always)]
fn short_order<const FLOAT: bool>(bits: u16) -> u16 {
    if FLOAT { bits ^ ((bits.cast_signed() >> 15).cast_unsigned() & 0x7fff) } else { bits }
}

/// [`differences`] of units of 16 bits.
pub(crate) fn short_differences(dtype: Dtype, from: &[u8], to: &[u8], out: &mut StepBlock) {
    out.clear();
    if dtype.is_float() { add_words::<true>(from, to, out) } else { add_words::<false>(from, to, out) }
}

compiled_twice! {
    /// Adds the units that differ.
    fn add_words<const FLOAT: bool>[level](from: &[u8], to: &[u8], out: &mut StepBlock) {
        const BYTES: usize = 2 * WORD;
        let ((runs, from_rest), (others, to_rest)) = (from.as_chunks::<BYTES>(), to.as_chunks::<BYTES>());
        for (run, other) in runs.iter().zip(others) {
            add_word::<FLOAT>(level, run, other, out);
        }
        if !from_rest.is_empty() {
            let (mut run, mut other) = ([0; BYTES], [0; BYTES]);
            run.iter_mut().zip(from_rest).for_each(|(to, from)| *to = *from);
            other.iter_mut().zip(to_rest).for_each(|(to, from)| *to = *from);
            add_word::<FLOAT>(level, &run, &other, out);
        }
    }
}

/// Adds the units of one word that differ.
#[inline(always)]
fn add_word<const FLOAT: bool>(level: impl Level, from: &[u8; 2 * WORD], to: &[u8; 2 * WORD], out: &mut StepBlock) {
    if from == to {
        return out.mask.push(0);
    }
    let mut steps = [0u16; WORD];
    for ((step, a), b) in steps.iter_mut().zip(from.as_chunks::<2>().0).zip(to.as_chunks::<2>().0) {
        let [a, b] = [a, b].map(|unit| short_order::<FLOAT>(u16::from_le_bytes(*unit)));
        *step = b.wrapping_sub(a);
    }
    let kept = !members(level, &steps.map(|step| u8::from(step != 0)), 0);
    out.mask.push(kept);
    compress_word(level, &steps, kept, &mut out.steps);
}

compiled_twice! {
    /// The units of a run that differ, and their steps. [STP-1]
    pub(crate) fn differences[_level](dtype: Dtype, from: &[u8], to: &[u8]) -> BlockDelta {
        match (dtype.unit_bytes(), dtype.is_float()) {
            (1, true) => differences_of::<1, true>(from, to),
            (2, true) => differences_of::<2, true>(from, to),
            (4, true) => differences_of::<4, true>(from, to),
            (8, true) => differences_of::<8, true>(from, to),
            (1, false) => differences_of::<1, false>(from, to),
            (2, false) => differences_of::<2, false>(from, to),
            (4, false) => differences_of::<4, false>(from, to),
            _ => differences_of::<8, false>(from, to),
        }
    }
}

#[inline(always)]
fn differences_of<const BYTES: usize, const FLOAT: bool>(from: &[u8], to: &[u8]) -> BlockDelta {
    /// Bytes compared at once: most runs of them are equal, and comparing is all that happens then.
    const RUN: usize = 64;
    // Room for all, of which only what is used is ever touched: growing on the way would copy everything more than once.
    let room = from.len() / BYTES + ROOM;
    let mut delta = BlockDelta { positions: Vec::with_capacity(room), codes: Vec::with_capacity(room) };
    let mut n = 0;
    let ((runs, from_rest), (others, to_rest)) = (from.as_chunks::<RUN>(), to.as_chunks::<RUN>());
    for (start, (run, other)) in (0..).step_by(RUN / BYTES).zip(runs.iter().zip(others)) {
        let words = run.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
        let differ = words.clone().map(|(a, b)| u32::from(a != b)).sum::<u32>();
        if differ > 3 {
            append::<BYTES, FLOAT, RUN>(start, run, other, &mut delta, &mut n);
        } else if differ > 0 {
            for (start, (a, b)) in (start..).step_by(8 / BYTES).zip(words).filter(|(_, (a, b))| a != b) {
                append::<BYTES, FLOAT, 8>(start, a, b, &mut delta, &mut n);
            }
        }
    }
    delta.positions.truncate(n);
    delta.codes.truncate(n);
    let rest = from_rest.chunks_exact(BYTES).zip(to_rest.chunks_exact(BYTES));
    for (p, (a, b)) in (runs.len() * (RUN / BYTES)..).zip(rest).filter(|(_, (a, b))| a != b) {
        delta.positions.push(p as u32);
        delta.codes.push(step_of::<BYTES, FLOAT>(load_unit(a), load_unit(b)));
    }
    delta
}

/// Places that are made ready at once.
const ROOM: usize = 1 << 10;

/// The units of a short run that differ, behind the `n` found before. Whether one does is as good as random where many do, so
/// there is no branch: each is written, and the place for the next moves on only behind those that count.
#[inline(always)]
fn append<const BYTES: usize, const FLOAT: bool, const RUN: usize>(
    start: usize,
    from: &[u8; RUN],
    to: &[u8; RUN],
    delta: &mut BlockDelta,
    n: &mut usize,
) {
    if delta.codes.len() < *n + RUN {
        delta.positions.resize(*n + ROOM, 0);
        delta.codes.resize(*n + ROOM, 0);
    }
    let positions = delta.positions.get_mut(*n..).and_then(<[u32]>::first_chunk_mut::<RUN>);
    let codes = delta.codes.get_mut(*n..).and_then(<[u64]>::first_chunk_mut::<RUN>);
    let (Some(positions), Some(codes)) = (positions, codes) else { return };
    let mut steps = [0u64; RUN];
    let units = from.as_chunks::<BYTES>().0.iter().zip(to.as_chunks::<BYTES>().0);
    for (step, (a, b)) in steps.iter_mut().zip(units) {
        *step = step_of::<BYTES, FLOAT>(load_unit(a), load_unit(b));
    }
    let mut found = 0usize;
    for (p, step) in (start as u32..).zip(&steps[..RUN / BYTES]) {
        // As many units as bytes at most, and each adds one at most.
        let slot = found & (RUN - 1);
        (positions[slot], codes[slot]) = (p, *step);
        found += usize::from(*step != 0);
    }
    *n += found;
}

/// [`order`] for a width that the compiler knows.
#[inline(always)]
fn order_of<const BYTES: usize, const FLOAT: bool>(bits: u64) -> u64 {
    let sign = 1u64 << (BYTES * 8 - 1);
    // Signs are as good as random: a branch would be guessed wrong half of the time.
    std::hint::select_unpredictable(FLOAT && bits & sign != 0, bits ^ (sign - 1), bits)
}

/// [`step`] for a width that the compiler knows.
#[inline(always)]
fn step_of<const BYTES: usize, const FLOAT: bool>(from: u64, to: u64) -> u64 {
    let (from, to) = (order_of::<BYTES, FLOAT>(from), order_of::<BYTES, FLOAT>(to));
    to.wrapping_sub(from) & u64::MAX >> (64 - BYTES * 8)
}

/// [`apply_step`] for a width that the compiler knows.
fn steps_of<const BYTES: usize, const FLOAT: bool>(run: &mut [u8], positions: &[u32], steps: &[u64]) {
    let units = run.as_chunks_mut::<BYTES>().0;
    let order = order_of::<BYTES, FLOAT>;
    for (position, step) in positions.iter().zip(steps) {
        if let Some(unit) = units.get_mut(*position as usize) {
            let moved = order(load_unit(unit)).wrapping_add(*step) & u64::MAX >> (64 - BYTES * 8);
            store_unit(unit, order(moved));
        }
    }
}

/// A step as a signed number.
pub fn signed(dtype: Dtype, step: u64) -> i64 {
    let unused = 64 - dtype.unit_bytes() as u32 * 8;
    (step << unused) as i64 >> unused
}

fn width_mask(dtype: Dtype) -> u64 {
    u64::MAX >> (64 - dtype.unit_bytes() as u32 * 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::narrowly;

    #[test]
    fn order_counts_the_floats_upward() {
        for d in [Dtype::F16, Dtype::BF16, Dtype::F8_E4M3] {
            let all = 1u64 << d.bits();
            let mut bits: Vec<u64> = (0..all).collect();
            bits.sort_by_key(|b| signed(d, order(d, *b)));
            let places: Vec<i64> = bits.iter().map(|b| signed(d, order(d, *b))).collect();
            assert!(places.windows(2).all(|w| w[1] == w[0] + 1));
            let values: Vec<f64> = bits.iter().map(|b| crate::method::float::decode_f64(d, *b)).collect();
            let numbers: Vec<f64> = values.into_iter().filter(|x| !x.is_nan()).collect();
            assert!(numbers.windows(2).all(|w| w[0] <= w[1]), "{d}");
        }
        assert_eq!(signed(Dtype::BF16, step(Dtype::BF16, 0, 0x8000)), -1, "-0 lies just below +0");
    }

    /// Steps of 16 bits against all others, in words that keep none, few, many and all, and one that is cut off.
    #[test]
    fn short_steps_are_steps() {
        let random = |i: u64| (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        for (units, share) in [(0, 0), (1, 100), (64, 100), (640, 0), (640, 3), (1000, 40), (1000, 97), (1030, 100)] {
            for dtype in [Dtype::BF16, Dtype::F16, Dtype::I16] {
                let from: Vec<u8> = (0..units).flat_map(|i| (random(i) as u16).to_le_bytes()).collect();
                let moved = |i: u64| if random(i + 7) % 100 < share { random(i + 9) as u16 } else { random(i) as u16 };
                let to: Vec<u8> = (0..units).flat_map(|i| moved(i).to_le_bytes()).collect();
                let slow = differences(dtype, &from, &to);
                let (mut block, mut narrow, mut list) = <(StepBlock, StepBlock, BlockDelta)>::default();
                short_differences(dtype, &from, &to, &mut block);
                narrowly(|| short_differences(dtype, &from, &to, &mut narrow));
                assert_eq!(block, narrow);
                block.list(&mut list);
                assert_eq!(list, slow, "{dtype}: {units} units, {share} of 100 moved");
                let (mut run, mut by_narrow) = (from.clone(), from);
                apply_short_steps(dtype, &mut run, &block);
                narrowly(|| apply_short_steps(dtype, &mut by_narrow, &block));
                assert_eq!((&run, &by_narrow), (&to, &to), "{dtype}: {units} units, {share} of 100 moved");
            }
        }
    }

    #[test]
    fn steps_lead_back() {
        for d in Dtype::ALL.iter().copied() {
            for (a, b) in [(0u64, 1u64), (0x80, 0x7f), (u64::MAX, 0), (1 << 63, u64::MAX >> 1), (0x3f80, 0xbf81)] {
                let (a, b) = (a & width_mask(d), b & width_mask(d));
                assert_eq!(apply_step(d, a, step(d, a, b)), b, "{d}");
                let run = |bits: u64| bits.to_le_bytes()[..d.unit_bytes()].repeat(71);
                let (mut from, to) = (run(a), run(b));
                let found = differences(d, &from, &to);
                let n = if a == b { 0 } else { 71 };
                assert_eq!((found.positions.len(), found.codes), (n, vec![step(d, a, b); n]), "{d}");
                apply_steps(d, &mut from, &found.positions, &vec![step(d, a, b); n]);
                assert_eq!(from, to, "{d}");
            }
        }
    }
}
