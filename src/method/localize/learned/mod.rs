//! A mask of given density and a gain a tensor, learned from gradients: spec/numbers.md, "Learning". [LRN-1] to [LRN-6]
//!
//! The paper's Algorithm 1 with the density given: what is evaluated is the model that a receiver would get, so scores
//! need no sigmoid, and the penalty on the size of the mask has nothing left to do.

mod candidates;
mod gains;

pub(crate) use candidates::{Candidates, Stored};

use crate::error::{Error, Result};
use crate::method::localize::topk;
use crate::parallel::Workers;
use gains::Gains;

/// How scores and gains move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Gradients that will come.
    pub evaluations: u32,
    /// How far the logarithm of a score moves in the first step where its slope is as large as slopes are on average.
    pub scores: f64,
    /// The same of a gain.
    pub gains: f64,
    /// How strongly both are pulled back to where they began.
    pub lambda: f64,
}

/// Which tensors share a top-k, as a range of all, and k.
pub(crate) type Group = (std::ops::Range<usize>, u64);

/// How fast the mean square of the slopes forgets.
const MEMORY: f64 = 0.95;

/// A score moves by no more than this many powers of e.
const FARTHEST: f64 = 6.0;

/// The state of learning: candidates with their scores, and a gain a tensor.
pub(crate) struct Learner<'a> {
    candidates: Vec<Candidates>,
    groups: Vec<Group>,
    gains: Gains,
    rates: Rates,
    workers: &'a Workers,
    /// Gradients that have come.
    step: u32,
    /// Running mean square of the slopes of the candidates.
    square: f64,
}

impl<'a> Learner<'a> {
    /// Begins with the mask of the largest |delta| and one gain for all.
    pub fn new(
        candidates: Vec<Candidates>,
        groups: Vec<Group>,
        gain: f64,
        rates: Rates,
        workers: &'a Workers,
    ) -> Result<Self> {
        let gains = Gains::new(candidates.len(), gain);
        let mut this = Learner { candidates, groups, gains, rates, workers, step: 0, square: 0.0 };
        this.take_mask()?;
        Ok(this)
    }

    /// Writes the model that a receiver would get over `parameters`, one slice a tensor.
    pub fn place(&self, parameters: &mut [Vec<f32>]) {
        for ((own, gain), values) in self.candidates.iter().zip(self.gains.all()).zip(parameters) {
            own.place(gain, values);
        }
    }

    /// Learns from the gradient of the loss at what was placed.
    pub fn step(&mut self, gradients: &[Vec<f32>]) -> Result<()> {
        let gains: Vec<f64> = self.gains.all().collect();
        let mut slopes = Vec::with_capacity(gains.len());
        let (mut square, mut n) = (0.0, 0usize);
        for ((own, gain), gradient) in self.candidates.iter().zip(&gains).zip(gradients) {
            let seen = own.survey(*gain, gradient);
            slopes.push(seen.gain_slope);
            square += seen.square;
            n += own.len();
        }
        self.step += 1;
        self.square = MEMORY * self.square + (1.0 - MEMORY) * square / n.max(1) as f64;
        let typical = (self.square / (1.0 - MEMORY.powi(self.step as i32))).sqrt();
        let left = 1.0 - f64::from(self.step - 1) / f64::from(self.rates.evaluations.max(1));
        if typical > 0.0 {
            let rate = self.rates.scores * left / typical;
            let keep = 1.0 - (self.rates.lambda * self.rates.scores * left).min(1.0);
            for ((own, gain), gradient) in self.candidates.iter_mut().zip(&gains).zip(gradients) {
                own.learn(*gain, gradient, rate, keep);
            }
            self.take_mask()?;
        }
        self.gains.step(&slopes, self.rates.gains * left, self.rates.lambda);
        Ok(())
    }

    /// What was learned, a tensor each: how much the score of each candidate is worth beside |delta|, and the gain.
    pub fn finish(self) -> impl Iterator<Item = (Candidates, f64)> {
        let gains: Vec<f64> = self.gains.all().collect();
        self.candidates.into_iter().zip(gains)
    }

    /// Keeps the k largest scores of every group; of equal ones those that come first. [LOC-2] [LOC-3]
    fn take_mask(&mut self) -> Result<()> {
        for (range, k) in self.groups.clone() {
            let group = self.candidates.get_mut(range).ok_or_else(|| Error::Internal("no such tensors".into()))?;
            let all: u64 = group.iter().map(|c| c.len() as u64).sum();
            if k == 0 || all == 0 {
                group.iter_mut().for_each(Candidates::keep_none);
                continue;
            }
            let read = |i: usize, out: &mut Vec<u64>| {
                out.extend(group.get(i).into_iter().flat_map(Candidates::keys));
                Ok(())
            };
            let threshold = topk::threshold(self.workers, group.len(), 32, k.min(all), read)?;
            let mut ties = threshold.ties;
            group.iter_mut().for_each(|own| own.keep(threshold.key, &mut ties));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
