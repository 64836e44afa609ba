//! Stitching packs of signs, which are most packs, straight from the bits that the packs store.
//!
//! The same arithmetic as [`stitch`](crate::method::stitch), and judged by it. Where only one pack keeps an element its delta
//! is one of two numbers, so λ × f is computed twice and then only added. [STI-1] [STI-2]

use std::ops::Range;

use crate::method::float::{Element, Real};
use crate::method::listed::{self, ListScratch, MOST_LISTED};
use crate::method::stitch::{Met, OverlapRule, add_to_element, alone, combine};
use crate::model::delta::SignBlock;
use crate::simd::{FEW, WORD, compiled_twice, deposit};

/// Elements that all parts pass before the next ones are looked at: 32 KiB of half-precision floats, and what is noted of each.
pub(crate) const CACHED: usize = 1 << 14;

/// What one pack in play brings to a run of elements.
#[derive(Debug)]
pub(crate) struct SignPart<'a, R> {
    /// What it keeps of the run.
    pub signs: &'a SignBlock,
    /// Kept elements that were passed.
    passed: usize,
    /// Kept elements that are listed and come next, up to the last of those that are passed now.
    ahead: usize,
    /// d = (w × g) × δ of a plus and of a minus.
    pub deltas: [R; 2],
    /// The pack's weight.
    pub weight: f32,
}

/// Buffers that are used again from run to run.
#[derive(Debug, Default)]
pub(crate) struct SignScratch {
    /// One bit an element: whether several parts keep it.
    several: Vec<u64>,
    /// What several parts keep.
    shared: Vec<Shared>,
    pub(super) lists: ListScratch,
}

impl<'a, R: Real> SignPart<'a, R> {
    /// A part of which nothing was passed.
    pub fn new(signs: &'a SignBlock) -> Self {
        SignPart { signs, passed: 0, ahead: 0, deltas: [R::ZERO; 2], weight: 0.0 }
    }
}

impl<'a, R> SignPart<'a, R> {
    /// The positions that come next.
    pub(super) fn ahead(&self) -> &'a [u32] {
        self.signs.positions.get(self.passed..self.passed + self.ahead).unwrap_or_default()
    }

    /// Looks how many of the positions that are listed come before element `end`.
    fn look_ahead(&mut self, end: usize) {
        /// Positions that are passed at once: searching all that are left takes longer.
        const STEP: usize = 128;
        let is_before = |position: &u32| (*position as usize) < end;
        self.ahead = 0;
        for step in self.signs.positions.get(self.passed..).unwrap_or_default().chunks(STEP) {
            let all = step.last().is_some_and(is_before);
            self.ahead += if all { step.len() } else { step.partition_point(is_before) };
            if !all {
                return;
            }
        }
    }

    /// Passes kept elements.
    #[inline(always)]
    pub(super) fn pass(&mut self, n: usize) {
        self.passed += n;
        self.ahead = self.ahead.saturating_sub(n);
    }

    /// The signs of the next 64 kept elements.
    #[inline(always)]
    pub(super) fn next_signs(&self) -> u64 {
        let (word, bit) = (self.passed / WORD, self.passed % WORD);
        let at = |i: usize| self.signs.signs.get(i).copied().unwrap_or(0);
        // Shifted twice, as a shift by 64 is none.
        at(word) >> bit | (at(word + 1) << 1) << (WORD - 1 - bit)
    }
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

/// Stitches parts, in the order in which their packs were named, onto the elements `units` of `run`. All that is kept before
/// them was passed. Either all parts list positions, and there are at most [`MOST_LISTED`], or none does.
pub(crate) fn stitch_signs<E: Element>(
    run: &mut [u8],
    parts: &mut [SignPart<'_, E::Real>],
    units: Range<usize>,
    (rule, lambda): (OverlapRule, f32),
    scratch: &mut SignScratch,
    met: &mut Met,
) {
    let is_listed = parts.len() <= MOST_LISTED && parts.iter().all(|part| part.signs.mask.is_empty());
    if is_listed {
        parts.iter_mut().for_each(|part| part.look_ahead(units.end));
        listed::mark(parts, &units, &mut scratch.lists);
    } else {
        find_several(parts, &units, scratch);
        scratch.shared.clear();
    }
    let mut target = Target { run, scratch, met };
    for (number, part) in parts.iter_mut().enumerate() {
        let scaled = |d| E::Real::from_f32(lambda).mul(alone(rule, d, part.weight));
        let job = Job { added: part.deltas.map(scaled), units: units.clone(), number, is_listed };
        add_part::<E>(&mut target, part, &job);
    }
    let Target { run, scratch: SignScratch { shared, lists, .. }, met } = target;
    if is_listed {
        listed::add_shared::<E>(run, parts, units.start, (rule, lambda), lists, met);
    } else {
        add_shared::<E>(run, parts, (rule, lambda), shared, met);
    }
}

/// Adds to the elements that several parts keep.
fn add_shared<E: Element>(
    run: &mut [u8],
    parts: &[SignPart<'_, E::Real>],
    (rule, lambda): (OverlapRule, f32),
    shared: &mut [Shared],
    met: &mut Met,
) {
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

/// What parts are added to, and what is noted meanwhile.
pub(super) struct Target<'t> {
    pub(super) run: &'t mut [u8],
    pub(super) scratch: &'t mut SignScratch,
    pub(super) met: &'t mut Met,
}

/// What is done with one part.
pub(super) struct Job<R> {
    /// λ × f where it alone keeps an element, plus and minus.
    pub(super) added: [R; 2],
    pub(super) units: Range<usize>,
    /// The number of the part.
    pub(super) number: usize,
    is_listed: bool,
}

/// Finds what several parts keep, in the words that `units` lie in.
fn find_several<R>(parts: &[SignPart<'_, R>], units: &Range<usize>, scratch: &mut SignScratch) {
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
    fn add_part<E: Element>[level](
        target: &mut Target,
        part: &mut SignPart<'_, E::Real>,
        job: &Job<E::Real>,
    ) {
        if job.is_listed {
            return listed::add::<E>(level, target, part, job);
        }
        let units = &job.units;
        let words = units.start / WORD..units.end.div_ceil(WORD).min(part.signs.mask.len());
        let is_dense = !SignBlock::is_listed(part.signs.signs.len() as u32, part.signs.mask.len() as u32);
        for word in words {
            let start = word * WORD;
            let kept = part.signs.mask.get(word).copied().unwrap_or(0);
            let kept = kept & inside(units.start.saturating_sub(start), units.end - start);
            let minus = deposit(level, part.next_signs(), kept);
            part.pass(kept.count_ones() as usize);
            let others = target.scratch.several.get(word).copied().unwrap_or(0) & kept;
            note(others, minus, start, job.number, &mut target.scratch.shared);
            add_word::<E>(target.run, start, (kept & !others, minus), is_dense, job.added, target.met);
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

/// Bits `from..to` of a word.
#[inline(always)]
pub(super) fn inside(from: usize, to: usize) -> u64 {
    let low = u64::MAX << from;
    if to >= WORD { low } else { low & !(u64::MAX << to) }
}

#[inline(always)]
pub(super) fn pick<T: Copy>([plus, other]: [T; 2], minus: bool) -> T {
    if minus { other } else { plus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::float::{Bf16, E4m3, F16, F32, F64};
    use crate::method::stitch::{Part, stitch};

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 ^ self.0 >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }

        fn below(&mut self, n: u64) -> u64 {
            (self.next() >> 20) % n
        }
    }

    /// A part as positions and signs, and as a block that lists its positions or does not.
    fn part(units: usize, is_listed: bool, random: &mut Random) -> (Vec<u32>, Vec<bool>, SignBlock) {
        let every = [1, 2, 5, 20, 100][random.below(5) as usize];
        let positions: Vec<u32> = (0..units as u32).filter(|_| random.below(every) == 0).collect();
        let minus: Vec<bool> = positions.iter().map(|_| random.below(2) == 1).collect();
        let mut block = SignBlock {
            positions: positions.clone(),
            mask: Vec::new(),
            signs: vec![0; positions.len().div_ceil(WORD)],
        };
        for (i, minus) in minus.iter().enumerate() {
            block.signs[i / WORD] |= u64::from(*minus) << (i % WORD);
        }
        if !is_listed {
            block.unlist(units as u32);
        }
        (positions, minus, block)
    }

    /// Signs against numbers: the same bytes, and the same met. At most so many parts of so many units are passed in steps of at
    /// most `step`, each of which may be as long as it can or not.
    fn agrees<E: Element>(random: &mut Random, (parts, units): (u64, usize), step: impl Fn(&mut Random) -> usize) {
        // Any bits, infinities and NaNs among them; or bf16 numbers from 1 to 2, half a step of which is exactly a tie.
        let ties = random.below(3) == 0;
        let any: Vec<u64> = (0..units).map(|_| random.next()).collect();
        let number = |x: &u64| E::encode(E::Real::from_f64(1.0 + (x % 128) as f64 / 128.0));
        let units_of = |x: &u64| if ties { number(x) } else { x >> (64 - 8 * E::BYTES) };
        let base: Vec<u8> = any.iter().flat_map(|x| units_of(x).to_le_bytes().into_iter().take(E::BYTES)).collect();
        let parts = 1 + random.below(parts);
        let is_listed = parts <= MOST_LISTED as u64 && random.below(2) == 0;
        let all: Vec<_> = (0..parts).map(|_| part(units, is_listed, random)).collect();
        let rules: Vec<OverlapRule> = OverlapRule::ALL.to_vec();
        let rule = rules[random.below(rules.len() as u64) as usize];
        let lambda = [1.0, 0.7, -2.5, 0.0][random.below(4) as usize];
        let huge = random.below(4) == 0;
        let real = |x: u64| match (ties, huge) {
            (true, _) => E::Real::from_f32((x % 8) as f32 / 256.0),
            (_, true) => E::Real::from_f32((x as f32 / 1e3 - 1.0) * f32::MAX),
            _ => E::Real::from_f32(x as f32 / 1e3 - 1.0),
        };
        let deltas: Vec<[E::Real; 2]> = all.iter().map(|_| [(); 2].map(|()| real(random.below(2000)))).collect();
        let weight = |i: usize| [1.0, -0.5, 2.0, 1.0][i % 4];

        let listed: Vec<Vec<E::Real>> =
            all.iter().zip(&deltas).map(|((_, minus, _), d)| minus.iter().map(|m| pick(*d, *m)).collect()).collect();
        let parts: Vec<Part<E::Real>> = (0..all.len())
            .map(|i| Part { positions: &all[i].0, deltas: &listed[i], bits: None, weight: weight(i) })
            .collect();
        let (mut slow, mut slow_met) = (base.clone(), Met::default());
        stitch::<E>(&mut slow, &parts, rule, lambda, &mut slow_met);

        let (mut fast, mut fast_met) = (base, Met::default());
        let mut parts: Vec<SignPart<E::Real>> = (0..all.len())
            .map(|i| SignPart { deltas: deltas[i], weight: weight(i), ..SignPart::new(&all[i].2) })
            .collect();
        let (mut at, mut scratch) = (0, SignScratch::default());
        while at < units {
            let end = units.min(at + step(random));
            stitch_signs::<E>(&mut fast, &mut parts, at..end, (rule, lambda), &mut scratch, &mut fast_met);
            at = end;
        }
        assert_eq!(fast_met, slow_met, "{rule} {lambda}");
        assert!(fast == slow, "{rule} {lambda}");
        assert!(parts.iter().zip(&all).all(|(p, (positions, ..))| p.passed == positions.len()));
    }

    #[test]
    fn signs_give_what_numbers_give() {
        for seed in 0..400 {
            let random = &mut Random(seed);
            let (parts, units) = ([4, 11][seed as usize % 2], random.below(700) as usize);
            let step = |random: &mut Random| 1 + random.below(400) as usize;
            agrees::<Bf16>(random, (parts, units), step);
            agrees::<F32>(random, (parts, units), step);
            agrees::<F16>(random, (parts, units), step);
            agrees::<E4m3>(random, (parts, units), step);
            agrees::<F64>(random, (parts, units), step);
        }
        for seed in 0..12 {
            let random = &mut Random(seed);
            let step = |random: &mut Random| if random.below(4) == 0 { 5000 } else { CACHED };
            agrees::<Bf16>(random, (9, 2 * CACHED + 77), |_| CACHED);
            agrees::<F32>(random, (9, 3 * CACHED), step);
            agrees::<F16>(random, (9, CACHED + 1), |_| CACHED);
        }
    }

    #[test]
    fn words_are_cut_where_rows_are() {
        assert_eq!(inside(0, 64), u64::MAX);
        assert_eq!((inside(3, 5), inside(63, 64), inside(0, 1)), (0b11000, 1 << 63, 1));
    }
}
