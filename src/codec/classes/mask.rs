//! A mask, class by class: the gaps between the kept units of each. [CLS-5]

use crate::codec::classes::coder::{Coder, level_of, row_len, symbol_of};
use crate::codec::classes::map::{ClassMap, Units, row_runs};
use crate::codec::classes::walker::{ByRun, ByUnit, Passed, Run, Walker, class_runs};
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::simd::{WORD, compiled_twice, count};

/// The levels of the rows, then class by class whether it keeps any, and the gaps. `None` where the coder's tables lack a symbol
/// or a dead row keeps something.
pub(crate) fn encode(coder: &Coder, map: &ClassMap, bits: &[u64], rows: &[i16]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::default();
    put_rows(&mut encoder, coder, rows)?;
    let occupied = occupied(coder, map, bits);
    if occupied.iter().skip(coder.model.classes.len()).any(|o| *o) {
        return None;
    }
    for ((number, class), kept) in (0u8..).zip(&coder.model.classes).zip(occupied) {
        let empty = class.empty();
        encoder.put(if kept { (empty, 4096u16.saturating_sub(empty)) } else { (0, empty) });
        if kept {
            gaps(&mut encoder, GapTable::of(class.odds), map, number, bits);
        }
    }
    Some(encoder.finish::<1>())
}

/// The levels of the rows alone; nothing where rows make no difference. [CLS-7]
pub(crate) fn encode_rows(coder: &Coder, rows: &[i16]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::default();
    put_rows(&mut encoder, coder, rows)?;
    Some(if coder.model.rows.is_some() { encoder.finish::<1>() } else { Vec::new() })
}

fn put_rows(encoder: &mut Encoder, coder: &Coder, rows: &[i16]) -> Option<()> {
    let Some(table) = &coder.model.rows else { return Some(()) };
    rows.iter().try_for_each(|level| encoder.symbol(table, symbol_of(*level)))
}

/// Which classes keep any unit, those that are none included.
fn occupied(coder: &Coder, map: &ClassMap, bits: &[u64]) -> [bool; 256] {
    let mut out = [false; 256];
    // In a dense mask every class soon shows.
    if count(bits) > (bits.len() as u64).saturating_mul(WORD as u64 / 4) && !map.any_without() {
        for ((number, _), slot) in (0u8..).zip(&coder.model.classes).zip(&mut out) {
            *slot = keeps(map, number, bits);
        }
        return out;
    }
    for (start, word) in (0u32..).step_by(WORD).zip(bits) {
        let mut word = *word;
        while word != 0 {
            let class = map.class(start.wrapping_add(word.trailing_zeros()));
            if let Some(slot) = out.get_mut(usize::from(class)) {
                *slot = true;
            }
            word &= word.wrapping_sub(1);
        }
    }
    out
}

compiled_twice! {
    /// Whether any unit of a class is kept.
    fn keeps[level](map: &ClassMap, class: u8, bits: &[u64]) -> bool {
        for (members, kept) in map.words(level, class).zip(bits) {
            if members & kept != 0 {
                return true;
            }
        }
        false
    }
}

compiled_twice! {
    /// The gaps of one class, and its end.
    fn gaps[level](encoder: &mut Encoder, table: &GapTable, map: &ClassMap, class: u8, bits: &[u64]) {
        let mut since = 0u64;
        for (members, kept) in map.words(level, class).zip(bits) {
            let mut hits = if table.inverted { members & !kept } else { members & kept };
            let mut used = 0u64;
            while hits != 0 {
                let below = (hits & hits.wrapping_neg()).wrapping_sub(1);
                let rank = u64::from((members & below).count_ones());
                let gap = since.wrapping_add(rank).wrapping_sub(used);
                put(encoder, table, gap >> table.shift);
                encoder.bits.put(gap, table.shift);
                (since, used) = (0, rank.wrapping_add(1));
                hits &= hits.wrapping_sub(1);
            }
            since = since.wrapping_add(u64::from(members.count_ones())).wrapping_sub(used);
        }
        // The end: the smallest high part that no gap can have any more.
        put(encoder, table, since.div_ceil(1 << table.shift));
    }
}

/// The high part of a gap.
fn put(encoder: &mut Encoder, table: &GapTable, mut high: u64) {
    while high >= u64::from(table.last) {
        encoder.put(table.table.range(table.last));
        high = high.wrapping_sub(table.last.into());
    }
    encoder.put(table.table.range(high as u32));
}

/// What a mask decodes to before its positions are listed.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Levels of the row runs; empty where rows make no difference.
    pub rows: Vec<i16>,
    /// The class of every unit, where [`needs_map`] says that the mask takes it; else what was there before.
    pub map: ClassMap,
    pub bits: Vec<u64>,
    /// The positions, ascending, where reading came by them in this order; else empty.
    pub positions: Vec<u32>,
}

/// Whether units of one row can be of several classes. Where they cannot, the rows say it all.
pub(crate) fn needs_map(coder: &Coder) -> bool {
    coder.uses_base || !coder.columns.is_empty()
}

/// Reads the mask of a block from all of `bytes`.
pub(crate) fn decode(coder: &Coder, units: &Units, bytes: &[u8], out: &mut Decoded) -> Result<()> {
    let mut decoder: Decoder<1> = Decoder::new(bytes)?;
    read_rows(&mut decoder, coder, units, &mut out.rows)?;
    out.bits.clear();
    out.bits.resize((units.len as usize).div_ceil(WORD), 0);
    out.positions.clear();
    if needs_map(coder) {
        out.map.fill(coder, units, &out.rows);
        read_classes(&mut decoder, coder, &mut out.bits, |number, decoder, table, bits| {
            read_class_of_map(decoder, table, &out.map, number, bits)
        })?;
    } else {
        let runs = class_runs(coder, units, &out.rows);
        let (positions, mut missing) = (&mut out.positions, Vec::new());
        read_classes(&mut decoder, coder, &mut out.bits, |number, decoder, table, bits| {
            let own = runs.get(usize::from(number)).map_or(&[][..], Vec::as_slice);
            let list = if table.inverted { &mut missing } else { &mut *positions };
            read_class_of_runs(decoder, table, own, number, bits, list)
        })?;
        // Classes may lie between each other, and of an inverted one it is known what is missing.
        if !missing.is_empty() || !positions.is_sorted() || positions.len() as u64 != count(&out.bits) {
            positions.clear();
        }
    }
    decoder.finish()
}

/// Reads the levels of the rows from all of `bytes`. [CLS-7]
pub(crate) fn decode_rows(coder: &Coder, units: &Units, bytes: &[u8], out: &mut Vec<i16>) -> Result<()> {
    if coder.model.rows.is_none() {
        out.clear();
        let detail = || format!("has {} bytes, must have none where rows make no difference", bytes.len());
        return if bytes.is_empty() { Ok(()) } else { Err(Error::malformed("CLS-7", "mask", detail())) };
    }
    let mut decoder: Decoder<1> = Decoder::new(bytes)?;
    read_rows(&mut decoder, coder, units, out)?;
    decoder.finish()
}

fn read_rows(decoder: &mut Decoder<1>, coder: &Coder, units: &Units, out: &mut Vec<i16>) -> Result<()> {
    out.clear();
    let Some(table) = &coder.model.rows else { return Ok(()) };
    for _ in row_runs(row_len(units.info, coder.axis), units.start, units.len) {
        let symbol = decoder.symbol(table)?;
        let bad = || Error::malformed("CLS-5", "mask", format!("has a row with level {symbol}"));
        out.push(level_of(symbol).ok_or_else(bad)?);
        if decoder.is_past_end() {
            break;
        }
    }
    Ok(())
}

fn read_classes(
    decoder: &mut Decoder<1>,
    coder: &Coder,
    bits: &mut [u64],
    mut read: impl FnMut(u8, &mut Decoder<1>, &GapTable, &mut [u64]) -> Result<()>,
) -> Result<()> {
    for (number, class) in (0u8..).zip(&coder.model.classes) {
        if decoder.event(class.empty()) {
            read(number, decoder, GapTable::of(class.odds), bits)?;
        }
    }
    Ok(())
}

compiled_twice! {
    /// Reads the kept units of one class of a map.
    fn read_class_of_map[level](
        decoder: &mut Decoder<1>,
        table: &GapTable,
        map: &ClassMap,
        class: u8,
        bits: &mut [u64],
    ) -> Result<()> {
        read_class(decoder, table, class, &mut ByUnit::new(level, map, class), bits)
    }
}

compiled_twice! {
    /// Reads the kept units of one class of runs, and lists what is read.
    fn read_class_of_runs[_level](
        decoder: &mut Decoder<1>,
        table: &GapTable,
        runs: &[Run],
        class: u8,
        bits: &mut [u64],
        list: &mut Vec<u32>,
    ) -> Result<()> {
        read_class(decoder, table, class, &mut ByRun::new(runs, list), bits)
    }
}

/// Reads gaps as long as any but the longest is sure to end within the run; the entry of one that may be longer.
#[inline(always)]
fn read_sure(
    decoder: &mut Decoder<1>,
    table: &GapTable,
    walker: &mut impl Walker,
    bits: &mut [u64],
    hits: &mut u64,
) -> Option<u32> {
    /// Gaps between two looks at the end.
    const GAPS: usize = 64;
    let (longest, low_bits) = (u64::from(table.last) << table.shift, (1u64 << table.shift).wrapping_sub(1));
    while walker.sure() >= longest && !decoder.is_past_end() {
        // A copy of its own stays in registers.
        let mut own = *decoder;
        for _ in 0..GAPS {
            if walker.sure() < longest {
                break;
            }
            let [entry] = own.entries([&table.table]);
            if entry == table.last {
                *decoder = own;
                return Some(entry);
            }
            let low = own.bits.peek() & low_bits;
            own.bits.skip(table.shift);
            walker.pass_sure(u64::from(entry) << table.shift | low);
            let (word, bit) = walker.take();
            if let Some(word) = bits.get_mut(word) {
                *word ^= bit;
            }
            *hits = hits.wrapping_add(1);
        }
        *decoder = own;
    }
    None
}

#[inline(always)]
fn read_class(
    decoder: &mut Decoder<1>,
    table: &GapTable,
    class: u8,
    walker: &mut impl Walker,
    bits: &mut [u64],
) -> Result<()> {
    let bad = |detail: &str| Err(Error::malformed("CLS-5", "mask", format!("class {class}: {detail}")));
    let members = if table.inverted { walker.set_all(bits) } else { 0 };
    let mut hits = 0u64;
    loop {
        let entry = match read_sure(decoder, table, walker, bits, &mut hits) {
            Some(entry) => entry,
            None => decoder.entry(&table.table),
        };
        let high = u64::from(entry) << table.shift;
        match walker.pass(high) {
            // The end is the smallest high part that reaches it; where that is the last entry, a zero follows.
            Passed::End { short } if short >> table.shift == 0 => {
                if entry == table.last && decoder.entry(&table.table) != 0 {
                    return bad("goes on after its end");
                }
                break;
            }
            Passed::End { .. } => return bad("ends late"),
            Passed::More if entry == table.last => {
                if decoder.is_past_end() {
                    return bad("is cut off");
                }
                continue;
            }
            Passed::More => {}
        }
        let low = decoder.bits.take(table.shift);
        if let Passed::End { .. } = walker.pass(low) {
            return bad("has a gap that leads past its end");
        }
        let (word, bit) = walker.take();
        if let Some(word) = bits.get_mut(word) {
            *word ^= bit;
        }
        hits = hits.wrapping_add(1);
        if decoder.is_past_end() {
            return bad("is cut off");
        }
    }
    // A class that keeps nothing says so with one event.
    if (table.inverted && hits == members) || (!table.inverted && hits == 0) {
        return bad("keeps nothing");
    }
    Ok(())
}
