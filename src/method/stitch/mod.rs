//! Adding deltas onto the base, where packs overlap by a rule: spec/numbers.md, "Stitching".

pub(super) mod lanes;
mod part;
pub(crate) mod signs;
mod signs_dense;
mod signs_sparse;

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::method::float::{Element, Real, load_unit, store_unit};
use crate::model::numbered::{chosen, named};

named! {
    /// What happens where several packs keep the same position.
    #[derive(Default)]
    #[non_exhaustive]
    pub enum OverlapRule, "overlap rule" {
        /// The mean of the deltas (Localize-and-Stitch).
        #[default]
        Average => "average",
        /// The sum of the deltas over the sum of the weights.
        WeightedAverage => "weighted-average",
        /// The sum (task arithmetic).
        Sum => "sum",
        /// The sign of the sum, then the mean of the deltas of that sign (TIES).
        Elect => "elect",
        /// The delta of largest magnitude (MagMax).
        Max => "max",
        /// The delta of the pack named first.
        Priority => "priority",
        /// An overlap is an error.
        Refuse => "refuse",
    }
}

impl FromStr for OverlapRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        chosen("overlap rule", name, OverlapRule::ALL)
    }
}

/// What one pack in play brings to a run of elements.
pub(crate) struct Part<'a, R> {
    /// Kept positions, counted from the start of the run, strictly ascending.
    pub positions: &'a [u32],
    /// d_i = (w_i × g_i) × δ_i, one a position.
    pub deltas: &'a [R],
    /// For an exact pack at w = λ = g = 1: the fine-tuned bits, which are the result where no other pack keeps the element.
    pub bits: Option<&'a [u64]>,
    /// The pack's weight.
    pub weight: f32,
}

/// What was met while stitching that the caller decides about.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Met {
    /// Finite elements of the base that became infinite or NaN. [STI-7]
    pub nonfinite: u64,
    /// The first position that several parts keep.
    pub overlap: Option<u64>,
}

/// Stitches parts, in the order in which their packs were named, onto the elements in `run`. [STI-1]
pub(crate) fn stitch<E: Element>(
    run: &mut [u8],
    parts: &[Part<'_, E::Real>],
    rule: OverlapRule,
    lambda: f32,
    met: &mut Met,
) {
    if let [only] = parts {
        for (i, (position, delta)) in only.positions.iter().zip(only.deltas).enumerate() {
            match only.bits.and_then(|b| b.get(i)) {
                Some(bits) => set_element::<E>(run, *position, *bits),
                None => add::<E>(run, *position, alone(rule, *delta, only.weight), lambda, met),
            }
        }
        return;
    }
    let mut cursors = vec![0usize; parts.len()];
    let mut deltas: Vec<E::Real> = Vec::with_capacity(parts.len());
    let mut weights: Vec<f32> = Vec::with_capacity(parts.len());
    loop {
        let heads = parts.iter().zip(&cursors).filter_map(|(p, c)| p.positions.get(*c));
        let Some(position) = heads.min().copied() else { return };
        deltas.clear();
        weights.clear();
        let mut bits = None;
        for (part, cursor) in parts.iter().zip(&mut cursors) {
            if part.positions.get(*cursor) == Some(&position) {
                deltas.extend(part.deltas.get(*cursor));
                weights.push(part.weight);
                bits = part.bits.and_then(|b| b.get(*cursor)).copied();
                *cursor += 1;
            }
        }
        if deltas.len() > 1 {
            met.overlap.get_or_insert(u64::from(position));
            bits = None;
        }
        match bits {
            Some(bits) => set_element::<E>(run, position, bits),
            None => add::<E>(run, position, combine(rule, &mut deltas, &mut weights), lambda, met),
        }
    }
}

fn set_element<E: Element>(run: &mut [u8], position: u32, bits: u64) {
    let start = position as usize * E::BYTES;
    if let Some(element) = run.get_mut(start..start + E::BYTES) {
        store_unit(element, bits);
    }
}

fn add<E: Element>(run: &mut [u8], position: u32, f: E::Real, lambda: f32, met: &mut Met) {
    add_to_element::<E>(run, position as usize, E::Real::from_f32(lambda).mul(f), met);
}

/// base + `added`, which is λ × f, rounded once to the dtype. [STI-2]
#[inline(always)]
pub(super) fn add_to_element<E: Element>(run: &mut [u8], position: usize, added: E::Real, met: &mut Met) {
    let start = position * E::BYTES;
    let Some(element) = run.get_mut(start..start + E::BYTES) else { return };
    let base = E::decode(load_unit(element));
    if !base.is_finite() {
        return; // What is no number in the base has nothing that a delta could be added to. [STI-3]
    }
    let result = E::encode(base.add(added));
    met.nonfinite += u64::from(!E::decode(result).is_finite());
    store_unit(element, result);
}

/// f_k where one pack keeps a position. [STI-4]
pub(super) fn alone<R: Real>(rule: OverlapRule, delta: R, weight: f32) -> R {
    match rule {
        OverlapRule::WeightedAverage => weigh(delta, &mut [weight]),
        OverlapRule::Elect => elect(&[delta], delta),
        OverlapRule::Average | OverlapRule::Sum | OverlapRule::Max | OverlapRule::Priority | OverlapRule::Refuse => {
            delta
        }
    }
}

/// f_k of the deltas of the packs that keep a position, at least one, in the order of the packs. [STI-4]
pub(super) fn combine<R: Real>(rule: OverlapRule, deltas: &mut [R], weights: &mut [f32]) -> R {
    if rule == OverlapRule::Priority {
        return deltas.first().copied().unwrap_or(R::ZERO);
    }
    // In ascending order of value, so that no name, id or order of packs decides how a sum is rounded.
    deltas.sort_unstable_by(R::total_cmp);
    let sum = sum_of(deltas.iter());
    if sum.to_f64().is_nan() {
        return sum; // So that no rule passes over a delta that is no number.
    }
    match rule {
        OverlapRule::Average | OverlapRule::Refuse => sum.div(R::from_f64(deltas.len() as f64)),
        OverlapRule::WeightedAverage => weigh(sum, weights),
        OverlapRule::Elect => elect(deltas, sum),
        OverlapRule::Max => deltas.iter().fold(R::ZERO, |best, d| {
            // On a tie the later one is the larger value, so the positive wins.
            if d.abs() >= best.abs() { *d } else { best }
        }),
        OverlapRule::Sum | OverlapRule::Priority => sum,
    }
}

/// The sum from left to right, begun with the first term (so that −0 alone stays −0).
fn sum_of<'a, R: Real + 'a>(terms: impl Iterator<Item = &'a R>) -> R {
    terms.copied().reduce(R::add).unwrap_or(R::ZERO)
}

fn weigh<R: Real>(sum: R, weights: &mut [f32]) -> R {
    weights.sort_unstable_by(f32::total_cmp);
    let total = weights.iter().map(|w| R::from_f32(*w)).reduce(R::add).unwrap_or(R::ZERO);
    if total == R::ZERO { sum } else { sum.div(total) }
}

fn elect<R: Real>(sorted: &[R], sum: R) -> R {
    if sum.to_f64().is_nan() {
        return sum;
    }
    let minus = sum < R::ZERO;
    let agrees = |d: &&R| if minus { **d < R::ZERO } else { **d > R::ZERO };
    let count = sorted.iter().filter(agrees).count();
    if count == 0 { R::ZERO } else { sum_of(sorted.iter().filter(agrees)).div(R::from_f64(count as f64)) }
}
