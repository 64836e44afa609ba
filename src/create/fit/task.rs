//! A coder for one tensor.

use std::sync::Arc;

use crate::codec::block::{Effort, Found};
use crate::codec::classes::coder::{Coder, FEWEST_IN_ROW, MOST_COLUMNS, row_len, symbol_of};
use crate::codec::classes::map::exponents;
use crate::codec::classes::model::{Class, Model};
use crate::create::fit::activity::Activity;
use crate::create::fit::classes::{axis_of, base_pays, range_of};
use crate::create::fit::columns::{AllColumns, column_levels, columns};
use crate::create::fit::levels::{Prior, first_prior, level, pay, prior_from, prior_of};
use crate::create::fit::rows::{Measure, rows};
use crate::create::fit::sample::{Moved, moved};
use crate::create::fit::samples::{Loaded, Samples};
use crate::create::fit::stats::Stats;
use crate::create::spans::cut;
use crate::error::Result;
use crate::model::delta::ValueKind;
use crate::model::tensor::TensorInfo;

/// Where at least one unit in so many is kept, those that are not are coded among the steps. That is no larger, and read faster
/// than gaps by the base's exponents; it is slower than a mask of few classes, as the fast effort has it.
const SPREAD_FROM: u64 = 6;
const SPREAD_FROM_FAST: u64 = 2;
/// Fewer kept units than this teach nothing about a tensor.
const FEWEST: u64 = 256;

/// How one tensor is coded, and what it took to find out.
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    pub coder: Coder,
    /// The origin before classes that nothing falls into were left out.
    pub(super) whole: i16,
    activity: Arc<Activity>,
    pub(super) stats: Stats,
    pub(super) kept: u64,
}

/// What there is to fit.
pub(crate) struct Task<'a> {
    pub info: &'a TensorInfo,
    pub kind: ValueKind,
    pub has_base: bool,
    pub effort: Effort,
}

/// A coder whose model is not made yet, and what units let expect.
struct Draft {
    coder: Coder,
    activity: Activity,
    /// What the levels of rows cost, where they pay.
    rows: Option<Prior>,
}

impl Task<'_> {
    /// Fits a coder to what `load` gives of each block; none where too little is kept to learn from.
    pub fn fit<'b>(&self, load: impl Fn(usize, (u64, u64)) -> Result<Loaded<'b>>) -> Result<Option<Fit>> {
        let blocks: Vec<(u64, u64)> = cut(self.info.units()).collect();
        let may_use_base =
            self.has_base && self.kind == ValueKind::Step && self.info.dtype.is_float() && self.effort != Effort::Fast;
        let samples = Samples::of(self.info, self.kind, &blocks, may_use_base, &load)?;
        if samples.kept < FEWEST {
            return Ok(None);
        }
        let mut draft = self.draft(&samples, may_use_base);
        let rows_len = row_len(self.info, draft.coder.axis);
        if rows_len >= FEWEST_IN_ROW && rows_len < self.info.units() {
            self.fit_levels(&mut draft, &samples, &blocks, &load)?;
        }
        Ok(Some(self.finish(draft, &samples)))
    }

    /// A coder without levels.
    fn draft(&self, samples: &Samples, may_use_base: bool) -> Draft {
        let uses_base = may_use_base && base_pays(&samples.all, samples.part);
        let (origin, classes) = range_of(&samples.all, uses_base);
        let blank = Class { odds: 80, occupied: 128, values: None };
        let model = Arc::new(Model { classes: vec![blank; classes], rows: None, columns: None });
        let coder = Coder { uses_base, axis: axis_of(self.info), origin, columns: Vec::new(), model };
        Draft { coder, activity: Activity::of(&samples.all, uses_base), rows: None }
    }

    /// Rows first, then columns given the rows, then rows given the columns.
    fn fit_levels<'b>(
        &self,
        draft: &mut Draft,
        samples: &Samples,
        blocks: &[(u64, u64)],
        load: &impl Fn(usize, (u64, u64)) -> Result<Loaded<'b>>,
    ) -> Result<()> {
        let measure = self.measure(draft);
        let first = rows(&measure, &samples.all, &first_prior());
        let found = rows(&measure, &samples.all, &prior_from(&first.counts));
        let rows_len = row_len(self.info, draft.coder.axis);
        let row_count = self.info.units() / rows_len;
        if self.effort != Effort::Fast && rows_len <= MOST_COLUMNS && row_count >= 16 {
            let mut sums = columns(&measure, &samples.all, &found);
            let mut part = samples.part;
            if samples.kept * 20 < samples.seen && !samples.whole {
                // Where little is kept, all of it is counted.
                let kind = self.kind;
                AllColumns { info: self.info, kind, activity: &draft.activity, part }.count(blocks, load, &mut sums)?;
                part = 1.0;
            }
            draft.coder.columns = column_levels(&sums, part);
        }
        let found = rows(&self.measure(draft), &samples.all, &prior_from(&found.counts));
        draft.rows = pay(found.saved, &found.counts).then(|| prior_from(&found.counts));
        Ok(())
    }

    fn measure<'a>(&'a self, draft: &'a Draft) -> Measure<'a> {
        Measure { info: self.info, coder: &draft.coder, activity: &draft.activity }
    }

    /// Counts by class with everything chosen, and makes the model.
    fn finish(&self, draft: Draft, samples: &Samples) -> Fit {
        let Samples { kept, seen, .. } = *samples;
        let is_short = self.kind == ValueKind::Step && self.info.dtype.unit_bytes() == 2;
        let from = if self.effort == Effort::Fast { SPREAD_FROM_FAST } else { SPREAD_FROM };
        let mut stats = Stats::new(is_short && self.has_base && kept * from >= seen && kept < seen);
        let found = draft.rows.map(|prior| rows(&self.measure(&draft), &samples.all, &prior).levels);
        // Levels that are all the same say nothing.
        let found = found.filter(|all| all.iter().flatten().any(|l| *l != 0));
        let mut coder = draft.coder;
        if coder.columns.iter().all(|l| *l == 0) {
            coder.columns = Vec::new();
        }
        coder.columns.iter().for_each(|l| stats.columns[symbol_of(*l) as usize] += 1);
        for (i, (sample, bytes)) in samples.all.iter().zip(&samples.bytes).enumerate() {
            let levels = found.as_ref().and_then(|all| all.get(i)).map_or(&[][..], Vec::as_slice);
            levels.iter().for_each(|l| stats.rows[symbol_of(*l) as usize] += 1);
            stats.count(&coder, self.info, sample, bytes, levels);
        }
        let (first, model) = stats.model();
        let whole = coder.origin;
        coder.origin -= first;
        coder.model = Arc::new(model);
        Fit { coder, whole, activity: Arc::new(draft.activity), stats, kept }
    }
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
        let positions = &delta.positions;
        let block = Moved { start: at.0, len: at.1 as u32, positions, moved: &moved, exponents: &own };
        let prior = prior_of(table);
        let sums = Measure { info, coder: &self.coder, activity: &self.activity }.row_sums(block);
        sums.into_iter().map(|(seen, expected)| level(seen, expected, &prior)).collect()
    }
}
