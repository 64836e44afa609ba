//! The gradient of a loss, as a Python function computes it.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use stitchpack::checkpoint::ModelSource;
use stitchpack::create::LearnOptions;
use stitchpack::method::learn::gradient::{Batch, Gradient, Parameter};
use stitchpack::{CalibrateOptions, CreateOptions, Error, Result, StitchedModel, Workers};

use crate::buffer::Buffer;
use crate::memory::{Memory, Pages};

/// What to learn with. What is None is left to the library.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Lesson {
    gradient: Py<PyAny>,
    path: Option<u32>,
    steps: Option<u32>,
    seed: Option<u64>,
    rate: Option<f64>,
    lambda_: Option<f64>,
}

impl Lesson {
    pub fn begin(&self) -> Learning<'_> {
        Learning { lesson: self, raised: None }
    }

    fn options(&self) -> LearnOptions {
        let usual = LearnOptions::default();
        LearnOptions {
            path: self.path.unwrap_or(usual.path),
            steps: self.steps.unwrap_or(usual.steps),
            seed: self.seed.unwrap_or(usual.seed),
            rate: self.rate.unwrap_or(usual.rate),
            lambda: self.lambda_.unwrap_or(usual.lambda),
        }
    }
}

/// A lesson that is being given.
pub struct Learning<'a> {
    lesson: &'a Lesson,
    raised: Option<PyErr>,
}

impl Learning<'_> {
    /// Options with which `create` makes a pack of what was learned.
    pub fn learn(
        &mut self,
        base: &dyn ModelSource,
        fine_tuned: &dyn ModelSource,
        options: &CreateOptions,
    ) -> Result<CreateOptions> {
        let how = self.lesson.options();
        stitchpack::create::learn(base, fine_tuned, self, options, &how)
    }

    /// Moves the gains of a model's packs.
    pub fn calibrate(&mut self, model: &mut StitchedModel, workers: &Workers) -> Result<()> {
        let (lesson, usual) = (self.lesson, CalibrateOptions::default());
        let how = CalibrateOptions {
            steps: lesson.steps.unwrap_or(usual.steps),
            seed: lesson.seed.unwrap_or(usual.seed),
            rate: lesson.rate.unwrap_or(usual.rate),
            lambda: lesson.lambda_.unwrap_or(usual.lambda),
            workers: workers.clone(),
        };
        stitchpack::calibrate(model, self, &how)
    }

    /// What the function raised, where it did.
    pub fn raised(self) -> Option<PyErr> {
        self.raised
    }
}

impl Gradient for Learning<'_> {
    fn evaluate(&mut self, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64> {
        let answer = Python::attach(|py| self.lesson.ask(py, batch, parameters));
        let (loss, gradients) = answer.map_err(|e| {
            self.raised = Some(e);
            // Whoever began the lesson raises what was raised; this only ends it.
            Error::Interrupted
        })?;
        for parameter in parameters {
            if let Some(gradient) = gradients.get(parameter.name()) {
                parameter.set_gradient(gradient)?;
            }
        }
        Ok(loss)
    }
}

impl Lesson {
    /// Calls the function: (seed, step, steps) and a list of (name, shape, numbers) in, loss and bytes by name out.
    fn ask(
        &self,
        py: Python<'_>,
        batch: Batch,
        parameters: &[Parameter],
    ) -> PyResult<(f64, HashMap<String, Vec<f32>>)> {
        let mut given = Vec::with_capacity(parameters.len());
        for parameter in parameters {
            let mut memory = Memory::new(size_of_val(parameter.values()), Pages::Usual)?;
            for (out, value) in memory.bytes_mut().as_chunks_mut::<4>().0.iter_mut().zip(parameter.values()) {
                *out = value.to_le_bytes();
            }
            given.push((parameter.name(), parameter.shape().to_vec(), Buffer::owning(memory)));
        }
        let answer = self.gradient.call1(py, ((batch.seed, batch.step, batch.steps), given))?;
        let (loss, gradients): (f64, HashMap<String, Bound<'_, PyBytes>>) = answer.extract(py)?;
        let numbers = |bytes: &Bound<'_, PyBytes>| {
            bytes.as_bytes().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        Ok((loss, gradients.iter().map(|(name, bytes)| (name.clone(), numbers(bytes))).collect()))
    }
}
