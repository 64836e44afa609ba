//! Scales, levels and the gain, fitted to what is kept. [VAL-3] [VAL-5] [GAI-1]

use std::collections::BTreeMap;

use crate::create::learn::learned::Learned;
use crate::create::localize::{Localized, Selection};
use crate::create::options::{CreateOptions, Localizer, Lossy, Method, Rescale};
use crate::create::pairs::Pairs;
use crate::error::{Error, Escaped, Result};
use crate::format::table;
use crate::method::quantize::{GroupStats, LevelStats, dequantize, quantize};
use crate::model::delta::{BlockDelta, Groups, LEVELS, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// How the kept deltas of a lossy pack become codes.
#[derive(Debug)]
pub(crate) struct Quantizer {
    pub kind: ValueKind,
    pub groups: Groups,
    /// One scale a group, by pair.
    scales: BTreeMap<usize, Vec<f32>>,
    /// Levels of a codebook, by pair.
    levels: BTreeMap<usize, [f32; LEVELS]>,
    /// Learned gains beside the pack's, by pair: deltas are multiplied by them before anything else. [GAI-3]
    beside: BTreeMap<usize, f64>,
    /// The pack's gain.
    pub gain: f32,
}

/// What one block adds to the statistics of its pair.
enum Partial {
    Groups(Vec<(usize, GroupStats)>),
    Levels(LevelStats),
    Nothing,
}

impl Quantizer {
    pub fn fit(pairs: &Pairs, localized: &Localized, options: &CreateOptions) -> Result<Self> {
        let Method::Lossy(lossy) = &options.method else {
            return Ok(Self::new(ValueKind::Step, Groups::Tensor));
        };
        let mut this = Self::new(lossy.values, lossy.groups);
        if let (Rescale::Learned, Localizer::Learned(learned)) = (lossy.rescale(), &lossy.localizer) {
            (this.gain, this.beside) = learned_gains(pairs, localized, learned, options)?;
        }
        (this.scales, this.levels) = this.fit_tables(pairs, localized, options)?;
        if this.levels.values().flatten().any(|l| !l.is_finite()) {
            let detail = "a delta is too large for the f32 levels of a codebook; use --exact or --exclude its tensor";
            return Err(Error::Refused(detail.into()));
        }
        this.gain = this.fit_gain(pairs, localized, lossy, options)?;
        Ok(this)
    }

    fn new(kind: ValueKind, groups: Groups) -> Self {
        let (scales, levels, beside) = Default::default();
        Quantizer { kind, groups, scales, levels, beside, gain: 1.0 }
    }

    /// What is kept, times the learned gain of its tensor.
    fn amplified(&self, pair: usize, mut kept: Selection) -> Selection {
        if let Some(factor) = self.beside.get(&pair) {
            kept.deltas.iter_mut().for_each(|d| *d *= factor);
        }
        kept
    }

    /// The scales of a pair.
    pub fn scales(&self, pair: usize) -> Vec<f32> {
        self.scales.get(&pair).cloned().unwrap_or_default()
    }

    /// The levels of a pair, for a codebook.
    pub fn levels(&self, pair: usize) -> Option<[f32; LEVELS]> {
        (self.kind == ValueKind::Codebook).then(|| self.levels.get(&pair).copied().unwrap_or_default())
    }

    /// The scale of a unit of a pair.
    pub fn scale_at(&self, pair: usize, info: &TensorInfo, unit: u64) -> f32 {
        let scales = self.scales.get(&pair).map_or(&[][..], Vec::as_slice);
        scales.get(group_of(self.groups, info, unit)).copied().unwrap_or(0.0)
    }

    /// Codes for what is kept of a block that starts at unit `start`.
    pub fn encode(&self, pair: usize, info: &TensorInfo, start: u64, kept: Selection) -> Result<BlockDelta> {
        let kept = self.amplified(pair, kept);
        let levels = self.levels.get(&pair).copied().unwrap_or_default();
        let units = kept.positions.iter().zip(&kept.deltas);
        let codes: Vec<u64> = units
            .map(|(p, delta)| {
                let scale = self.scale_at(pair, info, start + u64::from(*p));
                quantize(self.kind, *delta, scale, &levels)
            })
            .collect();
        let decode = |code: &u64| dequantize::<f32>(self.kind, *code, 1.0, &levels);
        if let Some(i) = codes.iter().position(|c| !decode(c).is_finite()) {
            let (name, delta) = (Escaped(&info.name), kept.deltas.get(i).copied().unwrap_or(0.0));
            return Err(Error::Refused(format!(
                "tensor \"{name}\": the delta {delta:e} does not fit {} values; choose wider ones, such as --values bf16",
                self.kind
            )));
        }
        Ok(BlockDelta { positions: kept.positions, codes })
    }

    /// ‖task vector‖ ÷ ‖kept, dequantized‖, in the norm that is asked for; 1 where nothing is kept.
    fn fit_gain(&self, pairs: &Pairs, localized: &Localized, lossy: &Lossy, options: &CreateOptions) -> Result<f32> {
        match lossy.rescale() {
            Rescale::None => return Ok(1.0),
            Rescale::Factor(x) => return Ok(x),
            Rescale::Learned => return Ok(self.gain),
            Rescale::Energy | Rescale::L1 | Rescale::Balanced => {}
        }
        let (mut square, mut sum) = (0.0f64, 0.0f64);
        for_kept(
            pairs,
            localized,
            options,
            |pair, info, start, kept| {
                let delta = self.encode(pair, info, start, kept)?;
                let levels = self.levels.get(&pair).copied().unwrap_or_default();
                let (mut square, mut sum) = (0.0f64, 0.0f64);
                for (p, code) in delta.positions.iter().zip(&delta.codes) {
                    let scale = self.scale_at(pair, info, start + u64::from(*p));
                    let x = if info.dtype == Dtype::F64 {
                        dequantize::<f64>(self.kind, *code, scale, &levels)
                    } else {
                        dequantize::<f32>(self.kind, *code, scale, &levels).into()
                    };
                    square += x * x;
                    sum += x.abs();
                }
                Ok((square, sum))
            },
            |_, (a, b)| {
                square += a;
                sum += b;
                Ok(())
            },
        )?;
        let (energy, l1) = ((localized.seen.square / square).sqrt(), localized.seen.sum / sum);
        let gain = match lossy.rescale() {
            Rescale::L1 => l1,
            Rescale::Balanced => (energy * l1).sqrt(),
            _ => energy,
        } as f32;
        Ok(if gain.is_finite() && gain > 0.0 { gain } else { 1.0 })
    }

    /// Scales and levels of all pairs.
    fn fit_tables(&self, pairs: &Pairs, localized: &Localized, options: &CreateOptions) -> Result<Tables> {
        let (kind, groups) = (self.kind, self.groups);
        let mut stats: BTreeMap<usize, Vec<GroupStats>> = BTreeMap::new();
        let mut counts: BTreeMap<usize, LevelStats> = BTreeMap::new();
        if !(kind.has_scale() || kind == ValueKind::Codebook) {
            return Ok(Tables::default());
        }
        let measure = |pair: usize, info: &TensorInfo, start: u64, kept: Selection| {
            let kept = self.amplified(pair, kept);
            if kind == ValueKind::Codebook {
                let mut levels = LevelStats::new();
                kept.deltas.iter().for_each(|d| levels.add(*d));
                return Ok(Partial::Levels(levels));
            }
            let mut found: Vec<(usize, GroupStats)> = Vec::new();
            for (p, delta) in kept.positions.iter().zip(&kept.deltas) {
                let group = group_of(groups, info, start + u64::from(*p));
                if found.last().is_none_or(|(g, _)| *g != group) {
                    found.push((group, GroupStats::default()));
                }
                if let Some((_, stats)) = found.last_mut() {
                    stats.add(*delta);
                }
            }
            Ok(if found.is_empty() { Partial::Nothing } else { Partial::Groups(found) })
        };
        for_kept(pairs, localized, options, measure, |pair, partial| {
            match partial {
                Partial::Levels(levels) => counts.entry(pair).or_insert_with(LevelStats::new).merge(levels),
                Partial::Groups(found) => {
                    let n = table::scale_count(&pairs.get(pair)?.info, kind, groups);
                    let all = stats.entry(pair).or_insert_with(|| vec![GroupStats::default(); n as usize]);
                    for (group, part) in found {
                        let beyond = || Error::Internal(format!("group {group} of {n}"));
                        all.get_mut(group).ok_or_else(beyond)?.merge(&part);
                    }
                }
                Partial::Nothing => {}
            }
            Ok(())
        })?;
        let scales = stats.into_iter().map(|(pair, s)| (pair, s.iter().map(|g| g.scale(kind)).collect())).collect();
        Ok((scales, counts.into_iter().map(|(pair, c)| (pair, c.fit())).collect()))
    }
}

type Tables = (BTreeMap<usize, Vec<f32>>, BTreeMap<usize, [f32; LEVELS]>);

/// The mean of the learned gains, each weighted with the 1-norm of what its tensor keeps, and what each is beside it. [GAI-3]
fn learned_gains(
    pairs: &Pairs,
    localized: &Localized,
    learned: &Learned,
    options: &CreateOptions,
) -> Result<(f32, BTreeMap<usize, f64>)> {
    let mut norms: BTreeMap<usize, f64> = BTreeMap::new();
    let norm = |_: usize, _: &TensorInfo, _: u64, kept: Selection| Ok(kept.deltas.iter().map(|d| d.abs()).sum::<f64>());
    for_kept(pairs, localized, options, norm, |pair, part| {
        *norms.entry(pair).or_default() += part;
        Ok(())
    })?;
    let (mut weighted, mut total, mut gains) = (0.0, 0.0, BTreeMap::new());
    for (pair, norm) in norms {
        let gain = learned.gain(&pairs.get(pair)?.info.name)?;
        weighted += gain * norm;
        total += norm;
        gains.insert(pair, gain);
    }
    let gain = if total > 0.0 { (weighted / total) as f32 } else { 1.0 };
    gains.values_mut().for_each(|own| *own /= f64::from(gain));
    Ok((gain, gains))
}

/// Calls `work(pair, info, first unit, kept)` for every block, and `sink(pair, outcome)` in order of blocks.
fn for_kept<T: Send>(
    pairs: &Pairs,
    localized: &Localized,
    options: &CreateOptions,
    work: impl Fn(usize, &TensorInfo, u64, Selection) -> Result<T> + Sync,
    mut sink: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    options.workers.in_order(
        localized.spans().len(),
        |i| {
            let (span, pair) = localized.spans().get(pairs, i)?;
            Ok((span.pair, work(span.pair, &pair.info, span.start, localized.kept(i)?)?))
        },
        |_, (pair, outcome)| sink(pair, outcome),
    )
}

fn group_of(groups: Groups, info: &TensorInfo, unit: u64) -> usize {
    match groups {
        Groups::Tensor => 0,
        Groups::Row => unit.checked_div(info.row_len()).unwrap_or(0) as usize,
    }
}
