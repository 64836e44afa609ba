//! One block of a delta: its mask and its codes, each by the codec that makes them smallest. spec/format.md, "Blocks".

mod decode;
mod encode;
mod scratch;
mod spread;

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::Units;
use crate::model::delta::ValueKind;
use crate::model::tensor::TensorInfo;

pub(crate) use decode::{Stored, decode, decode_signs, decode_steps};
pub(crate) use encode::{Encoded, Found, encode};
pub(crate) use spread::there_and_back;

/// Positions coded by class, with the tensor's coder. [CLS-5]
pub(crate) const CLASSED_MASK: u8 = 6;
/// Codes coded by class. [CLS-6]
pub(crate) const CLASSED_VALUES: u8 = 2;

/// Positions that are those of the steps that are not 0, and the steps of all units. Neither goes without the other. [CLS-7]
pub(crate) const SPREAD_MASK: u8 = 7;
pub(crate) const SPREAD_VALUES: u8 = 3;

/// Which units of which tensor a block holds, and what there is to code them with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub info: &'a TensorInfo,
    pub kind: ValueKind,
    /// The first unit.
    pub start: u64,
    pub len: u32,
    /// How units fall into classes, where the tensor says so.
    pub coder: Option<&'a Coder>,
    /// The base's bytes of the units; needed only where the coder uses them.
    pub base: &'a [u8],
}

impl Frame<'_> {
    pub fn units(&self) -> Units<'_> {
        Units { info: self.info, start: self.start, len: self.len, base: self.base }
    }
}

/// How hard an encoder tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Decodes at the speed of memory: no exponents of the base, no columns.
    Fast,
    /// The smallest pack at speeds that people can use.
    #[default]
    Default,
    /// Every codec is tried on every block.
    Small,
}

/// Whether a block is coded by class.
pub(crate) fn is_by_class(mask_codec: u8, value_codec: u8) -> bool {
    matches!(mask_codec, CLASSED_MASK | SPREAD_MASK) || value_codec >= CLASSED_VALUES
}

/// Whether a block cannot be decoded without the base's bytes.
pub(crate) fn needs_base(mask_codec: u8, value_codec: u8, coder: Option<&Coder>) -> bool {
    is_by_class(mask_codec, value_codec) && coder.is_some_and(|c| c.uses_base)
}

/// Whether a block of steps is decoded to bits and narrow numbers: those of 16 bits, where enough are kept that looking at every
/// word of the mask costs less than a list.
pub(crate) fn has_steps(kind: ValueKind, info: &TensorInfo, kept: u32, len: u32) -> bool {
    kind == ValueKind::Step && info.dtype.unit_bytes() == 2 && u64::from(kept).saturating_mul(16) >= u64::from(len)
}
