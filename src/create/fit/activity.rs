//! What the exponents let expect: how active a unit is before its row and column are known.

use crate::codec::classes::map::RowRun;
use crate::create::fit::sample::Sample;

/// Expected activity by exponent, or one for all units.
#[derive(Debug, Clone)]
pub(crate) struct Activity {
    pub by_exponent: [f32; 256],
    /// Steps beyond this many times the mean count as that many: a few long ones must not speak for a row.
    pub cap: [f32; 256],
    /// By exponent: variance over mean of how far units move. In these units sums vary as counts do, so that a few that moved
    /// far do not speak for a row.
    pub unit: [f32; 256],
    pub uses_base: bool,
}

/// 2^(level / 2), 0 for a dead one.
#[inline]
pub(crate) fn factor(level: i16) -> f32 {
    (f32::from(level) * 0.5).exp2()
}

impl Activity {
    /// Measured on samples.
    pub fn of(samples: &[Sample], uses_base: bool) -> Self {
        let (mut units, mut sums) = ([0u64; 256], [0f64; 256]);
        let place = |s: &Sample, p: u32| if uses_base { usize::from(s.exponents[p as usize]) } else { 0 };
        for s in samples {
            if uses_base {
                units.iter_mut().zip(&s.members).for_each(|(n, more)| *n += more);
            } else {
                units[0] += u64::from(s.len);
            }
            for (p, moved) in s.positions.iter().zip(&s.moved) {
                sums[place(s, *p)] += f64::from(*moved);
            }
        }
        let mut cap = [1f32; 256];
        for ((cap, sum), n) in cap.iter_mut().zip(&sums).zip(&units) {
            *cap = (*sum / (*n).max(1) as f64 * 8.0).max(1.0) as f32;
        }
        let (mut capped, mut squares) = ([0f64; 256], [0f64; 256]);
        for s in samples {
            for (p, moved) in s.positions.iter().zip(&s.moved) {
                let at = place(s, *p);
                let moved = f64::from(moved.min(cap[at]));
                capped[at] += moved;
                squares[at] += moved * moved;
            }
        }
        let (mut by_exponent, mut unit) = ([0f32; 256], [1f32; 256]);
        for (e, n) in units.iter().enumerate().filter(|(e, _)| capped[*e] > 0.0) {
            unit[e] = (squares[e] / capped[e]) as f32;
            by_exponent[e] = (capped[e] / (*n).max(1) as f64) as f32 / unit[e];
        }
        if !uses_base {
            (by_exponent, cap, unit) = ([by_exponent[0]; 256], [cap[0]; 256], [unit[0]; 256]);
        }
        Activity { by_exponent, cap, unit, uses_base }
    }

    /// What a run of units lets expect, where columns have these factors. Long runs are looked at in part.
    pub fn expected(&self, run: &RowRun, exponents: &[u8], columns: &[f32]) -> f32 {
        let stride = if run.len >= 512 { 4 } else { 1 };
        let columns = columns.get(run.column..run.column + run.len);
        let sum: f32 = match (self.uses_base, columns) {
            (false, None) => return self.by_exponent[0] * run.len as f32,
            (false, Some(columns)) => columns.iter().step_by(stride).sum::<f32>() * self.by_exponent[0],
            (true, None) => {
                let own = &exponents[run.start..run.start + run.len];
                own.iter().step_by(stride).map(|e| self.by_exponent[usize::from(*e)]).sum()
            }
            (true, Some(columns)) => {
                let own = exponents[run.start..run.start + run.len].iter().step_by(stride);
                let columns = columns.iter().step_by(stride);
                own.zip(columns).map(|(e, c)| self.by_exponent[usize::from(*e)] * c).sum()
            }
        };
        // What was looked at stands for all of it.
        sum * run.len as f32 / run.len.div_ceil(stride) as f32
    }

    /// What was seen of one kept unit.
    #[inline]
    pub fn seen(&self, moved: f32, exponent: u8) -> f32 {
        moved.min(self.cap[usize::from(exponent)]) / self.unit[usize::from(exponent)]
    }
}
