//! The bytes of a block when a lossy pack is applied alone. [RES-1]

use crate::create::encode::source::Inputs;
use crate::create::pairs::Pair;
use crate::error::{Error, Escaped, Result};
use crate::method::float::{Real, with_element};
use crate::method::quantize::dequantize;
use crate::method::stitch::{Met, OverlapRule, Part, stitch};
use crate::model::delta::BlockDelta;
use crate::model::tensor::TensorInfo;

impl Inputs<'_> {
    /// The base's bytes of a block that begins at unit `start` of pair `index`, stitched; refuses what becomes infinite or NaN.
    pub(super) fn outcome(
        &self,
        index: usize,
        pair: &Pair,
        start: u64,
        base: &[u8],
        delta: &BlockDelta,
    ) -> Result<Vec<u8>> {
        let mut run = base.to_vec();
        let mut met = Met::default();
        with_element!(pair.info.dtype, E => {
            let deltas = self.numbers::<<E as crate::method::float::Element>::Real>(index, &pair.info, start, delta);
            let part = Part { positions: &delta.positions, deltas: &deltas, bits: None, weight: 1.0 };
            stitch::<E>(&mut run, &[part], OverlapRule::Average, 1.0, &mut met);
        }, return Err(Error::Internal(format!("a lossy delta of {} elements", pair.info.dtype))));
        if met.nonfinite > 0 {
            let (name, n) = (Escaped(&pair.info.name), met.nonfinite);
            return Err(Error::Refused(format!(
                "tensor \"{name}\": {n} elements of a block would become infinite or NaN with gain {}; use a smaller --rescale or --exclude it",
                self.quantizer.gain
            )));
        }
        Ok(run)
    }

    /// d of each kept position at weight 1.
    fn numbers<R: Real>(&self, index: usize, info: &TensorInfo, start: u64, delta: &BlockDelta) -> Vec<R> {
        let levels = self.quantizer.levels(index).unwrap_or_default();
        let gain = R::from_f32(self.quantizer.gain);
        let units = delta.positions.iter().zip(&delta.codes);
        units
            .map(|(p, code)| {
                let scale = self.quantizer.scale_at(index, info, start + u64::from(*p));
                gain.mul(dequantize::<R>(self.quantizer.kind, *code, scale, &levels))
            })
            .collect()
    }
}
