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
    /// The factors of |delta| in a score, by row and by column. [LRN-3]
    pub rows: Vec<f32>,
    pub columns: Vec<f32>,
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
        let Some(tensor) = self.tensors.get(name) else { return vec![0.0; deltas.len()] };
        let row_len = tensor.columns.len().max(1);
        let score = |(i, delta): (usize, &f64)| {
            let at = start as usize + i;
            let row = tensor.rows.get(at / row_len).copied().unwrap_or(0.0);
            let column = tensor.columns.get(at % row_len).copied().unwrap_or(0.0);
            delta.abs() * f64::from(row) * f64::from(column)
        };
        deltas.iter().enumerate().map(score).collect()
    }

    /// The gain of a tensor.
    pub(super) fn gain(&self, name: &str) -> f64 {
        self.tensors.get(name).map_or(1.0, |t| t.gain)
    }
}
