//! The kinds of delta, and one block of one, decoded.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::model::numbered::{chosen, numbered};

numbered! {
    /// How kept values are stored. [VAL-1]
    #[derive(PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum ValueKind, "value kind" {
        /// The signed distance in bits ([`crate::method::step`]): applying it alone gives the fine-tuned bits.
        Step = 1 => "step",
        /// The delta as f32.
        F32 = 2 => "f32",
        /// The delta rounded to f16.
        F16 = 3 => "f16",
        /// The delta rounded to bf16.
        Bf16 = 4 => "bf16",
        /// A code from −127 to 127 times a scale.
        Int8 = 5 => "int8",
        /// A code from −7 to 7 times a scale.
        Int4 = 6 => "int4",
        /// A sign times a scale.
        Sign = 7 => "sign",
        /// One of 16 levels.
        Codebook = 8 => "codebook",
    }
}

/// Levels of a codebook.
pub const LEVELS: usize = 16;

impl ValueKind {
    /// Whether codes are multiplied by a scale.
    pub fn has_scale(self) -> bool {
        match self {
            ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign => true,
            ValueKind::Step | ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16 | ValueKind::Codebook => false,
        }
    }
}

impl FromStr for ValueKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let lossy: Vec<_> = ValueKind::ALL.iter().copied().filter(|kind| *kind != ValueKind::Step).collect();
        chosen("value kind", name, &lossy)
    }
}

/// Which run of positions shares one scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Groups {
    /// The whole tensor.
    #[default]
    Tensor,
    /// Each index of the first dimension; a tensor of rank 0 or 1 is one row.
    Row,
}

/// One block of a delta of signs: what [`BlockDelta`] lists, with a bit for each code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SignBlock {
    /// The kept units' numbers, ascending, where [few](SignBlock::is_listed) are kept; else empty.
    pub positions: Vec<u32>,
    /// One bit a unit of the block, lowest first, set where it is kept; whole words; empty where positions are listed.
    pub mask: Vec<u64>,
    /// One bit a kept unit, in order: 1 is minus.
    pub signs: Vec<u64>,
}

impl SignBlock {
    /// Whether so few units are kept that looking at each of them is cheaper than looking at all.
    pub fn is_listed(kept: u32, len: u32) -> bool {
        u64::from(kept).saturating_mul(8) < u64::from(len)
    }

    /// Turns a list of positions into bits, where it is one.
    pub fn unlist(&mut self, len: u32) {
        if self.mask.is_empty() {
            set_bits(&self.positions, len, &mut self.mask);
            self.positions.clear();
        }
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.mask.clear();
        self.signs.clear();
        self.positions.clear();
    }
}

/// One block of a delta of steps of 16 bits: what [`BlockDelta`] lists, as bits and narrow numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StepBlock {
    /// One bit a unit of the block, lowest first, set where it is kept; whole words.
    pub mask: Vec<u64>,
    /// One step a kept unit, in order; where `spread`, one a unit, 0 where it is not kept.
    pub steps: Vec<u16>,
    /// Whether those that are not kept have a step too.
    pub spread: bool,
}

impl StepBlock {
    /// Whether so few units are kept that a list of them costs less than looking at every word of the mask.
    pub fn is_listed(kept: u32, len: u32) -> bool {
        u64::from(kept).saturating_mul(16) < u64::from(len)
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.mask.clear();
        self.steps.clear();
        self.spread = false;
    }

    /// Lists the block.
    pub fn list(&self, out: &mut BlockDelta) {
        out.clear();
        list_bits(&self.mask, &mut out.positions);
        let kept = self.steps.iter().filter(|step| !self.spread || **step != 0);
        out.codes.extend(kept.map(|step| u64::from(*step)));
    }
}

/// Adds the numbers of the bits that are set.
pub(crate) fn list_bits(bits: &[u64], out: &mut Vec<u32>) {
    for (start, word) in (0u32..).step_by(64).zip(bits) {
        let mut word = *word;
        while word != 0 {
            out.push(start.wrapping_add(word.trailing_zeros()));
            word &= word.wrapping_sub(1);
        }
    }
}

/// Positions below `len` as one bit each; whole words.
pub(crate) fn set_bits(positions: &[u32], len: u32, out: &mut Vec<u64>) {
    out.clear();
    out.resize((len as usize).div_ceil(64), 0);
    // Each word is put together before it is written: many positions that follow each other would wait for the one before.
    let mut rest = positions;
    while let Some(first) = rest.first() {
        let number = first >> 6;
        let mut word = 0u64;
        while let Some((p, after)) = rest.split_first().filter(|(p, _)| **p >> 6 == number) {
            word |= 1 << (p & 63);
            rest = after;
        }
        if let Some(slot) = out.get_mut(number as usize) {
            *slot |= word;
        }
    }
}

/// One block of a delta: the positions that it keeps and a code for each.
///
/// Positions count from the start of the block and ascend strictly; `codes[i]` belongs to `positions[i]`. A code is the
/// bits of the value kind, zero-extended: f32, f16 or bf16 bits, the byte of an i8, a two's-complement nibble (int4), 1 for
/// minus (sign), a level (codebook), or a step modulo 2^b.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockDelta {
    /// Kept positions, from the start of the block.
    pub positions: Vec<u32>,
    /// One code a position.
    pub codes: Vec<u64>,
}

impl BlockDelta {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.codes.clear();
    }
}
