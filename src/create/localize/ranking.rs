//! What elements are ranked by: their deltas, scores from a file, or scores that were learned. [LOC-1] [LRN-3]

use crate::checkpoint::Checkpoint;
use crate::create::localize::task::TaskVector;
use crate::create::options::Localizer;
use crate::create::pairs::Pair;
use crate::create::spans::Span;
use crate::error::{Error, Escaped, Result};
use crate::method::localize::keys::{self, Width};
use crate::model::dtype::Dtype;

/// Gives every changed element a key: the larger, the sooner it is kept.
pub(super) struct Ranking<'a> {
    task: &'a TaskVector<'a>,
    localizer: &'a Localizer,
    width: Width,
}

/// Keys of the elements of one block.
pub(super) struct Keys {
    width: Width,
    /// None where |delta| itself is the score.
    scores: Option<Vec<f64>>,
}

impl Keys {
    /// The key of element `p`, which moved by `delta`.
    pub fn of(&self, p: usize, delta: f64) -> Result<u64> {
        let Some(scores) = &self.scores else { return Ok(self.width.magnitude(delta)) };
        let score = scores.get(p).ok_or_else(|| Error::Internal(format!("no score for element {p}")))?;
        Ok(self.width.signed(*score))
    }
}

impl<'a> Ranking<'a> {
    pub fn new(task: &'a TaskVector<'a>, localizer: &'a Localizer) -> Self {
        let is_wide = |dtype: Dtype| dtype == Dtype::F64;
        let wide_scores = matches!(localizer, Localizer::Scores(s) if s.tensors().any(|t| is_wide(t.dtype)));
        let wide_deltas = task.pairs.floats().any(|(_, p)| is_wide(p.info.dtype));
        let width = if wide_scores || wide_deltas { Width::Wide } else { Width::Narrow };
        Ranking { task, localizer, width }
    }

    /// Bits of a key.
    pub fn bits(&self) -> u32 {
        self.width.bits()
    }

    /// Appends the keys of the changed elements of block `i`.
    pub fn read(&self, i: usize, out: &mut Vec<u64>) -> Result<()> {
        let (span, pair, deltas) = self.task.deltas(i)?;
        let keys = self.keys(span, pair, &deltas)?;
        for (p, delta) in deltas.iter().enumerate().filter(|(_, d)| **d != 0.0) {
            out.push(keys.of(p, *delta)?);
        }
        Ok(())
    }

    /// Keys of a block with these deltas.
    pub fn keys(&self, span: Span, pair: &Pair, deltas: &[f64]) -> Result<Keys> {
        let scores = match self.localizer {
            Localizer::Scores(file) => Some(scores_in(file, span, pair)?),
            Localizer::Learned(learned) => Some(learned.scores(&pair.info.name, span.start, deltas)?),
            Localizer::Magnitude | Localizer::Mask(_) => None,
        };
        Ok(Keys { width: self.width, scores })
    }
}

/// Scores of a block, from a file that was checked.
fn scores_in(file: &Checkpoint, span: Span, pair: &Pair) -> Result<Vec<f64>> {
    let name = &pair.info.name;
    let info = file.tensor(name).ok_or_else(|| Error::Internal(format!("no scores for {}", Escaped(name))))?;
    let unit = info.dtype.unit_bytes() as u64;
    let bytes = file.bytes(name, span.start * unit..(span.start + span.len) * unit)?;
    let mut out = Vec::with_capacity(span.len as usize);
    keys::numbers(info.dtype, &bytes, &mut out);
    if out.iter().any(|x| x.is_nan()) {
        let detail = format!("scores of tensor \"{}\" hold NaN, which has no rank", Escaped(name));
        return Err(Error::Refused(detail));
    }
    Ok(out)
}
