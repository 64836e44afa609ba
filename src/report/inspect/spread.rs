//! Distributions of magnitudes and steps, counted in fixed memory.

use crate::report::inspect::report::{Bin, Distribution};

/// Most bins of a distribution.
const BINS: usize = 48;

/// Bits of an f64 below those that name a fine bin: the exponent and three mantissa bits, eight bins an octave.
const FINE_SHIFT: u32 = 49;

/// Fine bins from 0 to infinity.
const FINE: usize = 2048 << 3;

/// One in so many may lie below the bins proper, so that a few tiny values do not make every bin wide.
const TAIL: u64 = 2000;

/// Counts magnitudes.
pub(crate) struct Magnitudes {
    zeros: u64,
    fine: Vec<u64>,
}

impl Magnitudes {
    pub fn new() -> Self {
        Magnitudes { zeros: 0, fine: vec![0; FINE] }
    }

    /// Adds a number's magnitude.
    pub fn add(&mut self, x: f64) {
        let x = x.abs();
        if x == 0.0 {
            self.zeros += 1;
        } else if let Some(count) = self.fine.get_mut((x.to_bits() >> FINE_SHIFT) as usize) {
            *count += 1;
        }
    }

    /// The narrowest bins that are no more than 48.
    pub fn finish(&self) -> Distribution<f64> {
        let Some((first, last)) = self.span() else { return Distribution { zeros: self.zeros, bins: Vec::new() } };
        let mut shift = 0u32;
        while (last >> shift) - (first >> shift) >= BINS {
            shift += 1;
        }
        let edge = |bin: usize| f64::from_bits(((bin << shift) as u64) << FINE_SHIFT);
        let mut bins: Vec<Bin<f64>> = (first >> shift..=last >> shift)
            .map(|bin| {
                let fine = self.fine.get(bin << shift..(bin + 1) << shift).unwrap_or(&[]);
                Bin { from: edge(bin), to: edge(bin + 1), count: fine.iter().sum() }
            })
            .collect();
        let below: u64 = self.fine.iter().take(first >> shift << shift).sum();
        if let Some(bin) = bins.first_mut().filter(|_| below > 0) {
            bin.from = 0.0;
            bin.count += below;
        }
        Distribution { zeros: self.zeros, bins }
    }

    /// The first fine bin after the tail and the last that is not empty.
    fn span(&self) -> Option<(usize, usize)> {
        let last = self.fine.iter().rposition(|n| *n > 0)?;
        let tail = self.fine.iter().sum::<u64>() / TAIL;
        let mut seen = 0;
        let first = self.fine.iter().position(|n| {
            seen += n;
            seen > tail
        })?;
        Some((first, last))
    }
}

/// Counts steps: 1, 2, 3, 4, 5–8, 9–16 and so on.
pub(crate) struct Steps {
    zeros: u64,
    counts: [u64; BINS],
}

impl Steps {
    pub fn new() -> Self {
        Steps { zeros: 0, counts: [0; BINS] }
    }

    /// Adds a step.
    pub fn add(&mut self, step: i64) {
        let bin = match step.unsigned_abs() {
            0 => {
                self.zeros += 1;
                return;
            }
            small @ 1..=4 => small as usize - 1,
            large => (large - 1).ilog2() as usize + 2,
        };
        if let Some(count) = self.counts.get_mut(bin.min(BINS - 1)) {
            *count += 1;
        }
    }

    /// The bins up to the last that is not empty.
    pub fn finish(&self) -> Distribution<u64> {
        let len = self.counts.iter().rposition(|n| *n > 0).map_or(0, |last| last + 1);
        let bin = |(i, count): (usize, &u64)| {
            let (from, to) = match i as u64 {
                small @ 0..=3 => (small + 1, small + 1),
                large => ((1 << (large - 2)) + 1, 1 << (large - 1)),
            };
            Bin { from, to: if i == BINS - 1 { 1 << 63 } else { to }, count: *count }
        };
        Distribution { zeros: self.zeros, bins: self.counts.iter().take(len).enumerate().map(bin).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_into_their_bins() {
        let mut steps = Steps::new();
        for step in [1, -1, 2, 3, 4, 5, 8, 9, -16, 17, 0] {
            steps.add(step);
        }
        let found = steps.finish();
        let bins: Vec<_> = found.bins.iter().map(|b| (b.from, b.to, b.count)).collect();
        assert_eq!(bins, [(1, 1, 2), (2, 2, 1), (3, 3, 1), (4, 4, 1), (5, 8, 2), (9, 16, 2), (17, 32, 1)]);
        assert_eq!((found.zeros, found.count()), (1, 11));
        steps.add(i64::MIN);
        let bins = steps.finish().bins;
        assert_eq!((bins.len(), bins[47].to, bins[47].count), (48, 1 << 63, 1));
    }

    #[test]
    fn magnitudes_fall_into_their_bins() {
        for spread in [1, 4, 40, 400] {
            let mut magnitudes = Magnitudes::new();
            let values: Vec<f64> = (0..=spread * 8).map(|i| 2f64.powf(f64::from(i) / 16.0 - 50.0)).collect();
            values.iter().for_each(|x| magnitudes.add(-x));
            magnitudes.add(0.0);
            let found = magnitudes.finish();
            assert!(found.bins.len() <= BINS && found.count() == values.len() as u64 + 1);
            for bin in &found.bins {
                let inside = values.iter().filter(|x| (bin.from..bin.to).contains(x)).count();
                assert_eq!(inside as u64, bin.count);
            }
        }
    }

    #[test]
    fn a_thin_tail_does_not_widen_the_bins() {
        let mut magnitudes = Magnitudes::new();
        (0..10_000).for_each(|i| magnitudes.add(1.0 + f64::from(i) / 10_000.0));
        magnitudes.add(1e-300);
        let found = magnitudes.finish();
        assert_eq!((found.bins.len(), found.bins[0].from, found.count()), (8, 0.0, 10_001));
    }
}
