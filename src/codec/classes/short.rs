//! Many steps of 16 bits, the most frequent codes of all: everything that is the same for all of them is looked up.

use std::sync::OnceLock;

use crate::codec::classes::map::ClassMap;
use crate::codec::classes::symbols::Split;
use crate::codec::entropy::bits::BackwardBits;
use crate::codec::entropy::rans::{Backward, range_of};
use crate::codec::entropy::table::Table;

/// From so many codes on it pays to prepare for them.
pub(crate) const MANY: usize = 1 << 12;

/// Symbols of such a step are below 2^6.
const SYMBOL_BITS: u32 = 6;

/// A step taken apart: the symbol, the number of raw bits, and they.
#[derive(Debug, Clone, Copy, Default)]
struct Short {
    symbol: u8,
    extra_bits: u8,
    extra: u16,
}

type Steps = [Short; 1 << 16];

/// All steps taken apart, by their bits. Few are far from 0, so that little of it is ever looked at.
fn all() -> &'static Steps {
    static ALL: OnceLock<Box<Steps>> = OnceLock::new();
    ALL.get_or_init(|| {
        let short = |code| {
            let parts = Split::Step { bits: 16 }.take_apart(code);
            Short { symbol: parts.symbol as u8, extra_bits: parts.extra_bits as u8, extra: parts.extra as u16 }
        };
        let all: Vec<Short> = (0..=u64::from(u16::MAX)).map(short).collect();
        all.try_into().unwrap_or(Box::new([Short::default(); 1 << 16]))
    })
}

/// What it takes to encode steps.
pub(crate) struct ShortSteps<'a> {
    steps: &'static Steps,
    tables: Vec<&'a Table>,
    /// (start, frequency) by class and symbol; frequency 0 where the class lacks the symbol.
    ranges: Box<[(u16, u16); 256 << SYMBOL_BITS]>,
}

impl<'a> ShortSteps<'a> {
    /// For tables by class.
    pub fn new(tables: Vec<&'a Table>) -> Self {
        let mut ranges = Box::new([(0, 0); 256 << SYMBOL_BITS]);
        let found = tables.iter().flat_map(|table| (0..1 << SYMBOL_BITS).map(|symbol| table.range_of(symbol)));
        ranges.iter_mut().zip(found).for_each(|(range, found)| *range = found);
        ShortSteps { steps: all(), ranges, tables }
    }

    /// Steps in the order of their positions, coded; `None` where the tables lack a symbol. They are taken from the last to the
    /// first, as the range coder wants them, so that what is looked up for the next is at hand before the last is coded.
    #[inline(always)]
    pub fn encode(&self, map: &ClassMap, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
        /// Pairs between two looks at what room there is.
        const PAIRS: usize = 128;
        let (mut coder, mut bits) = (Backward::<2>::new(codes.len()), BackwardBits::default());
        let ((position_pairs, position), (code_pairs, code)) = (positions.as_chunks::<2>(), codes.as_chunks::<2>());
        bits.make_room(2);
        for (p, code) in position.iter().zip(code) {
            coder.put(0, self.step(map.class(*p), *code, &mut bits)?);
        }
        for (positions, codes) in position_pairs.rchunks(PAIRS).zip(code_pairs.rchunks(PAIRS)) {
            // Of each step at most an escaped symbol and its raw bits.
            bits.make_room(4 * PAIRS);
            for ([p, q], [code, next]) in positions.iter().zip(codes).rev() {
                let second = self.step(map.class(*q), *next, &mut bits)?;
                let first = self.step(map.class(*p), *code, &mut bits)?;
                coder.put(1, second);
                coder.put(0, first);
            }
        }
        Some(coder.finish(&bits.finish()))
    }

    /// The range of a step's symbol; its raw bits go where they belong.
    #[inline(always)]
    fn step(&self, class: u8, code: u64, bits: &mut BackwardBits) -> Option<(u16, u16)> {
        let Short { symbol, extra_bits, extra } = self.steps[usize::from(code as u16)];
        bits.put(extra.into(), extra_bits.into());
        let range = self.ranges[usize::from(class) << SYMBOL_BITS | usize::from(symbol & 63)];
        if range.1 > 0 {
            return Some(range);
        }
        let (escape, raw) = range_of(self.tables.get(usize::from(class))?, symbol.into())?;
        bits.put(symbol.into(), raw);
        Some(escape)
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::codec::entropy::rans::Encoder;

    #[test]
    fn the_bytes_are_those_of_an_encoder() {
        let tables = [Table::fit(&[0, 50, 30, 0, 20, 9, 9, 5, 1]).unwrap(), Table::fit(&[0, 1, 1, 1]).unwrap()];
        let short = ShortSteps::new(tables.iter().collect());
        for n in [0usize, 1, 2, 3, 1000, 1001] {
            let classes: Vec<u8> = (0..n).map(|i| u8::from(i * i % 7 > 3)).collect();
            let (map, positions) = (ClassMap::of(&classes), (0..n as u32).collect::<Vec<_>>());
            let codes: Vec<u64> = (0..n as u64).map(|i| (i * i * 31 % 77).wrapping_sub(38) & 0xffff).collect();
            let mut encoder = Encoder::default();
            for (class, code) in classes.iter().zip(&codes) {
                let parts = Split::Step { bits: 16 }.take_apart(*code);
                encoder.symbol(&tables[usize::from(*class)], parts.symbol).unwrap();
                encoder.bits.put(parts.extra, parts.extra_bits);
            }
            assert_eq!(short.encode(&map, &positions, &codes).unwrap(), encoder.finish::<2>(), "{n}");
        }
        assert!(short.encode(&ClassMap::of(&[2]), &[0], &[1]).is_none(), "a class without a table");
    }
}
