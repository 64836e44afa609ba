//! What a fit looks at: blocks of one tensor, with what each kept unit costs and what the base has there.

use crate::codec::classes::map::exponents;
use crate::codec::classes::symbols::Split;
use crate::method::step;
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::tensor::TensorInfo;

/// One block.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub start: u64,
    pub len: u32,
    pub positions: Vec<u32>,
    /// The symbol of each kept unit's code.
    pub symbols: Vec<u16>,
    /// How far each kept unit moved; 1 where that is not known.
    pub moved: Vec<f32>,
    /// By unit, where the base counts; empty elsewhere.
    pub exponents: Vec<u8>,
    /// Units by exponent.
    pub members: Vec<u64>,
}

/// Where the kept units of a block are, and how far each moved.
#[derive(Clone, Copy)]
pub(crate) struct Moved<'a> {
    pub start: u64,
    pub len: u32,
    pub positions: &'a [u32],
    pub moved: &'a [f32],
    /// By unit, where the base counts; empty elsewhere.
    pub exponents: &'a [u8],
}

/// How far each kept unit moved: in steps; 1 for lossy codes, which say little more than that a unit is kept.
pub(crate) fn moved(info: &TensorInfo, kind: ValueKind, delta: &BlockDelta) -> Vec<f32> {
    let distance = |code: &u64| match kind {
        ValueKind::Step => step::signed(info.dtype, *code).unsigned_abs().max(1) as f32,
        _ => 1.0,
    };
    delta.codes.iter().map(distance).collect()
}

impl Sample {
    /// Takes a block apart; `base` are the base's bytes of its units, empty where they do not count.
    pub fn new(info: &TensorInfo, kind: ValueKind, at: (u64, u64), delta: BlockDelta, base: &[u8]) -> Self {
        let mut sample = Sample { start: at.0, len: at.1 as u32, ..Sample::default() };
        if let Some(split) = Split::of(kind, info.dtype) {
            sample.symbols = delta.codes.iter().map(|c| split.take_apart(*c).symbol as u16).collect();
        }
        sample.moved = moved(info, kind, &delta);
        sample.positions = delta.positions;
        if !base.is_empty() {
            exponents(info.dtype, base, &mut sample.exponents);
            // Four counters an exponent, so that a run of one does not wait for itself.
            let mut counts = [[0u64; 256]; 4];
            for chunk in sample.exponents.chunks(4) {
                chunk.iter().zip(&mut counts).for_each(|(e, count)| count[usize::from(*e)] += 1);
            }
            sample.members = (0..256).map(|e| counts.iter().map(|c| c[e]).sum()).collect();
        }
        sample
    }

    /// What rows and columns look at.
    pub fn as_moved(&self) -> Moved<'_> {
        let Sample { start, len, positions, moved, exponents, .. } = self;
        Moved { start: *start, len: *len, positions, moved, exponents }
    }
}
