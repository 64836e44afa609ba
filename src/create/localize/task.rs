//! The task vector, read block by block. [TSK-1]

use crate::create::pairs::{Pair, Pairs};
use crate::create::spans::{Span, Spans};
use crate::error::Result;
use crate::method::localize::keys;

/// Deltas of all float pairs; none is held.
pub(crate) struct TaskVector<'a> {
    pub pairs: &'a Pairs<'a>,
    pub spans: Spans,
}

impl<'a> TaskVector<'a> {
    pub fn of(pairs: &'a Pairs<'a>) -> Self {
        TaskVector { pairs, spans: Spans::of(pairs) }
    }

    /// Block `i`, its pair, and the delta of every element.
    pub fn deltas(&self, i: usize) -> Result<(Span, &'a Pair, Vec<f64>)> {
        let (span, pair) = self.spans.get(self.pairs, i)?;
        let base = self.pairs.base_units(pair, span.start, span.len)?;
        let tuned = self.pairs.tuned_units(pair, span.start, span.len)?;
        let mut out = Vec::with_capacity(span.len as usize);
        keys::task_vector(pair.info.dtype, &base, &tuned, &mut out);
        Ok((span, pair, out))
    }

    /// Bytes of the base in block `i`.
    pub fn bytes(&self, i: usize) -> Result<u64> {
        let (span, pair) = self.spans.get(self.pairs, i)?;
        Ok(span.len * pair.info.dtype.unit_bytes() as u64)
    }

    /// Bytes of the base in all blocks.
    pub fn all_bytes(&self) -> Result<u64> {
        (0..self.spans.len()).map(|i| self.bytes(i)).sum()
    }
}
