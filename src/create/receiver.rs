//! The model that a receiver of a pack would get, in f32 and in the caller's buffers, while the pack is being learned. [LRN-4]

use crate::create::localize::Localized;
use crate::create::options::CreateOptions;
use crate::create::pairs::Pairs;
use crate::create::values::Quantizer;
use crate::error::{Error, Result};
use crate::method::float::{decode_f64, encode_f64};
use crate::method::quantize::dequantize;
use crate::model::dtype::Dtype;

/// What a pack would keep: 12 bytes an element.
pub(super) struct Receiver {
    blocks: Vec<Block>,
    /// The gain that the pack would have.
    pub gain: f64,
}

/// What is kept of one block.
struct Block {
    /// Number of the tensor among those that take part.
    tensor: usize,
    dtype: Dtype,
    start: u64,
    positions: Vec<u32>,
    base: Vec<f32>,
    /// Dequantized, without the gain.
    deltas: Vec<f32>,
}

impl Receiver {
    /// Of the pack that these options make; `base` holds the base's elements, a slice a tensor.
    pub fn of(pairs: &Pairs, options: &CreateOptions, base: &[Vec<f32>]) -> Result<Self> {
        let localized = Localized::of(pairs, options)?;
        let quantizer = Quantizer::fit(pairs, &localized, options)?;
        let mut this = Receiver { blocks: Vec::new(), gain: quantizer.gain.into() };
        for ((tensor, (number, pair)), base) in pairs.floats().enumerate().zip(base) {
            let levels = quantizer.levels(number).unwrap_or_default();
            for i in localized.blocks_of_pair(number) {
                let block = localized.blocks.get(i).ok_or_else(|| Error::Internal("no such block".into()))?;
                let delta = quantizer.encode(number, &pair.info, block.start, localized.kept(pairs, i)?)?;
                let unit = |p: &u32| block.start + u64::from(*p);
                let value = |(p, code): (&u32, &u64)| {
                    let scale = quantizer.scale_at(number, &pair.info, unit(p));
                    dequantize::<f32>(quantizer.kind, *code, scale, &levels)
                };
                let deltas = delta.positions.iter().zip(&delta.codes).map(value).collect();
                let at = |p: &u32| base.get(unit(p) as usize).copied().unwrap_or(0.0);
                let base = delta.positions.iter().map(at).collect();
                let (dtype, start) = (pair.info.dtype, block.start);
                this.blocks.push(Block { tensor, dtype, start, positions: delta.positions, base, deltas });
            }
        }
        Ok(this)
    }

    /// Writes the kept elements over the base's, with a gain a tensor.
    pub fn place(&self, gains: &[f64], values: &mut [Vec<f32>]) {
        for block in &self.blocks {
            let (Some(gain), Some(values)) = (gains.get(block.tensor), values.get_mut(block.tensor)) else { continue };
            let gain = *gain as f32;
            for ((position, base), delta) in block.positions.iter().zip(&block.base).zip(&block.deltas) {
                if let Some(value) = values.get_mut((block.start + u64::from(*position)) as usize) {
                    let sum = base + gain * delta;
                    *value = decode_f64(block.dtype, encode_f64(block.dtype, sum.into())) as f32;
                }
            }
        }
    }

    /// Puts the base's elements back.
    pub fn clear(&self, values: &mut [Vec<f32>]) {
        for block in &self.blocks {
            let Some(values) = values.get_mut(block.tensor) else { continue };
            for (position, base) in block.positions.iter().zip(&block.base) {
                if let Some(value) = values.get_mut((block.start + u64::from(*position)) as usize) {
                    *value = *base;
                }
            }
        }
    }

    /// Slopes of the loss by the logarithm of each tensor's gain.
    pub fn gain_slopes(&self, gains: &[f64], gradients: &[Vec<f32>]) -> Vec<f64> {
        let mut slopes = vec![0.0; gains.len()];
        for block in &self.blocks {
            let (Some(slope), Some(gradient)) = (slopes.get_mut(block.tensor), gradients.get(block.tensor)) else {
                continue;
            };
            let gain = gains.get(block.tensor).copied().unwrap_or(0.0);
            for (position, delta) in block.positions.iter().zip(&block.deltas) {
                let g = gradient.get((block.start + u64::from(*position)) as usize).copied().unwrap_or(0.0);
                *slope += f64::from(g) * f64::from(*delta) * gain;
            }
        }
        slopes
    }
}
