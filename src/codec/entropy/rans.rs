//! Range asymmetric numeral systems (Duda, arXiv 1311.2540): states of 32 bits, words of 16. [ENT-4]
//!
//! A coded run is: the states, then words, then the raw bits from the end backwards.

use crate::codec::entropy::bits::{BitReader, BitWriter};
use crate::codec::entropy::table::{ESCAPED_BITS, PRECISION, TOTAL, Table};
use crate::error::{Error, Result};
use crate::simd::apart;

/// The smallest state: what a decoder must end with.
const LOW: u32 = 1 << 16;

/// Collects symbols and raw bits. The range coder works from the last symbol to the first, so nothing is coded before the end.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    ranges: Vec<(u16, u16)>,
    pub bits: BitWriter,
}

impl Encoder {
    /// Room for so many symbols.
    pub fn with_capacity(symbols: usize) -> Self {
        Encoder { ranges: Vec::with_capacity(symbols), ..Encoder::default() }
    }

    /// Adds a symbol by its (start, frequency).
    #[inline]
    pub fn put(&mut self, range: (u16, u16)) {
        self.ranges.push(range);
    }

    /// Adds a symbol of a table, or its escape; `None` where the table has neither.
    pub fn symbol(&mut self, table: &Table, symbol: u32) -> Option<()> {
        let range = range_of(table, symbol)?;
        self.put(range.0);
        self.bits.put(symbol.into(), range.1);
        Some(())
    }

    /// The bytes, with symbols dealt in turn to `N` states.
    pub fn finish<const N: usize>(self) -> Vec<u8> {
        let mut coder: Backward<N> = Backward::new(self.ranges.len());
        let (turns, rest) = self.ranges.as_chunks::<N>();
        rest.iter().enumerate().rev().for_each(|(turn, range)| coder.put(turn, Ready::of(*range)));
        for ranges in turns.iter().rev() {
            ranges.iter().enumerate().rev().for_each(|(turn, range)| coder.put(turn, Ready::of(*range)));
        }
        coder.finish(&self.bits.finish())
    }
}

/// What it takes to encode a symbol.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    reciprocal: u64,
    /// The smallest state that a word has to leave before the symbol; 2^32 where none has to.
    limit: u64,
    start: u32,
    /// 4,096 − frequency: all of them where there is no such symbol.
    others: u32,
}

impl Ready {
    #[inline(always)]
    pub fn of((start, frequency): (u16, u16)) -> Self {
        let reciprocal = RECIPROCALS.get(usize::from(frequency) & 0x1fff).copied().unwrap_or(0);
        let frequency = u32::from(frequency);
        let limit = u64::from(frequency) << (32 - PRECISION);
        Ready { reciprocal, limit, start: start.into(), others: TOTAL.wrapping_sub(frequency) }
    }
}

/// The range coder itself, which is given symbols from the last to the first.
pub(crate) struct Backward<const N: usize> {
    states: [u32; N],
    /// At most one word a symbol, the last first; filled from the end, so that they stand in the order of reading.
    words: Vec<u16>,
    free: usize,
}

impl<const N: usize> Backward<N> {
    /// For at most so many symbols.
    pub fn new(symbols: usize) -> Self {
        Backward { states: [LOW; N], words: vec![0; symbols], free: symbols }
    }

    /// Puts a symbol under the state whose turn it is.
    #[inline(always)]
    pub fn put(&mut self, turn: usize, symbol: Ready) {
        if let Some(state) = self.states.get_mut(turn) {
            put_symbol(state, &symbol, &mut self.words, &mut self.free);
        }
    }

    /// The coded run, with the raw bits that go with it.
    pub fn finish(&self, raw: &[u8]) -> Vec<u8> {
        let words = self.words.get(self.free..).unwrap_or_default();
        let len = words.len().saturating_mul(2);
        let mut out = Vec::with_capacity(len.saturating_add(raw.len()).saturating_add(8));
        self.states.iter().for_each(|s| out.extend(s.to_le_bytes()));
        let start = out.len();
        out.resize(start.saturating_add(len), 0);
        let place = out.get_mut(start..).unwrap_or_default();
        place.as_chunks_mut::<2>().0.iter_mut().zip(words).for_each(|(place, word)| *place = word.to_le_bytes());
        out.extend_from_slice(raw);
        out
    }
}

/// The (start, frequency) of a symbol of a table, or its escape's, and how many raw bits of the symbol follow; `None` where the
/// table has neither.
#[inline(always)]
pub(crate) fn range_of(table: &Table, symbol: u32) -> Option<((u16, u16), u32)> {
    let range = table.range_of(symbol);
    if range.1 > 0 {
        return Some((range, 0));
    }
    let escape = table.range(0);
    (escape.1 > 0 && symbol < 1 << ESCAPED_BITS).then_some((escape, ESCAPED_BITS))
}

/// ⌈2^44 / f⌉ by frequency: a division is the slowest thing that a processor does.
#[expect(clippy::indexing_slicing, reason = "computed when this is compiled, where nothing else is possible")]
static RECIPROCALS: [u64; 2 * TOTAL as usize] = {
    let mut all = [0; 2 * TOTAL as usize];
    let mut f = 1;
    while f <= TOTAL as usize {
        all[f] = (1u64 << 44).div_ceil(f as u64);
        f += 1;
    }
    all
};

/// ⌊x / f⌋ for a frequency f and x < f × 2^20, as after a word that was due has gone. What the reciprocal is too large by, less
/// than 1 in 2^44, is multiplied by x < 2^32: the error stays below 2^-12, which is no more than 1 / f, and so reaches no whole
/// number. The product is below 2^64: x × (2^44 / f + 1) ≤ 2^64 + f × 2^20 − 2^44 / f − 1, where f² < 2^24; 2^12 divides evenly.
#[inline(always)]
fn divide(x: u32, reciprocal: u64) -> u32 {
    (u64::from(x).wrapping_mul(reciprocal) >> 44) as u32
}

/// Puts a symbol under a state; the word that has to go before goes into the last free slot.
#[inline(always)]
fn put_symbol(state: &mut u32, symbol: &Ready, words: &mut [u16], free: &mut usize) {
    let due = u64::from(*state) >= symbol.limit;
    // Written whether it is due or not, as in reading.
    let slot = free.wrapping_sub(1);
    if let Some(word) = words.get_mut(slot) {
        *word = *state as u16;
    }
    *free = free.wrapping_sub(usize::from(due));
    let x = apart(std::hint::select_unpredictable(due, *state >> 16, *state));
    // quotient << 12 | rest, with the start.
    *state = x.wrapping_add(symbol.start).wrapping_add(divide(x, symbol.reciprocal).wrapping_mul(symbol.others));
}

/// The state after an entry of `frequency` was read at `offset` from its start; takes a word where one is due.
#[inline(always)]
fn next_state(bytes: &[u8], at: &mut usize, state: u32, frequency: u32, offset: u32) -> u32 {
    let x = frequency.wrapping_mul(state >> PRECISION).wrapping_add(offset);
    // No branch: whether a word is due is as good as random, and a wrong guess costs more than the rest.
    let word = bytes.get(*at..).and_then(|b| b.first_chunk::<2>()).copied().unwrap_or_default();
    let due = x < LOW;
    *at = at.wrapping_add(usize::from(due) << 1);
    std::hint::select_unpredictable(due, x << 16 | u32::from(u16::from_le_bytes(word)), x)
}

/// Places of symbols.
pub(crate) const PLACES: usize = 1 << 12;

impl<const N: usize> Backward<N> {
    /// Puts at most 128 symbols, given by their places in turns of all states, the last first; does nothing and says so where one
    /// is not there.
    #[inline(always)]
    pub fn put_turns(&mut self, turns: &[[u16; N]], symbols: &[Ready; PLACES]) -> bool {
        // At most one word a symbol; what changes with every symbol stays in registers.
        let (mut words, mut free) = ([0; 128], 128);
        let (mut states, mut others) = (self.states, 0);
        for places in turns.get(..turns.len().min(words.len().checked_div(N).unwrap_or(0))).unwrap_or(&[]).iter().rev()
        {
            for (state, place) in states.iter_mut().zip(places).rev() {
                // Not copied: what is read where it is needed takes no register before.
                let Some(symbol) = symbols.get(usize::from(*place) & (PLACES - 1)) else { return false };
                put_symbol(state, symbol, &mut words, &mut free);
                others |= symbol.others;
            }
        }
        // Only what has no frequency leaves all of them to others.
        if others & TOTAL != 0 {
            return false;
        }
        let new = words.get(free..).unwrap_or(&[]);
        let from = self.free.wrapping_sub(new.len());
        self.words.get_mut(from..self.free).unwrap_or_default().copy_from_slice(new);
        (self.states, self.free) = (states, from);
        true
    }
}

/// What a slot says: the frequency of its entry, and how far from the entry's start it lies.
#[inline(always)]
fn parts_of(slot: u32) -> (u32, u32) {
    ((slot >> 12 & 0xfff).wrapping_add(1), slot & 0xfff)
}

/// Takes symbols and raw bits out of a coded run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder<'a, const N: usize> {
    bytes: &'a [u8],
    states: [u32; N],
    turn: usize,
    at: usize,
    pub bits: BitReader<'a>,
}

impl<'a, const N: usize> Decoder<'a, N> {
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        let mut states = [0; N];
        for (state, chunk) in states.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *state = u32::from_le_bytes(*chunk);
        }
        if states.iter().any(|s| *s < LOW) {
            return Err(Error::malformed("ENT-4", "coded run", "has no states, or one below 2^16"));
        }
        Ok(Decoder { bytes, states, turn: 0, at: N.wrapping_mul(4), bits: BitReader::new(bytes) })
    }

    /// The next entry of a table.
    #[inline(always)]
    pub fn entry(&mut self, table: &Table) -> u32 {
        let turn = self.turn;
        self.turn = if turn.wrapping_add(1) == N { 0 } else { turn.wrapping_add(1) };
        let Some(state) = self.states.get_mut(turn) else { return 0 };
        let slot = table.slot(*state & (TOTAL - 1));
        let (frequency, offset) = parts_of(slot);
        *state = next_state(self.bytes, &mut self.at, *state, frequency, offset);
        slot >> 24
    }

    /// Entries of as many tables as there are states, where it is the first one's turn.
    #[inline(always)]
    pub fn entries(&mut self, tables: [&Table; N]) -> [u32; N] {
        let mut out = [0; N];
        for ((state, table), entry) in self.states.iter_mut().zip(tables).zip(&mut out) {
            let slot = table.slot(*state & (TOTAL - 1));
            let (frequency, offset) = parts_of(slot);
            *state = next_state(self.bytes, &mut self.at, *state, frequency, offset);
            *entry = slot >> 24;
        }
        out
    }

    /// Whether an event of 4,096 − `no` to `no` odds happened, coded as (0, no) and (no, 4096 − no).
    pub fn event(&mut self, no: u16) -> bool {
        let turn = self.turn;
        self.turn = if turn.wrapping_add(1) == N { 0 } else { turn.wrapping_add(1) };
        let Some(state) = self.states.get_mut(turn) else { return false };
        let slot = *state & (TOTAL - 1);
        let happened = slot >= u32::from(no);
        let (start, frequency) = if happened { (u32::from(no), TOTAL.wrapping_sub(no.into())) } else { (0, no.into()) };
        *state = next_state(self.bytes, &mut self.at, *state, frequency, slot.wrapping_sub(start));
        happened
    }

    /// The next symbol of a table, escaped or not.
    #[inline]
    pub fn symbol(&mut self, table: &Table) -> Result<u32> {
        let entry = self.entry(table);
        symbol_of(&mut self.bits, table, entry)
    }

    /// Whether more was read than is there; to be asked now and then, so that a lie costs no work.
    #[inline]
    pub fn is_past_end(&self) -> bool {
        self.at > self.bytes.len()
    }

    /// Checks that every byte was used, once, and that the states are back where encoding began.
    pub fn finish(&self) -> Result<()> {
        let Some(left) = self.bytes.len().checked_sub(self.at) else {
            return Err(Error::malformed("ENT-4", "coded run", "is cut off"));
        };
        if self.states.iter().any(|s| *s != LOW) {
            return Err(Error::malformed("ENT-4", "coded run", "does not end with every state at 2^16"));
        }
        self.bits.finish(left)
    }
}

/// The symbol of an entry that was just read, escaped or not.
#[inline(always)]
pub(crate) fn symbol_of(bits: &mut BitReader, table: &Table, entry: u32) -> Result<u32> {
    if let Some(symbol) = table.symbol(entry) {
        return Ok(symbol);
    }
    let symbol = bits.take(ESCAPED_BITS) as u32;
    match table.entry(symbol) {
        None => Ok(symbol),
        Some(_) => Err(Error::malformed("ENT-4", "coded run", "escapes a symbol that its table has")),
    }
}

impl<const N: usize> Decoder<'_, N> {
    /// The slots that the states are at.
    #[inline(always)]
    pub fn slots(&self) -> [u32; N] {
        self.states.map(|state| state & (TOTAL - 1))
    }

    /// Passes the entries that hold those slots, each given as its frequency and its start << 16; for at most four states. The
    /// words are read before it is known which of them are due, so that no state waits for another.
    #[inline(always)]
    pub fn pass(&mut self, ranges: [u32; N]) {
        let mut words = match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(words) => u64::from_le_bytes(*words),
            None => near_the_end(self.bytes, self.at),
        };
        for (state, range) in self.states.iter_mut().zip(ranges) {
            let x = apart(passed(range, *state));
            let due = x < LOW;
            // No branch: whether a word is due is as good as random, and a wrong guess costs more than the rest.
            *state = std::hint::select_unpredictable(due, x << 16 | (words & 0xffff) as u32, x);
            words = std::hint::select_unpredictable(due, words >> 16, words);
            self.at = self.at.wrapping_add(usize::from(due) << 1);
        }
    }
}

/// A state behind an entry, before a word that may be due.
#[inline(always)]
fn passed(range: u32, state: u32) -> u32 {
    let offset = (state & (TOTAL - 1)).wrapping_sub(range >> 16);
    (range & 0xffff).wrapping_mul(state >> PRECISION).wrapping_add(offset)
}

/// The four words at `at`, zeros after the end.
#[cold]
fn near_the_end(bytes: &[u8], at: usize) -> u64 {
    let rest = bytes.get(at..).unwrap_or(&[]);
    rest.iter().take(8).rev().fold(0, |words, b| words << 8 | u64::from(*b))
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    fn round_trip<const N: usize>(symbols: &[u32], table: &Table) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for s in symbols {
            encoder.symbol(table, *s).unwrap();
            encoder.bits.put(u64::from(*s), 3);
        }
        let bytes = encoder.finish::<N>();
        let mut decoder: Decoder<N> = Decoder::new(&bytes).unwrap();
        for s in symbols {
            assert_eq!(decoder.symbol(table).unwrap(), *s);
            assert_eq!(decoder.bits.take(3), u64::from(*s & 7));
        }
        decoder.finish().unwrap();
        bytes
    }

    #[test]
    fn symbols_come_back_and_cost_what_they_should() {
        let table = Table::fit(&[800, 150, 0, 49, 1]).unwrap();
        let symbols: Vec<u32> = (0..10_000u32).map(|i| [0, 0, 0, 0, 0, 0, 0, 1, 3, 0][i as usize * 7 % 10]).collect();
        let one = round_trip::<1>(&symbols, &table);
        let two = round_trip::<2>(&symbols, &table);
        assert!(two.len() <= one.len() + 6);
        let ideal: f64 = symbols.iter().map(|s| table.bits(*s) + 3.0).sum::<f64>() / 8.0;
        assert!((one.len() as f64) < ideal * 1.002 + 8.0, "{} bytes, ideal {ideal}", one.len());
        round_trip::<1>(&[], &table);
        round_trip::<2>(&[4, 2, 100, 511, 0], &table);
    }

    #[test]
    fn dividing_by_a_frequency_rounds_down() {
        for f in 1..=TOTAL {
            let reciprocal = Ready::of((0, f as u16)).reciprocal;
            let most = (1u64 << 20) - 1;
            let around = |q: u64| [q * u64::from(f), q * u64::from(f) + 1, q * u64::from(f) + u64::from(f) - 1];
            let all = [0, 1, 2, most / 3, most / 2, most - 1, most].map(around);
            for x in all.into_iter().flatten().filter(|x| *x < u64::from(f) << 20) {
                let x = u32::try_from(x).unwrap();
                assert_eq!(divide(x, reciprocal), x / f, "{x} / {f}");
            }
        }
    }

    #[test]
    fn a_changed_or_missing_byte_shows() {
        let table = Table::fit(&[8, 4, 2, 1]).unwrap();
        let symbols: Vec<u32> = (0..200u32).map(|i| i % 4).collect();
        let bytes = round_trip::<2>(&symbols, &table);
        let reads = |bytes: &[u8]| -> Result<Vec<u32>> {
            let mut d: Decoder<2> = Decoder::new(bytes)?;
            let mut all = Vec::new();
            for _ in &symbols {
                all.push(d.symbol(&table)?);
                d.bits.take(3);
            }
            d.finish()?;
            Ok(all)
        };
        assert_eq!(reads(&bytes).unwrap(), symbols);
        assert!(reads(&bytes[1..]).is_err() && reads(&bytes[..bytes.len() - 1]).is_err());
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert!(reads(&longer).is_err());
    }
}
