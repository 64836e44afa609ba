//! How a loss changes with the gains of the packs of a merge: spec/numbers.md, "Calibrating".

use crate::error::Result;
use crate::merge::tensor::{Buffered, Computed, LayerDelta, LayerRun, TensorStitcher};
use crate::method::float::{Element, Real, with_element};
use crate::method::shares::shares;
use crate::model::delta::BlockDelta;

impl TensorStitcher<'_> {
    /// Slopes of the loss by the logarithm of each layer's gain, with the gradient of the elements from `start` on. Layers that do
    /// not touch the tensor, and steps, which have no gain, have slope 0. [CAL-2]
    pub fn gain_slopes(&self, start: u64, gradient: &[f32]) -> Result<Vec<f64>> {
        let len = gradient.len() as u64;
        let ground = self.model.ground_units(&self.info.name, start, len)?;
        let computed = Computed { stitcher: self, start, len, bytes: &ground };
        let (mut block, mut runs) = (BlockDelta::default(), Vec::with_capacity(self.deltas.len()));
        for layer in &self.deltas {
            let mut run = LayerRun::default();
            layer.blocks.range(start, len, Some(&computed), &mut block, &mut run.delta)?;
            with_element!(self.info.dtype, E => layer.numbers_of::<E>(self, start, &ground, &mut run), ());
            runs.push(run);
        }
        let mut slopes = vec![0.0; self.model.layers.len()];
        self.add_slopes(&runs, gradient, &mut slopes);
        Ok(slopes)
    }

    fn add_slopes(&self, runs: &[LayerRun], gradient: &[f32], slopes: &mut [f64]) {
        let mut cursors = vec![0usize; runs.len()];
        let (mut keeping, mut deltas, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let heads = runs.iter().zip(&cursors).filter_map(|(run, c)| run.delta.positions.get(*c));
            let Some(position) = heads.min().copied() else { return };
            keeping.clear();
            deltas.clear();
            weights.clear();
            for ((layer, run), cursor) in self.deltas.iter().zip(runs).zip(&mut cursors) {
                if run.delta.positions.get(*cursor) == Some(&position) {
                    keeping.push(layer);
                    deltas.extend(run.f64s.get(*cursor));
                    weights.push(layer.weight);
                    *cursor += 1;
                }
            }
            shares(self.model.rule, &mut deltas, &weights);
            let slope = f64::from(gradient.get(position as usize).copied().unwrap_or(0.0));
            for (layer, share) in keeping.iter().zip(&deltas).filter(|(layer, _)| !layer.is_step()) {
                if let Some(out) = slopes.get_mut(layer.number) {
                    *out += slope * share * f64::from(self.model.lambda);
                }
            }
        }
    }
}

impl LayerDelta<'_> {
    /// d of every kept element, in f64.
    fn numbers_of<E: Element<Real: Buffered>>(
        &self,
        of: &TensorStitcher,
        start: u64,
        ground: &[u8],
        run: &mut LayerRun,
    ) {
        if self.is_step() {
            self.derive::<E>(of.info, ground, run);
            run.f64s = Buffered::of(run).iter().map(|d: &E::Real| d.to_f64()).collect();
        } else {
            self.dequantize::<f64>(start, run);
        }
    }
}
