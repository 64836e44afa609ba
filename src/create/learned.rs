//! What was learned about a pair of checkpoints, ready for [`create`](crate::create()).

use std::collections::BTreeMap;

use crate::create::pairs::Pairs;
use crate::error::{Error, Escaped, Result};

/// Scores and gains that were learned from gradients: spec/numbers.md, "Learning".
#[derive(Debug, Clone, Default)]
pub struct Learned {
    pub(super) tensors: BTreeMap<String, LearnedTensor>,
}

/// One tensor's share of it.
#[derive(Debug, Clone)]
pub(super) struct LearnedTensor {
    pub elements: u64,
    /// Ascending.
    pub positions: Vec<u64>,
    /// The factor of |delta| in the score at each position; it is 1 at all others. [LRN-3]
    pub factors: Vec<f32>,
    pub gain: f64,
}

impl Learned {
    /// Refuses checkpoints that nothing was learned about.
    pub(super) fn check(&self, pairs: &Pairs) -> Result<()> {
        for (_, pair) in pairs.floats() {
            let known = self.tensors.get(&pair.info.name).map(|t| t.elements);
            if known != Some(pair.info.elements()) {
                return Err(Error::InvalidInput(format!(
                    "nothing was learned about tensor \"{}\"; learn from the same checkpoints, with the same globs",
                    Escaped(&pair.info.name)
                )));
            }
        }
        Ok(())
    }

    /// Scores of a run of elements that begins at `start` of a tensor.
    pub(super) fn scores(&self, name: &str, start: u64, deltas: &[f64]) -> Vec<f64> {
        let mut out: Vec<f64> = deltas.iter().map(|d| d.abs()).collect();
        let Some(tensor) = self.tensors.get(name) else { return out };
        let first = tensor.positions.partition_point(|p| *p < start);
        for (position, factor) in tensor.positions.iter().zip(&tensor.factors).skip(first) {
            match out.get_mut((position - start) as usize) {
                Some(score) => *score *= f64::from(*factor),
                None => break,
            }
        }
        out
    }

    /// The gain of a tensor.
    pub(super) fn gain(&self, name: &str) -> f64 {
        self.tensors.get(name).map_or(1.0, |t| t.gain)
    }
}
