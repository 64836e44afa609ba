//! Signs of packs of which one keeps many elements: word by word of their masks.

use std::ops::Range;

use crate::method::float::{Element, Real};
use crate::method::stitch::part::{Addend, Output, SignPart, inside, pick};
use crate::method::stitch::{Met, OverlapRule, add_to_element, combine};
use crate::model::delta::SignBlock;
use crate::simd::{FEW, WORD, compiled_twice, deposit};

/// Buffers that are used again from run to run.
#[derive(Debug, Default)]
pub(super) struct DenseScratch {
    /// One bit an element: whether several parts keep it.
    several: Vec<u64>,
    /// What several parts keep.
    shared: Vec<Shared>,
}

/// What a part brings to an element that others keep too: position (32 bits), number of the part (31), whether it is minus (1):
/// in one word, whose order is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Shared(u64);

impl Shared {
    #[inline(always)]
    fn new(position: usize, number: usize, minus: bool) -> Self {
        Shared((position as u64) << 32 | (number as u64) << 1 | u64::from(minus))
    }

    fn position(self) -> usize {
        (self.0 >> 32) as usize
    }

    fn number(self) -> usize {
        (self.0 as u32 >> 1) as usize
    }

    fn is_minus(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Finds what several parts keep, in the words that `units` lie in.
pub(super) fn find_several<R>(parts: &[SignPart<'_, R>], units: &Range<usize>, scratch: &mut DenseScratch) {
    scratch.shared.clear();
    let several = &mut scratch.several;
    if parts.len() < 2 {
        return several.clear();
    }
    several.resize(parts.iter().map(|p| p.signs.mask.len()).max().unwrap_or(0), 0);
    for word in units.start / WORD..units.end.div_ceil(WORD).min(several.len()) {
        let (mut any, mut twice) = (0, 0);
        for kept in parts.iter().filter_map(|part| part.signs.mask.get(word)) {
            twice |= any & kept;
            any |= kept;
        }
        if let Some(several) = several.get_mut(word) {
            *several = twice;
        }
    }
}

compiled_twice! {
    /// Adds one part where it alone keeps an element, and notes where it does not.
    pub(super) fn add<E: Element>[level](
        output: &mut Output,
        part: &mut SignPart<'_, E::Real>,
        addend: &Addend<E::Real>,
        scratch: &mut DenseScratch,
    ) {
        let units = &addend.units;
        let words = units.start / WORD..units.end.div_ceil(WORD).min(part.signs.mask.len());
        let is_dense = !SignBlock::is_listed(part.signs.signs.len() as u32, part.signs.mask.len() as u32);
        for word in words {
            let start = word * WORD;
            let kept = part.signs.mask.get(word).copied().unwrap_or(0);
            let kept = kept & inside(units.start.saturating_sub(start), units.end - start);
            let minus = deposit(level, part.next_signs(), kept);
            part.pass(kept.count_ones() as usize);
            let others = scratch.several.get(word).copied().unwrap_or(0) & kept;
            note(others, minus, start, addend.number, &mut scratch.shared);
            add_word::<E>(output.run, start, (kept & !others, minus), is_dense, addend.added, output.met);
        }
    }
}

/// Adds to the kept elements of the word that begins at `start`; to all at once in a dense part, where asking how many there are
/// costs more.
#[inline(always)]
fn add_word<E: Element>(
    run: &mut [u8],
    start: usize,
    (kept, minus): (u64, u64),
    is_dense: bool,
    added: [E::Real; 2],
    met: &mut Met,
) {
    let whole = run.get_mut(start * E::BYTES..(start + WORD) * E::BYTES);
    let pays = E::HAS_LANES && (is_dense || kept.count_ones() > FEW) && added.iter().all(|d| d.is_finite());
    if let Some(elements) = whole.filter(|_| pays) {
        met.nonfinite += u64::from(E::add_in_lanes(elements, kept, minus, added));
        return;
    }
    let mut left = kept;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        add_to_element::<E>(run, start + at, pick(added, minus >> at & 1 == 1), met);
        left &= left - 1;
    }
}

/// Notes elements of a word that other parts keep too.
#[inline(always)]
fn note(others: u64, minus: u64, start: usize, number: usize, shared: &mut Vec<Shared>) {
    let mut left = others;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        shared.push(Shared::new(start + at, number, minus >> at & 1 == 1));
        left &= left - 1;
    }
}

/// Adds to the elements that several parts keep.
pub(super) fn add_shared<E: Element>(
    run: &mut [u8],
    parts: &[SignPart<'_, E::Real>],
    (rule, lambda): (OverlapRule, f32),
    scratch: &mut DenseScratch,
    met: &mut Met,
) {
    let shared = &mut scratch.shared;
    shared.sort_unstable();
    let (mut deltas, mut weights): (Vec<E::Real>, Vec<f32>) = (Vec::new(), Vec::new());
    for element in shared.chunk_by(|a, b| a.position() == b.position()) {
        let Some(position) = element.first().map(|first| first.position()) else { continue };
        met.overlap.get_or_insert(position as u64);
        deltas.clear();
        weights.clear();
        for (part, minus) in element.iter().filter_map(|of| Some((parts.get(of.number())?, of.is_minus()))) {
            deltas.push(pick(part.deltas, minus));
            weights.push(part.weight);
        }
        let f = combine(rule, &mut deltas, &mut weights);
        add_to_element::<E>(run, position, E::Real::from_f32(lambda).mul(f), met);
    }
}
