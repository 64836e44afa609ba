//! How the units of each tensor fall into classes: measured on the delta itself, before it is encoded.
//!
//! Any coder is right; a better one makes a smaller pack. So what is measured may be a sample, and the choices here need no
//! place in the spec.

pub(crate) mod activity;
pub(crate) mod levels;
mod sample;
mod stats;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::block::{Effort, Found};
use crate::codec::classes::coder::{Coder, DEAD, FEWEST_IN_ROW, LEVEL_MAX, MOST_COLUMNS, row_len, symbol_of};
use crate::codec::classes::map::{exponents, row_runs};
use crate::codec::classes::model::{Class, MOST_CLASSES, Model};
use crate::create::localize::cut;
use crate::error::Result;
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::tensor::TensorInfo;

use activity::{Activity, factor};
use levels::{LEVELS, Prior, first_prior, level, pay, prior_from, prior_of, saving};
use sample::{Sample, moved};
use stats::Stats;

/// Blocks of a tensor that are looked at closely.
const MOST_SAMPLES: usize = 8;
/// And of one of which half and more are kept; of a tensor of more blocks than [`MOST_SAMPLES`], one.
const MOST_DENSE_SAMPLES: usize = 2;
/// Where at least one unit in so many is kept, those that are not are coded among the steps. That is no larger, and read faster
/// than gaps by the base's exponents; it is slower than a mask of few classes, as the fast effort has it.
const SPREAD_FROM: u64 = 6;
const SPREAD_FROM_FAST: u64 = 2;
/// Fewer kept units than this teach nothing about a tensor.
const FEWEST: u64 = 256;

/// A block of a delta with the base's bytes of its units.
pub(crate) type Loaded<'a> = (BlockDelta, Cow<'a, [u8]>);

/// How one tensor is coded, and what it took to find out.
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    pub coder: Coder,
    /// The origin before classes that nothing falls into were left out.
    whole: i16,
    activity: Arc<Activity>,
    stats: Stats,
    kept: u64,
}

/// Levels of the row runs of all samples.
struct Rows {
    levels: Vec<Vec<i16>>,
    counts: [u64; LEVELS],
    /// What they save against no levels, in nats.
    saved: f64,
}

/// What there is to fit.
pub(crate) struct Task<'a> {
    pub info: &'a TensorInfo,
    pub kind: ValueKind,
    pub has_base: bool,
    pub effort: Effort,
}

impl Task<'_> {
    /// Fits a coder to what `load` gives of each block; none where too little is kept to learn from.
    pub fn fit<'b>(&self, load: impl Fn(usize, (u64, u64)) -> Result<Loaded<'b>>) -> Result<Option<Fit>> {
        let blocks: Vec<(u64, u64)> = cut(self.info.units()).collect();
        let may_use_base =
            self.has_base && self.kind == ValueKind::Step && self.info.dtype.is_float() && self.effort != Effort::Fast;
        let (mut samples, mut bytes) = (Vec::new(), Vec::new());
        let mut chosen = chosen(blocks.len(), MOST_SAMPLES);
        let mut next = 0;
        while let Some(i) = chosen.get(next).copied() {
            let (delta, base) = load(i, blocks[i])?;
            next += 1;
            // Where most moved, few blocks say as much as many do elsewhere.
            if next == 1 && delta.positions.len() as u64 * 2 > blocks[i].1 {
                let most = if blocks.len() > MOST_SAMPLES { 1 } else { MOST_DENSE_SAMPLES };
                chosen = self::chosen(blocks.len(), most);
            }
            let base = if may_use_base { base } else { Cow::Borrowed(&[][..]) };
            samples.push(Sample::new(self.info, self.kind, blocks[i], delta, &base));
            bytes.push(base);
        }
        let kept: u64 = samples.iter().map(|s| s.positions.len() as u64).sum();
        if kept < FEWEST {
            return Ok(None);
        }
        let seen: u64 = samples.iter().map(|s| u64::from(s.len)).sum();
        let part = seen as f64 / self.info.units().max(1) as f64;
        let uses_base = may_use_base && base_pays(&samples, part);
        let activity = Activity::of(&samples, uses_base);
        let axis = axis_of(self.info);
        let rows_len = row_len(self.info, axis);
        let (origin, classes) = range_of(&samples, uses_base);
        let blank = Class { odds: 80, occupied: 128, values: None };
        let model = Model { classes: vec![blank; classes], rows: None, columns: None };
        let mut coder = Coder { uses_base, axis, origin, columns: Vec::new(), model: Arc::new(model) };
        let with_rows = rows_len >= FEWEST_IN_ROW && rows_len < self.info.units();
        if !with_rows {
            return Ok(Some(self.finish(coder, activity, &samples, &bytes, None, kept)));
        }
        // Rows first, then columns given the rows, then rows given the columns.
        let first = first_prior();
        let rows = self.rows(&samples, &activity, &coder, &first);
        let rows = self.rows(&samples, &activity, &coder, &prior_from(&rows.counts));
        let row_count = self.info.units() / rows_len;
        if self.effort != Effort::Fast && rows_len <= MOST_COLUMNS && row_count >= 16 {
            let mut sums = self.columns(&samples, &activity, &coder, &rows);
            if kept * 20 < seen && chosen.len() < blocks.len() {
                self.all_columns(&blocks, &load, &activity, part, &mut sums)?;
                coder.columns = column_levels(&sums, 1.0);
            } else {
                coder.columns = column_levels(&sums, part);
            }
        }
        let rows = self.rows(&samples, &activity, &coder, &prior_from(&rows.counts));
        let prior = pay(rows.saved, &rows.counts).then(|| prior_from(&rows.counts));
        Ok(Some(self.finish(coder, activity, &samples, &bytes, prior, kept)))
    }

    /// Levels of the row runs of every sample.
    fn rows(&self, samples: &[Sample], activity: &Activity, coder: &Coder, prior: &Prior) -> Rows {
        let mut rows = Rows { levels: Vec::new(), counts: [0; LEVELS], saved: 0.0 };
        for s in samples {
            let at = (s.start, s.len);
            let runs = row_sums(self.info, coder, activity, at, &s.positions, &s.moved, &s.exponents);
            let levels: Vec<i16> = runs.iter().map(|(seen, expected)| level(*seen, *expected, prior)).collect();
            for (level, (seen, expected)) in levels.iter().zip(&runs) {
                rows.counts[symbol_of(*level) as usize] += 1;
                rows.saved += saving(*seen, *expected, *level);
            }
            rows.levels.push(levels);
        }
        rows
    }

    /// What was seen and expected of every column.
    fn columns(&self, samples: &[Sample], activity: &Activity, coder: &Coder, rows: &Rows) -> Vec<(f32, f32)> {
        let len = row_len(self.info, coder.axis);
        let mut sums = vec![(0f32, 0f32); len as usize];
        for (s, levels) in samples.iter().zip(&rows.levels) {
            for (run, level) in row_runs(len, s.start, s.len).zip(levels).filter(|(_, l)| **l != DEAD) {
                let row = factor(*level);
                let columns = &mut sums[run.column..run.column + run.len];
                if activity.uses_base {
                    let exponents = &s.exponents[run.start..run.start + run.len];
                    for (sum, e) in columns.iter_mut().zip(exponents) {
                        sum.1 += row * activity.by_exponent[usize::from(*e)];
                    }
                } else {
                    columns.iter_mut().for_each(|sum| sum.1 += row * activity.by_exponent[0]);
                }
            }
            for (p, moved) in s.positions.iter().zip(&s.moved) {
                let column = (s.start + u64::from(*p)) % len;
                sums[column as usize].0 += activity.seen(*moved, s.exponents.get(*p as usize).copied().unwrap_or(0));
            }
        }
        sums
    }

    /// Where little is kept, all of it is counted; what is expected is that of the samples, made larger.
    fn all_columns<'b>(
        &self,
        blocks: &[(u64, u64)],
        load: &impl Fn(usize, (u64, u64)) -> Result<Loaded<'b>>,
        activity: &Activity,
        part: f64,
        sums: &mut [(f32, f32)],
    ) -> Result<()> {
        for sum in sums.iter_mut() {
            *sum = (0.0, (f64::from(sum.1) / part) as f32);
        }
        let (n, mut own) = (sums.len() as u64, Vec::new());
        for (i, at) in blocks.iter().enumerate() {
            let (delta, base) = load(i, *at)?;
            let moved = moved(self.info, self.kind, &delta);
            let unit = self.info.dtype.unit_bytes();
            for (p, moved) in delta.positions.iter().zip(&moved) {
                let at_unit = *p as usize * unit;
                let bytes = base.get(at_unit..at_unit + unit).filter(|_| activity.uses_base).unwrap_or(&[]);
                exponents(self.info.dtype, bytes, &mut own);
                let column = (at.0 + u64::from(*p)) % n;
                sums[column as usize].0 += activity.seen(*moved, own.first().copied().unwrap_or(0));
            }
        }
        Ok(())
    }

    /// Counts by class with everything chosen, and makes the model.
    fn finish(
        &self,
        mut coder: Coder,
        activity: Activity,
        samples: &[Sample],
        bytes: &[Cow<[u8]>],
        prior: Option<Prior>,
        kept: u64,
    ) -> Fit {
        let seen: u64 = samples.iter().map(|s| u64::from(s.len)).sum();
        let is_short = self.kind == ValueKind::Step && self.info.dtype.unit_bytes() == 2;
        let from = if self.effort == Effort::Fast { SPREAD_FROM_FAST } else { SPREAD_FROM };
        let mut stats = Stats::new(is_short && self.has_base && kept * from >= seen && kept < seen);
        let rows = prior.map(|prior| self.rows(samples, &activity, &coder, &prior).levels);
        // Levels that are all the same say nothing.
        let rows = rows.filter(|all| all.iter().flatten().any(|l| *l != 0));
        if coder.columns.iter().all(|l| *l == 0) {
            coder.columns = Vec::new();
        }
        coder.columns.iter().for_each(|l| stats.columns[symbol_of(*l) as usize] += 1);
        for (i, (sample, bytes)) in samples.iter().zip(bytes).enumerate() {
            let levels = rows.as_ref().and_then(|r| r.get(i)).map_or(&[][..], Vec::as_slice);
            levels.iter().for_each(|l| stats.rows[symbol_of(*l) as usize] += 1);
            stats.count(&coder, self.info, sample, bytes, levels);
        }
        let (first, model) = stats.model();
        let whole = coder.origin;
        coder.origin -= first;
        coder.model = Arc::new(model);
        Fit { coder, whole, activity: Arc::new(activity), stats, kept }
    }
}

/// Spread evenly over all blocks.
fn chosen(blocks: usize, most: usize) -> Vec<usize> {
    let n = blocks.min(most);
    (0..n).map(|i| (i * blocks + blocks / 2) / n.max(1)).map(|i| i.min(blocks - 1)).collect()
}

/// The dimension at which a row begins: rows must be long enough to say something.
fn axis_of(info: &TensorInfo) -> u8 {
    let long = |axis: &usize| info.shape.iter().skip(*axis).product::<u64>() >= 32;
    let axis = (1..info.shape.len()).rev().find(long).unwrap_or(usize::from(info.shape.len() > 1)) as u8;
    if row_len(info, axis) >= FEWEST_IN_ROW { axis } else { 0 }
}

/// Bits of `kept` among `members`.
fn mask_bits(kept: u64, members: u64) -> f64 {
    let term = |part: u64| if part == 0 { 0.0 } else { part as f64 * (members as f64 / part as f64).log2() };
    term(kept) + term(members - kept)
}

/// Whether knowing the exponents saves more than what it costs to say how they matter.
fn base_pays(samples: &[Sample], part: f64) -> bool {
    let mut members = [0u64; 256];
    let mut symbols = vec![0u32; 256 * 256];
    let mut all = vec![0u64; 256];
    for s in samples {
        members.iter_mut().zip(&s.members).for_each(|(n, more)| *n += more);
        for (p, symbol) in s.positions.iter().zip(&s.symbols) {
            symbols[usize::from(s.exponents[*p as usize]) << 8 | usize::from(*symbol & 255)] += 1;
            all[usize::from(*symbol & 255)] += 1;
        }
    }
    let entropy = |counts: &mut dyn Iterator<Item = u64>| {
        let counts: Vec<u64> = counts.filter(|n| *n > 0).collect();
        let total: u64 = counts.iter().sum();
        (counts.iter().map(|n| *n as f64 * (total as f64 / *n as f64).log2()).sum::<f64>(), total, counts.len())
    };
    let (values, kept, _) = entropy(&mut all.iter().copied());
    let without = values + mask_bits(kept, members.iter().sum());
    let (mut with, mut parameters) = (0.0, 0.0);
    for (row, members) in symbols.chunks_exact(256).zip(members).filter(|(_, n)| *n > 0) {
        let (values, kept, distinct) = entropy(&mut row.iter().map(|n| u64::from(*n)));
        with += values + mask_bits(kept, members);
        parameters += 8.0 + 6.0 * distinct as f64;
    }
    with + parameters * part < without
}

/// The origin, and how many classes: from the exponents at which anything is kept, with room for rows and columns on both sides.
fn range_of(samples: &[Sample], uses_base: bool) -> (i16, usize) {
    const ROOM: i16 = 8;
    if !uses_base {
        // Classes stand for densities then, so that a model can serve tensors of different ones.
        let kept: usize = samples.iter().map(|s| s.positions.len()).sum();
        let units: u64 = samples.iter().map(|s| u64::from(s.len)).sum();
        let density = kept as f64 / units.max(1) as f64;
        let centre = 44 + (2.0 * density.log2()).round() as i16;
        return (centre.clamp(LEVEL_MAX, 63 - LEVEL_MAX), MOST_CLASSES);
    }
    let (mut kept, mut members) = ([0u64; 256], [0u64; 256]);
    for s in samples {
        members.iter_mut().zip(&s.members).for_each(|(n, more)| *n += more);
        s.positions.iter().for_each(|p| kept[usize::from(s.exponents[*p as usize])] += 1);
    }
    let (all_kept, all): (u64, u64) = (kept.iter().sum(), members.iter().sum());
    // The last two in a thousand that are kept share the lowest class with all above them, the smallest of all the highest.
    let mut above = 0;
    let top = (0..256).rev().find(|e| {
        above += kept[*e];
        above * 500 > all_kept
    });
    let mut below = 0;
    let bottom = (0..256).find(|e| {
        below += members[*e];
        below * 2000 > all
    });
    let (top, bottom) = (top.unwrap_or(255) as i16, bottom.unwrap_or(0) as i16);
    let origin = 2 * top + ROOM;
    let classes = origin - 2 * bottom + ROOM + 1;
    (origin, usize::try_from(classes).unwrap_or(1).clamp(1, MOST_CLASSES))
}

/// Chosen twice: the second time with what the first found levels to cost. None where they save less than they cost; `part` is
/// how much of the tensor the sums are of.
fn column_levels(sums: &[(f32, f32)], part: f64) -> Vec<i16> {
    let choose = |prior: &Prior| {
        let (mut counts, mut saved) = ([0u64; LEVELS], 0.0);
        let levels = sums.iter().map(|(seen, expected)| {
            let level = level(*seen, *expected, prior);
            counts[symbol_of(level) as usize] += 1;
            saved += saving(*seen, *expected, level);
            level
        });
        let levels: Vec<i16> = levels.collect();
        (levels, counts, saved)
    };
    let first = choose(&first_prior());
    let (levels, counts, saved) = choose(&prior_from(&first.1).map(|c| c * 1.5));
    if pay(saved / part, &counts) { levels } else { Vec::new() }
}

/// What was seen and expected of the row runs of a block.
fn row_sums(
    info: &TensorInfo,
    coder: &Coder,
    activity: &Activity,
    at: (u64, u32),
    positions: &[u32],
    moved: &[f32],
    exponents: &[u8],
) -> Vec<(f32, f32)> {
    let mut next = 0;
    let columns: Vec<f32> = coder.columns.iter().map(|c| factor(*c)).collect();
    row_runs(row_len(info, coder.axis), at.0, at.1)
        .map(|run| {
            let from = next;
            next += positions[from..].partition_point(|p| (*p as usize) < run.start + run.len);
            let own = positions[from..next].iter().zip(&moved[from..next]);
            let exponent = |p: u32| exponents.get(p as usize).copied().unwrap_or(0);
            let seen: f32 = own.map(|(p, m)| activity.seen(*m, exponent(*p))).sum();
            (seen, activity.expected(&run, exponents, &columns))
        })
        .collect()
}

impl Fit {
    /// Levels for the row runs of a block of the tensor, where rows make a difference.
    pub fn rows(&self, info: &TensorInfo, kind: ValueKind, at: (u64, u64), found: Found, base: &[u8]) -> Vec<i16> {
        let Some(table) = &self.coder.model.rows else { return Vec::new() };
        let delta = found.listed();
        let mut own = Vec::new();
        if self.coder.uses_base {
            exponents(info.dtype, base, &mut own);
        }
        let moved = moved(info, kind, &delta);
        let prior = prior_of(table);
        let sums = row_sums(info, &self.coder, &self.activity, (at.0, at.1 as u32), &delta.positions, &moved, &own);
        sums.into_iter().map(|(seen, expected)| level(seen, expected, &prior)).collect()
    }
}

/// What decides whether two tensors can share a model: dtype, kind, whether the base counts, and whether all units have steps.
pub(crate) type Group = (u8, u8, bool, bool);

/// Coders of all tensors of a pack.
#[derive(Debug, Default)]
pub(crate) struct Fits {
    /// By tensor; none for those from which nothing could be learned.
    fits: Vec<Option<Fit>>,
    /// For each group the model that many share, and its first class.
    shared: BTreeMap<Group, (Fit, i16)>,
}

/// How a tensor is coded.
pub(crate) struct Chosen {
    pub fit: Fit,
    /// The group whose model it shares.
    pub shared: Option<Group>,
}

impl Fits {
    /// Puts what was fitted to each tensor together.
    pub fn new(tensors: Vec<(Group, Option<Fit>)>) -> Self {
        let mut shared: BTreeMap<Group, Fit> = BTreeMap::new();
        for (group, fit) in tensors.iter().filter_map(|(g, f)| Some((g, f.as_ref()?))) {
            let group = (group.0, group.1, fit.coder.uses_base, fit.stats.spread);
            match shared.get_mut(&group) {
                None => drop(shared.insert(group, fit.clone())),
                Some(best) => {
                    let mut stats = std::mem::take(&mut best.stats);
                    stats.add(&fit.stats);
                    if fit.kept > best.kept {
                        *best = fit.clone();
                    }
                    best.stats = stats;
                }
            }
        }
        let finish = |(group, mut fit): (Group, Fit)| {
            let (first, model) = fit.stats.model();
            fit.coder.model = Arc::new(model);
            (group, (fit, first))
        };
        let shared = shared.into_iter().map(finish).collect();
        Fits { fits: tensors.into_iter().map(|(_, fit)| fit).collect(), shared }
    }

    /// How tensor `i` is coded: by a model of its own where that pays for its bytes, else by that of its group.
    pub fn of(&self, i: usize, info: &TensorInfo, kind: ValueKind, has_base: bool) -> Option<Chosen> {
        let key = |uses_base, spread| (info.dtype.code(), kind.code(), uses_base, spread);
        if let Some(fit) = self.fits.get(i).and_then(Option::as_ref) {
            let group = key(fit.coder.uses_base, fit.stats.spread);
            let (shared, first) = self.shared.get(&group)?;
            let model = &shared.coder.model;
            // Counts are of a sample, which stands for all of the tensor.
            let part = fit.stats.classes.iter().map(|c| c.members).sum::<u64>() as f64 / info.units().max(1) as f64;
            let own_first = fit.whole - fit.coder.origin;
            let own =
                fit.stats.bits_under(&fit.coder.model, own_first) + fit.coder.model.encode().len() as f64 * 6.0 * part;
            if own < fit.stats.bits_under(model, *first) {
                return Some(Chosen { fit: fit.clone(), shared: None });
            }
            let mut fit = fit.clone();
            fit.coder.origin = fit.whole - first;
            fit.coder.model = model.clone();
            return Some(Chosen { fit, shared: Some(group) });
        }
        let groups = [key(has_base, false), key(false, false), key(has_base, true), key(false, true)];
        let group = groups.into_iter().find(|k| self.shared.contains_key(k))?;
        let (shared, first) = self.shared.get(&group)?;
        let mut fit = shared.clone();
        fit.coder.origin = fit.whole - first;
        fit.coder.columns = Vec::new();
        fit.coder.axis = axis_of(info);
        Some(Chosen { fit, shared: Some(group) })
    }
}
