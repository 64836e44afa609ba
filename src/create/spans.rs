//! Where the blocks of float pairs lie: what is read, encoded and decoded at once.

use crate::create::pairs::{Pair, Pairs};
use crate::error::{Error, Result};
use crate::model::tensor::BLOCK_LOG2;

/// One block of a float pair.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Number of the pair among all.
    pub pair: usize,
    pub start: u64,
    pub len: u64,
}

/// Units cut into blocks: where each starts, and its length.
pub(crate) fn cut(units: u64) -> impl Iterator<Item = (u64, u64)> {
    let size = 1u64 << BLOCK_LOG2;
    (0..units.div_ceil(size)).map(move |b| (b * size, size.min(units - b * size)))
}

/// Blocks of all float pairs, by name and position.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    all: Vec<Span>,
}

impl Spans {
    pub fn of(pairs: &Pairs) -> Self {
        let spans = |(pair, p): (usize, &Pair)| cut(p.info.units()).map(move |(start, len)| Span { pair, start, len });
        Spans { all: pairs.floats().flat_map(spans).collect() }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Block `i`, and its pair.
    pub fn get<'p>(&self, pairs: &'p Pairs, i: usize) -> Result<(Span, &'p Pair)> {
        let span = *self.all.get(i).ok_or_else(|| Error::Internal(format!("no block {i}")))?;
        Ok((span, pairs.get(span.pair)?))
    }

    /// Blocks of one pair, as a range of all blocks.
    pub fn of_pair(&self, pair: usize) -> std::ops::Range<usize> {
        self.all.partition_point(|b| b.pair < pair)..self.all.partition_point(|b| b.pair <= pair)
    }

    /// Units of some blocks.
    pub fn units(&self, of: std::ops::Range<usize>) -> u64 {
        self.all.get(of).unwrap_or_default().iter().map(|span| span.len).sum()
    }

    /// All blocks, those of one pair together.
    pub fn by_pair(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let lengths = self.all.chunk_by(|a, b| a.pair == b.pair).map(<[Span]>::len);
        lengths.scan(0, |start, len| {
            *start += len;
            Some(*start - len..*start)
        })
    }
}
