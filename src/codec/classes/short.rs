//! Many steps of 16 bits, the most frequent codes of all: everything that is the same for all of them is looked up.

use std::sync::OnceLock;

use crate::codec::classes::map::ClassMap;
use crate::codec::classes::symbols::Split;
use crate::codec::classes::values;
use crate::codec::entropy::bits::BackwardBits;
use crate::codec::entropy::rans::{Backward, Decoder, range_of};
use crate::codec::entropy::table::{TOTAL, Table};
use crate::error::Result;

/// From so many codes on it pays to prepare for them.
pub(crate) const MANY: usize = 1 << 12;

/// Symbols of such a step are below 2^6.
const SYMBOL_BITS: u32 = 6;

/// How these steps are split.
const STEP: Split = Split::Step { bits: 16 };

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
            let parts = STEP.take_apart(code);
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
        let Short { symbol, extra_bits, extra } = *self.steps.get(usize::from(code as u16))?;
        bits.put(extra.into(), extra_bits.into());
        let range = *self.ranges.get(usize::from(class) << SYMBOL_BITS | usize::from(symbol & 63))?;
        if range.1 > 0 {
            return Some(range);
        }
        let (escape, raw) = range_of(self.tables.get(usize::from(class))?, symbol.into())?;
        bits.put(symbol.into(), raw);
        Some(escape)
    }
}

/// The slots of a class's table, and the symbol of its first entry.
type Slots<'a> = (&'a [u32; TOTAL as usize], u32);

/// A symbol's part of the magnitude, and how many raw bits follow: the rest of it and the sign.
type Magnitudes = [(u16, u8); 1 << SYMBOL_BITS];

fn magnitudes() -> Magnitudes {
    std::array::from_fn(|symbol| {
        let symbol = symbol as u32;
        let extra_bits = STEP.extra_bits(symbol);
        let lead = if symbol < RARE { STEP.put_together(symbol, 0).unwrap_or(0) } else { 0 };
        (lead as u16, extra_bits as u8)
    })
}

/// From this symbol on a magnitude may be one that no step of 16 bits has.
const RARE: u32 = 56;

/// Reads steps of pairs of positions: what [`values::decode`] does, as long as there is nothing rare.
#[inline(always)]
pub(crate) fn read(
    decoder: &mut Decoder<2>,
    tables: &[&Table],
    map: &ClassMap,
    pairs: &[[u32; 2]],
    out: &mut Vec<u64>,
) -> Result<()> {
    let slots: Vec<Slots> = tables.iter().filter_map(|table| table.slots().zip(table.symbol(1))).collect();
    let magnitudes = magnitudes();
    let slots_of = |p: u32| slots.get(usize::from(map.class(p))).copied().ok_or_else(values::no_class);
    let rare = |decoder: &mut Decoder<2>, p: u32, entry: u32| {
        values::code(decoder, STEP, values::table_of(tables, map, p)?, entry)
    };
    for [p, q] in pairs {
        let ((a, first), (b, second)) = (slots_of(*p)?, slots_of(*q)?);
        let [x, y] = decoder.entries_of([a, b]);
        let x = match common(decoder, &magnitudes, first, x) {
            Some(x) => x,
            None => rare(decoder, *p, x)?,
        };
        let y = match common(decoder, &magnitudes, second, y) {
            Some(y) => y,
            None => rare(decoder, *q, y)?,
        };
        out.extend([x, y]);
    }
    Ok(())
}

/// The step of an entry that was just read; nothing is read for one that is rare.
#[inline(always)]
fn common(decoder: &mut Decoder<2>, magnitudes: &Magnitudes, first: u32, entry: u32) -> Option<u64> {
    let symbol = first.wrapping_add(entry).wrapping_sub(1);
    if entry == 0 || symbol >= RARE {
        return None;
    }
    let (lead, extra_bits) = *magnitudes.get(symbol as usize)?;
    let extra = decoder.bits.take_short(extra_bits.into());
    let magnitude = u64::from(lead) | extra >> 1;
    Some(std::hint::select_unpredictable(extra & 1 != 0, magnitude.wrapping_neg() & 0xffff, magnitude))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::classes::model::{Class, Model};
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

    /// Many steps, the rarest and the widest among them, and the same bytes one step at a time.
    #[test]
    fn many_steps_are_read_as_few_are() {
        let steps = |i: u64| match i % 97 {
            0 => [0x8000, 0x7fff, 0x8001, 300][i as usize % 4],
            _ => (i * i * 31 % 77).wrapping_sub(38) & 0xffff,
        };
        let codes: Vec<u64> = (0..MANY as u64 + 501).map(steps).collect();
        let classes: Vec<u8> = (0..codes.len()).map(|i| u8::from(i * i % 7 > 3)).collect();
        let (map, positions) = (ClassMap::of(&classes), (0..codes.len() as u32).collect::<Vec<_>>());
        let table = |counts: &[u64]| Some(Arc::new(Table::fit(counts).unwrap()));
        let class = |values| Class { odds: 80, occupied: 128, values };
        let classes = vec![class(table(&[0, 50, 30, 0, 20, 9, 9, 5, 1])), class(table(&[9; 59]))];
        let model = Model { classes, rows: None, columns: None };
        let bytes = values::encode(&model, &map, STEP, &positions, &codes).unwrap();
        let mut out = Vec::new();
        values::decode(&model, &map, STEP, &positions, &bytes, &mut out).unwrap();
        assert_eq!(out, codes);
        let tables: Vec<&Table> = model.classes.iter().filter_map(|c| c.values.as_deref()).collect();
        let mut decoder = Decoder::<2>::new(&bytes).unwrap();
        for (p, code) in positions.iter().zip(&codes) {
            let table = values::table_of(&tables, &map, *p).unwrap();
            let entry = decoder.entry(table);
            assert_eq!(values::code(&mut decoder, STEP, table, entry).unwrap(), *code);
        }
        decoder.finish().unwrap();
        for end in [9, 100, bytes.len() - 1] {
            assert!(values::decode(&model, &map, STEP, &positions, &bytes[..end], &mut out).is_err(), "{end}");
        }
        let beyond: Vec<u32> = positions.iter().map(|p| p + 64).collect();
        assert!(values::decode(&model, &map, STEP, &beyond, &bytes, &mut out).is_err(), "units without a class");
    }
}
