//! What was learned about a pair of checkpoints, ready for [`create`](crate::create()).

use std::collections::BTreeMap;

use crate::error::{Error, Escaped, Result};
use crate::model::tensor::TensorInfo;

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
    pub(crate) fn check<'a>(&self, mut tensors: impl Iterator<Item = &'a TensorInfo>) -> Result<()> {
        let is_new = |info: &&TensorInfo| self.tensors.get(&info.name).map(|t| t.elements) != Some(info.elements());
        match tensors.find(is_new) {
            None => Ok(()),
            Some(info) => Err(Error::InvalidInput(format!(
                "nothing was learned about tensor \"{}\"; learn from the same checkpoints, with the same globs",
                Escaped(&info.name)
            ))),
        }
    }

    fn tensor(&self, name: &str) -> Result<&LearnedTensor> {
        self.tensors.get(name).ok_or_else(|| Error::Internal(format!("nothing was learned about {}", Escaped(name))))
    }

    /// Scores of a run of elements that begins at `start` of a tensor.
    pub(crate) fn scores(&self, name: &str, start: u64, deltas: &[f64]) -> Result<Vec<f64>> {
        let tensor = self.tensor(name)?;
        let beyond = || Error::Internal(format!("no factor for an element of {}", Escaped(name)));
        let row_len = tensor.columns.len().max(1);
        let score = |(i, delta): (usize, &f64)| {
            let at = start as usize + i;
            let row = tensor.rows.get(at / row_len).ok_or_else(beyond)?;
            let column = tensor.columns.get(at % row_len).ok_or_else(beyond)?;
            Ok(delta.abs() * f64::from(*row) * f64::from(*column))
        };
        deltas.iter().enumerate().map(score).collect()
    }

    /// The gain of a tensor.
    pub(crate) fn gain(&self, name: &str) -> Result<f64> {
        Ok(self.tensor(name)?.gain)
    }
}
