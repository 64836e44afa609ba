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
pub(super) struct Preview {
    blocks: Vec<Placed>,
    /// The gain that the pack would have.
    pub gain: f64,
}

/// What is kept of one block.
struct Placed {
    /// Number of the tensor among those that take part.
    tensor: usize,
    dtype: Dtype,
    start: u64,
    positions: Vec<u32>,
    base: Vec<f32>,
    /// Dequantized, without the gain.
    deltas: Vec<f32>,
}

impl Preview {
    /// Of the pack that these options make; `base` holds the base's elements, a slice a tensor.
    pub fn of(pairs: &Pairs, options: &CreateOptions, base: &[Vec<f32>]) -> Result<Self> {
        let localized = Localized::of(pairs, options)?;
        let quantizer = Quantizer::fit(pairs, &localized, options)?;
        let mut this = Preview { blocks: Vec::new(), gain: quantizer.gain.into() };
        for ((tensor, (number, pair)), base) in pairs.floats().enumerate().zip(base) {
            let levels = quantizer.levels(number).unwrap_or_default();
            for i in localized.spans().of_pair(number) {
                let (span, _) = localized.spans().get(pairs, i)?;
                let delta = quantizer.encode(number, &pair.info, span.start, localized.kept(i)?)?;
                let unit = |p: &u32| span.start + u64::from(*p);
                let value = |(p, code): (&u32, &u64)| {
                    let scale = quantizer.scale_at(number, &pair.info, unit(p));
                    dequantize::<f32>(quantizer.kind, *code, scale, &levels)
                };
                let deltas = delta.positions.iter().zip(&delta.codes).map(value).collect();
                let at = |p: &u32| base.get(unit(p) as usize).copied().ok_or_else(beyond);
                let base = delta.positions.iter().map(at).collect::<Result<_>>()?;
                let (dtype, start) = (pair.info.dtype, span.start);
                this.blocks.push(Placed { tensor, dtype, start, positions: delta.positions, base, deltas });
            }
        }
        Ok(this)
    }

    /// Writes the kept elements over the base's, with a gain a tensor.
    pub fn place(&self, gains: &[f64], values: &mut [Vec<f32>]) -> Result<()> {
        for block in &self.blocks {
            let gain = *gains.get(block.tensor).ok_or_else(beyond)? as f32;
            let values = values.get_mut(block.tensor).ok_or_else(beyond)?;
            for ((position, base), delta) in block.positions.iter().zip(&block.base).zip(&block.deltas) {
                let sum = base + gain * delta;
                *values.get_mut(block.index(*position)).ok_or_else(beyond)? =
                    decode_f64(block.dtype, encode_f64(block.dtype, sum.into())) as f32;
            }
        }
        Ok(())
    }

    /// Puts the base's elements back.
    pub fn clear(&self, values: &mut [Vec<f32>]) -> Result<()> {
        for block in &self.blocks {
            let values = values.get_mut(block.tensor).ok_or_else(beyond)?;
            for (position, base) in block.positions.iter().zip(&block.base) {
                *values.get_mut(block.index(*position)).ok_or_else(beyond)? = *base;
            }
        }
        Ok(())
    }

    /// Slopes of the loss by the logarithm of each tensor's gain.
    pub fn gain_slopes(&self, gains: &[f64], gradients: &[Vec<f32>]) -> Result<Vec<f64>> {
        let mut slopes = vec![0.0; gains.len()];
        for block in &self.blocks {
            let slope = slopes.get_mut(block.tensor).ok_or_else(beyond)?;
            let gradient = gradients.get(block.tensor).ok_or_else(beyond)?;
            let gain = gains.get(block.tensor).ok_or_else(beyond)?;
            for (position, delta) in block.positions.iter().zip(&block.deltas) {
                let g = *gradient.get(block.index(*position)).ok_or_else(beyond)?;
                *slope += f64::from(g) * f64::from(*delta) * gain;
            }
        }
        Ok(slopes)
    }
}

impl Placed {
    /// Where an element lies in its tensor.
    fn index(&self, position: u32) -> usize {
        (self.start + u64::from(position)) as usize
    }
}

fn beyond() -> Error {
    Error::Internal("a preview of other tensors".into())
}
