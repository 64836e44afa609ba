//! Stitching packs of signs, which are most packs, straight from the bits that the packs store.
//!
//! The same arithmetic as [`stitch`](crate::method::stitch), and judged by it. Where only one pack keeps an element its delta
//! is one of two numbers, so λ × f is computed twice and then only added. [STI-1] [STI-2]

use std::ops::Range;

use crate::method::float::{Element, Real};
use crate::method::stitch::part::{Addend, Output};
use crate::method::stitch::signs_dense::{self, DenseScratch};
use crate::method::stitch::signs_sparse::{self, MOST_LISTED, SparseScratch};
use crate::method::stitch::{Met, OverlapRule, alone};
use crate::model::delta::SignBlock;

pub(crate) use crate::method::stitch::part::{CACHED, SignPart};

/// Buffers that are used again from run to run.
#[derive(Debug, Default)]
pub(crate) struct SignScratch {
    dense: DenseScratch,
    sparse: SparseScratch,
}

/// Whether parts are stitched by their lists: all have one, and they are few enough.
pub(crate) fn are_listed<'b>(mut blocks: impl ExactSizeIterator<Item = &'b SignBlock>) -> bool {
    blocks.len() <= MOST_LISTED && blocks.all(|block| block.mask.is_empty())
}

/// Stitches parts, in the order in which their packs were named, onto the elements `units` of `run`. All that is kept before
/// them was passed. Either [all parts are listed](are_listed), or none is.
pub(crate) fn stitch_signs<E: Element>(
    run: &mut [u8],
    parts: &mut [SignPart<'_, E::Real>],
    units: Range<usize>,
    (rule, lambda): (OverlapRule, f32),
    scratch: &mut SignScratch,
    met: &mut Met,
) {
    let is_listed = are_listed(parts.iter().map(|part| part.signs));
    let SignScratch { dense, sparse } = scratch;
    if is_listed {
        parts.iter_mut().for_each(|part| part.look_ahead(units.end));
        signs_sparse::mark(parts, &units, sparse);
    } else {
        signs_dense::find_several(parts, &units, dense);
    }
    let mut output = Output { run, met };
    for (number, part) in parts.iter_mut().enumerate() {
        let scaled = |d| E::Real::from_f32(lambda).mul(alone(rule, d, part.weight));
        let addend = Addend { added: part.deltas.map(scaled), units: units.clone(), number };
        if is_listed {
            signs_sparse::add::<E>(&mut output, part, &addend, sparse);
        } else {
            signs_dense::add::<E>(&mut output, part, &addend, dense);
        }
    }
    let Output { run, met } = output;
    if is_listed {
        signs_sparse::add_shared::<E>(run, parts, units.start, (rule, lambda), sparse, met);
    } else {
        signs_dense::add_shared::<E>(run, parts, (rule, lambda), dense, met);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::float::{Bf16, E4m3, F16, F32, F64};
    use crate::method::stitch::part::{inside, pick};
    use crate::method::stitch::{Part, stitch};
    use crate::simd::WORD;

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
            .map(|i| {
                let mut part = SignPart::new(&all[i].2);
                (part.deltas, part.weight) = (deltas[i], weight(i));
                part
            })
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
