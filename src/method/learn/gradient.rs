//! What learning and calibrating ask of a caller: the loss of their task, or of their tasks together, and its gradient. [LRN-1]

use crate::error::{Error, Escaped, Result};

/// A loss and its gradient with respect to the parameters, as the caller's framework computes them. [LRN-1]
///
/// Anything that the stitched model should keep will do as a loss. What was measured best matches the fine-tuned model's
/// outputs on rows that need no labels (spec/rationale.md). Its scale does not matter, as long as it stays the same.
/// A closure of the same form is a `Gradient` too.
pub trait Gradient {
    /// The loss at these parameters over the rows of one batch, a mean or a sum; fills the gradient of every parameter.
    ///
    /// The parameters are those of the float tensors that take part, a tied duplicate once. Each gradient is 0 when this
    /// is called, and stays 0 for a parameter that the loss does not depend on.
    ///
    /// # Errors
    /// Whatever is returned ends the learning, and is what the caller of it gets.
    fn evaluate(&mut self, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64>;
}

impl<F: FnMut(Batch, &mut [Parameter<'_>]) -> Result<f64>> Gradient for F {
    fn evaluate(&mut self, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64> {
        self(batch, parameters)
    }
}

/// Which rows to take: a caller that chooses them by these numbers alone makes the same pack again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The seed of the options.
    pub seed: u64,
    /// Number of this evaluation, from 0.
    pub step: u32,
    /// How many evaluations there will be.
    pub steps: u32,
}

/// One tensor of the model that is being evaluated.
#[derive(Debug)]
pub struct Parameter<'a> {
    name: &'a str,
    shape: &'a [u64],
    values: &'a [f32],
    gradient: &'a mut [f32],
}

impl<'a> Parameter<'a> {
    pub(crate) fn new(name: &'a str, shape: &'a [u64], values: &'a [f32], gradient: &'a mut [f32]) -> Self {
        Parameter { name, shape, values, gradient }
    }

    /// The tensor's name in the checkpoints.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Its shape, outermost dimension first.
    pub fn shape(&self) -> &[u64] {
        self.shape
    }

    /// Its elements, row-major, rounded to the dtype that the base has.
    pub fn values(&self) -> &[f32] {
        self.values
    }

    /// Where the gradient goes: as many numbers as there are values, in their order.
    pub fn gradient_mut(&mut self) -> &mut [f32] {
        self.gradient
    }

    /// Copies a gradient.
    ///
    /// # Errors
    /// `InvalidInput` where it has another length than the values.
    pub fn set_gradient(&mut self, gradient: &[f32]) -> Result<()> {
        let (found, expected) = (gradient.len(), self.gradient.len());
        if found != expected {
            let name = Escaped(self.name);
            return Err(Error::InvalidInput(format!(
                "the gradient of tensor \"{name}\" has {found} numbers, must have {expected}, one an element"
            )));
        }
        self.gradient.copy_from_slice(gradient);
        Ok(())
    }
}

/// Asks for a loss and its gradient, whose slopes are 0 before. Both must be finite. [LRN-1]
pub(crate) fn evaluate(gradient: &mut dyn Gradient, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64> {
    parameters.iter_mut().for_each(|p| p.gradient.fill(0.0));
    let loss = gradient.evaluate(batch, parameters)?;
    let step = batch.step;
    if !loss.is_finite() {
        return Err(Error::Refused(format!("the loss of batch {step} is {loss}, must be finite")));
    }
    for parameter in parameters {
        if let Some(x) = parameter.gradient.iter().find(|x| !x.is_finite()) {
            let name = Escaped(parameter.name);
            return Err(Error::Refused(format!(
                "the gradient of tensor \"{name}\" has {x} in batch {step}, must be finite"
            )));
        }
    }
    Ok(loss)
}
