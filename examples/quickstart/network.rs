//! A small multi-layer perceptron: a trunk of ReLU layers under a linear head.

use crate::checkpoint::{Tensor, Tensors};
use crate::digits::PIXELS;
use crate::linear::Linear;
use crate::rng::Rng;

/// Values in the input, after the first layer, and in the features.
// Wide and shallow, so that different tasks can settle on different weights.
pub const WIDTHS: [usize; 3] = [PIXELS, 1024, 64];

/// The part that every task shares and that fine-tuning moves: the checkpoint.
#[derive(Clone)]
pub struct Trunk {
    /// From the pixels to the features, with a ReLU after each.
    pub layers: Vec<Linear>,
}

impl Trunk {
    /// A trunk with random weights.
    pub fn new(rng: &mut Rng) -> Self {
        let pairs = WIDTHS.windows(2);
        Self { layers: pairs.map(|w| Linear::new(w[0], w[1], rng)).collect() }
    }

    /// The features for `inputs`, which holds 64 pixels for each image.
    pub fn features(&self, inputs: &[f32]) -> Vec<f32> {
        self.activations(inputs).pop().expect("never empty")
    }

    /// The inputs, then what each layer makes of them.
    pub fn activations(&self, inputs: &[f32]) -> Vec<Vec<f32>> {
        let mut values = vec![inputs.to_vec()];
        for layer in &self.layers {
            let mut output = layer.forward(&values[values.len() - 1]);
            output.iter_mut().for_each(|value| *value = value.max(0.0));
            values.push(output);
        }
        values
    }

    /// Gradient of each layer, from the `activations` and the features' gradient.
    pub fn gradients(&self, activations: &[Vec<f32>], features: Vec<f32>) -> Vec<Linear> {
        let mut upstream = features;
        let mut gradients = Vec::new();
        for (depth, layer) in self.layers.iter().enumerate().rev() {
            stop_at_zeros(&mut upstream, &activations[depth + 1]);
            gradients.push(layer.weight_gradient(&activations[depth], &upstream));
            // Nothing is learnt about the pixels.
            if depth > 0 {
                upstream = layer.input_gradient(&upstream);
            }
        }
        gradients.reverse();
        gradients
    }

    /// The weights by checkpoint name, such as "layers.0.weight".
    pub fn to_tensors(&self) -> Tensors {
        let mut tensors = Tensors::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let weight = Tensor { shape: vec![layer.outputs(), layer.inputs()], values: layer.weight.clone() };
            let bias = Tensor { shape: vec![layer.outputs()], values: layer.bias.clone() };
            tensors.insert(format!("layers.{index}.weight"), weight);
            tensors.insert(format!("layers.{index}.bias"), bias);
        }
        tensors
    }

    /// The trunk a checkpoint holds; fails if a tensor is absent or of another shape.
    pub fn from_tensors(tensors: &Tensors) -> Result<Self, String> {
        let mut layers = Vec::new();
        for (index, widths) in WIDTHS.windows(2).enumerate() {
            let weight = format!("layers.{index}.weight");
            let bias = format!("layers.{index}.bias");
            layers.push(Linear {
                weight: values(tensors, &weight, &[widths[1], widths[0]])?,
                bias: values(tensors, &bias, &[widths[1]])?,
            });
        }
        Ok(Self { layers })
    }
}

/// A ReLU passes no gradient where it gave zero.
fn stop_at_zeros(gradient: &mut [f32], outputs: &[f32]) {
    for (slope, output) in gradient.iter_mut().zip(outputs) {
        if *output <= 0.0 {
            *slope = 0.0;
        }
    }
}

/// The values of the tensor `name`, which must have this shape.
fn values(tensors: &Tensors, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    match tensors.get(name) {
        Some(tensor) if tensor.shape == shape => Ok(tensor.values.clone()),
        Some(tensor) => Err(format!("{name} has shape {:?}, not {shape:?}", tensor.shape)),
        None => Err(format!("{name} is absent")),
    }
}
