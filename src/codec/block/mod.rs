//! One block of a delta: its mask and its codes, each by the codec that makes them smallest. spec/format.md, "Blocks".

mod decode;
mod encode;
mod scratch;
mod spread;

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::Units;
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{StepBlock, ValueKind};
use crate::model::tensor::TensorInfo;

pub(crate) use decode::{Stored, decode, decode_signs, decode_steps};
pub(crate) use encode::{Encoded, Found, encode};
pub(crate) use spread::there_and_back;

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
pub(crate) fn is_by_class(mask: MaskCodec, values: ValueCodec) -> bool {
    mask.is_by_class() || values.is_by_class()
}

/// Whether a block cannot be decoded without the base's bytes.
pub(crate) fn needs_base(mask: MaskCodec, values: ValueCodec, coder: Option<&Coder>) -> bool {
    is_by_class(mask, values) && coder.is_some_and(|c| c.uses_base)
}

/// Whether a block is decoded to bits and narrow numbers: one of steps of 16 bits, where they are not
/// [few](StepBlock::is_listed).
pub(crate) fn has_steps(kind: ValueKind, info: &TensorInfo, kept: u32, len: u32) -> bool {
    kind == ValueKind::Step && info.dtype.unit_bytes() == 2 && !StepBlock::is_listed(kept, len)
}
