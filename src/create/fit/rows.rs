//! Levels of the rows, given the exponents and the columns.

use crate::codec::classes::coder::{Coder, row_len, symbol_of};
use crate::codec::classes::map::row_runs;
use crate::create::fit::activity::{Activity, factor};
use crate::create::fit::levels::{LEVELS, Prior, level, saving};
use crate::create::fit::sample::{Moved, Sample};
use crate::model::tensor::TensorInfo;

/// Levels of the row runs of all samples.
pub(super) struct Rows {
    pub levels: Vec<Vec<i16>>,
    pub counts: [u64; LEVELS],
    /// What they save against no levels, in nats.
    pub saved: f64,
}

/// What rows are measured by.
pub(super) struct Measure<'a> {
    pub info: &'a TensorInfo,
    pub coder: &'a Coder,
    pub activity: &'a Activity,
}

/// Levels of the row runs of every sample.
pub(super) fn rows(measure: &Measure, samples: &[Sample], prior: &Prior) -> Rows {
    let mut rows = Rows { levels: Vec::new(), counts: [0; LEVELS], saved: 0.0 };
    for s in samples {
        let runs = measure.row_sums(s.as_moved());
        let levels: Vec<i16> = runs.iter().map(|(seen, expected)| level(*seen, *expected, prior)).collect();
        for (level, (seen, expected)) in levels.iter().zip(&runs) {
            rows.counts[symbol_of(*level) as usize] += 1;
            rows.saved += saving(*seen, *expected, *level);
        }
        rows.levels.push(levels);
    }
    rows
}

impl Measure<'_> {
    /// What was seen and expected of the row runs of a block.
    pub fn row_sums(&self, block: Moved) -> Vec<(f32, f32)> {
        let Measure { info, coder, activity } = self;
        let Moved { positions, moved, exponents, .. } = block;
        let mut next = 0;
        let columns: Vec<f32> = coder.columns.iter().map(|c| factor(*c)).collect();
        row_runs(row_len(info, coder.axis), block.start, block.len)
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
}
