//! How active rows and columns are, against what the exponents alone let expect.

use crate::codec::classes::coder::{DEAD, LEVEL_MAX, symbol_of};
use crate::codec::entropy::table::Table;

/// Symbols of levels.
pub(crate) const LEVELS: usize = 2 * LEVEL_MAX as usize + 2;

/// What a level costs, in nats, by symbol.
pub(crate) type Prior = [f32; LEVELS];

/// What levels cost before any was seen: near 0 is likely.
pub(crate) fn first_prior() -> Prior {
    let mut prior = [0.0; LEVELS];
    for (symbol, cost) in prior.iter_mut().enumerate() {
        let level = symbol as f32 - f32::from(LEVEL_MAX) - 1.0;
        // Whole octaves first: where little is kept, finer levels cost more to say than they save.
        let fine = if symbol % 2 == 0 { 1.0 } else { 0.0 };
        *cost = if symbol == 0 { 2.5 } else { 0.8 + 0.25 * level.abs() + fine };
    }
    prior
}

/// What levels cost by a table.
pub(crate) fn prior_of(table: &Table) -> Prior {
    let mut prior = [0.0; LEVELS];
    for (symbol, cost) in prior.iter_mut().enumerate() {
        *cost = (table.bits(symbol as u32) * std::f64::consts::LN_2) as f32;
    }
    prior
}

/// What levels cost by how often each was seen.
pub(crate) fn prior_from(counts: &[u64; LEVELS]) -> Prior {
    let total: u64 = counts.iter().sum();
    let mut prior = [0.0; LEVELS];
    for (cost, count) in prior.iter_mut().zip(counts) {
        *cost = -((*count as f32 + 0.1) / (total as f32 + 0.1 * LEVELS as f32)).ln();
    }
    prior
}

/// The level that makes `seen` and itself cheapest, where `expected` was to be seen: that of a Poisson distribution.
pub(crate) fn level(seen: f32, expected: f32, prior: &Prior) -> i16 {
    let cost_of = |level: i16| prior.get(symbol_of(level) as usize).copied().unwrap_or(f32::MAX);
    let (mut best, mut least) = (0, f32::MAX);
    if seen == 0.0 {
        (best, least) = (DEAD, cost_of(DEAD));
    }
    let ideal = if seen > 0.0 && expected > 0.0 { ((seen / expected).log2() * 2.0).round() as i16 } else { 0 };
    let (from, to) = (ideal.clamp(-LEVEL_MAX, 0), ideal.clamp(0, LEVEL_MAX));
    for level in from..=to {
        let half_octaves = f32::from(level) * 0.5;
        let cost = expected * half_octaves.exp2() - seen * half_octaves * std::f32::consts::LN_2 + cost_of(level);
        if cost < least {
            (best, least) = (level, cost);
        }
    }
    best
}

/// What a level saves against level 0, in nats.
pub(crate) fn saving(seen: f32, expected: f32, level: i16) -> f64 {
    if level == DEAD {
        return f64::from(expected);
    }
    let half_octaves = f32::from(level) * 0.5;
    f64::from(expected * (1.0 - half_octaves.exp2()) + seen * half_octaves * std::f32::consts::LN_2)
}

/// Whether levels save more than it takes to say them and their table: noise looks like levels, too.
pub(crate) fn pay(saved: f64, counts: &[u64; LEVELS]) -> bool {
    const TABLE_BITS: f64 = 120.0;
    let total: u64 = counts.iter().sum();
    let seen = counts.iter().filter(|n| **n > 0);
    let bits: f64 = seen.map(|n| *n as f64 * (total as f64 / *n as f64).log2()).sum();
    saved * std::f64::consts::LOG2_E > bits + TABLE_BITS
}
