//! Levels of the columns, given the exponents and the rows.

use crate::codec::classes::coder::{DEAD, row_len, symbol_of};
use crate::codec::classes::map::{exponents, row_runs};
use crate::create::fit::activity::{Activity, factor};
use crate::create::fit::levels::{LEVELS, Prior, first_prior, level, pay, prior_from, saving};
use crate::create::fit::rows::{Measure, Rows};
use crate::create::fit::sample::{Sample, moved};
use crate::create::fit::samples::Loaded;
use crate::error::Result;
use crate::model::delta::ValueKind;
use crate::model::tensor::TensorInfo;

/// What was seen and expected of every column.
pub(super) fn columns(measure: &Measure, samples: &[Sample], rows: &Rows) -> Vec<(f32, f32)> {
    let (activity, len) = (measure.activity, row_len(measure.info, measure.coder.axis));
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

/// Counts every kept unit of a tensor by its column.
pub(super) struct AllColumns<'a> {
    pub info: &'a TensorInfo,
    pub kind: ValueKind,
    pub activity: &'a Activity,
    /// How much of the tensor the samples are.
    pub part: f64,
}

impl AllColumns<'_> {
    /// Counts all that is seen; what is expected is that of the samples, made larger.
    pub fn count<'b>(
        &self,
        blocks: &[(u64, u64)],
        load: &impl Fn(usize, (u64, u64)) -> Result<Loaded<'b>>,
        sums: &mut [(f32, f32)],
    ) -> Result<()> {
        for sum in sums.iter_mut() {
            *sum = (0.0, (f64::from(sum.1) / self.part) as f32);
        }
        let (n, mut own) = (sums.len() as u64, Vec::new());
        for (i, at) in blocks.iter().enumerate() {
            let (delta, base) = load(i, *at)?;
            let moved = moved(self.info, self.kind, &delta);
            let unit = self.info.dtype.unit_bytes();
            for (p, moved) in delta.positions.iter().zip(&moved) {
                let at_unit = *p as usize * unit;
                let bytes = base.get(at_unit..at_unit + unit).filter(|_| self.activity.uses_base).unwrap_or(&[]);
                exponents(self.info.dtype, bytes, &mut own);
                let column = (at.0 + u64::from(*p)) % n;
                sums[column as usize].0 += self.activity.seen(*moved, own.first().copied().unwrap_or(0));
            }
        }
        Ok(())
    }
}

/// Chosen twice: the second time with what the first found levels to cost. None where they save less than they cost; `part` is
/// how much of the tensor the sums are of.
pub(super) fn column_levels(sums: &[(f32, f32)], part: f64) -> Vec<i16> {
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
