//! One fully connected layer: forward, backward and the sums they need.

use crate::rng::Rng;

/// Partial sums kept side by side, so that the compiler can use vector units.
const LANES: usize = 8;

/// Weights of one layer, or a gradient of the same shape.
#[derive(Clone)]
pub struct Linear {
    /// One row of inputs for each output.
    pub weight: Vec<f32>,
    /// One value for each output.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Random weights scaled for ReLU (He, uniform), zero bias.
    pub fn new(inputs: usize, outputs: usize, rng: &mut Rng) -> Self {
        let bound = (6.0 / inputs as f32).sqrt();
        Self { weight: (0..inputs * outputs).map(|_| rng.signed() * bound).collect(), bias: vec![0.0; outputs] }
    }

    /// Values in one output row.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Values in one input row.
    pub fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Output rows for `inputs` rows.
    pub fn forward(&self, inputs: &[f32]) -> Vec<f32> {
        let mut result = Vec::with_capacity(inputs.len() / self.inputs() * self.outputs());
        for row in inputs.chunks_exact(self.inputs()) {
            let weights = self.weight.chunks_exact(self.inputs());
            result.extend(weights.zip(&self.bias).map(|(w, bias)| dot(w, row) + bias));
        }
        result
    }

    /// All zeros, of the same shape.
    pub fn zeros(&self) -> Self {
        Self { weight: vec![0.0; self.weight.len()], bias: vec![0.0; self.bias.len()] }
    }

    /// The weights, then the biases.
    pub fn values(&self) -> impl Iterator<Item = &f32> {
        self.weight.iter().chain(&self.bias)
    }

    /// As `values`, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut f32> {
        self.weight.iter_mut().chain(&mut self.bias)
    }

    /// Gradient of weights and biases, summed over the rows.
    pub fn weight_gradient(&self, inputs: &[f32], upstream: &[f32]) -> Linear {
        let mut gradient = self.zeros();
        let slopes = upstream.chunks_exact(self.outputs());
        for (row, slopes) in inputs.chunks_exact(self.inputs()).zip(slopes) {
            let weights = gradient.weight.chunks_exact_mut(self.inputs());
            for ((weights, bias), &slope) in weights.zip(&mut gradient.bias).zip(slopes) {
                add_scaled(weights, slope, row);
                *bias += slope;
            }
        }
        gradient
    }

    /// Gradient of the inputs, one row each.
    pub fn input_gradient(&self, upstream: &[f32]) -> Vec<f32> {
        let mut gradient = vec![0.0; upstream.len() / self.outputs() * self.inputs()];
        let slopes = upstream.chunks_exact(self.outputs());
        for (row, slopes) in gradient.chunks_exact_mut(self.inputs()).zip(slopes) {
            for (weights, &slope) in self.weight.chunks_exact(self.inputs()).zip(slopes) {
                add_scaled(row, slope, weights);
            }
        }
        gradient
    }
}

/// Sum of products.
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (left, right) in left.chunks_exact(LANES).zip(right.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += left[lane] * right[lane];
        }
    }
    // Layer widths are multiples of LANES, so nothing is left over.
    sums.iter().sum()
}

/// Adds `scale` times `values` to `target`.
fn add_scaled(target: &mut [f32], scale: f32, values: &[f32]) {
    // ReLU makes about half of the slopes zero.
    if scale == 0.0 {
        return;
    }
    for (target, value) in target.iter_mut().zip(values) {
        *target += scale * value;
    }
}
