//! The kinds of delta, and one block of one, decoded.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How kept values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValueKind {
    /// The signed distance in bits ([`crate::method::step`]): applying it alone gives the fine-tuned bits.
    Step,
    /// The delta as f32.
    F32,
    /// The delta rounded to f16.
    F16,
    /// The delta rounded to bf16.
    Bf16,
    /// A code from −127 to 127 times a scale.
    Int8,
    /// A code from −7 to 7 times a scale.
    Int4,
    /// A sign times a scale.
    Sign,
    /// One of 16 levels.
    Codebook,
}

/// Every kind with its code in a pack and its name on the command line. [VAL-1]
const KINDS: [(ValueKind, u8, &str); 8] = [
    (ValueKind::Step, 1, "step"),
    (ValueKind::F32, 2, "f32"),
    (ValueKind::F16, 3, "f16"),
    (ValueKind::Bf16, 4, "bf16"),
    (ValueKind::Int8, 5, "int8"),
    (ValueKind::Int4, 6, "int4"),
    (ValueKind::Sign, 7, "sign"),
    (ValueKind::Codebook, 8, "codebook"),
];

/// Levels of a codebook.
pub const LEVELS: usize = 16;

impl ValueKind {
    /// The code of the kind in a pack.
    pub fn code(self) -> u8 {
        KINDS.iter().find(|row| row.0 == self).map_or(0, |row| row.1)
    }

    /// The kind with this code in a pack.
    pub fn from_code(code: u8) -> Option<Self> {
        KINDS.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The largest code of a kind that this build knows.
    pub fn newest() -> u8 {
        KINDS.len() as u8
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|row| row.0 == self).map_or("?", |row| row.2)
    }

    /// Whether codes are multiplied by a scale.
    pub fn has_scale(self) -> bool {
        matches!(self, ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign)
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ValueKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = KINDS.iter().find(|row| row.2 == text && row.0 != ValueKind::Step);
        found.map(|row| row.0).ok_or_else(|| {
            Error::InvalidInput(format!(
                "value kind \"{text}\" is not known; use f32, f16, bf16, int8, int4, sign or codebook"
            ))
        })
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
