//! Many tensors at once: into memory that is there, or one after another as a checkpoint would give them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::ModelSource;
use crate::checkpoint::plan::Plan;
use crate::error::{Error, Escaped, Result};
use crate::merge::model::StitchedModel;
use crate::merge::reader::Buffers;
use crate::merge::stitchers::Stitchers;
use crate::model::tensor::{RUN, TensorInfo};
use crate::parallel::Workers;

/// Bytes of tensors that are made before they are asked for.
const AHEAD: u64 = 64 << 20;

impl StitchedModel<'_> {
    /// Fills memory with tensors, named and each as long as the tensor is, in pieces that all threads share: one huge tensor is
    /// as fast as many small ones.
    ///
    /// # Errors
    /// `InvalidInput` for a name that the model lacks or memory of another length; otherwise as
    /// [`TensorReader::read_into`](crate::merge::TensorReader::read_into). What the memory holds then means nothing.
    pub fn fill<'n, 't>(
        &self,
        targets: impl IntoIterator<Item = (&'n str, &'t mut [u8])>,
        workers: &Workers,
    ) -> Result<()> {
        let (mut pieces, mut names) = (Vec::new(), Vec::new());
        for (name, out) in targets {
            names.push(name);
            let info = self.tensor(name);
            let Some(info) = info.filter(|info| info.byte_len() == out.len() as u64) else {
                let found = info.map_or("is not in the model".into(), |info| format!("has {} bytes", info.byte_len()));
                let detail = format!("tensor \"{}\" {found}, its memory has {} bytes", Escaped(name), out.len());
                return Err(Error::InvalidInput(detail));
            };
            // Whole blocks, so that none is decoded twice.
            let piece = RUN as usize * info.dtype.unit_bytes();
            pieces.extend(out.chunks_mut(piece).enumerate().map(|(i, out)| (name, (i * piece) as u64, out)));
        }
        self.will_need(&names);
        self.fill_pieces(pieces, workers)?;
        self.base().unchanged()
    }

    /// Fills pieces of tensors, each with its name and its first byte.
    pub(super) fn fill_pieces(&self, pieces: Vec<(&str, u64, &mut [u8])>, workers: &Workers) -> Result<()> {
        workers.progress().stage("stitching", pieces.iter().map(|(.., piece)| piece.len() as u64).sum());
        let pieces: Vec<_> = pieces.into_iter().map(|(name, start, piece)| (name, start, Mutex::new(piece))).collect();
        let stitchers = Stitchers::new(self);
        workers.for_each(pieces.len(), Buffers::default, |buffers, i| {
            let Some((name, start, piece)) = pieces.get(i) else { return Ok(()) };
            let mut piece = piece.lock().unwrap_or_else(PoisonError::into_inner);
            stitchers.get(name)?.read_into(*start, &mut piece, buffers)?;
            workers.progress().advance(piece.len() as u64);
            Ok(())
        })?;
        Ok(())
    }

    /// All tensors in the order of the base's files, those that packs add at the end. Up to 64 MiB of them, or one that is larger,
    /// are made ahead by all threads; what no pack touches is borrowed from a mapped base.
    ///
    /// # Errors
    /// Each item: as [`StitchedModel::fill`].
    pub fn in_file_order<'m>(&'m self, workers: &'m Workers) -> Result<Tensors<'m>> {
        let plan = Plan::single(self.base(), "-".into(), &self.carried())?;
        let order = plan.files.into_iter().flat_map(|file| file.tensors).map(|(info, _)| info).collect();
        Ok(Tensors { model: self, workers, order, ready: VecDeque::new() })
    }
}

/// A tensor and its bytes.
type Ready<'m> = (TensorInfo, Cow<'m, [u8]>);

/// The tensors of a model in the order of its files, see [`StitchedModel::in_file_order`].
#[derive(Debug)]
pub struct Tensors<'m> {
    model: &'m StitchedModel<'m>,
    workers: &'m Workers,
    order: VecDeque<TensorInfo>,
    ready: VecDeque<Ready<'m>>,
}

impl Tensors<'_> {
    /// Makes the next tensors: as many as fit, and at least one.
    fn make(&mut self) -> Result<()> {
        let (mut infos, mut made, mut bytes) = (Vec::new(), Vec::new(), 0u64);
        while let Some(info) = self.order.front() {
            let borrowed = !self.model.touches(&info.name) && self.model.base().is_mapped(&info.name)?;
            let len = if borrowed { 0 } else { info.byte_len() };
            if bytes.saturating_add(len) > AHEAD && !infos.is_empty() {
                break;
            }
            bytes = bytes.saturating_add(len);
            made.push(if borrowed { self.model.bytes(&info.name)? } else { Cow::Owned(vec![0; len as usize]) });
            infos.extend(self.order.pop_front());
        }
        let targets = infos.iter().zip(&mut made).filter_map(|(info, bytes)| match bytes {
            Cow::Owned(bytes) => Some((info.name.as_str(), &mut bytes[..])),
            Cow::Borrowed(_) => None,
        });
        self.model.fill(targets, self.workers)?;
        self.ready.extend(infos.into_iter().zip(made));
        Ok(())
    }
}

impl<'m> Iterator for Tensors<'m> {
    type Item = Result<Ready<'m>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && !self.order.is_empty()
            && let Err(e) = self.make()
        {
            self.order.clear();
            return Some(Err(e));
        }
        self.ready.pop_front().map(Ok)
    }
}
