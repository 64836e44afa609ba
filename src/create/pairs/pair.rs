//! One tensor on both sides.

use std::borrow::Cow;

use crate::error::{Error, Escaped, Result};
use crate::method::float::{decode_f64, encode_f64, load_unit, store_unit};
use crate::model::digest::Digest;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// A tensor that both checkpoints have, with one shape.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// As the base has it.
    pub info: TensorInfo,
    pub digest: Digest,
    /// Fine-tuned values are rounded from this dtype.
    pub(super) cast_from: Option<Dtype>,
    /// The earlier pair that has the same bytes on both sides.
    pub same_as: Option<usize>,
}

impl Pair {
    /// Fine-tuned bytes in the base's dtype, from their own.
    pub(super) fn cast<'a>(&self, bytes: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>> {
        let Some(from) = self.cast_from else { return Ok(bytes) };
        let (to, width) = (self.info.dtype, self.info.dtype.unit_bytes());
        let mut out = vec![0; bytes.len() / from.unit_bytes() * width];
        for (to_bytes, from_bytes) in out.chunks_exact_mut(width).zip(bytes.chunks_exact(from.unit_bytes())) {
            let x = decode_f64(from, load_unit(from_bytes));
            let bits = encode_f64(to, x);
            if x.is_finite() && !decode_f64(to, bits).is_finite() {
                let name = Escaped(&self.info.name);
                return Err(Error::Refused(format!(
                    "tensor \"{name}\": {x:e} does not fit {to}, so --cast is not possible"
                )));
            }
            store_unit(to_bytes, bits);
        }
        Ok(Cow::Owned(out))
    }
}
