//! Whoever has the bytes of a model's tensors.

use std::borrow::Cow;

use crate::error::Result;

/// Gives the bytes of tensors: a checkpoint, or a model that is computed.
pub trait TensorSource: Sync {
    /// The little-endian bytes of `len` units of a tensor, from unit `start`.
    ///
    /// # Errors
    /// `InvalidInput` where there is no such tensor or range; `Io` where it cannot be read.
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>>;
}
