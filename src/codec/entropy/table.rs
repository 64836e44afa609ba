//! How likely each symbol is: small weights that are stored, frequencies that follow from them. [ENT-1]

use crate::error::{Error, Result};

/// log2 of what the frequencies of a table add up to.
pub(crate) const PRECISION: u32 = 12;
/// What the frequencies of a table add up to.
pub(crate) const TOTAL: u32 = 1 << PRECISION;
/// The largest weight that a table may store.
const WEIGHT_MAX: u8 = 128;
/// Raw bits of a symbol that its table lacks. [ENT-4]
pub(crate) const ESCAPED_BITS: u32 = 9;

/// Symbols with frequencies; the first entry is the escape, which says that the symbol follows raw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Table {
    /// The symbol of entry 1.
    first: u16,
    /// The stored weights, of the escape first; 0 for what does not occur.
    weights: Vec<u8>,
    /// (start, frequency) by entry.
    ranges: Vec<(u16, u16)>,
    /// For each of the 4,096 slots: entry << 24 | (frequency − 1) << 12 | slot − start.
    slots: Vec<u32>,
}

/// What a stored weight stands for: an eighth of an octave a step. [ENT-1]
fn weight_of(stored: u8) -> u64 {
    let Some(w) = stored.checked_sub(1) else { return 0 };
    u64::from(8 | (w & 7)) << (w >> 3)
}

/// The stored weight nearest to a share of `total`, at least the smallest.
fn stored_weight(count: u64, total: u64) -> u8 {
    if count == 0 {
        return 0;
    }
    // The largest weight, 15 << 15, stands for all of the total.
    let ideal = u128::from(count).saturating_mul(15 << 15).checked_div(u128::from(total)).unwrap_or(0);
    let distance = |s: &u8| u128::from(weight_of(*s)).abs_diff(ideal);
    (1..=WEIGHT_MAX).min_by_key(distance).unwrap_or(1)
}

/// Frequencies that add up to [`TOTAL`]: one for each weight that is not 0, the rest in proportion, what rounding leaves to the
/// first of the heaviest. [ENT-2]
pub(crate) fn frequencies(weights: impl Iterator<Item = u64> + Clone) -> Vec<u16> {
    let sum: u64 = weights.clone().fold(0, u64::saturating_add);
    let present = weights.clone().filter(|w| *w > 0).count() as u64;
    let free = u64::from(TOTAL).saturating_sub(present);
    let share = |w: u64| u128::from(w).saturating_mul(free.into()).checked_div(sum.into()).unwrap_or(0) as u64;
    let mut out: Vec<u16> =
        weights.clone().map(|w| if w == 0 { 0 } else { share(w).saturating_add(1).min(TOTAL.into()) as u16 }).collect();
    let given: u32 = out.iter().map(|f| u32::from(*f)).sum();
    let mut heaviest: Option<(usize, u64)> = None;
    for (i, w) in weights.enumerate() {
        if w > heaviest.map_or(0, |h| h.1) {
            heaviest = Some((i, w));
        }
    }
    if let Some(slot) = heaviest.and_then(|(i, _)| out.get_mut(i)) {
        *slot = slot.saturating_add(TOTAL.saturating_sub(given) as u16);
    }
    out
}

impl Table {
    /// A table of given frequencies, whose first entry is symbol −1: for tables that are computed and never stored.
    pub fn from_frequencies(frequencies: &[u16]) -> Self {
        let mut table = Table { first: 0, weights: Vec::new(), ranges: Vec::new(), slots: vec![0; TOTAL as usize] };
        let mut start = 0u16;
        for (entry, frequency) in (0u32..).zip(frequencies) {
            table.ranges.push((start, *frequency));
            let less = u32::from(frequency.saturating_sub(1));
            let range = usize::from(start)..usize::from(start.saturating_add(*frequency));
            for (offset, slot) in (0u32..).zip(table.slots.get_mut(range).unwrap_or_default()) {
                *slot = entry << 24 | less << 12 | offset;
            }
            start = start.saturating_add(*frequency);
        }
        table
    }

    /// A table that fits counted symbols, with room for an escape; `None` where nothing was counted.
    pub fn fit(counts: &[u64]) -> Option<Self> {
        let first = counts.iter().position(|c| *c > 0)?;
        let last = counts.iter().rposition(|c| *c > 0)?;
        let counts = counts.get(first..=last.min(first.saturating_add(254)))?;
        let total = counts.iter().fold(0u64, |a, b| a.saturating_add(*b));
        let weights = std::iter::once(1).chain(counts.iter().map(|c| stored_weight(*c, total)));
        Some(Self::from_weights(first as u16, weights.collect()))
    }

    fn from_weights(first: u16, weights: Vec<u8>) -> Self {
        let frequencies = frequencies(weights.iter().map(|w| weight_of(*w)));
        Table { first, weights, ..Self::from_frequencies(&frequencies) }
    }

    /// The bytes of a table: number of entries (u16), first symbol (u16), weights. [ENT-3]
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.weights.len() as u16).to_le_bytes());
        out.extend(self.first.to_le_bytes());
        out.extend(&self.weights);
    }

    /// Reads a table from the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let bad = |detail: &str| Error::malformed("ENT-3", "table of weights", detail);
        let cut = || bad("is cut off");
        let (head, rest) = bytes.split_at_checked(4).ok_or_else(cut)?;
        let (Some(n), Some(first)) = (u16_at(head, 0), u16_at(head, 2)) else { return Err(cut()) };
        let (weights, rest) = rest.split_at_checked(n.into()).ok_or_else(cut)?;
        *bytes = rest;
        if !(2..=256).contains(&n) || u32::from(first).saturating_add(n.into()) > 513 {
            return Err(bad("has an entry for no symbol"));
        }
        if weights.iter().any(|w| *w > WEIGHT_MAX) || weights.iter().all(|w| *w == 0) {
            return Err(bad("has weights above 128, or none above 0"));
        }
        if weights.get(1) == Some(&0) || weights.last() == Some(&0) {
            return Err(bad("begins or ends with a symbol that does not occur"));
        }
        Ok(Self::from_weights(first, weights.to_vec()))
    }

    /// The symbol of an entry; `None` for the escape.
    #[inline]
    pub fn symbol(&self, entry: u32) -> Option<u32> {
        Some(u32::from(self.first).wrapping_add(entry.checked_sub(1)?))
    }

    /// The entry of a symbol, where it has one.
    #[inline]
    pub fn entry(&self, symbol: u32) -> Option<u32> {
        let entry = symbol.checked_sub(self.first.into())?.checked_add(1)?;
        (self.range(entry).1 > 0).then_some(entry)
    }

    /// (start, frequency) of a symbol; frequency 0 where it has no entry.
    #[inline]
    pub fn range_of(&self, symbol: u32) -> (u16, u16) {
        self.entry(symbol).map_or((0, 0), |entry| self.range(entry))
    }

    /// (start, frequency) of an entry; frequency 0 where there is none.
    #[inline]
    pub fn range(&self, entry: u32) -> (u16, u16) {
        self.ranges.get(entry as usize).copied().unwrap_or((0, 0))
    }

    /// What is coded at a slot: entry << 24 | (frequency − 1) << 12 | slot − start.
    #[inline]
    pub fn slot(&self, slot: u32) -> u32 {
        self.slots.get(slot as usize).copied().unwrap_or(0)
    }

    /// How many entries there are.
    pub fn entries(&self) -> u32 {
        self.ranges.len() as u32
    }

    /// Bits that a symbol costs, for those who choose.
    pub fn bits(&self, symbol: u32) -> f64 {
        let cost = |entry| f64::from(PRECISION) - f64::from(self.range(entry).1.max(1)).log2();
        match self.entry(symbol) {
            Some(entry) => cost(entry),
            None => cost(0) + f64::from(ESCAPED_BITS),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_add_up() {
        for weights in [vec![1u64], vec![1, 1, 1], vec![1 << 40, 1], vec![0, 5, 0, 7], vec![3; 256]] {
            let found = frequencies(weights.iter().copied());
            assert_eq!(found.iter().map(|f| u32::from(*f)).sum::<u32>(), TOTAL);
            assert!(found.iter().zip(&weights).all(|(f, w)| (*f > 0) == (*w > 0)));
        }
    }

    #[test]
    fn tables_survive_and_know_their_symbols() {
        let table = Table::fit(&[0, 0, 900, 0, 50, 1]).unwrap();
        let mut bytes = Vec::new();
        table.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        assert_eq!(Table::decode(&mut rest).unwrap(), table);
        assert!(rest.is_empty());
        let entries: Vec<_> = (0..7).map(|s| table.entry(s)).collect();
        assert_eq!(entries, [None, None, Some(1), None, Some(3), Some(4), None]);
        assert_eq!(table.symbol(3), Some(4));
        assert!(table.bits(2) < 0.2 && table.bits(3) > 9.0);
        for slot in 0..TOTAL {
            let (entry, frequency, offset) = {
                let s = table.slot(slot);
                (s >> 24, (s >> 12 & 0xfff) + 1, s & 0xfff)
            };
            let (start, f) = table.range(entry);
            assert_eq!((u32::from(start) + offset, u32::from(f)), (slot, frequency));
        }
        for end in 0..bytes.len() {
            assert!(Table::decode(&mut &bytes[..end]).is_err());
        }
    }
}
