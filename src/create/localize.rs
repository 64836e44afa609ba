//! The positions to keep, found in passes over the blocks. [LOC-1] [LOC-2] [LOC-3]

use crate::checkpoint::Checkpoint;
use crate::create::options::{BLOCK_LOG2, CreateOptions, Localizer, Lossy, Method, Scope};
use crate::create::pairs::{Pair, Pairs};
use crate::error::{Error, Escaped, Result};
use crate::method::localize::keys::{self, Width};
use crate::method::localize::topk::{self, Threshold};
use crate::model::dtype::Dtype;

/// Most kept elements that are held between stages: 12 bytes each.
const MOST_HELD: u64 = 8 << 20;

/// One block of a float pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub pair: usize,
    pub start: u64,
    pub len: u64,
}

/// What a first pass found in a block.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    changed: u64,
    square: f64,
    sum: f64,
}

/// Which elements of every block are kept.
#[derive(Debug)]
pub(crate) struct Localized<'a> {
    lossy: Option<&'a Lossy>,
    width: Width,
    /// Blocks of all float pairs, by name and position.
    pub blocks: Vec<Block>,
    /// For each block: keys above this are kept, and so many equal to it.
    rules: Vec<Option<Threshold>>,
    /// For each block what it keeps, where all of it together is small enough to hold; later stages then read nothing.
    held: Vec<Kept>,
    /// Elements of the included float tensors that differ.
    pub changed: u64,
    /// Norms of the task vector over the included tensors.
    pub square: f64,
    pub sum: f64,
    kept_square: f64,
    pub kept: u64,
    pub unchanged_in_mask: u64,
}

/// What is kept of one block.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    pub positions: Vec<u32>,
    pub deltas: Vec<f64>,
    unchanged: u64,
}

impl<'a> Localized<'a> {
    pub fn of(pairs: &Pairs, options: &'a CreateOptions) -> Result<Self> {
        let Method::Lossy(lossy) = &options.method else { return Ok(Self::nothing()) };
        let mut this = Self { lossy: Some(lossy), blocks: blocks_of(pairs), ..Self::nothing() };
        check_files(lossy, pairs)?;
        let wide = |d: Dtype| d == Dtype::F64;
        let scores_wide = matches!(&lossy.localizer, Localizer::Scores(s) if s.tensors().any(|t| wide(t.dtype)));
        if scores_wide || pairs.floats().any(|(_, p)| wide(p.info.dtype)) {
            this.width = Width::Wide;
        }
        let seen = this.survey(pairs, options)?;
        this.choose(pairs, options, &seen)?;
        this.count(pairs, options)?;
        Ok(this)
    }

    fn nothing() -> Self {
        Localized {
            lossy: None,
            width: Width::Narrow,
            blocks: Vec::new(),
            rules: Vec::new(),
            held: Vec::new(),
            changed: 0,
            square: 0.0,
            sum: 0.0,
            kept_square: 0.0,
            kept: 0,
            unchanged_in_mask: 0,
        }
    }

    /// The share of the task vector's squared norm that is kept; 1 where there is nothing to keep.
    pub fn energy(&self) -> f64 {
        let share = self.kept_square / self.square;
        if self.square > 0.0 && !share.is_nan() { share } else { 1.0 }
    }

    /// Norms and number of changed elements by block; refuses deltas that are no numbers.
    fn survey(&mut self, pairs: &Pairs, options: &CreateOptions) -> Result<Vec<Seen>> {
        options.workers.progress().stage("measuring", self.bytes(pairs));
        let mut all = Vec::with_capacity(self.blocks.len());
        options.workers.in_order(
            self.blocks.len(),
            |i| {
                let (pair, deltas) = self.deltas(pairs, i)?;
                let mut seen = Seen::default();
                for d in deltas.iter().filter(|d| **d != 0.0) {
                    if !d.is_finite() {
                        let name = Escaped(&pair.info.name);
                        return Err(Error::Refused(format!(
                            "tensor \"{name}\": the delta of an element is {d}, which no lossy pack can hold; use --exact or --exclude it"
                        )));
                    }
                    seen.changed += 1;
                    seen.square += d * d;
                    seen.sum += d.abs();
                }
                options.workers.progress().advance(self.block_bytes(pairs, i));
                Ok(seen)
            },
            |_, seen| {
                all.push(seen);
                Ok(())
            },
        )?;
        // Added block by block in order, so that rounding does not depend on threads.
        for seen in &all {
            self.changed += seen.changed;
            self.square += seen.square;
            self.sum += seen.sum;
        }
        Ok(all)
    }

    /// A threshold for every block, and how many ties each may keep.
    fn choose(&mut self, pairs: &Pairs, options: &CreateOptions, seen: &[Seen]) -> Result<()> {
        self.rules = vec![None; self.blocks.len()];
        let Some(lossy) = self.lossy else { return Ok(()) };
        if lossy.density.is_all() || matches!(lossy.localizer, Localizer::Mask(_)) {
            return Ok(());
        }
        let every: Vec<usize> = (0..self.blocks.len()).collect();
        let groups: Vec<Vec<usize>> = match lossy.scope {
            Scope::Global => vec![every],
            Scope::Tensor => {
                every.chunk_by(|a, b| self.pair_of(*a) == self.pair_of(*b)).map(<[usize]>::to_vec).collect()
            }
        };
        for group in groups {
            let (mut n, mut changed) = (0, 0);
            for (block, seen) in group.iter().filter_map(|i| Some((self.blocks.get(*i)?, seen.get(*i)?))) {
                n += block.len;
                changed += seen.changed;
            }
            let k = lossy.density.of(n).min(changed);
            let changed_blocks: Vec<usize> =
                group.into_iter().filter(|i| seen.get(*i).is_some_and(|s| s.changed > 0)).collect();
            if k > 0 {
                self.choose_in(pairs, options, &changed_blocks, k)?;
            }
        }
        Ok(())
    }

    fn choose_in(&mut self, pairs: &Pairs, options: &CreateOptions, group: &[usize], k: u64) -> Result<()> {
        options.workers.progress().stage("localizing", 0);
        let keys = |i: usize, out: &mut Vec<u64>| match group.get(i) {
            Some(block) => self.keys(pairs, *block, out),
            None => Ok(()),
        };
        let threshold = topk::threshold(&options.workers, group.len(), self.width.bits(), k, keys)?;
        // Of those equal to the threshold the first in order are kept, so each block must know how many came before it.
        let mut left = threshold.ties;
        let mut rules = Vec::with_capacity(group.len());
        options.workers.in_order(
            group.len(),
            |i| {
                let mut found = Vec::new();
                keys(i, &mut found)?;
                Ok(found.iter().filter(|key| **key == threshold.key).count() as u64)
            },
            |_, ties| {
                let mine = ties.min(left);
                left -= mine;
                rules.push(Threshold { key: threshold.key, ties: mine });
                Ok(())
            },
        )?;
        for (i, rule) in group.iter().zip(rules) {
            if let Some(slot) = self.rules.get_mut(*i) {
                *slot = Some(rule);
            }
        }
        Ok(())
    }

    /// How much is kept, by block.
    fn count(&mut self, pairs: &Pairs, options: &CreateOptions) -> Result<()> {
        let (mut held, mut kept, mut square, mut unchanged) = (Vec::new(), 0, 0.0, 0);
        options.workers.in_order(
            self.blocks.len(),
            |i| {
                let mut found = self.kept(pairs, i)?;
                found.positions.shrink_to_fit();
                found.deltas.shrink_to_fit();
                let square: f64 = found.deltas.iter().map(|d| d * d).sum();
                Ok((found, square))
            },
            |_, (found, s)| {
                kept += found.positions.len() as u64;
                square += s;
                unchanged += found.unchanged;
                if kept <= MOST_HELD {
                    held.push(found);
                } else {
                    held = Vec::new();
                }
                Ok(())
            },
        )?;
        self.held = if kept <= MOST_HELD { held } else { Vec::new() };
        (self.kept, self.kept_square, self.unchanged_in_mask) = (kept, square, unchanged);
        Ok(())
    }

    /// Positions kept in block `i`, from its start, and their deltas.
    pub fn kept(&self, pairs: &Pairs, i: usize) -> Result<Kept> {
        let mut out = Kept::default();
        if let Some(held) = self.held.get(i) {
            return Ok(held.clone());
        }
        let Some(lossy) = self.lossy else { return Ok(out) };
        if let Localizer::Mask(mask) = &lossy.localizer {
            self.keep_masked(pairs, i, mask, &mut out)?;
            return Ok(out);
        }
        if lossy.density.is_all() {
            out.deltas = self.deltas(pairs, i)?.1;
            out.positions = (0..out.deltas.len() as u32).collect();
            return Ok(out);
        }
        let Some(Some(rule)) = self.rules.get(i) else { return Ok(out) };
        let (pair, deltas) = self.deltas(pairs, i)?;
        let scores = self.scores(pair, i, &deltas)?;
        let mut ties = rule.ties;
        for (p, delta) in deltas.iter().enumerate().filter(|(_, d)| **d != 0.0) {
            let key = self.key(*delta, scores.as_deref(), p);
            if key > rule.key || (key == rule.key && ties > 0) {
                ties -= u64::from(key == rule.key);
                out.positions.push(p as u32);
                out.deltas.push(*delta);
            }
        }
        Ok(out)
    }

    fn keep_masked(&self, pairs: &Pairs, i: usize, mask: &Checkpoint, out: &mut Kept) -> Result<()> {
        let (pair, deltas) = self.deltas(pairs, i)?;
        let Some(block) = self.blocks.get(i).filter(|_| mask.tensor(&pair.info.name).is_some()) else { return Ok(()) };
        let bytes = mask.bytes(&pair.info.name, block.start..block.start + block.len)?;
        for (p, (byte, delta)) in bytes.iter().zip(&deltas).enumerate() {
            match (*byte != 0, *delta != 0.0) {
                (true, true) => {
                    out.positions.push(p as u32);
                    out.deltas.push(*delta);
                }
                (true, false) => out.unchanged += 1,
                (false, _) => {}
            }
        }
        Ok(())
    }

    /// Keys of the changed elements of a block.
    fn keys(&self, pairs: &Pairs, i: usize, out: &mut Vec<u64>) -> Result<()> {
        let (pair, deltas) = self.deltas(pairs, i)?;
        let scores = self.scores(pair, i, &deltas)?;
        let changed = deltas.iter().enumerate().filter(|(_, d)| **d != 0.0);
        out.extend(changed.map(|(p, d)| self.key(*d, scores.as_deref(), p)));
        Ok(())
    }

    fn key(&self, delta: f64, scores: Option<&[f64]>, p: usize) -> u64 {
        match scores {
            Some(scores) => self.width.signed(scores.get(p).copied().unwrap_or(f64::NEG_INFINITY)),
            None => self.width.magnitude(delta),
        }
    }

    fn deltas<'p>(&self, pairs: &'p Pairs, i: usize) -> Result<(&'p Pair, Vec<f64>)> {
        let missing = || Error::Internal("a block without a pair".into());
        let block = self.blocks.get(i).ok_or_else(missing)?;
        let pair = pairs.all.get(block.pair).ok_or_else(missing)?;
        let base = pairs.base_units(pair, block.start, block.len)?;
        let tuned = pairs.tuned_units(pair, block.start, block.len)?;
        let mut out = Vec::with_capacity(block.len as usize);
        keys::task_vector(pair.info.dtype, &base, &tuned, &mut out);
        Ok((pair, out))
    }

    /// Scores of a block, where positions are chosen by scores.
    fn scores(&self, pair: &Pair, i: usize, deltas: &[f64]) -> Result<Option<Vec<f64>>> {
        let file = match self.lossy.map(|l| &l.localizer) {
            Some(Localizer::Scores(file)) => file,
            Some(Localizer::Learned(learned)) => {
                let start = self.blocks.get(i).map_or(0, |b| b.start);
                return Ok(Some(learned.scores(&pair.info.name, start, deltas)));
            }
            _ => return Ok(None),
        };
        let (Some(block), Some(info)) = (self.blocks.get(i), file.tensor(&pair.info.name)) else { return Ok(None) };
        let unit = info.dtype.unit_bytes() as u64;
        let bytes = file.bytes(&info.name, block.start * unit..(block.start + block.len) * unit)?;
        let mut out = Vec::with_capacity(block.len as usize);
        keys::numbers(info.dtype, &bytes, &mut out);
        if out.iter().any(|x| x.is_nan()) {
            return Err(Error::Refused(format!(
                "scores of tensor \"{}\" hold NaN, which has no rank",
                Escaped(&info.name)
            )));
        }
        Ok(Some(out))
    }

    fn pair_of(&self, i: usize) -> Option<usize> {
        self.blocks.get(i).map(|b| b.pair)
    }

    /// Blocks of one pair, as a range of all blocks.
    pub fn blocks_of_pair(&self, pair: usize) -> std::ops::Range<usize> {
        self.blocks.partition_point(|b| b.pair < pair)..self.blocks.partition_point(|b| b.pair <= pair)
    }

    fn block_bytes(&self, pairs: &Pairs, i: usize) -> u64 {
        let block = self.blocks.get(i);
        let pair = block.and_then(|b| pairs.all.get(b.pair));
        block.zip(pair).map_or(0, |(b, p)| b.len * p.info.dtype.unit_bytes() as u64)
    }

    fn bytes(&self, pairs: &Pairs) -> u64 {
        (0..self.blocks.len()).map(|i| self.block_bytes(pairs, i)).sum()
    }
}

/// Units cut into blocks.
pub(crate) fn cut(units: u64) -> impl Iterator<Item = (u64, u64)> {
    let size = 1u64 << BLOCK_LOG2;
    (0..units.div_ceil(size)).map(move |b| (b * size, size.min(units - b * size)))
}

fn blocks_of(pairs: &Pairs) -> Vec<Block> {
    pairs
        .floats()
        .flat_map(|(pair, p)| cut(p.info.units()).map(move |(start, len)| Block { pair, start, len }))
        .collect()
}

/// Score and mask files must speak of this checkpoint.
fn check_files(lossy: &Lossy, pairs: &Pairs) -> Result<()> {
    let (file, what) = match &lossy.localizer {
        Localizer::Magnitude => return Ok(()),
        Localizer::Learned(learned) => return learned.check(pairs),
        Localizer::Scores(file) => (file, "scores"),
        Localizer::Mask(file) => (file, "mask"),
    };
    for (_, pair) in pairs.floats() {
        let name = Escaped(&pair.info.name);
        let Some(info) = file.tensor(&pair.info.name) else {
            if what == "mask" {
                continue;
            }
            return Err(Error::InvalidInput(format!(
                "the scores lack tensor \"{name}\"; add it, or --exclude the tensor"
            )));
        };
        let fits = if what == "mask" { matches!(info.dtype, Dtype::BOOL | Dtype::U8) } else { info.dtype.is_float() };
        if info.shape != pair.info.shape || !fits {
            let kind = if what == "mask" { "BOOL or U8" } else { "a float dtype" };
            return Err(Error::InvalidInput(format!(
                "the {what} of tensor \"{name}\" is {} {:?}, must be {kind} {:?}",
                info.dtype, info.shape, pair.info.shape
            )));
        }
    }
    match file.tensors().find(|t| !pairs.all.iter().any(|p| p.info.name == t.name)) {
        Some(stray) if !pairs.is_partial() => Err(Error::InvalidInput(format!(
            "the {what} file has a tensor \"{}\", which the checkpoint lacks",
            Escaped(&stray.name)
        ))),
        _ => Ok(()),
    }
}
