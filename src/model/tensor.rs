//! A tensor's name, dtype and shape, without its data.

use crate::error::{Error, Result, is_unprintable};
use crate::limits::Limits;
use crate::model::dtype::Dtype;

/// log2 of the units in a block as packs are written: half a megabyte of bf16, so that a block fits a core's cache and still
/// gives its codecs enough to learn from. Readers take others. [MAN-4]
pub const BLOCK_LOG2: u8 = 18;

/// Units of a tensor that are computed at a time: a block of most packs, so that nothing is decoded twice.
pub const RUN: u64 = 1 << BLOCK_LOG2;

/// What a checkpoint or a pack says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the checkpoint. A label, never a path.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
}

impl TensorInfo {
    /// Checks the name, the rank and the size against the limits. [TEN-1] [TEN-2] [TEN-3]
    ///
    /// # Errors
    /// `Malformed` for a name that is empty or holds controls, or a size that overflows; `LimitExceeded` for one too large.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let place = || format!("tensor \"{}\"", crate::error::Escaped(&self.name));
        if self.name.is_empty() {
            return Err(Error::malformed("TEN-1", "tensor name", "is empty, must have at least one byte"));
        }
        Limits::check("tensor name length in bytes", self.name.len() as u64, limits.name_bytes)?;
        // Nearly every name is plain ASCII, which is seen many bytes at a time.
        let plain = self.name.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b));
        if let Some(c) = (!plain).then(|| self.name.chars().find(|c| is_unprintable(*c))).flatten() {
            return Err(Error::malformed(
                "TEN-1",
                place(),
                format!("the name holds {}, a control", c.escape_unicode()),
            ));
        }
        Limits::check("tensor rank", self.shape.len() as u64, limits.rank)?;
        let elements = self.shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d));
        let bits = elements.and_then(|n| n.checked_mul(u64::from(self.dtype.bits())));
        let (Some(elements), Some(bits)) = (elements, bits) else {
            return Err(Error::malformed("TEN-3", place(), format!("shape {:?} overflows 64 bits", self.shape)));
        };
        Limits::check("tensor elements", elements, limits.elements)?;
        if bits % 8 != 0 {
            return Err(Error::malformed("TEN-3", place(), format!("{bits} bits are not a whole number of bytes")));
        }
        Ok(())
    }

    /// Number of elements; 1 for a scalar, 0 for an empty tensor.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of data.
    pub fn byte_len(&self) -> u64 {
        self.elements() * u64::from(self.dtype.bits()) / 8
    }

    /// Number of units: what positions count (see [`Dtype::unit_bytes`]).
    pub fn units(&self) -> u64 {
        self.byte_len() / self.dtype.unit_bytes() as u64
    }

    /// Units of one row: the product of all dimensions but the first; the whole tensor where there is only one dimension.
    pub fn row_len(&self) -> u64 {
        match self.shape.first() {
            Some(rows) if self.shape.len() > 1 && *rows > 0 => self.units() / rows,
            _ => self.units(),
        }
    }
}
