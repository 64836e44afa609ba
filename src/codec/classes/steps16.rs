//! Many steps of 16 bits, the most frequent codes of all: runs of them, for which each loop does one thing.

use crate::codec::classes::model::MOST_CLASSES;
use crate::codec::classes::symbols::{Split, no_class, table_of};
use crate::codec::entropy::bits::{BackwardBits, BitReader};
use crate::codec::entropy::rans::{Backward, Decoder, PLACES, Ready, range_of};
use crate::codec::entropy::table::{TOTAL, Table};
use crate::error::Result;
use crate::simd::compiled_twice;

/// From so many codes on it pays to prepare for them.
pub(crate) const MANY: usize = 1 << 12;

/// Symbols of such a step are below 2^6.
const SYMBOL_BITS: u32 = 6;

/// Steps of which the same is done at once: one loop for all of it would need more registers than there are.
const RUN: usize = 128;

/// Turns of `N` states in a run.
const fn turns<const N: usize>() -> usize {
    match RUN.checked_div(N) {
        Some(turns) => turns,
        None => 1,
    }
}

/// How these steps are split.
pub(super) const STEP: Split = Split::Step { bits: 16 };

/// Steps taken apart, as many as are written at once.
struct Tokens {
    /// Where each symbol is found: class << 6 | symbol.
    places: [u16; RUN],
    /// The raw bits of each, and how many they are: at most 14.
    extra: [[u32; 4]; RUN / 4],
    widths: [[u32; 4]; RUN / 4],
}

impl Tokens {
    /// [`Split::take_apart`] without a branch or a table, so that the compiler does it eight at a time.
    #[inline(always)]
    fn take_apart(&mut self, classes: &[u8; RUN], steps: &[u16; RUN]) {
        let units = classes.iter().zip(steps).zip(&mut self.places);
        let raw = self.extra.as_flattened_mut().iter_mut().zip(self.widths.as_flattened_mut());
        for (((class, step), place), (extra, width)) in units.zip(raw) {
            let size = step.cast_signed().unsigned_abs();
            let wide = i32::from(size.cast_signed()) & 0xffff;
            // Exponent and leading bits are side by side in a float, and count on where the sizes below 4 end.
            let leading = ((wide as f32).to_bits() >> 21).wrapping_sub(512);
            let symbol = if wide < 4 { wide.cast_unsigned() } else { leading };
            let low = if wide < 4 { 0 } else { (leading >> 2).wrapping_sub(1) };
            *place = u16::from(*class) << SYMBOL_BITS | symbol as u16;
            *extra = (wide.cast_unsigned() & 1u32.wrapping_shl(low).wrapping_sub(1)) << 1 | u32::from(step >> 15);
            *width = if wide == 0 { 0 } else { low.wrapping_add(1) };
        }
    }

    /// The raw bits, those of four steps together.
    #[inline(always)]
    fn raw_bits(&self) -> [(u64, u32); RUN / 4] {
        let mut out = [(0, 0); RUN / 4];
        for (out, (extra, widths)) in out.iter_mut().zip(self.extra.iter().zip(&self.widths)) {
            let ([a, b, c, d], [i, j, k, l]) = (*extra, *widths);
            let (first, second) = (a | b.wrapping_shl(i), c | d.wrapping_shl(k));
            let (n, m) = (i.wrapping_add(j), k.wrapping_add(l));
            *out = (u64::from(first) | u64::from(second).wrapping_shl(n), n.wrapping_add(m));
        }
        out
    }
}

/// What it takes to write steps.
pub(crate) struct Steps16Writer<'a> {
    tables: &'a [&'a Table],
    /// By class and symbol; with a frequency of 0 where the class lacks the symbol.
    symbols: Box<[Ready; PLACES]>,
}

impl<'a> Steps16Writer<'a> {
    /// For tables by class.
    pub fn new(tables: &'a [&'a Table]) -> Self {
        let ranges = tables.iter().flat_map(|table| (0..1 << SYMBOL_BITS).map(|symbol| table.range_of(symbol)));
        let mut symbols = Box::new([Ready::of((0, 0)); PLACES]);
        symbols.iter_mut().zip(ranges).for_each(|(symbol, range)| *symbol = Ready::of(range));
        Steps16Writer { symbols, tables }
    }

    /// The symbol of a step, which may be the escape; its raw bits go where they belong.
    #[cold]
    fn put(&self, class: u8, step: u16, bits: &mut BackwardBits) -> Option<Ready> {
        let token = STEP.take_apart(step.into());
        let (range, raw) = range_of(self.tables.get(usize::from(class))?, token.symbol)?;
        bits.put(token.extra, token.extra_bits);
        bits.put(token.symbol.into(), raw);
        Some(Ready::of(range))
    }
}

compiled_twice! {
    /// Steps in the order of their units, whose classes are given, coded with `N` states; `None` where the tables lack a symbol.
    /// They are taken from the last to the first, as the range coder wants them.
    pub(super) fn write<const N: usize>[_level](writer: &Steps16Writer, classes: &[u8], steps: &[u16]) -> Option<Vec<u8>> {
        // The places of other classes would be those of these.
        let all = classes.iter().fold(0, |all, class| all | class);
        if usize::from(all) >= MOST_CLASSES {
            return None;
        }
        let (mut coder, mut bits) = (Backward::<N>::new(steps.len()), BackwardBits::default());
        let ((class_turns, last_classes), (step_turns, last)) = (classes.as_chunks::<N>(), steps.as_chunks::<N>());
        for ((turn, step), class) in last.iter().enumerate().zip(last_classes).rev() {
            coder.put(turn, writer.put(*class, *step, &mut bits)?);
        }
        let mut tokens = Tokens { places: [0; RUN], extra: [[0; 4]; RUN / 4], widths: [[0; 4]; RUN / 4] };
        for (class_turns, step_turns) in class_turns.rchunks(turns::<N>()).zip(step_turns.rchunks(turns::<N>())) {
            let (classes, steps) = (class_turns.as_flattened(), step_turns.as_flattened());
            if let (Some(classes), Some(steps)) = (classes.first_chunk(), steps.first_chunk()) {
                tokens.take_apart(classes, steps);
            } else {
                // Steps of 0, which fill up the first run, have no raw bits.
                let (mut own_classes, mut own_steps) = ([0; RUN], [0; RUN]);
                own_classes.iter_mut().zip(classes).for_each(|(to, from)| *to = *from);
                own_steps.iter_mut().zip(steps).for_each(|(to, from)| *to = *from);
                tokens.take_apart(&own_classes, &own_steps);
            }
            let places = tokens.places.as_chunks::<N>().0;
            if coder.put_turns(places.get(..step_turns.len()).unwrap_or(&[]), &writer.symbols) {
                bits.put_all(&tokens.raw_bits());
                continue;
            }
            for (classes, steps) in class_turns.iter().zip(step_turns).rev() {
                for ((turn, step), class) in steps.iter().enumerate().zip(classes).rev() {
                    coder.put(turn, writer.put(*class, *step, &mut bits)?);
                }
            }
        }
        Some(coder.finish(&bits.finish()))
    }
}

/// From this symbol on a magnitude may be one that no step of 16 bits has.
const RARE: u32 = 56;

/// What is known of a step once its entry is read: how many raw bits follow, [`IS_RARE`], and its symbol's part of the magnitude
/// << 16, or the entry where it is rare.
type Lead = u32;

/// Set where a step takes the long way.
const IS_RARE: Lead = 1 << 8;

/// A table of a class in a form that the nearest cache has room for.
struct SmallTable {
    /// The entry of each slot.
    entries: [u8; TOTAL as usize],
    /// By entry: the frequency, the start << 16, and the [`Lead`] << 32. Room for a few more than there are, so that tables side
    /// by side do not compete for the same places of the cache.
    says: [u64; 256 + 8],
}

impl SmallTable {
    fn of(table: &Table) -> Self {
        let mut out = SmallTable { entries: [0; TOTAL as usize], says: [0; 256 + 8] };
        for (entry, says) in (0..table.entries()).zip(&mut out.says) {
            let (start, frequency) = table.range(entry);
            let own = usize::from(start)..usize::from(start.wrapping_add(frequency));
            out.entries.get_mut(own).unwrap_or_default().fill(entry as u8);
            let lead: Lead = match table.symbol(entry) {
                Some(symbol @ ..RARE) => {
                    (STEP.put_together(symbol, 0).unwrap_or(0) as u32) << 16 | STEP.extra_bits(symbol)
                }
                _ => IS_RARE | entry << 16,
            };
            *says = u64::from(lead) << 32 | u64::from(start) << 16 | u64::from(frequency);
        }
        out
    }
}

/// What it takes to read steps.
pub(crate) struct Steps16Reader<'a> {
    tables: &'a [&'a Table],
    small: Vec<SmallTable>,
}

impl<'a> Steps16Reader<'a> {
    /// For tables by class.
    pub fn new(tables: &'a [&'a Table]) -> Self {
        Steps16Reader { tables, small: tables.iter().map(|table| SmallTable::of(table)).collect() }
    }

    /// Reads the entries of steps.
    #[inline(always)]
    fn read_leads<const N: usize>(
        &self,
        decoder: &mut Decoder<N>,
        classes: &[[u8; N]],
        out: &mut [Lead; RUN],
    ) -> Result<()> {
        // A copy of its own stays in registers.
        let mut own = *decoder;
        for (classes, out) in classes.iter().zip(out.as_chunks_mut::<N>().0) {
            let (slots, mut ranges) = (own.slots(), [0; N]);
            for (((class, slot), range), out) in classes.iter().zip(slots).zip(&mut ranges).zip(out) {
                let Some(table) = self.small.get(usize::from(*class)) else { return Err(no_class()) };
                let says = table.says_of(slot);
                (*range, *out) = (says as u32, (says >> 32) as u32);
            }
            own.pass(ranges);
        }
        *decoder = own;
        Ok(())
    }

    /// Reads the raw bits of steps, and puts them together.
    #[inline(always)]
    fn read_extra(&self, reader: &mut BitReader, classes: &[u8], leads: &[Lead; RUN], out: &mut [u16]) -> Result<()> {
        let (mut own, mut extra, mut any_rare) = (*reader, [[0u16; 4]; RUN / 4], 0);
        // Four times fourteen bits are what one look at them shows.
        for (leads, extra) in leads.as_chunks::<4>().0.iter().zip(&mut extra).take(out.len().div_ceil(4)) {
            let (mut bits, mut n) = (own.peek(), 0u32);
            for (lead, extra) in leads.iter().zip(extra) {
                any_rare |= lead;
                *extra = low_bits(bits, *lead);
                bits >>= lead & 0x3f;
                n = n.wrapping_add(lead & 0x3f);
            }
            own.skip(n);
        }
        if any_rare & IS_RARE != 0 {
            return self.read_rare(reader, classes, leads, out);
        }
        for ((lead, extra), step) in leads.iter().zip(extra.as_flattened()).zip(out) {
            *step = step_of(*lead, *extra);
        }
        *reader = own;
        Ok(())
    }

    /// [`Steps16Reader::read_extra`] where there is something rare.
    #[cold]
    fn read_rare(&self, reader: &mut BitReader, classes: &[u8], leads: &[Lead; RUN], out: &mut [u16]) -> Result<()> {
        for ((class, lead), step) in classes.iter().zip(leads).zip(out) {
            *step = if lead & IS_RARE != 0 {
                STEP.read(reader, table_of(self.tables, *class)?, lead >> 16)? as u16
            } else {
                step_of(*lead, reader.take_short(lead & 0xff) as u16)
            };
        }
        Ok(())
    }
}

compiled_twice! {
    /// Reads the steps of turns of units, whose classes are given: what [`decode`](super::values::decode) does.
    pub(super) fn read<const N: usize>[_level](
        reader: &Steps16Reader,
        decoder: &mut Decoder<N>,
        classes: &[[u8; N]],
        out: &mut [[u16; N]],
    ) -> Result<()> {
        for (classes, out) in classes.chunks(turns::<N>()).zip(out.chunks_mut(turns::<N>())) {
            let mut leads = [0; RUN];
            reader.read_leads(decoder, classes, &mut leads)?;
            reader.read_extra(&mut decoder.bits, classes.as_flattened(), &leads, out.as_flattened_mut())?;
        }
        Ok(())
    }
}

impl SmallTable {
    /// What the entry that holds a slot says.
    #[inline(always)]
    fn says_of(&self, slot: u32) -> u64 {
        let entry = self.entries.get((slot & (TOTAL - 1)) as usize).copied().unwrap_or(0);
        self.says.get(usize::from(entry)).copied().unwrap_or(0)
    }
}

/// The lowest bits, as many as follow a lead.
#[inline(always)]
fn low_bits(bits: u64, lead: Lead) -> u16 {
    (bits & (1u64 << (lead & 0x3f)).wrapping_sub(1)) as u16
}

/// The step of a lead and its raw bits: the rest of the magnitude, and the sign.
#[inline(always)]
fn step_of(lead: Lead, extra: u16) -> u16 {
    let (size, minus) = ((lead >> 16) as u16 | extra >> 1, (extra & 1).wrapping_neg());
    (size ^ minus).wrapping_sub(minus)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::classes::map::NO_CLASS;
    use crate::codec::classes::model::{Class, Model};
    use crate::codec::classes::values;
    use crate::codec::entropy::rans::Encoder;

    #[test]
    fn the_bytes_are_those_of_an_encoder() {
        let tables = [Table::fit(&[0, 50, 30, 0, 20, 9, 9, 5, 1]).unwrap(), Table::fit(&[0, 1, 1, 1]).unwrap()];
        let tables_of: Vec<&Table> = tables.iter().collect();
        let writer = Steps16Writer::new(&tables_of);
        for n in [0usize, 1, 2, 3, 5, 7, 1000, 1001, 1003] {
            let classes: Vec<u8> = (0..n).map(|i| u8::from(i * i % 7 > 3)).collect();
            let steps: Vec<u16> = (0..n as u16).map(|i| (i.wrapping_mul(i) % 77).wrapping_sub(38)).collect();
            let mut encoder = Encoder::default();
            for (class, step) in classes.iter().zip(&steps) {
                let token = STEP.take_apart((*step).into());
                encoder.symbol(&tables[usize::from(*class)], token.symbol).unwrap();
                encoder.bits.put(token.extra, token.extra_bits);
            }
            let found =
                if n % 2 == 0 { write::<2>(&writer, &classes, &steps) } else { write::<4>(&writer, &classes, &steps) };
            let slow = if n % 2 == 0 { encoder.finish::<2>() } else { encoder.finish::<4>() };
            assert_eq!(found.unwrap(), slow, "{n}");
        }
        assert!(write::<2>(&writer, &[2], &[1]).is_none(), "a class without a table");
    }

    #[test]
    fn all_steps_are_taken_apart() {
        let mut tokens = Tokens { places: [0; RUN], extra: [[0; 4]; RUN / 4], widths: [[0; 4]; RUN / 4] };
        for start in (0..=u16::MAX).step_by(RUN) {
            let steps = std::array::from_fn(|i| start + i as u16);
            tokens.take_apart(&[3; RUN], &steps);
            for (i, step) in steps.into_iter().enumerate() {
                let Tokens { places, extra, widths } = &tokens;
                let found = (places[i], extra.as_flattened()[i], widths.as_flattened()[i]);
                let slow = STEP.take_apart(step.into());
                assert_eq!(found, (3 << 6 | slow.symbol as u16, slow.extra as u32, slow.extra_bits), "{step}");
            }
        }
    }

    /// Many steps, the rarest and the widest among them, and the same bytes one step at a time.
    #[test]
    fn many_steps_are_read_as_few_are() {
        let step = |i: u64| match i % 97 {
            0 => [0x8000, 0x7fff, 0x8001, 300][i as usize % 4],
            _ => ((i * i * 31 % 77) as u16).wrapping_sub(38),
        };
        let steps: Vec<u16> = (0..MANY as u64 + 501).map(step).collect();
        let classes: Vec<u8> = (0..steps.len()).map(|i| u8::from(i * i % 7 > 3)).collect();
        let table = |counts: &[u64]| Some(Arc::new(Table::fit(counts).unwrap()));
        let class = |values| Class { odds: 80, occupied: 128, values };
        let classes_of = vec![class(table(&[0, 50, 30, 0, 20, 9, 9, 5, 1])), class(table(&[9; 59]))];
        let model = Model { classes: classes_of, rows: None, columns: None };
        let bytes = values::encode_short::<2>(&model, &classes, &steps).unwrap();
        let mut out = Vec::new();
        values::decode_short::<2>(&model, &classes, &bytes, &mut out).unwrap();
        assert_eq!(out, steps);
        let mut long = Vec::new();
        values::decode::<2>(&model, STEP, &classes, &bytes, &mut long).unwrap();
        assert!(long.iter().zip(&steps).all(|(long, step)| *long == u64::from(*step)));
        for end in [9, 100, bytes.len() - 1] {
            assert!(values::decode_short::<2>(&model, &classes, &bytes[..end], &mut out).is_err(), "{end}");
        }
        let beyond = vec![NO_CLASS; steps.len()];
        assert!(values::decode_short::<2>(&model, &beyond, &bytes, &mut out).is_err(), "units without a class");
    }
}
