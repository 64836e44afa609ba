//! The merge that is being tried: its elements, and the slopes of its loss.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::merge::calibrate::Delta;
use crate::merge::model::StitchedModel;
use crate::merge::reader::Buffers;
use crate::merge::stitchers::Stitchers;
use crate::method::learn::gradient::{Batch, Gradient, Parameter, evaluate};
use crate::method::localize::keys::numbers;
use crate::model::tensor::{self, TensorInfo};
use crate::parallel::Workers;

/// Elements of which slopes are taken at a time.
const RUN: usize = tensor::RUN as usize;

/// Parameters and gradient, of which memory is taken once.
pub(super) struct Trial {
    tensors: Vec<TensorInfo>,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

impl Trial {
    pub fn new(model: &StitchedModel, workers: &Workers) -> Result<Self> {
        let of_floats = model.tensors().filter(|info| info.dtype.is_float() && !is_duplicate(model, &info.name));
        let tensors: Vec<TensorInfo> = of_floats.cloned().collect();
        let values: Vec<Vec<f32>> = tensors.iter().map(|info| vec![0.0; info.elements() as usize]).collect();
        let mut this = Trial { gradients: values.clone(), tensors, values };
        this.place(model, |_| true, workers)?;
        Ok(this)
    }

    /// Slopes of the loss, at the model with its gains, by the logarithms of the gains that move. [CAL-1] [CAL-2]
    pub fn slopes(
        &mut self,
        model: &StitchedModel,
        held: &[Delta],
        batch: Batch,
        gradient: &mut dyn Gradient,
        workers: &Workers,
    ) -> Result<Vec<f64>> {
        self.place(model, |name| model.touches_here(name), workers)?;
        workers.check_cancelled()?;
        let each = self.tensors.iter().zip(&self.values).zip(&mut self.gradients);
        let mut parameters: Vec<Parameter> =
            each.map(|((info, values), slopes)| Parameter::new(&info.name, &info.shape, values, slopes)).collect();
        evaluate(gradient, batch, &mut parameters)?;
        self.slopes_of(model, held, workers)
    }

    /// Takes the elements of tensors from the model.
    fn place(&mut self, model: &StitchedModel, which: impl Fn(&str) -> bool, workers: &Workers) -> Result<()> {
        let each = self.tensors.iter().zip(&mut self.values).filter(|(info, _)| which(&info.name));
        let mut runs = Vec::new();
        for (info, values) in each {
            runs.extend(values.chunks_mut(RUN).enumerate().map(|(i, run)| (info, i * RUN, Mutex::new(run))));
        }
        let stitchers = Stitchers::new(model);
        workers.for_each(runs.len(), Room::default, |Room { bytes, wide, buffers }, i| {
            let Some((info, start, run)) = runs.get(i) else { return Ok(()) };
            let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
            let unit = info.dtype.unit_bytes();
            bytes.resize(run.len() * unit, 0);
            stitchers.get(&info.name)?.read_into((start * unit) as u64, bytes, buffers)?;
            numbers(info.dtype, bytes, wide);
            run.iter_mut().zip(wide).for_each(|(out, x)| *out = *x as f32);
            Ok(())
        })?;
        model.base().unchanged()
    }

    /// Runs are added in their order, so that no number of threads shows.
    fn slopes_of(&self, model: &StitchedModel, held: &[Delta], workers: &Workers) -> Result<Vec<f64>> {
        let mut runs = Vec::new();
        for (info, gradient) in self.tensors.iter().zip(&self.gradients).filter(|(t, _)| model.touches_here(&t.name)) {
            runs.extend(gradient.chunks(RUN).enumerate().map(|(i, run)| (info, i * RUN, run)));
        }
        let stitchers = Stitchers::new(model);
        let mut out = vec![0.0; held.len()];
        let slopes = |i: usize| {
            let (info, start, gradient) = *runs.get(i).ok_or_else(|| Error::Internal("no such run".into()))?;
            Ok((&info.name, stitchers.get(&info.name)?.stitcher().gain_slopes(start as u64, gradient)?))
        };
        workers.in_order(runs.len(), slopes, |_, (tensor, slopes)| {
            for (pack, slope) in slopes.into_iter().enumerate() {
                let key = Delta { pack, tensor: tensor.clone() };
                if let Some(sum) = held.binary_search(&key).ok().and_then(|at| out.get_mut(at)) {
                    *sum += slope;
                }
            }
            Ok(())
        })?;
        Ok(out)
    }
}

/// What a thread keeps between runs.
#[derive(Default)]
struct Room {
    bytes: Vec<u8>,
    wide: Vec<f64>,
    buffers: Buffers,
}

/// Whether all packs that touch a tensor hold its delta as another's.
fn is_duplicate(model: &StitchedModel, name: &str) -> bool {
    let mut deltas = model.layers().iter().filter_map(|layer| layer.pack.delta(name)).peekable();
    deltas.peek().is_some() && deltas.all(|delta| delta.owner() != name)
}
