//! Stitching packs of signs, which are most packs, straight from the bits that the packs store.
//!
//! The same arithmetic as [`stitch`](crate::method::stitch), and judged by it. Where only one pack keeps an element its delta
//! is one of two numbers, so λ × f is computed twice and then only added. [STI-1] [STI-2]

use std::ops::Range;

use crate::method::float::{Element, Real};
use crate::method::stitch::{Met, OverlapRule, add_to_element, alone, combine};
use crate::method::wide;
use crate::model::delta::SignBlock;
use crate::words::{WORD, deposit};

/// Where more than one unit in so many is kept, computing all of them is cheaper than those that are kept one after another.
const DENSE: usize = 8;
/// Words whose positions are listed before they are added to: what fits the nearest cache.
const CHUNK: usize = 32;

/// What one pack in play brings to a run of elements.
#[derive(Debug)]
pub(crate) struct SignPart<'a, R> {
    /// What it keeps of the run.
    pub signs: &'a SignBlock,
    /// Kept elements that were passed.
    pub passed: usize,
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
    listed: Listed,
    /// What several parts keep.
    shared: Vec<Shared>,
}

/// Positions that a few words keep, with room for a word more.
#[derive(Debug)]
struct Listed {
    positions: [u32; CHUNK * WORD + WORD],
    len: usize,
}

impl Default for Listed {
    fn default() -> Self {
        Listed { positions: [0; CHUNK * WORD + WORD], len: 0 }
    }
}

impl Listed {
    /// Lists the bits of words that begin at unit `start`.
    #[inline(always)]
    fn fill(&mut self, words: &[u64], start: usize) {
        /// So many are written whether they are there or not: asking costs more, as the answer is as good as random.
        const UNASKED: usize = 4;
        self.len = 0;
        for (start, word) in (start as u32..).step_by(WORD).zip(words) {
            let Some(slots) = self.positions.get_mut(self.len..).and_then(|s| s.first_chunk_mut::<WORD>()) else {
                return;
            };
            let mut left = *word;
            let mut next = |slot: &mut u32| {
                *slot = start.wrapping_add(left.trailing_zeros());
                left &= left.wrapping_sub(1);
            };
            let (unasked, asked) = slots.split_at_mut(UNASKED);
            unasked.iter_mut().for_each(&mut next);
            let count = word.count_ones() as usize;
            if count > UNASKED {
                asked.iter_mut().take(count - UNASKED).for_each(next);
            }
            self.len += count;
        }
    }
}

impl<R> SignPart<'_, R> {
    /// The signs of the next 64 kept elements.
    #[inline(always)]
    fn next_signs(&self) -> u64 {
        let (word, bit) = (self.passed / WORD, self.passed % WORD);
        let at = |i: usize| self.signs.signs.get(i).copied().unwrap_or(0);
        // Shifted twice, as a shift by 64 is none.
        at(word) >> bit | (at(word + 1) << 1) << (WORD - 1 - bit)
    }
}

/// What a part brings to an element that others keep too: position (32 bits), number of the part (31), whether it is minus (1):
/// in one word, whose order is theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shared(u64);

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
/// them was passed.
pub(crate) fn stitch_signs<E: Element>(
    run: &mut [u8],
    parts: &mut [SignPart<'_, E::Real>],
    units: Range<usize>,
    (rule, lambda): (OverlapRule, f32),
    scratch: &mut SignScratch,
    met: &mut Met,
) {
    find_several(parts, &units, scratch);
    scratch.shared.clear();
    let mut target = Target { run, scratch, met };
    for (number, part) in parts.iter_mut().enumerate() {
        let scaled = |d| E::Real::from_f32(lambda).mul(alone(rule, d, part.weight));
        let job = Job { added: part.deltas.map(scaled), units: units.clone(), number };
        wide::add_to_run::<E>(&mut target, part, &job);
    }
    let Target { run, scratch: SignScratch { shared, .. }, met } = target;
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
    run: &'t mut [u8],
    scratch: &'t mut SignScratch,
    met: &'t mut Met,
}

/// What is done with one part.
pub(super) struct Job<R> {
    /// λ × f where it alone keeps an element, plus and minus.
    added: [R; 2],
    units: Range<usize>,
    /// The number of the part.
    number: usize,
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

/// Adds one part where it alone keeps an element, and notes where it does not.
#[inline(always)]
pub(super) fn add_part<E: Element, const WIDE: bool>(
    target: &mut Target,
    part: &mut SignPart<'_, E::Real>,
    job: &Job<E::Real>,
) {
    let dense = part.signs.signs.len() * DENSE >= part.signs.mask.len();
    if !dense && !part.signs.positions.is_empty() {
        return add_known::<E>(target, part, job);
    }
    let end = job.units.end.div_ceil(WORD).min(part.signs.mask.len());
    let mut first = job.units.start / WORD;
    while first < end {
        let mut chunk = [0; CHUNK];
        let kept = words_inside(&part.signs.mask, first..end.min(first + CHUNK), &job.units, &mut chunk);
        if dense {
            for (word, kept) in (first..).zip(kept) {
                let minus = deposit::<WIDE>(part.next_signs(), *kept);
                part.passed += kept.count_ones() as usize;
                let others = target.scratch.several.get(word).copied().unwrap_or(0) & kept;
                note(others, minus, word * WORD, job.number, &mut target.scratch.shared);
                add_word::<E>(target.run, word * WORD, (kept & !others, minus), job.added, target.met);
            }
        } else {
            target.scratch.listed.fill(kept, first * WORD);
            add_listed::<E>(target, part, job);
        }
        first += CHUNK;
    }
}

/// The words of a mask without what lies outside of `units`.
#[inline(always)]
fn words_inside<'a>(mask: &[u64], words: Range<usize>, units: &Range<usize>, out: &'a mut [u64; CHUNK]) -> &'a [u64] {
    let first = words.start;
    let n = words.len();
    for (to, from) in out.iter_mut().zip(mask.get(words).unwrap_or_default()) {
        *to = *from;
    }
    let out = out.get_mut(..n).unwrap_or_default();
    if let Some(word) = out.first_mut() {
        *word &= inside(units.start.saturating_sub(first * WORD), WORD);
    }
    let last = (first + n).saturating_sub(1) * WORD;
    if let Some(word) = out.last_mut() {
        *word &= inside(0, units.end - last);
    }
    out
}

/// Adds to the listed elements, one after another.
#[inline(always)]
fn add_listed<E: Element>(target: &mut Target, part: &mut SignPart<'_, E::Real>, job: &Job<E::Real>) {
    let Target { run, scratch: SignScratch { several, listed, shared }, met } = target;
    for chunk in listed.positions.get(..listed.len).unwrap_or_default().chunks(WORD) {
        add_chunk::<E>((run, several, shared, met), part, chunk, job);
    }
}

/// Adds to the elements whose numbers were known when the mask was read.
#[inline(always)]
fn add_known<E: Element>(target: &mut Target, part: &mut SignPart<'_, E::Real>, job: &Job<E::Real>) {
    let Target { run, scratch: SignScratch { several, shared, .. }, met } = target;
    let inside = |position: &u32| (*position as usize) < job.units.end;
    for chunk in part.signs.positions.get(part.passed..).unwrap_or_default().chunks(WORD) {
        let n = if chunk.last().is_some_and(inside) { chunk.len() } else { chunk.partition_point(inside) };
        add_chunk::<E>((run, several, shared, met), part, chunk.get(..n).unwrap_or_default(), job);
        if n < chunk.len() {
            return;
        }
    }
}

/// Adds to the next elements of a part, 64 at most.
#[inline(always)]
fn add_chunk<E: Element>(
    (run, several, shared, met): (&mut [u8], &[u64], &mut Vec<Shared>, &mut Met),
    part: &mut SignPart<'_, E::Real>,
    chunk: &[u32],
    job: &Job<E::Real>,
) {
    let minus = part.next_signs();
    part.passed += chunk.len();
    for (i, position) in chunk.iter().enumerate() {
        let (position, minus) = (*position as usize, minus >> i & 1 == 1);
        if several.get(position / WORD).is_some_and(|word| word >> (position % WORD) & 1 == 1) {
            shared.push(Shared::new(position, job.number, minus));
        } else {
            add_to_element::<E>(run, position, pick(job.added, minus), met);
        }
    }
}

/// Adds to the kept elements of the word that begins at `start`.
#[inline(always)]
fn add_word<E: Element>(run: &mut [u8], start: usize, (kept, minus): (u64, u64), added: [E::Real; 2], met: &mut Met) {
    let whole = run.get_mut(start * E::BYTES..(start + WORD) * E::BYTES);
    if let Some(elements) = whole.filter(|_| added.iter().all(|d| d.is_finite()))
        && let Some(lost) = E::add_in_lanes(elements, kept, minus, added)
    {
        met.nonfinite += u64::from(lost);
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
fn inside(from: usize, to: usize) -> u64 {
    let low = u64::MAX << from;
    if to >= WORD { low } else { low & !(u64::MAX << to) }
}

#[inline(always)]
fn pick<T: Copy>([plus, other]: [T; 2], minus: bool) -> T {
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

    /// A part as positions and signs, and as bits.
    fn part(units: usize, random: &mut Random) -> (Vec<u32>, Vec<bool>, SignBlock) {
        let every = [1, 2, 5, 20, 100][random.below(5) as usize];
        let positions: Vec<u32> = (0..units as u32).filter(|_| random.below(every) == 0).collect();
        let minus: Vec<bool> = positions.iter().map(|_| random.below(2) == 1).collect();
        let mut block = SignBlock {
            mask: vec![0; units.div_ceil(WORD)],
            signs: vec![0; positions.len().div_ceil(WORD)],
            // Known when the mask was read, or not.
            positions: if random.below(2) == 0 { positions.clone() } else { Vec::new() },
        };
        for (i, (p, minus)) in positions.iter().zip(&minus).enumerate() {
            block.mask[*p as usize / WORD] |= 1 << (p & 63);
            block.signs[i / WORD] |= u64::from(*minus) << (i % WORD);
        }
        (positions, minus, block)
    }

    /// Bits against lists: the same bytes, and the same met.
    fn agrees<E: Element>(random: &mut Random) {
        let units = random.below(700) as usize;
        // Any bits, infinities and NaNs among them; or bf16 numbers from 1 to 2, half a step of which is exactly a tie.
        let ties = random.below(3) == 0;
        let any: Vec<u64> = (0..units).map(|_| random.next()).collect();
        let number = |x: &u64| E::encode(E::Real::from_f64(1.0 + (x % 128) as f64 / 128.0));
        let units_of = |x: &u64| if ties { number(x) } else { x >> (64 - 8 * E::BYTES) };
        let base: Vec<u8> = any.iter().flat_map(|x| units_of(x).to_le_bytes().into_iter().take(E::BYTES)).collect();
        let all: Vec<_> = (0..1 + random.below(4)).map(|_| part(units, random)).collect();
        let rules: Vec<OverlapRule> = OverlapRule::all().collect();
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
            .map(|i| SignPart { signs: &all[i].2, passed: 0, deltas: deltas[i], weight: weight(i) })
            .collect();
        let (mut at, mut scratch) = (0, SignScratch::default());
        while at < units {
            let end = units.min(at + 1 + random.below(400) as usize);
            stitch_signs::<E>(&mut fast, &mut parts, at..end, (rule, lambda), &mut scratch, &mut fast_met);
            at = end;
        }
        assert_eq!(fast_met, slow_met, "{rule} {lambda}");
        assert!(fast == slow, "{rule} {lambda}");
        assert!(parts.iter().zip(&all).all(|(p, (positions, ..))| p.passed == positions.len()));
    }

    #[test]
    fn bits_give_what_lists_give() {
        for seed in 0..400 {
            let mut random = Random(seed);
            agrees::<Bf16>(&mut random);
            agrees::<F32>(&mut random);
            agrees::<F16>(&mut random);
            agrees::<E4m3>(&mut random);
            agrees::<F64>(&mut random);
        }
    }

    #[test]
    fn words_are_cut_where_rows_are() {
        assert_eq!(inside(0, 64), u64::MAX);
        assert_eq!((inside(3, 5), inside(63, 64), inside(0, 1)), (0b11000, 1 << 63, 1));
    }

    #[test]
    fn what_is_listed_is_what_is_set() {
        let mut listed = Listed::default();
        let words = [0, 1, 1 << 63, 0b1011, 0xff, 0x8000_0000_0000_01ff, u64::MAX, 0, 0b1111, u64::MAX];
        listed.fill(&words, 128);
        let all: Vec<u32> =
            (0..640).filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1).map(|bit| bit as u32 + 128).collect();
        assert_eq!(listed.positions[..listed.len], all);
        listed.fill(&[u64::MAX; CHUNK], 0);
        assert_eq!(listed.len, CHUNK * WORD);
    }
}
