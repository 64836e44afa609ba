//! The positions to keep, found in passes over the blocks. [LOC-1] [LOC-2] [LOC-3]

mod given;
mod ranking;
mod survey;
mod task;
mod threshold;

use crate::checkpoint::Checkpoint;
use crate::create::options::{CreateOptions, Localizer, Lossy, Method};
use crate::create::pairs::Pairs;
use crate::create::spans::Spans;
use crate::error::Result;
use crate::method::localize::topk::Threshold;
use crate::parallel::Workers;

use ranking::Ranking;
use survey::Seen;
use task::TaskVector;

/// Most kept elements that are held between stages: 12 bytes each.
const MOST_HELD: u64 = 8 << 20;

/// Which elements of every block are kept.
pub(crate) struct Localized<'a> {
    task: TaskVector<'a>,
    rule: Rule<'a>,
    /// For each block what it keeps, where all of it together is small enough to hold; later stages then read nothing.
    held: Vec<Selection>,
    /// The task vector over the included tensors.
    pub seen: Seen,
    kept_square: f64,
    pub kept: u64,
    pub unchanged_in_mask: u64,
}

/// How the elements of a block are chosen.
enum Rule<'a> {
    /// None are.
    Nothing,
    /// All, zeros too.
    Everything,
    Mask(&'a Checkpoint),
    /// By block: those above the threshold, and so many equal to it.
    Above(&'a Localizer, Vec<Option<Threshold>>),
}

/// What is kept of one block.
#[derive(Debug, Default, Clone)]
pub(crate) struct Selection {
    /// From the start of the block, ascending.
    pub positions: Vec<u32>,
    pub deltas: Vec<f64>,
    /// Positions of a given mask at which nothing changed.
    unchanged: u64,
}

impl<'a> Localized<'a> {
    pub fn of(pairs: &'a Pairs<'a>, options: &'a CreateOptions) -> Result<Self> {
        let task = TaskVector::of(pairs);
        let Method::Lossy(lossy) = &options.method else { return Ok(Self::nothing(task)) };
        given::check(&lossy.localizer, pairs)?;
        let (by_block, seen) = survey::survey(&task, &options.workers)?;
        let rule = rule(&task, lossy, &by_block, &options.workers)?;
        let mut this = Self { rule, seen, ..Self::nothing(task) };
        this.count(&options.workers)?;
        Ok(this)
    }

    fn nothing(task: TaskVector<'a>) -> Self {
        Localized {
            task,
            rule: Rule::Nothing,
            held: Vec::new(),
            seen: Seen::default(),
            kept_square: 0.0,
            kept: 0,
            unchanged_in_mask: 0,
        }
    }

    /// The share of the task vector's squared norm that is kept; 1 where there is nothing to keep.
    pub fn energy(&self) -> f64 {
        let share = self.kept_square / self.seen.square;
        if self.seen.square > 0.0 && !share.is_nan() { share } else { 1.0 }
    }

    /// How much is kept, by block.
    fn count(&mut self, workers: &Workers) -> Result<()> {
        let (mut held, mut kept, mut square, mut unchanged) = (Vec::new(), 0, 0.0, 0);
        workers.in_order(
            self.task.spans.len(),
            |i| {
                let mut found = self.kept(i)?;
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

    /// What is kept of block `i`.
    pub fn kept(&self, i: usize) -> Result<Selection> {
        if let Some(held) = self.held.get(i) {
            return Ok(held.clone());
        }
        match &self.rule {
            Rule::Nothing => Ok(Selection::default()),
            Rule::Everything => {
                let (_, _, deltas) = self.task.deltas(i)?;
                Ok(Selection { positions: (0..deltas.len() as u32).collect(), deltas, unchanged: 0 })
            }
            Rule::Mask(mask) => self.kept_of_mask(i, mask),
            Rule::Above(localizer, thresholds) => match thresholds.get(i) {
                Some(Some(threshold)) => self.kept_above(i, localizer, threshold),
                _ => Ok(Selection::default()),
            },
        }
    }

    fn kept_above(&self, i: usize, localizer: &Localizer, threshold: &Threshold) -> Result<Selection> {
        let mut out = Selection::default();
        let (span, pair, deltas) = self.task.deltas(i)?;
        let keys = Ranking::new(&self.task, localizer).keys(span, pair, &deltas)?;
        let mut ties = threshold.ties;
        for (p, delta) in deltas.iter().enumerate().filter(|(_, d)| **d != 0.0) {
            let key = keys.of(p, *delta)?;
            if key > threshold.key || (key == threshold.key && ties > 0) {
                ties -= u64::from(key == threshold.key);
                out.positions.push(p as u32);
                out.deltas.push(*delta);
            }
        }
        Ok(out)
    }

    fn kept_of_mask(&self, i: usize, mask: &Checkpoint) -> Result<Selection> {
        let mut out = Selection::default();
        let (span, pair, deltas) = self.task.deltas(i)?;
        if mask.tensor(&pair.info.name).is_none() {
            return Ok(out);
        }
        let bytes = mask.bytes(&pair.info.name, span.start..span.start + span.len)?;
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
        Ok(out)
    }

    /// The blocks of all float pairs.
    pub fn spans(&self) -> &Spans {
        &self.task.spans
    }
}

fn rule<'a>(task: &TaskVector, lossy: &'a Lossy, seen: &[Seen], workers: &Workers) -> Result<Rule<'a>> {
    if let Localizer::Mask(mask) = &lossy.localizer {
        return Ok(Rule::Mask(mask));
    }
    if lossy.density.is_all() {
        return Ok(Rule::Everything);
    }
    let ranking = Ranking::new(task, &lossy.localizer);
    Ok(Rule::Above(&lossy.localizer, threshold::choose(task, &ranking, lossy, seen, workers)?))
}
