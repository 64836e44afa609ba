//! Staging: every block of every touched tensor stitched, and what is kept of it taken out.

use std::collections::BTreeMap;

use crate::checkpoint::ModelSource;
use crate::error::Result;
use crate::live::staged::{Block, Staged};
use crate::merge::{Scratch, StitchedModel, Stitchers, nonfinite_refused};
use crate::method::stitch::Met;
use crate::model::tensor::{RUN, TensorInfo};
use crate::parallel::Workers;

/// What one thread holds.
#[derive(Default)]
struct Worker {
    out: Vec<u8>,
    scratch: Scratch,
    positions: Vec<u32>,
    /// By tensor, not yet in order.
    blocks: Vec<(usize, Block)>,
    /// The first tensor with elements that would become infinite or NaN, and how many there are in all.
    nonfinite: Option<(usize, u64)>,
}

/// Finite elements that would become infinite or NaN: the first tensor that has any, and how many there are in all.
pub(crate) type Nonfinite<'a> = (&'a TensorInfo, u64);

/// Computes the units that a model's packs keep of the tensors they touch.
pub(super) fn stage<'a>(
    base: &'a dyn ModelSource,
    model: &StitchedModel,
    touched: &[&'a TensorInfo],
    workers: &Workers,
) -> Result<Staged<'a>> {
    workers.progress().stage("staging", touched.iter().map(|t| t.byte_len()).sum());
    match compute(base, model, touched, workers)? {
        (staged, None) => Ok(staged),
        (_, Some((first, count))) => Err(nonfinite_refused(count, &first.name)),
    }
}

/// Staging without a word of what is going on, and without a judgement of what became no number.
pub(crate) fn compute<'a>(
    base: &'a dyn ModelSource,
    model: &StitchedModel,
    touched: &[&'a TensorInfo],
    workers: &Workers,
) -> Result<(Staged<'a>, Option<Nonfinite<'a>>)> {
    let mut items = Vec::new();
    for (i, info) in touched.iter().enumerate() {
        items.extend((0..info.units()).step_by(RUN as usize).map(|start| (i, *info, start)));
    }
    model.will_need(&touched.iter().map(|info| info.name.as_str()).collect::<Vec<_>>());
    let stitchers = Stitchers::new(model);
    let done = workers.for_each(items.len(), Worker::default, |worker, i| {
        let Some((tensor, info, start)) = items.get(i).copied() else { return Ok(()) };
        worker.block(model, &stitchers, tensor, info, start)?;
        workers.progress().advance(RUN.min(info.units() - start) * info.dtype.unit_bytes() as u64);
        Ok(())
    })?;
    base.unchanged()?;
    let nonfinite = || done.iter().filter_map(|w| w.nonfinite);
    let first = nonfinite().map(|(tensor, _)| tensor).min().and_then(|first| touched.get(first).copied());
    let met = first.map(|first| (first, nonfinite().map(|(_, n)| n).sum()));
    Ok((Staged { base, tensors: in_order(touched, done) }, met))
}

impl Worker {
    fn block(
        &mut self,
        model: &StitchedModel,
        stitchers: &Stitchers,
        tensor: usize,
        info: &TensorInfo,
        start: u64,
    ) -> Result<()> {
        let (len, width) = (RUN.min(info.units() - start), info.dtype.unit_bytes() as u64);
        let reader = stitchers.get(&info.name)?;
        let stitcher = reader.stitcher();
        let mut met = Met::default();
        self.out.resize((len * width) as usize, 0);
        stitcher.run(start, &mut self.out, &mut self.scratch, &mut met)?;
        if met.nonfinite > 0 {
            let (first, count) = self.nonfinite.unwrap_or((tensor, 0));
            self.nonfinite = Some((first.min(tensor), count + met.nonfinite));
        }
        stitcher.kept(&self.scratch, &mut self.positions);
        if !self.positions.is_empty() {
            let base = model.base().units(&info.name, start, len)?;
            self.blocks.push((tensor, Block::new(start, &self.positions, width as usize, &self.out, &base)));
        }
        Ok(())
    }
}

fn in_order<'a>(touched: &[&'a TensorInfo], done: Vec<Worker>) -> BTreeMap<&'a str, (&'a TensorInfo, Vec<Block>)> {
    let mut blocks: Vec<(usize, Block)> = done.into_iter().flat_map(|w| w.blocks).collect();
    blocks.sort_unstable_by_key(|(tensor, block)| (*tensor, block.start));
    let mut tensors = BTreeMap::new();
    for (tensor, block) in blocks {
        if let Some(info) = touched.get(tensor) {
            tensors.entry(info.name.as_str()).or_insert_with(|| (*info, Vec::new())).1.push(block);
        }
    }
    tensors
}
