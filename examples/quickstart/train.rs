//! Training: of the base, of a head alone, and of a fine-tune.

use crate::linear::Linear;
use crate::network::Trunk;
use crate::optimiser::{Optimiser, Rule};
use crate::rng::Rng;
use crate::tasks::{CLASSES, Rows};

/// Rows in one step.
const BATCH: usize = 32;
/// Passes over the rows, and learning rate, of each kind of training.
const BASE: (usize, f32) = (10, 1e-3);
const HEAD: (usize, f32) = (20, 1e-3);
const FINE_TUNE: (usize, f32) = (20, 0.2);

/// Trains a new trunk; the head it is trained with is not kept.
pub fn base(rows: &Rows, rng: &mut Rng) -> Trunk {
    let mut trunk = Trunk::new(rng);
    let mut head = new_head(&trunk, rng);
    let mut optimiser = Optimiser::new(Rule::Adam, BASE.1);
    for batch in batches(rows, BASE.0, rng) {
        let values = trunk.activations(&batch.inputs);
        let features = &values[values.len() - 1];
        let slopes = loss_gradient(head.forward(features), &batch.labels);
        let mut gradients = trunk.gradients(&values, head.input_gradient(&slopes));
        gradients.push(head.weight_gradient(features, &slopes));
        optimiser.step(trunk.layers.iter_mut().chain([&mut head]), &gradients);
    }
    trunk
}

/// Fits a head to the features of a trunk that stays as it is.
pub fn head(trunk: &Trunk, rows: &Rows, rng: &mut Rng) -> Linear {
    let mut head = new_head(trunk, rng);
    let mut optimiser = Optimiser::new(Rule::Adam, HEAD.1);
    let features = Rows { inputs: trunk.features(&rows.inputs), labels: rows.labels.clone() };
    for batch in batches(&features, HEAD.0, rng) {
        let slopes = loss_gradient(head.forward(&batch.inputs), &batch.labels);
        let gradient = head.weight_gradient(&batch.inputs, &slopes);
        optimiser.step([&mut head], &[gradient]);
    }
    head
}

/// Moves the trunk under a head that stays as it is.
pub fn fine_tune(base: &Trunk, head: &Linear, rows: &Rows, rng: &mut Rng) -> Trunk {
    let mut trunk = base.clone();
    // Adam would move every weight by about as much. Momentum moves those most
    // that matter most, and so leaves a change of which a small part is enough.
    let mut optimiser = Optimiser::new(Rule::Momentum, FINE_TUNE.1);
    for batch in batches(rows, FINE_TUNE.0, rng) {
        let values = trunk.activations(&batch.inputs);
        let scores = head.forward(&values[values.len() - 1]);
        let slopes = loss_gradient(scores, &batch.labels);
        let gradients = trunk.gradients(&values, head.input_gradient(&slopes));
        optimiser.step(&mut trunk.layers, &gradients);
    }
    trunk
}

/// Share of `rows` that trunk and head get right, from 0 to 1.
pub fn accuracy(trunk: &Trunk, head: &Linear, rows: &Rows) -> f64 {
    let scores = head.forward(&trunk.features(&rows.inputs));
    let answers = scores.chunks_exact(CLASSES).map(best);
    let right = answers.zip(&rows.labels).filter(|(a, label)| a == *label);
    right.count() as f64 / rows.labels.len() as f64
}

/// A head with random weights that fits the trunk's features.
fn new_head(trunk: &Trunk, rng: &mut Rng) -> Linear {
    let features = trunk.layers.last().map_or(0, Linear::outputs);
    Linear::new(features, CLASSES, rng)
}

/// The batches of all epochs, each epoch in a new random order.
fn batches(rows: &Rows, epochs: usize, rng: &mut Rng) -> impl Iterator<Item = Rows> {
    let mut order: Vec<usize> = (0..rows.labels.len()).collect();
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for _ in 0..epochs {
        rng.shuffle(&mut order);
        batches.extend(order.chunks(BATCH).map(<[usize]>::to_vec));
    }
    batches.into_iter().map(|places| rows.select(&places))
}

/// Gradient of the mean softmax cross-entropy with respect to the scores.
fn loss_gradient(mut scores: Vec<f32>, labels: &[usize]) -> Vec<f32> {
    let share = 1.0 / labels.len() as f32;
    for (row, &label) in scores.chunks_exact_mut(CLASSES).zip(labels) {
        // Softmax is the same with all scores lowered; exp then cannot overflow.
        let top = row.iter().copied().fold(f32::MIN, f32::max);
        row.iter_mut().for_each(|score| *score = (*score - top).exp());
        let total: f32 = row.iter().sum();
        row.iter_mut().for_each(|score| *score *= share / total);
        row[label] -= share;
    }
    scores
}

/// Place of the highest score.
fn best(scores: &[f32]) -> usize {
    let places = 0..scores.len();
    places.max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
}
