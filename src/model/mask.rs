//! The kept positions of one tensor.

use bitvec::prelude::{BitVec, Lsb0};

/// A set of positions among the units of a tensor, one bit each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mask {
    bits: BitVec<u64, Lsb0>,
    kept: u64,
}

impl Mask {
    /// A mask of `len` positions that keeps none.
    pub fn empty(len: usize) -> Self {
        Mask { bits: BitVec::repeat(false, len), kept: 0 }
    }

    /// From bits, position 0 first.
    pub fn from_bits(bits: BitVec<u64, Lsb0>) -> Self {
        let kept = bits.count_ones() as u64;
        Mask { bits, kept }
    }

    /// Keeps `position`; false when it was kept already.
    ///
    /// # Panics
    /// When `position` is not below [`len`](Mask::len).
    pub fn keep(&mut self, position: usize) -> bool {
        let fresh = !self.bits.replace(position, true);
        self.kept += u64::from(fresh);
        fresh
    }

    /// Whether `position` is kept; false past the end.
    pub fn keeps(&self, position: usize) -> bool {
        self.bits.get(position).is_some_and(|b| *b)
    }

    /// Positions in all.
    pub fn len(&self) -> usize {
        self.bits.len()
    }

    /// Whether the tensor has no positions.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// Positions kept.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// kept ÷ total; 0 for an empty tensor.
    pub fn density(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.kept as f64 / self.len() as f64 }
    }

    /// The kept positions, ascending.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter_ones()
    }

    /// The bits.
    pub fn as_bits(&self) -> &BitVec<u64, Lsb0> {
        &self.bits
    }

    /// How many positions both masks keep. Positions past the shorter one count as not kept.
    pub fn shared(&self, other: &Mask) -> u64 {
        // Whole words: bitvec's own `&` walks bit by bit.
        let pairs = self.bits.as_raw_slice().iter().zip(other.bits.as_raw_slice());
        pairs.map(|(a, b)| u64::from((a & b).count_ones())).sum()
    }
}
