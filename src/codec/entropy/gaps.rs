//! Tables for the gaps between kept positions: a geometric distribution that follows from one number. [ENT-6]

use std::sync::OnceLock;

use crate::codec::entropy::table::{PRECISION, Table, frequencies};

/// The largest odds code.
pub(crate) const ODDS_MAX: u8 = 127;
/// The odds code of even odds.
const EVEN: u8 = 80;
/// Most symbols of a gap table before its last, which stands for "that many and more".
const MOST: usize = 63;
/// 2^(i/4) in units of 2^-16.
const QUARTERS: [u64; 4] = [65_536, 77_936, 92_682, 110_218];

/// How the gaps of a class are coded.
#[derive(Debug, Clone)]
pub(crate) struct GapTable {
    /// Whether gaps count the kept between those that are not, because fewer are not.
    pub inverted: bool,
    /// Low bits of a gap, which are raw.
    pub shift: u32,
    /// The high part that stands for itself and more.
    pub last: u32,
    pub table: Table,
}

impl GapTable {
    /// For odds of 2^((code − 80) / 4) that a position is kept.
    fn new(code: u8) -> Self {
        let inverted = code > EVEN;
        let below = EVEN.abs_diff(code.min(ODDS_MAX));
        // The odds in units of 2^-32, and 1 − p = 1 / (1 + odds) likewise.
        let quarter = QUARTERS.get(usize::from(below.wrapping_neg() & 3)).copied().unwrap_or(65_536);
        let odds = (quarter << 16) >> u32::from(below).div_ceil(4).min(32);
        let mut rest = (1u128 << 64).checked_div(odds.saturating_add(1 << 32).into()).unwrap_or(1 << 32) as u64;
        let shift = u32::from(below >> 2).saturating_sub(3);
        for _ in 0..shift {
            rest = rest.wrapping_mul(rest) >> 32;
        }
        let mut weights = Vec::with_capacity(MOST.saturating_add(1));
        let mut tail = 1u64 << 32;
        while weights.len() < MOST && tail >= 1 << (32 - PRECISION) {
            let next = tail.wrapping_mul(rest) >> 32;
            weights.push(tail.saturating_sub(next));
            tail = next;
        }
        let last = weights.len() as u32;
        weights.push(tail.max(1));
        let table = Table::from_frequencies(&frequencies(weights.iter().copied()));
        GapTable { inverted, shift, last, table }
    }

    /// The table of a code, made once.
    pub fn of(code: u8) -> &'static Self {
        static ALL: [OnceLock<GapTable>; 128] = [const { OnceLock::new() }; 128];
        let code = code.min(ODDS_MAX);
        let [first, ..] = &ALL;
        ALL.get(usize::from(code)).unwrap_or(first).get_or_init(|| Self::new(code))
    }

    /// The odds code nearest to what was counted.
    pub fn code_for(kept: u64, members: u64) -> u8 {
        let odds = (kept as f64 + 0.3) / (members.saturating_sub(kept) as f64 + 0.3);
        let code = f64::from(EVEN) + odds.log2() * 4.0;
        code.round().clamp(0.0, ODDS_MAX.into()) as u8
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;
    use crate::codec::entropy::table::TOTAL;

    #[test]
    fn the_code_of_a_density_costs_what_the_density_does() {
        for p in [0.0001f64, 0.001, 0.01, 0.05, 0.2, 0.5, 0.7, 0.96] {
            let n = 1_000_000u64;
            let gaps = GapTable::new(GapTable::code_for((p * n as f64) as u64, n));
            let rare = if gaps.inverted { 1.0 - p } else { p };
            assert_eq!(gaps.inverted, p > 0.55, "{p}");
            // Expected bits of a gap that is geometric with `rare`.
            let step = (1u64 << gaps.shift) as f64;
            let r = (1.0 - rare).powf(step);
            let last = gaps.last;
            let cost = |entry: u32| 12.0 - f64::from(gaps.table.range(entry).1).log2();
            let escaped = r.powi(last as i32);
            let once: f64 = (0..last).map(|h| r.powi(h as i32) * (1.0 - r) * (cost(h) + f64::from(gaps.shift))).sum();
            let bits = (once + escaped * cost(last)) / (1.0 - escaped);
            let ideal = (-(rare * rare.log2()) - (1.0 - rare) * (1.0 - rare).log2()) / rare;
            assert!(bits < ideal * 1.008, "{p}: {bits} bits, ideal {ideal}");
        }
    }

    #[test]
    fn every_code_has_a_table() {
        for code in 0..=ODDS_MAX {
            let gaps = GapTable::new(code);
            let total: u32 = (0..=gaps.last).map(|e| u32::from(gaps.table.range(e).1)).sum();
            assert_eq!(total, TOTAL, "{code}");
        }
    }
}
