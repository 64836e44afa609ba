//! The elements of one tensor that may be kept, with their scores. [LRN-2] [LRN-3] [LRN-4]

use super::FARTHEST;
use crate::method::float::{decode_f64, encode_f64};
use crate::model::dtype::Dtype;

/// How a receiver will see the deltas that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    /// As they are.
    Whole,
    /// As a sign times the mean magnitude of the kept, in runs of so many elements.
    Sign { run: u64 },
}

/// The candidates of one tensor: 21 bytes each.
#[derive(Debug)]
pub(crate) struct Candidates {
    dtype: Dtype,
    stored: Stored,
    /// Ascending.
    positions: Vec<u64>,
    base: Vec<f32>,
    deltas: Vec<f32>,
    /// How far the logarithm of each score has moved from that of |delta|.
    shifts: Vec<f32>,
    kept: Vec<bool>,
}

/// What a gradient says of the candidates of a tensor.
pub(crate) struct Seen {
    /// Of the loss, by the logarithm of the gain.
    pub gain_slope: f64,
    /// Sum of the squares of the slopes by candidate.
    pub square: f64,
}

impl Candidates {
    pub fn new(dtype: Dtype, stored: Stored) -> Self {
        let (positions, kept) = Default::default();
        Candidates { dtype, stored, positions, base: Vec::new(), deltas: Vec::new(), shifts: Vec::new(), kept }
    }

    /// Adds a candidate, after all that were added before.
    pub fn push(&mut self, position: u64, base: f32, delta: f32) {
        self.positions.push(position);
        self.base.push(base);
        self.deltas.push(delta);
        self.shifts.push(0.0);
        self.kept.push(false);
    }

    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Positions, and the factor of |delta| in the score of each.
    pub fn into_factors(self) -> (Vec<u64>, Vec<f32>) {
        let factors = self.shifts.into_iter().map(factor).collect();
        (self.positions, factors)
    }

    /// Scores in the order of numbers.
    pub fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        self.deltas.iter().zip(&self.shifts).map(|(delta, shift)| key(*delta, *shift))
    }

    pub fn keep_none(&mut self) {
        self.kept.fill(false);
    }

    /// Keeps what is above a key, and of what equals it as many as `ties` still allows.
    pub fn keep(&mut self, threshold: u64, ties: &mut u64) {
        let scores = self.deltas.iter().zip(&self.shifts);
        for (kept, (delta, shift)) in self.kept.iter_mut().zip(scores) {
            let key = key(*delta, *shift);
            let tie = key == threshold && *ties > 0;
            *ties -= u64::from(tie);
            *kept = key > threshold || tie;
        }
    }

    /// Writes over `values` what a receiver would get.
    pub fn place(&self, gain: f64, values: &mut [f32]) {
        let (sizes, dtype) = (self.sizes(gain), self.dtype);
        for (i, (position, base)) in self.positions.iter().zip(&self.base).enumerate() {
            let Some(value) = values.get_mut(*position as usize) else { continue };
            *value = if self.kept.get(i) == Some(&true) {
                decode_f64(dtype, encode_f64(dtype, f64::from(base + sizes.of(self, i)))) as f32
            } else {
                *base
            };
        }
    }

    pub fn survey(&self, gain: f64, gradient: &[f32]) -> Seen {
        let mut seen = Seen { gain_slope: 0.0, square: 0.0 };
        let sizes = self.sizes(gain);
        for (i, kept) in self.kept.iter().enumerate() {
            let slope = self.slope(&sizes, i, gradient);
            seen.square += slope * slope;
            seen.gain_slope += if *kept { slope } else { 0.0 };
        }
        seen
    }

    /// Moves scores against their slopes, after pulling them back to `keep` of how far they have moved.
    pub fn learn(&mut self, gain: f64, gradient: &[f32], rate: f64, keep: f64) {
        let sizes = self.sizes(gain);
        for i in 0..self.len() {
            let slope = self.slope(&sizes, i, gradient);
            if let Some(shift) = self.shifts.get_mut(i) {
                *shift = (f64::from(*shift) * keep - rate * slope).clamp(-FARTHEST, FARTHEST) as f32;
            }
        }
    }

    /// Slope of the loss by how much of candidate `i` is kept, to first order.
    fn slope(&self, sizes: &Sizes, i: usize, gradient: &[f32]) -> f64 {
        let position = self.positions.get(i).map_or(usize::MAX, |p| *p as usize);
        f64::from(gradient.get(position).copied().unwrap_or(0.0)) * f64::from(sizes.of(self, i))
    }

    /// What the kept deltas become. Where a run keeps nothing, all its tensor's candidates say how large one would be.
    fn sizes(&self, gain: f64) -> Sizes {
        let Stored::Sign { run } = self.stored else { return Sizes { gain, means: Vec::new(), run: 1, rest: 0.0 } };
        let mut sums: Vec<(f64, u64)> = Vec::new();
        let (mut total, run) = (0.0, run.max(1));
        for ((position, delta), kept) in self.positions.iter().zip(&self.deltas).zip(&self.kept) {
            let size = f64::from(delta.abs());
            total += size;
            let at = (position / run) as usize;
            if sums.len() <= at {
                sums.resize(at + 1, (0.0, 0));
            }
            if let Some(sum) = sums.get_mut(at).filter(|_| *kept) {
                *sum = (sum.0 + size, sum.1 + 1);
            }
        }
        let rest = total / self.len().max(1) as f64;
        let mean = |(sum, n): (f64, u64)| (gain * if n == 0 { rest } else { sum / n as f64 }) as f32;
        Sizes { gain, means: sums.into_iter().map(mean).collect(), run, rest: (gain * rest) as f32 }
    }
}

/// Sizes of the stored deltas of one tensor, gain included.
struct Sizes {
    gain: f64,
    /// By run; empty where deltas are stored whole.
    means: Vec<f32>,
    run: u64,
    rest: f32,
}

impl Sizes {
    /// The delta that a receiver would add for candidate `i` if it were kept.
    fn of(&self, own: &Candidates, i: usize) -> f32 {
        let (delta, position) = (own.deltas.get(i).copied().unwrap_or(0.0), own.positions.get(i).copied().unwrap_or(0));
        if self.means.is_empty() {
            return (self.gain * f64::from(delta)) as f32;
        }
        self.means.get((position / self.run) as usize).copied().unwrap_or(self.rest).copysign(delta)
    }
}

/// What a score is worth beside |delta|.
fn factor(shift: f32) -> f32 {
    f64::from(shift).exp() as f32
}

/// The score, as bits: it is never negative, so their order is its order.
fn key(delta: f32, shift: f32) -> u64 {
    u64::from((delta.abs() * factor(shift)).to_bits())
}
