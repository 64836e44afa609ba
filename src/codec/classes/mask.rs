//! A mask, class by class: the gaps between the kept units of each. [CLS-5]

use crate::codec::classes::coder::{Coder, level_of, row_len, symbol_of};
use crate::codec::classes::map::{ClassMap, WORD, row_runs};
use crate::codec::classes::members::without_lowest;
use crate::codec::classes::wide;
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::model::tensor::TensorInfo;

/// Kept units as one bit each; whole words.
pub(crate) fn bits_of(positions: &[u32], len: u32) -> Vec<u64> {
    let mut bits = vec![0u64; (len as usize).div_ceil(WORD)];
    for p in positions {
        if let Some(word) = bits.get_mut(*p as usize / WORD) {
            *word |= 1 << (p & 63);
        }
    }
    bits
}

/// The levels of the rows, then class by class whether it keeps any, and the gaps. `None` where the coder's tables lack a symbol
/// or a dead row keeps something.
pub(crate) fn encode(coder: &Coder, map: &ClassMap, bits: &[u64], rows: &[i16]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::default();
    if let Some(table) = &coder.model.rows {
        for level in rows {
            encoder.symbol(table, symbol_of(*level))?;
        }
    }
    let occupied = occupied(map, bits);
    if occupied.iter().skip(coder.model.classes.len()).any(|o| *o) {
        return None;
    }
    for ((number, class), kept) in (0u8..).zip(&coder.model.classes).zip(occupied) {
        let empty = class.empty();
        encoder.put(if kept { (empty, 4096u16.saturating_sub(empty)) } else { (0, empty) });
        if kept {
            wide::gaps(&mut encoder, GapTable::of(class.odds), map, number, bits);
        }
    }
    Some(encoder.finish::<1>())
}

/// Which classes keep any unit, those that are none included.
fn occupied(map: &ClassMap, bits: &[u64]) -> [bool; 256] {
    let mut out = [false; 256];
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

/// The gaps of one class, and its end.
#[inline(always)]
pub(super) fn gaps<const WIDE: bool>(encoder: &mut Encoder, table: &GapTable, map: &ClassMap, class: u8, bits: &[u64]) {
    let mut since = 0u64;
    for (members, kept) in map.words::<WIDE>(class).zip(bits) {
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

/// The high part of a gap.
fn put(encoder: &mut Encoder, table: &GapTable, mut high: u64) {
    while high >= u64::from(table.last) {
        encoder.put(table.table.range(table.last));
        high = high.wrapping_sub(table.last.into());
    }
    encoder.put(table.table.range(high as u32));
}

/// Walks over the units of one class.
struct Walker<'a, const WIDE: bool> {
    map: &'a ClassMap,
    class: u8,
    word: usize,
    /// Units of the current word that were not passed.
    ahead: u64,
}

impl<'a, const WIDE: bool> Walker<'a, WIDE> {
    fn new(map: &'a ClassMap, class: u8) -> Self {
        Walker { map, class, word: 0, ahead: map.word::<WIDE>(0, class).unwrap_or(0) }
    }

    /// Passes `n` units; false where no unit is left after them. `passed` counts.
    #[inline(always)]
    fn pass(&mut self, n: u64) -> Passed {
        let mut left = n;
        loop {
            let here = u64::from(self.ahead.count_ones());
            if here > left {
                self.ahead = without_lowest::<WIDE>(self.ahead, left);
                return Passed::More;
            }
            left = left.wrapping_sub(here);
            self.word = self.word.wrapping_add(1);
            match self.map.word::<WIDE>(self.word, self.class) {
                Some(members) => self.ahead = members,
                None => {
                    self.ahead = 0;
                    return Passed::End { short: left };
                }
            }
        }
    }

    /// Takes the next unit, which [`Walker::pass`] said is there.
    #[inline(always)]
    fn take(&mut self) -> (usize, u64) {
        let bit = self.ahead & self.ahead.wrapping_neg();
        self.ahead ^= bit;
        (self.word, bit)
    }
}

enum Passed {
    More,
    /// The class ended; so many units were missing.
    End {
        short: u64,
    },
}

/// What a mask decodes to before its positions are listed.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Levels of the row runs; empty where rows make no difference.
    pub rows: Vec<i16>,
    pub map: ClassMap,
    pub bits: Vec<u64>,
}

/// Reads a mask from all of `bytes`. `base` are the base's bytes of the block's units.
pub(crate) fn decode(
    coder: &Coder,
    info: &TensorInfo,
    start: u64,
    len: u32,
    base: &[u8],
    bytes: &[u8],
    out: &mut Decoded,
) -> Result<()> {
    let mut decoder: Decoder<1> = Decoder::new(bytes)?;
    out.rows.clear();
    if let Some(table) = &coder.model.rows {
        for _ in row_runs(row_len(info, coder.axis), start, len) {
            let symbol = decoder.symbol(table)?;
            let bad = || Error::malformed("CLS-5", "mask", format!("has a row with level {symbol}"));
            out.rows.push(level_of(symbol).ok_or_else(bad)?);
            if decoder.is_past_end() {
                break;
            }
        }
    }
    out.map.fill(coder, info, start, len, base, &out.rows);
    out.bits.clear();
    out.bits.resize((len as usize).div_ceil(WORD), 0);
    for (number, class) in (0u8..).zip(&coder.model.classes) {
        if decoder.event(class.empty()) {
            wide::read_class(&mut decoder, GapTable::of(class.odds), &out.map, number, &mut out.bits)?;
        }
    }
    decoder.finish()
}

#[inline(always)]
pub(super) fn read_class<const WIDE: bool>(
    decoder: &mut Decoder<1>,
    table: &GapTable,
    map: &ClassMap,
    class: u8,
    bits: &mut [u64],
) -> Result<()> {
    let bad = |detail: &str| Err(Error::malformed("CLS-5", "mask", format!("class {class}: {detail}")));
    let mut members = 0u64;
    if table.inverted {
        for (word, all) in bits.iter_mut().zip(map.words::<WIDE>(class)) {
            *word |= all;
            members = members.wrapping_add(all.count_ones().into());
        }
    }
    let mut walker: Walker<WIDE> = Walker::new(map, class);
    let mut hits = 0u64;
    loop {
        let entry = decoder.entry(&table.table);
        match walker.pass(u64::from(entry) << table.shift) {
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

/// Lists the units of a mask.
pub(crate) fn positions(bits: &[u64], out: &mut Vec<u32>) {
    out.clear();
    for (start, word) in (0u32..).step_by(WORD).zip(bits) {
        let mut word = *word;
        while word != 0 {
            out.push(start.wrapping_add(word.trailing_zeros()));
            word &= word.wrapping_sub(1);
        }
    }
}
