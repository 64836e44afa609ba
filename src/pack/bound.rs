//! A pack that is verified and matched to its base: the only state that gives deltas.

use crate::codec::block;
use crate::codec::classes::coder::Coder;
use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, OwnDelta};
use crate::format::rows::Row;
use crate::format::table::{BlockRow, Table};
use crate::limits::Limits;
use crate::model::delta::{BlockDelta, Groups, LEVELS, SignBlock, StepBlock, ValueKind};
use crate::model::digest::Digest;
use crate::model::dtype::Dtype;
use crate::model::identity::BaseIdentity;
use crate::model::mask::Mask;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::body::{BlockAt, Body, Own};
use crate::pack::diagnose;

/// A pack whose deltas may be stitched onto its base.
#[derive(Debug)]
pub struct BoundPack {
    body: Body,
}

impl BoundPack {
    pub(crate) fn new(body: Body) -> Self {
        BoundPack { body }
    }

    /// Whether a base is the one that the pack is bound to.
    ///
    /// # Errors
    /// As [`VerifiedPack::bind`](crate::VerifiedPack::bind).
    pub(crate) fn check_base(&self, base: &BaseIdentity) -> Result<()> {
        diagnose::compare(&self.body, base)
    }

    /// What the pack says it is.
    pub fn manifest(&self) -> &Manifest {
        &self.body.manifest
    }

    /// The digest that names the file.
    pub fn id(&self) -> Digest {
        self.body.header.id
    }

    /// The file's path, where there is one.
    pub fn path(&self) -> Option<&std::path::Path> {
        self.body.source().path()
    }

    /// What errors and recipes call the pack: its path, or the address that its source gives.
    pub fn name(&self) -> Option<&std::path::Path> {
        self.body.source().name()
    }

    /// Announces to the pack's source that the deltas of these tensors will be read, in this order.
    pub fn will_need<'n>(&self, tensors: impl IntoIterator<Item = &'n str>) {
        let row = |name: &str| self.body.own_of_row(self.body.manifest.tensors.find(name)?);
        self.body.will_need(&tensors.into_iter().filter_map(row).collect::<Vec<_>>());
    }

    /// Carried companion files: name and bytes.
    ///
    /// # Errors
    /// `DigestMismatch` or `Malformed` where a file is not what the manifest says.
    pub fn files(&self) -> impl Iterator<Item = Result<(&str, Vec<u8>)>> {
        let rows = self.body.manifest.files.iter().enumerate();
        rows.map(|(i, row)| Ok((row.name.as_str(), self.body.file(i)?)))
    }

    /// The deltas, by tensor name.
    ///
    /// # Errors
    /// On use: `DigestMismatch` or `Malformed` where a section is not what the manifest says.
    pub fn deltas(&self) -> impl Iterator<Item = TensorDelta<'_>> {
        (0..self.body.manifest.tensors.len()).filter_map(|row| TensorDelta::of(&self.body, row))
    }

    /// Those of the deltas that can only be carried exactly: of tensors that are no floats, or that the base lacks.
    pub(crate) fn exact_only(&self) -> impl Iterator<Item = TensorDelta<'_>> {
        self.body.exact_only().iter().filter_map(|row| TensorDelta::of(&self.body, *row))
    }

    /// The delta of one tensor, where the pack touches it.
    pub fn delta(&self, name: &str) -> Option<TensorDelta<'_>> {
        TensorDelta::of(&self.body, self.body.manifest.tensors.find(name)?)
    }
}

/// What a pack stores for one tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorDelta<'a> {
    body: &'a Body,
    row: usize,
    tensor: Row<'a>,
    own: &'a OwnDelta,
}

impl<'a> TensorDelta<'a> {
    fn of(body: &'a Body, row: usize) -> Option<Self> {
        let (_, own) = body.manifest.tensors.own(row)?;
        Some(TensorDelta { body, row, tensor: body.manifest.tensors.get(row)?, own })
    }

    /// The tensor's name.
    pub fn name(&self) -> &'a str {
        self.tensor.name
    }

    /// The name of the tensor whose row has the bytes: another's where the two are tied. [TEN-5]
    pub fn owner(&self) -> &'a str {
        let rows = &self.body.manifest.tensors;
        rows.own(self.row).and_then(|(own, _)| rows.get(own)).map_or(self.name(), |row| row.name)
    }

    /// Its name, dtype and shape.
    pub fn info(&self) -> TensorInfo {
        TensorInfo { name: self.name().into(), dtype: self.dtype(), shape: self.tensor.shape.into() }
    }

    /// The type of its elements.
    pub fn dtype(&self) -> Dtype {
        // A manifest with a dtype that is not known is refused when it is read, as are kinds.
        self.tensor.dtype().unwrap_or(Dtype::U8)
    }

    /// How its values are stored.
    pub fn kind(&self) -> ValueKind {
        self.own.kind().unwrap_or(ValueKind::Step)
    }

    /// Whether the tensor is carried whole, because the base lacks it or has it in another shape.
    pub fn is_carried(&self) -> bool {
        self.own.base.is_none()
    }

    /// Whether a gain amplifies it: steps lead to given bits, which none can. [GAI-2]
    pub fn has_gain(&self) -> bool {
        self.kind() != ValueKind::Step
    }

    /// Units kept.
    pub fn kept(&self) -> u64 {
        self.own.kept
    }

    /// Reads the tensor's table, after which ranges can be decoded.
    pub fn blocks(&self) -> Result<DeltaBlocks<'a>> {
        let own = self.body.own_of_row(self.row).ok_or_else(|| Error::Internal("a delta without a row".into()))?;
        DeltaBlocks::new(self.body, own)
    }

    /// All kept positions. `base` gives the base's bytes of the tensor, which some packs are coded with.
    ///
    /// # Errors
    /// `InvalidInput` where the base is needed and not given; `DigestMismatch` or `Malformed` as the pack gives them.
    pub fn mask(&self, base: Option<&dyn TensorSource>) -> Result<Mask> {
        // One bit a unit; a carried tensor can claim any number of them.
        let units = self.info().units();
        Limits::check("positions of a mask in memory", units, 1 << 36)?;
        let units = usize::try_from(units).unwrap_or(usize::MAX);
        let mut mask = Mask::empty(units);
        let (blocks, mut delta) = (self.blocks()?, BlockDelta::default());
        for i in 0..blocks.len() {
            blocks.decode(i, base, &mut delta)?;
            let start = usize::try_from(blocks.start_of(i)).unwrap_or(usize::MAX);
            for p in &delta.positions {
                mask.keep(start.saturating_add(*p as usize));
            }
        }
        Ok(mask)
    }
}

/// A delta with its table at hand: blocks can be decoded in any order, from any thread.
#[derive(Debug)]
pub struct DeltaBlocks<'a> {
    body: &'a Body,
    own: Own,
    table: Table,
    coder: Option<Coder>,
    /// Where each block starts in the delta's payload.
    starts: Vec<u64>,
}

impl<'a> DeltaBlocks<'a> {
    pub(crate) fn new(body: &'a Body, own: Own) -> Result<Self> {
        let table = body.table(&own)?;
        let coder = body.coder(&own, &table)?;
        let mut at = 0u64;
        let starts = table
            .blocks
            .iter()
            .map(|row| {
                let end = at.saturating_add(row.payload_len());
                std::mem::replace(&mut at, end)
            })
            .collect();
        Ok(DeltaBlocks { body, own, table, coder, starts })
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether the tensor has no blocks, because it has no elements.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// log2 of the units of a block.
    pub fn block_log2(&self) -> u32 {
        self.body.manifest.block_log2.into()
    }

    /// The first unit of block `i`.
    pub fn start_of(&self, i: usize) -> u64 {
        (i as u64).checked_shl(self.block_log2()).unwrap_or(u64::MAX)
    }

    /// Where and how block `i` is stored.
    pub fn row(&self, i: usize) -> Option<&BlockRow> {
        self.table.blocks.get(i)
    }

    /// Whether blocks cannot be decoded without the base's bytes.
    pub fn needs_base(&self) -> bool {
        (0..self.len()).any(|i| self.block_needs_base(i))
    }

    /// Whether block `i` cannot be decoded without the base's bytes.
    pub(crate) fn block_needs_base(&self, i: usize) -> bool {
        let row = self.table.blocks.get(i);
        row.is_some_and(|row| block::needs_base(row.mask_codec, row.value_codec, self.coder.as_ref()))
    }

    pub(crate) fn own(&self) -> &Own {
        &self.own
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Decodes block `i`; `base` gives the base's bytes of the tensor.
    pub fn decode(&self, i: usize, base: Option<&dyn TensorSource>, out: &mut BlockDelta) -> Result<()> {
        out.clear();
        match self.keeping(i) {
            Some(at) => self.body.block(&self.own, &at, base, |frame, stored| block::decode(frame, stored, out)),
            None => Ok(()),
        }
    }

    /// Decodes the block that units `start..start + len` are, of a delta of signs; false where they are not exactly one.
    pub(crate) fn signs(
        &self,
        start: u64,
        len: u64,
        base: Option<&dyn TensorSource>,
        out: &mut SignBlock,
    ) -> Result<bool> {
        if self.own.kind != ValueKind::Sign || !self.is_block(start, len) {
            return Ok(false);
        }
        out.clear();
        if let Some(at) = self.keeping_from(start) {
            self.body.block(&self.own, &at, base, |frame, stored| block::decode_signs(frame, stored, out))?;
        }
        Ok(true)
    }

    /// [`DeltaBlocks::signs`] of a delta of steps of 16 bits; false also where so few are kept that a list is better.
    pub(crate) fn steps(
        &self,
        start: u64,
        len: u64,
        base: Option<&dyn TensorSource>,
        out: &mut StepBlock,
    ) -> Result<bool> {
        if !self.is_block(start, len) {
            return Ok(false);
        }
        let Some(at) = self.keeping_from(start) else {
            out.clear();
            return Ok(true);
        };
        if !block::has_steps(self.own.kind, &self.own.info, at.row.kept, u32::try_from(len).unwrap_or(u32::MAX)) {
            return Ok(false);
        }
        self.body.block(&self.own, &at, base, |frame, stored| block::decode_steps(frame, stored, out))?;
        Ok(true)
    }

    /// Where block `i` is stored, where it keeps anything.
    fn keeping(&self, i: usize) -> Option<BlockAt<'_>> {
        let (row, start) = self.table.blocks.get(i).zip(self.starts.get(i)).filter(|(row, _)| row.kept > 0)?;
        Some(BlockAt { number: i as u64, row, payload_start: *start, coder: self.coder.as_ref() })
    }

    /// [`DeltaBlocks::keeping`] of the block that begins at unit `start`.
    fn keeping_from(&self, start: u64) -> Option<BlockAt<'_>> {
        self.keeping(usize::try_from(start.checked_shr(self.block_log2())?).ok()?)
    }

    /// Whether units `start..start + len` are exactly one block, as nearly always.
    fn is_block(&self, start: u64, len: u64) -> bool {
        let block_len = 1u64.checked_shl(self.block_log2()).unwrap_or(u64::MAX);
        let ends = start.saturating_add(len) == self.own.info.units();
        start.is_multiple_of(block_len) && (len == block_len || (len < block_len && ends))
    }

    /// Decodes what is kept of units `start..start + len`, which may span blocks; positions count from `start`, and `len` is
    /// at most 2^32 − 1. `block` is a buffer.
    pub fn range(
        &self,
        start: u64,
        len: u64,
        base: Option<&dyn TensorSource>,
        block: &mut BlockDelta,
        out: &mut BlockDelta,
    ) -> Result<()> {
        out.clear();
        let end = start.saturating_add(len);
        let first = start.checked_shr(self.block_log2()).unwrap_or(0);
        if self.is_block(start, len) {
            return self.decode(usize::try_from(first).unwrap_or(usize::MAX), base, out);
        }
        for i in usize::try_from(first).unwrap_or(usize::MAX)..self.len() {
            let block_start = self.start_of(i);
            if block_start >= end {
                break;
            }
            self.decode(i, base, block)?;
            let unit = |p: &u32| block_start.saturating_add(u64::from(*p));
            let from = block.positions.partition_point(|p| unit(p) < start);
            let to = block.positions.partition_point(|p| unit(p) < end);
            let positions = block.positions.get(from..to).unwrap_or(&[]);
            out.positions.extend(positions.iter().filter_map(|p| u32::try_from(unit(p).saturating_sub(start)).ok()));
            out.codes.extend_from_slice(block.codes.get(from..to).unwrap_or(&[]));
        }
        Ok(())
    }

    /// The scale of a unit's group; 0 for kinds without scales.
    pub fn scale_at(&self, unit: u64) -> f32 {
        let group = match self.own.groups {
            Groups::Tensor => 0,
            Groups::Row => unit.checked_div(self.own.info.row_len()).unwrap_or(0),
        };
        self.table.scales.get(usize::try_from(group).unwrap_or(usize::MAX)).copied().unwrap_or(0.0)
    }

    /// The one scale of the tensor, where it has no more than one.
    pub(crate) fn only_scale(&self) -> Option<f32> {
        match self.own.groups {
            Groups::Tensor => Some(self.table.scales.first().copied().unwrap_or(0.0)),
            Groups::Row => None,
        }
    }

    /// The levels of a codebook; zeros for other kinds.
    pub fn levels(&self) -> [f32; LEVELS] {
        self.table.levels.unwrap_or([0.0; LEVELS])
    }

    /// How values are stored.
    pub fn kind(&self) -> ValueKind {
        self.own.kind
    }
}
