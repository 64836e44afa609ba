//! Tensors of a stitched model in memory: whole, or any range of bytes.

use std::borrow::Cow;
use std::ops::Range;

use crate::error::{Error, Escaped, Result};
use crate::merge::model::{StitchedModel, nonfinite_refused};
use crate::merge::tensor::{Scratch, TensorStitcher};
use crate::method::stitch::Met;
use crate::model::source::TensorSource;
use crate::model::tensor::{RUN, TensorInfo};
use crate::parallel::Workers;

/// Runs from which on a range is shared by threads.
const MANY: u64 = 8;

/// What a thread keeps between reads so that nothing is allocated anew: a few MB.
#[derive(Debug, Default)]
pub struct Buffers {
    scratch: Scratch,
    /// Whole units, where a range begins or ends within one.
    edge: Vec<u8>,
}

/// One tensor, ready to be read in any order and from any thread: the tables of its deltas are read, nothing else is.
#[derive(Debug)]
pub struct TensorReader<'a> {
    stitcher: TensorStitcher<'a>,
    touched: bool,
}

impl<'a> StitchedModel<'a> {
    /// Makes a tensor ready to be read.
    ///
    /// # Errors
    /// `InvalidInput` for a name that the model lacks; `DigestMismatch` or `Malformed` as the packs give them.
    pub fn reader(&self, name: &str) -> Result<TensorReader<'_>> {
        Ok(TensorReader { stitcher: self.stitcher(name)?, touched: self.touches(name) })
    }

    /// All bytes of a tensor, little-endian: borrowed from the base's mapping where no pack touches it.
    ///
    /// # Errors
    /// As [`StitchedModel::reader`] and [`TensorReader::read_into`].
    pub fn bytes(&self, name: &str) -> Result<Cow<'_, [u8]>> {
        let units = self.tensor(name).map_or(0, TensorInfo::units);
        self.units(name, 0, units)
    }

    /// The bytes `range` of a tensor into `out`, which has their length, at the cost of the blocks that they lie in. Many blocks are
    /// shared by all cores; who has threads of their own uses a [`TensorReader`] in each.
    ///
    /// # Errors
    /// As [`StitchedModel::reader`] and [`TensorReader::read_into`]; `InvalidInput` where `out` has another length.
    pub fn read_into(&self, name: &str, range: Range<u64>, out: &mut [u8]) -> Result<()> {
        if range.end.checked_sub(range.start) != Some(out.len() as u64) {
            return Err(Error::InvalidInput(format!("{} bytes cannot hold the range {range:?}", out.len())));
        }
        let reader = self.reader(name)?;
        let run = RUN * reader.info().dtype.unit_bytes() as u64;
        if (out.len() as u64) < MANY * run {
            return reader.read_into(range.start, out, &mut Buffers::default());
        }
        reader.checked_len(range.start, out.len() as u64)?;
        let (mut pieces, mut at, mut rest) = (Vec::new(), range.start, out);
        while !rest.is_empty() {
            let len = (run - at % run).min(rest.len() as u64);
            let (piece, later) = rest.split_at_mut(len as usize);
            pieces.push((name, at, piece));
            (at, rest) = (at + len, later);
        }
        self.fill_pieces(pieces, &Workers::default())
    }
}

impl TensorReader<'_> {
    /// Name, dtype and shape.
    pub fn info(&self) -> &TensorInfo {
        self.stitcher.info
    }

    pub(crate) fn stitcher(&self) -> &TensorStitcher<'_> {
        &self.stitcher
    }

    /// Whether any pack touches the tensor.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Fills `out` with the tensor's bytes from byte `start`.
    ///
    /// # Errors
    /// `InvalidInput` for bytes past the end; `Refused` for an overlap under `refuse` and for finite elements that would become
    /// infinite or NaN; `DigestMismatch` or `Malformed` for a damaged pack; `Io`. What `out` holds then means nothing.
    pub fn read_into(&self, start: u64, out: &mut [u8], buffers: &mut Buffers) -> Result<()> {
        self.checked_len(start, out.len() as u64)?;
        let unit = self.info().dtype.unit_bytes() as u64;
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let first = at / unit;
            let next_run = ((first / RUN + 1) * RUN * unit - at).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(next_run as usize);
            if at.is_multiple_of(unit) && next_run.is_multiple_of(unit) {
                self.run(first, now, &mut buffers.scratch)?;
            } else {
                let units = (at + next_run).div_ceil(unit) - first;
                let mut edge = std::mem::take(&mut buffers.edge);
                edge.resize((units * unit) as usize, 0);
                self.run(first, &mut edge, &mut buffers.scratch)?;
                let from = (at - first * unit) as usize;
                now.copy_from_slice(edge.get(from..from + now.len()).unwrap_or_default());
                buffers.edge = edge;
            }
            at += next_run;
            rest = later;
        }
        Ok(())
    }

    /// `len` bytes from `start`, as a length in memory, where the tensor has them.
    pub(super) fn checked_len(&self, start: u64, len: u64) -> Result<usize> {
        let all = self.info().byte_len();
        let fits = start.checked_add(len).is_some_and(|end| end <= all);
        let len = usize::try_from(len).ok().filter(|_| fits);
        let name = Escaped(&self.info().name);
        len.ok_or_else(|| Error::InvalidInput(format!("tensor \"{name}\" has {all} bytes, not those from {start}")))
    }

    fn run(&self, start: u64, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let mut met = Met::default();
        self.stitcher.run(start, out, scratch, &mut met)?;
        if met.nonfinite == 0 {
            return Ok(());
        }
        Err(nonfinite_refused(met.nonfinite, &self.info().name))
    }
}
