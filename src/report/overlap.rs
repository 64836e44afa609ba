//! How much tasks collide: the positions that two packs share, and where they pull in opposite directions.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::method::quantize::dequantize;
use crate::method::step;
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::source::TensorSource;
use crate::model::tensor::RUN;
use crate::pack::VerifiedPack;
use crate::pack::body::Own;
use crate::pack::bound::DeltaBlocks;
use crate::report::document::path_text;

/// What every two of several packs share.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Overlaps {
    /// The packs as they were named.
    pub packs: Vec<String>,
    /// Their ids, in hex.
    pub ids: Vec<String>,
    /// One entry for every two.
    pub overlaps: Vec<Overlap>,
}

/// What two packs share.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Overlap {
    /// Places of the two packs in the list that was given.
    pub packs: (usize, usize),
    /// Positions that each keeps.
    pub kept: (u64, u64),
    /// Positions that both keep.
    pub shared: u64,
    /// Positions that both would keep if each had chosen at random within every tensor.
    pub by_chance: f64,
    /// Shared positions at which the deltas have opposite signs.
    pub opposite: u64,
    /// The same by tensor, for tensors that both touch.
    pub tensors: Vec<TensorOverlap>,
}

/// What two packs share of one tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TensorOverlap {
    /// The tensor's name.
    pub name: String,
    /// Its units.
    pub units: u64,
    /// Positions that each keeps.
    pub kept: (u64, u64),
    /// Positions that both keep.
    pub shared: u64,
    /// Positions that both would keep by chance.
    pub by_chance: f64,
    /// Shared positions with opposite signs.
    pub opposite: u64,
}

/// [`overlap`] with the packs' names and ids.
///
/// # Errors
/// As [`overlap`].
pub fn overlaps(names: &[&Path], packs: &[VerifiedPack], base: Option<&dyn TensorSource>) -> Result<Overlaps> {
    Ok(Overlaps {
        packs: names.iter().map(|name| path_text(name)).collect(),
        ids: packs.iter().map(|pack| pack.id().to_string()).collect(),
        overlaps: overlap(packs, base)?,
    })
}

/// Compares every two packs. They should be of the same base, which has to be given where packs are coded by what it has;
/// tensors are matched by name and shape.
///
/// # Errors
/// `DigestMismatch` or `Malformed` where a section is not what its manifest says.
pub fn overlap(packs: &[VerifiedPack], base: Option<&dyn TensorSource>) -> Result<Vec<Overlap>> {
    let mut out = Vec::new();
    for (i, a) in packs.iter().enumerate() {
        for (j, b) in packs.iter().enumerate().skip(i + 1) {
            out.push(Overlap { packs: (i, j), ..compare(a, b, base)? });
        }
    }
    Ok(out)
}

fn compare(a: &VerifiedPack, b: &VerifiedPack, base: Option<&dyn TensorSource>) -> Result<Overlap> {
    let mut others: BTreeMap<_, _> = b.rows().collect();
    let kept = (a.rows().map(|(_, o)| o.kept).sum(), b.rows().map(|(_, o)| o.kept).sum());
    let mut total = Overlap { kept, ..Overlap::default() };
    for (name, own) in a.rows() {
        let is_same = |o: &Own| o.info.shape == own.info.shape && o.info.dtype == own.info.dtype;
        let Some(other) = others.remove(name).filter(is_same) else { continue };
        let (units, dtype) = (own.info.units(), own.info.dtype);
        let mut t = TensorOverlap { name: name.into(), units, kept: (own.kept, other.kept), ..Default::default() };
        t.by_chance = own.kept as f64 * other.kept as f64 / units.max(1) as f64;
        let (x, y) = (a.blocks(own)?, b.blocks(other)?);
        let mut sides = (Side::default(), Side::default());
        for start in (0..units).step_by(RUN as usize) {
            sides.0.read(&x, base, dtype, start, units)?;
            sides.1.read(&y, base, dtype, start, units)?;
            count(&sides, &mut t);
        }
        total.shared += t.shared;
        total.opposite += t.opposite;
        total.by_chance += t.by_chance;
        total.tensors.push(t);
    }
    Ok(total)
}

/// What one pack keeps of a run: positions, and the sign of each delta.
#[derive(Default)]
struct Side {
    block: BlockDelta,
    delta: BlockDelta,
    signs: Vec<i8>,
}

impl Side {
    fn read(
        &mut self,
        blocks: &DeltaBlocks,
        base: Option<&dyn TensorSource>,
        dtype: Dtype,
        start: u64,
        units: u64,
    ) -> Result<()> {
        blocks.range(start, RUN.min(units - start), base, &mut self.block, &mut self.delta)?;
        let (kind, levels) = (blocks.kind(), blocks.levels());
        let sign = |code: &u64| match kind {
            ValueKind::Step => step::signed(dtype, *code).signum() as i8,
            _ => {
                // A scale is never negative, so it does not change a sign.
                let x: f32 = dequantize(kind, *code, 1.0, &levels);
                i8::from(x > 0.0) - i8::from(x < 0.0)
            }
        };
        self.signs.clear();
        self.signs.extend(self.delta.codes.iter().map(sign));
        Ok(())
    }
}

fn count((a, b): &(Side, Side), out: &mut TensorOverlap) {
    let mut others = b.delta.positions.iter().zip(&b.signs).peekable();
    for (p, sign) in a.delta.positions.iter().zip(&a.signs) {
        while others.next_if(|(q, _)| *q < p).is_some() {}
        if let Some((_, other)) = others.next_if(|(q, _)| *q == p) {
            out.shared += 1;
            out.opposite += u64::from(sign * other < 0);
        }
    }
}
