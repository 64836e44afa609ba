//! Signs of packs that keep few elements each, whose positions are listed.
//!
//! Elements are put side by side, added to in wide registers, and put back: three loops over a few hundred of them. In one loop, what
//! was just written in small pieces would have to be read as a whole, which a processor waits long for.

use std::iter::repeat;
use std::ops::Range;

use crate::method::float::{Element, Real};
use crate::method::stitch::lanes::LANES;
use crate::method::stitch::part::{Addend, CACHED, Output, SignPart, inside, pick};
use crate::method::stitch::{Met, OverlapRule, add_to_element, combine};
use crate::simd::{Level, WORD, compiled_twice, members};

/// Words of elements that are put side by side at once.
const ROUND: usize = 4;
/// Most parts that are stitched so: each has a bit of its own in the mark of an element.
pub(super) const MOST_LISTED: usize = u8::BITS as usize;

/// Buffers that are used again.
#[derive(Debug)]
pub(super) struct SparseScratch {
    /// Which parts keep each of the elements that are passed.
    marks: Vec<u8>,
    /// Which of the parts that keep it bring a minus, where several do; else 0.
    minus: Vec<u8>,
    /// The positions that several parts keep.
    shared: Vec<u32>,
    /// Marks and elements of a round, side by side.
    round_marks: [u8; ROUND * WORD],
    two_byte: [[u8; 2]; ROUND * WORD],
    four_byte: [[u8; 4]; ROUND * WORD],
}

impl Default for SparseScratch {
    fn default() -> Self {
        SparseScratch {
            marks: Vec::new(),
            minus: Vec::new(),
            shared: Vec::new(),
            round_marks: [0; ROUND * WORD],
            two_byte: [[0; 2]; ROUND * WORD],
            four_byte: [[0; 4]; ROUND * WORD],
        }
    }
}

compiled_twice! {
    /// Notes for each of the elements `units` which parts keep it.
    pub(super) fn mark<R>[_level](parts: &[SignPart<'_, R>], units: &Range<usize>, scratch: &mut SparseScratch) {
        let SparseScratch { marks, minus, shared, .. } = scratch;
        marks.clear();
        shared.clear();
        if parts.len() > 1 {
            marks.resize(units.len(), 0);
            minus.resize(units.len(), 0);
            for (number, part) in parts.iter().enumerate() {
                at_each(part.ahead(), units.start, marks, repeat(1 << number), |mark, own| *mark |= own);
            }
        }
    }
}

/// Does something at each of the positions, which count from `start`, with what goes with it.
#[inline(always)]
fn at_each<T, U>(
    positions: &[u32],
    start: usize,
    all: &mut [T],
    with: impl IntoIterator<Item = U>,
    work: impl Fn(&mut T, U),
) {
    // Of as many as there can be, none has to be asked for: what is left over of its position is its number.
    if all.len() == CACHED
        && start.is_multiple_of(CACHED)
        && let Some(all) = all.first_chunk_mut::<CACHED>()
    {
        for (position, with) in positions.iter().zip(with) {
            if let Some(one) = all.get_mut(*position as usize % CACHED) {
                work(one, with);
            }
        }
        return;
    }
    for (position, with) in positions.iter().zip(with) {
        if let Some(one) = all.get_mut((*position as usize).wrapping_sub(start)) {
            work(one, with);
        }
    }
}

compiled_twice! {
    /// Adds one part where it alone keeps an element, and notes where it does not.
    pub(super) fn add<E: Element>[level](
        output: &mut Output,
        part: &mut SignPart<'_, E::Real>,
        addend: &Addend<E::Real>,
        scratch: &mut SparseScratch,
    ) {
        let has_lanes = E::HAS_LANES && addend.added.iter().all(|d| d.is_finite());
        for positions in part.ahead().chunks(ROUND * WORD) {
            match (has_lanes, E::BYTES) {
                (true, 2) => add_round::<E, 2>(level, output, part, (positions, addend), (scratch, |s| &mut s.two_byte)),
                (true, 4) => add_round::<E, 4>(level, output, part, (positions, addend), (scratch, |s| &mut s.four_byte)),
                _ => add_each::<E>(level, output, part, (positions, addend), scratch),
            }
        }
    }
}

/// Adds to at most [`ROUND`] words of elements, of `N` bytes each.
#[inline(always)]
fn add_round<E: Element, const N: usize>(
    level: impl Level,
    output: &mut Output,
    part: &mut SignPart<'_, E::Real>,
    (positions, addend): (&[u32], &Addend<E::Real>),
    (scratch, side_by_side): (&mut SparseScratch, impl Fn(&mut SparseScratch) -> &mut [[u8; N]; ROUND * WORD]),
) {
    let Output { run, met } = output;
    let units = addend.units.clone();
    let (start, run) = (units.start, run.as_chunks_mut::<N>().0.get_mut(units).unwrap_or_default());
    let alone = kept_alone(level, positions, addend, scratch);
    at_each(positions, start, run, side_by_side(scratch), |place, to| *to = *place);
    for ((i, chunk), alone) in positions.chunks(WORD).enumerate().zip(alone) {
        let (minus, all) = (part.next_signs(), inside(0, chunk.len()));
        part.pass(chunk.len());
        note(chunk, all & !alone, minus, addend, scratch);
        let whole = chunk.len().next_multiple_of(LANES);
        let elements = side_by_side(scratch).get_mut(i * WORD..i * WORD + whole).unwrap_or_default();
        met.nonfinite += u64::from(E::add_in_lanes(elements.as_flattened_mut(), all & alone, minus, addend.added));
    }
    at_each(positions, start, run, side_by_side(scratch), |place, from| *place = *from);
}

/// Adds to elements one after another.
#[inline(always)]
fn add_each<E: Element>(
    level: impl Level,
    output: &mut Output,
    part: &mut SignPart<'_, E::Real>,
    (positions, addend): (&[u32], &Addend<E::Real>),
    scratch: &mut SparseScratch,
) {
    let alone = kept_alone(level, positions, addend, scratch);
    for (chunk, alone) in positions.chunks(WORD).zip(alone) {
        let minus = part.next_signs();
        part.pass(chunk.len());
        note(chunk, inside(0, chunk.len()) & !alone, minus, addend, scratch);
        for (i, position) in chunk.iter().enumerate().filter(|(i, _)| alone >> i & 1 == 1) {
            let added = pick(addend.added, minus >> i & 1 == 1);
            add_to_element::<E>(output.run, *position as usize, added, output.met);
        }
    }
}

/// One bit a position of a round: whether this part alone keeps it. What follows the last position means nothing.
#[inline(always)]
fn kept_alone<R>(
    level: impl Level,
    positions: &[u32],
    addend: &Addend<R>,
    scratch: &mut SparseScratch,
) -> [u64; ROUND] {
    let mut alone = [u64::MAX; ROUND];
    if !scratch.marks.is_empty() {
        let SparseScratch { marks, round_marks, .. } = scratch;
        at_each(positions, addend.units.start, marks, &mut *round_marks, |mark, to| *to = *mark);
        for (alone, marks) in alone.iter_mut().zip(round_marks.as_chunks::<WORD>().0) {
            *alone = members(level, marks, 1 << addend.number);
        }
    }
    alone
}

/// Notes the positions that other parts keep too.
#[inline(always)]
fn note<R>(positions: &[u32], others: u64, minus: u64, addend: &Addend<R>, scratch: &mut SparseScratch) {
    let mut left = others;
    while left != 0 {
        let i = left.trailing_zeros();
        left &= left - 1;
        let Some(position) = positions.get(i as usize) else { return };
        let at = (*position as usize).wrapping_sub(addend.units.start);
        if let (Some(mark), Some(signs)) = (scratch.marks.get(at), scratch.minus.get_mut(at)) {
            *signs |= ((minus >> i & 1) as u8) << addend.number;
            // The first of the parts tells of it.
            if mark & ((1 << addend.number) - 1) == 0 {
                scratch.shared.push(*position);
            }
        }
    }
}

/// Adds to the elements that several parts keep.
pub(super) fn add_shared<E: Element>(
    run: &mut [u8],
    parts: &[SignPart<'_, E::Real>],
    start: usize,
    (rule, lambda): (OverlapRule, f32),
    scratch: &mut SparseScratch,
    met: &mut Met,
) {
    let SparseScratch { marks, minus, shared, .. } = scratch;
    let (mut deltas, mut weights) = ([E::Real::ZERO; MOST_LISTED], [0.0; MOST_LISTED]);
    if met.overlap.is_none() {
        met.overlap = shared.iter().min().map(|position| u64::from(*position));
    }
    for position in shared.iter().map(|position| *position as usize) {
        let at = position.wrapping_sub(start);
        let Some(minus) = minus.get_mut(at).map(std::mem::take) else { continue };
        let (mut left, mut n) = (marks.get(at).copied().unwrap_or(0), 0);
        let mut slots = deltas.iter_mut().zip(&mut weights);
        while let (Some((delta, weight)), true) = (slots.next(), left != 0) {
            let number = left.trailing_zeros();
            left &= left - 1;
            let Some(part) = parts.get(number as usize) else { break };
            (*delta, *weight) = (pick(part.deltas, minus >> number & 1 == 1), part.weight);
            n += 1;
        }
        let (deltas, weights) = (deltas.get_mut(..n).unwrap_or_default(), weights.get_mut(..n).unwrap_or_default());
        let f = combine(rule, deltas, weights);
        add_to_element::<E>(run, position, E::Real::from_f32(lambda).mul(f), met);
    }
}
