//! What a row of the pack is made of, and its blocks.

use std::borrow::Cow;

use crate::codec::block::Found;
use crate::create::localize::Localized;
use crate::create::pairs::{Pair, Pairs};
use crate::create::values::Quantizer;
use crate::error::Result;
use crate::method::float::load_unit;
use crate::method::step;
use crate::model::delta::{BlockDelta, Groups, StepBlock, ValueKind};
use crate::model::digest::Digest;
use crate::model::tensor::TensorInfo;

/// Where a delta comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// What is kept of a pair, of this number.
    Lossy(usize, &'a Pair),
    /// All that differs in a pair.
    Exact(&'a Pair),
    /// A tensor that the base lacks.
    Carried(&'a TensorInfo),
}

/// What is kept of a block, in the form in which it was found.
pub(super) enum Units {
    List(BlockDelta),
    Steps(StepBlock),
}

impl Units {
    pub fn found(&self) -> Found<'_> {
        match self {
            Units::List(delta) => Found::List(delta),
            Units::Steps(block) => Found::Steps(block),
        }
    }
}

/// What is kept of a block, the base's bytes of its units, and, but for lossy deltas, the fine-tuned bytes.
pub(super) struct Loaded<'a> {
    pub units: Units,
    pub base: Cow<'a, [u8]>,
    pub tuned: Cow<'a, [u8]>,
}

/// What sources are read with.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub pairs: &'a Pairs<'a>,
    pub localized: &'a Localized<'a>,
    pub quantizer: &'a Quantizer,
}

impl<'a> Inputs<'a> {
    /// Reads block `i` of a source; `steps` is a buffer.
    pub(super) fn read(&self, source: Source, i: usize, at: (u64, u64), steps: StepBlock) -> Result<Loaded<'a>> {
        match source {
            Source::Lossy(index, pair) => self.read_lossy(index, pair, i, at),
            Source::Exact(pair) => self.read_exact(pair, at, steps),
            Source::Carried(info) => self.read_carried(info, at),
        }
    }

    fn read_lossy(&self, index: usize, pair: &Pair, i: usize, (start, len): (u64, u64)) -> Result<Loaded<'a>> {
        let kept = self.localized.kept(self.localized.spans().of_pair(index).start + i)?;
        let delta = self.quantizer.encode(index, &pair.info, start, kept)?;
        let base = self.pairs.base_units(pair, start, len)?;
        Ok(Loaded { units: Units::List(delta), base, tuned: Cow::default() })
    }

    fn read_exact(&self, pair: &Pair, (start, len): (u64, u64), mut steps: StepBlock) -> Result<Loaded<'a>> {
        let (base, tuned) = (self.pairs.base_units(pair, start, len)?, self.pairs.tuned_units(pair, start, len)?);
        let dtype = pair.info.dtype;
        let units = if dtype.unit_bytes() == 2 {
            step::short_differences(dtype, &base, &tuned, &mut steps);
            Units::Steps(steps)
        } else {
            Units::List(step::differences(dtype, &base, &tuned))
        };
        Ok(Loaded { units, base, tuned })
    }

    fn read_carried(&self, info: &TensorInfo, (start, len): (u64, u64)) -> Result<Loaded<'a>> {
        let tuned = self.pairs.carried_units(info, start, len)?;
        let codes = tuned.chunks_exact(info.dtype.unit_bytes()).map(|b| step::step(info.dtype, 0, load_unit(b)));
        let delta = BlockDelta { positions: (0..len as u32).collect(), codes: codes.collect() };
        Ok(Loaded { units: Units::List(delta), base: Cow::default(), tuned })
    }

    /// How the values of a source are stored.
    pub(super) fn kind(&self, source: Source) -> ValueKind {
        match source {
            Source::Lossy(..) => self.quantizer.kind,
            Source::Exact(_) | Source::Carried(_) => ValueKind::Step,
        }
    }

    /// Which positions of a source share a scale.
    pub(super) fn groups(&self, source: Source) -> Groups {
        match source {
            Source::Lossy(..) => self.quantizer.groups,
            Source::Exact(_) | Source::Carried(_) => Groups::Tensor,
        }
    }
}

impl<'a> Source<'a> {
    /// The tensor that the delta is of.
    pub fn info(self) -> &'a TensorInfo {
        match self {
            Source::Lossy(_, pair) | Source::Exact(pair) => &pair.info,
            Source::Carried(info) => info,
        }
    }

    /// The digest of the base's tensor, where it has one.
    pub fn base(self) -> Option<Digest> {
        match self {
            Source::Lossy(_, pair) | Source::Exact(pair) => Some(pair.digest),
            Source::Carried(_) => None,
        }
    }
}
