//! A few rows without labels, which say what of a fine-tune matters.

use std::error::Error;
use std::path::Path;

use stitchpack::create::{Batch, Parameter};

use crate::checkpoint::{self, Tensor, Tensors};
use crate::linear::Linear;
use crate::network::Trunk;
use crate::tasks::CLASSES;

/// How many rows.
pub const ROWS: usize = 64;

/// Inputs, and what the fine-tuned model makes of them.
pub struct Few<'a> {
    inputs: &'a [f32],
    head: &'a Linear,
    /// The fine-tuned model's share for each class, row by row.
    wanted: Vec<f32>,
}

impl<'a> Few<'a> {
    /// Asks the fine-tuned model in `folder`.
    pub fn new(folder: &Path, head: &'a Linear, inputs: &'a [f32]) -> Result<Self, Box<dyn Error>> {
        let trunk = Trunk::from_tensors(&checkpoint::read(folder)?)?;
        Ok(Few { inputs, head, wanted: shares(head.forward(&trunk.features(inputs))) })
    }

    /// How far the outputs of a model are from the fine-tuned model's, as the mean Kullback–Leibler divergence, and the
    /// gradient of that.
    pub fn evaluate(&self, _: Batch, parameters: &mut [Parameter<'_>]) -> stitchpack::Result<f64> {
        let tensor = |p: &Parameter| Tensor {
            shape: p.shape().iter().map(|n| *n as usize).collect(),
            values: p.values().to_vec(),
        };
        let tensors: Tensors = parameters.iter().map(|p| (p.name().to_string(), tensor(p))).collect();
        let trunk = Trunk::from_tensors(&tensors).map_err(stitchpack::Error::InvalidInput)?;
        let values = trunk.activations(self.inputs);
        let found = shares(self.head.forward(&values[values.len() - 1]));
        let rows = (found.len() / CLASSES) as f32;
        let slopes: Vec<f32> = found.iter().zip(&self.wanted).map(|(f, w)| (f - w) / rows).collect();
        let gradients = trunk.gradients(&values, self.head.input_gradient(&slopes));
        let named = Trunk { layers: gradients }.to_tensors();
        for parameter in parameters {
            if let Some(gradient) = named.get(parameter.name()) {
                parameter.set_gradient(&gradient.values)?;
            }
        }
        let divergence = found.iter().zip(&self.wanted).map(|(f, w)| f64::from(w * (w.max(1e-9) / f.max(1e-9)).ln()));
        Ok(divergence.sum::<f64>() / f64::from(rows))
    }
}

/// Softmax, row by row.
fn shares(mut scores: Vec<f32>) -> Vec<f32> {
    for row in scores.chunks_exact_mut(CLASSES) {
        // Softmax is the same with all scores lowered; exp then cannot overflow.
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter_mut().for_each(|score| *score = (*score - top).exp());
        let total: f32 = row.iter().sum();
        row.iter_mut().for_each(|score| *score /= total);
    }
    scores
}
