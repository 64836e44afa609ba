//! A staged set: by block, what is kept, what it becomes, and what it was in the base.

use std::collections::BTreeMap;
use std::iter::Peekable;

use crate::checkpoint::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::live::stage::stage;
use crate::merge::StitchedModel;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// A set of packs, computed: what a commit has to write, and what the commit after it has to put back.
#[derive(Debug)]
pub struct Staged<'a> {
    pub(super) base: &'a dyn ModelSource,
    /// Touched tensors; their blocks ascend, and those that keep nothing are left out.
    pub(super) tensors: BTreeMap<&'a str, (&'a TensorInfo, Vec<Block>)>,
}

/// What is kept of one block of a tensor.
#[derive(Debug)]
pub(super) struct Block {
    /// Its first unit.
    pub start: u64,
    /// Kept positions, from `start`, strictly ascending; none where it is cheaper to hold all units of the block.
    pub positions: Option<Vec<u32>>,
    /// The bytes of each held unit with the set on the base.
    pub stitched: Vec<u8>,
    /// And without.
    pub base: Vec<u8>,
}

/// What one tensor has to be given: the same as a sparse patch in checkpoint coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Update<'a> {
    /// Name, dtype and shape.
    pub tensor: &'a TensorInfo,
    /// Flat row-major positions of units, strictly ascending (see [`Dtype::unit_bytes`](crate::model::dtype::Dtype::unit_bytes)).
    pub positions: Vec<u64>,
    /// The little-endian bytes of each unit.
    pub values: Vec<u8>,
}

impl<'a> Staged<'a> {
    /// Computes what a model has where its packs keep anything, for tensors that live elsewhere: what [`Live::stage`](crate::Live::stage)
    /// does for its own.
    ///
    /// # Errors
    /// `InvalidInput` for a model on another checkpoint than `base`; `Refused` for a set that carries a tensor which the base lacks or has in another shape, for an overlap under `refuse`, and
    /// for finite elements that would become infinite or NaN; `DigestMismatch` or `Malformed` for a damaged pack; `Io`.
    pub fn of(base: &'a dyn ModelSource, model: &StitchedModel, workers: &Workers) -> Result<Self> {
        if !std::ptr::addr_eq(model.base(), base) {
            return Err(Error::InvalidInput("the model is on another checkpoint than the live tensors".into()));
        }
        if let Some(name) = model.carried().keys().next() {
            return Err(Error::Refused(format!(
                "tensor \"{}\" is not in the base, or not in this shape; a set that adds or reshapes tensors cannot be \
                 swapped in, load the model anew",
                Escaped(name)
            )));
        }
        let touched: Vec<&TensorInfo> = base.infos().into_iter().filter(|t| model.touches(&t.name)).collect();
        stage(base, model, &touched, workers)
    }

    /// The tensors of which something is held, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &'a TensorInfo> {
        self.tensors.values().map(|(info, _)| *info)
    }

    /// Bytes of positions and values in memory: for each kept unit of w bytes 4 + 2w, for a block in which that would be more
    /// than twice its bytes just those. So never more than twice the touched tensors.
    pub fn memory(&self) -> u64 {
        self.tensors.values().flat_map(|(_, blocks)| blocks).map(Block::memory).sum()
    }

    /// Units that are held: those kept, and all of a block that is held whole.
    pub fn units(&self) -> u64 {
        let units = |(info, blocks): &(&TensorInfo, Vec<Block>)| {
            blocks.iter().map(|b| (b.stitched.len() / info.dtype.unit_bytes()) as u64).sum::<u64>()
        };
        self.tensors.values().map(units).sum()
    }

    /// What turns tensors that hold the set `held` (none: the base) into those of this one, by tensor name: the units that
    /// either set holds, with their new values. Both sets have to be of the same base.
    pub fn updates<'s>(&'s self, held: Option<&'s Staged<'a>>) -> impl Iterator<Item = Update<'a>> + use<'s, 'a> {
        let both = held.into_iter().chain([self]).flat_map(|set| &set.tensors);
        let infos: BTreeMap<&str, &'a TensorInfo> = both.map(|(name, (info, _))| (*name, *info)).collect();
        infos.into_values().map(move |tensor| {
            let width = tensor.dtype.unit_bytes();
            let old = Self::blocks_of(held, &tensor.name).iter().flat_map(move |b| b.cells(&b.base, width));
            let new = Self::blocks_of(Some(self), &tensor.name).iter().flat_map(move |b| b.cells(&b.stitched, width));
            let mut update = Update { tensor, positions: Vec::new(), values: Vec::new() };
            merge(old.peekable(), new.peekable(), |(position, value)| {
                update.positions.push(position);
                update.values.extend_from_slice(value);
            });
            update
        })
    }

    /// The units of one tensor whose bits differ from the base's, in ascending order.
    pub(crate) fn changed(&self, tensor: &TensorInfo) -> impl Iterator<Item = Changed<'_>> {
        let width = tensor.dtype.unit_bytes();
        Self::blocks_of(Some(self), &tensor.name).iter().flat_map(move |block| {
            let cells = block.cells(&block.stitched, width).zip(block.base.chunks_exact(width));
            let changed = cells.filter(|((_, stitched), base)| stitched != base);
            changed.map(|((position, stitched), base)| Changed { position, base, stitched })
        })
    }

    /// The blocks of one tensor; none where there is no set, or it does not touch the tensor.
    pub(super) fn blocks_of<'s>(set: Option<&'s Staged<'_>>, name: &str) -> &'s [Block] {
        set.and_then(|set| set.tensors.get(name)).map_or(&[], |(_, blocks)| blocks)
    }
}

/// A unit with other bits than in the base.
pub(crate) struct Changed<'s> {
    /// Its position in its tensor.
    pub position: u64,
    /// Its bytes in the base.
    pub base: &'s [u8],
    /// What they become.
    pub stitched: &'s [u8],
}

/// A unit's position in its tensor, and its bytes.
type Cell<'s> = (u64, &'s [u8]);

/// Both in ascending order; of cells at one position the new one.
fn merge<'s>(
    mut old: Peekable<impl Iterator<Item = Cell<'s>>>,
    new: Peekable<impl Iterator<Item = Cell<'s>>>,
    mut sink: impl FnMut(Cell<'s>),
) {
    for cell in new {
        while let Some(before) = old.next_if(|(position, _)| *position < cell.0) {
            sink(before);
        }
        old.next_if(|(position, _)| *position == cell.0);
        sink(cell);
    }
    old.for_each(sink);
}

impl Block {
    /// Of one block, units of `width` bytes, holds those at `positions`, or all where that is less.
    pub fn new(start: u64, positions: &[u32], width: usize, stitched: &[u8], base: &[u8]) -> Self {
        if positions.len() * (size_of::<u32>() + 2 * width) > 2 * stitched.len() {
            return Block { start, positions: None, stitched: stitched.to_vec(), base: base.to_vec() };
        }
        let (gathered, originals) = (gather(positions, stitched, width), gather(positions, base, width));
        Block { start, positions: Some(positions.to_vec()), stitched: gathered, base: originals }
    }

    fn memory(&self) -> u64 {
        let positions = self.positions.as_ref().map_or(0, |p| p.len() * size_of::<u32>());
        (positions + self.stitched.len() + self.base.len()) as u64
    }

    fn cells<'s>(&'s self, values: &'s [u8], width: usize) -> impl Iterator<Item = Cell<'s>> {
        values.chunks_exact(width).enumerate().map(|(i, value)| {
            let position = self.positions.as_ref().map_or(i as u64, |p| p.get(i).copied().map_or(0, u64::from));
            (self.start + position, value)
        })
    }

    /// Writes `values`, one a held unit, into the tensor's bytes.
    fn write(&self, values: &[u8], width: usize, tensor: &mut [u8]) {
        let Some((_, block)) = tensor.split_at_mut_checked(self.start as usize * width) else { return };
        let Some(positions) = &self.positions else {
            return if let Some(whole) = block.get_mut(..values.len()) {
                whole.copy_from_slice(values)
            };
        };
        match width {
            1 => scatter::<1>(positions, values, block),
            2 => scatter::<2>(positions, values, block),
            4 => scatter::<4>(positions, values, block),
            _ => scatter::<8>(positions, values, block),
        }
    }
}

/// Puts the base's units back where `old` has any, and writes those of `new`, block after block so that what both hold is
/// still in the cache.
pub(super) fn write_tensor(width: usize, old: &[Block], new: &[Block], tensor: &mut [u8]) {
    let mut old = old.iter().peekable();
    for block in new {
        while let Some(before) = old.next_if(|b| b.start <= block.start) {
            // A block that is written whole needs nothing put back first.
            if before.start < block.start || block.positions.is_some() {
                before.write(&before.base, width, tensor);
            }
        }
        block.write(&block.stitched, width, tensor);
    }
    old.for_each(|before| before.write(&before.base, width, tensor));
}

fn gather(positions: &[u32], from: &[u8], width: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(positions.len() * width);
    for p in positions {
        let at = *p as usize * width;
        out.extend_from_slice(from.get(at..at + width).unwrap_or(&[]));
    }
    out
}

fn scatter<const WIDTH: usize>(positions: &[u32], values: &[u8], block: &mut [u8]) {
    let (units, values) = (block.as_chunks_mut::<WIDTH>().0, values.as_chunks::<WIDTH>().0);
    for (position, value) in positions.iter().zip(values) {
        if let Some(unit) = units.get_mut(*position as usize) {
            *unit = *value;
        }
    }
}
