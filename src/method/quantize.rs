//! Numbers to codes and back: spec/numbers.md, "Values".

use crate::method::float::{Real, decode_f64, encode_f64};
use crate::model::delta::{LEVELS, ValueKind};
use crate::model::dtype::Dtype;

/// What one group of kept deltas looked like: enough to choose its scale.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct GroupStats {
    pub kept: u64,
    pub sum: f64,
    pub max: f64,
}

impl GroupStats {
    pub fn add(&mut self, delta: f64) {
        self.kept += 1;
        self.sum += delta.abs();
        self.max = self.max.max(delta.abs());
    }

    pub fn merge(&mut self, other: &GroupStats) {
        self.kept += other.kept;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The scale of the group: the mean magnitude for signs, the largest magnitude over the largest code otherwise. A
    /// group that keeps nothing has scale 0. [VAL-3]
    pub fn scale(&self, kind: ValueKind) -> f32 {
        match kind {
            _ if self.kept == 0 => 0.0,
            ValueKind::Sign => (self.sum / self.kept as f64) as f32,
            ValueKind::Int8 => self.max as f32 / 127.0,
            ValueKind::Int4 => self.max as f32 / 7.0,
            ValueKind::Step | ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16 | ValueKind::Codebook => 0.0,
        }
    }
}

/// The code of a delta. [VAL-6] What does not fit a float kind becomes an infinity, which the caller refuses.
pub(crate) fn quantize(kind: ValueKind, delta: f64, scale: f32, levels: &[f32; LEVELS]) -> u64 {
    let rounded = |max: f64| {
        let code = if scale == 0.0 { 0.0 } else { (delta / f64::from(scale)).round_ties_even().clamp(-max, max) };
        code as i64 as u64
    };
    match kind {
        ValueKind::Step => 0,
        ValueKind::F32 => encode_f64(Dtype::F32, delta),
        ValueKind::F16 => encode_f64(Dtype::F16, delta),
        ValueKind::Bf16 => encode_f64(Dtype::BF16, delta),
        ValueKind::Int8 => rounded(127.0) & 0xff,
        ValueKind::Int4 => rounded(7.0) & 0xf,
        ValueKind::Sign => u64::from(delta < 0.0),
        ValueKind::Codebook => nearest(levels, delta) as u64,
    }
}

/// code × scale, in the arithmetic of the tensor. [VAL-4]
pub(crate) fn dequantize<R: Real>(kind: ValueKind, code: u64, scale: f32, levels: &[f32; LEVELS]) -> R {
    let scaled = |code: f64| R::from_f64(code).mul(R::from_f32(scale));
    match kind {
        ValueKind::Step => R::ZERO,
        ValueKind::F32 => R::from_f32(f32::from_bits(code as u32)),
        ValueKind::F16 => R::from_f64(decode_f64(Dtype::F16, code)),
        ValueKind::Bf16 => R::from_f64(decode_f64(Dtype::BF16, code)),
        ValueKind::Int8 => scaled(f64::from(code as u8 as i8)),
        ValueKind::Int4 => scaled(f64::from(((code as u8) << 4) as i8 >> 4)),
        ValueKind::Sign => scaled(if code == 0 { 1.0 } else { -1.0 }),
        ValueKind::Codebook => R::from_f32(levels.get(code as usize).copied().unwrap_or(0.0)),
    }
}

/// The level nearest to a delta; the lower one on a tie. Levels ascend.
fn nearest(levels: &[f32; LEVELS], delta: f64) -> usize {
    let distance = |level: &f32| (f64::from(*level) - delta).abs();
    let best = levels.iter().enumerate().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    best.map_or(0, |(i, _)| i)
}

/// Kept deltas counted in fine bins, from which a codebook is fitted without holding them.
///
/// A bin is the sign, the exponent and five mantissa bits of the f32: levels are off by at most 1.6 %.
pub(crate) struct LevelStats {
    bins: std::collections::BTreeMap<u32, (u64, f64)>,
}

impl LevelStats {
    pub fn new() -> Self {
        LevelStats { bins: Default::default() }
    }

    pub fn add(&mut self, delta: f64) {
        // Bits in the order of the numbers, cut to 14 of them.
        let bits = (delta as f32).to_bits();
        let ordered = if bits >> 31 != 0 { !bits } else { bits | 1 << 31 };
        let bin = self.bins.entry(ordered >> 18).or_default();
        bin.0 += 1;
        bin.1 += delta;
    }

    pub fn merge(&mut self, other: LevelStats) {
        for (key, (count, sum)) in other.bins {
            let bin = self.bins.entry(key).or_default();
            bin.0 += count;
            bin.1 += sum;
        }
    }

    /// 16 levels by Lloyd's iteration from equally filled runs of bins. [VAL-5]
    pub fn fit(&self) -> [f32; LEVELS] {
        let points: Vec<(f64, f64)> = self.bins.values().map(|(n, sum)| (*n as f64, sum / *n as f64)).collect();
        let mut levels = [0f64; LEVELS];
        let total: f64 = points.iter().map(|p| p.0).sum();
        let (mut seen, mut sums) = (0.0, [(0f64, 0f64); LEVELS]);
        for (n, x) in &points {
            let run = ((seen + n / 2.0) / total * LEVELS as f64) as usize;
            add_point(&mut sums, run.min(LEVELS - 1), *n, *x);
            seen += n;
        }
        move_levels(&mut levels, &sums);
        for _ in 0..50 {
            let mut sums = [(0f64, 0f64); LEVELS];
            for (n, x) in &points {
                let near = levels.iter().enumerate().min_by(|a, b| (a.1 - x).abs().total_cmp(&(b.1 - x).abs()));
                add_point(&mut sums, near.map_or(0, |(i, _)| i), *n, *x);
            }
            move_levels(&mut levels, &sums);
        }
        let mut out = levels.map(|l| l as f32 + 0.0);
        out.sort_unstable_by(f32::total_cmp);
        out
    }
}

fn add_point(sums: &mut [(f64, f64); LEVELS], run: usize, n: f64, x: f64) {
    if let Some(s) = sums.get_mut(run) {
        s.0 += n;
        s.1 += n * x;
    }
}

/// Moves each level to the mean of its points; one without points stays.
fn move_levels(levels: &mut [f64; LEVELS], sums: &[(f64, f64); LEVELS]) {
    for (level, (n, sum)) in levels.iter_mut().zip(sums) {
        if *n > 0.0 {
            *level = sum / n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        let levels: [f32; LEVELS] = std::array::from_fn(|i| (i as f32 - 7.5) / 8.0);
        for kind in [ValueKind::Int8, ValueKind::Int4, ValueKind::Codebook, ValueKind::F16, ValueKind::Bf16] {
            for i in -100..=100 {
                let delta = f64::from(i) / 100.0 * 0.9;
                let scale = if kind == ValueKind::Int8 { 0.9 / 127.0 } else { 0.9 / 7.0 };
                let back: f32 = dequantize(kind, quantize(kind, delta, scale, &levels), scale, &levels);
                assert!((f64::from(back) - delta).abs() <= 0.07, "{kind} {delta} {back}");
            }
        }
        assert_eq!(dequantize::<f32>(ValueKind::Int4, 0x9, 1.0, &levels), -7.0);
        assert_eq!(dequantize::<f32>(ValueKind::Sign, 1, 0.5, &levels), -0.5);
    }

    #[test]
    fn a_codebook_finds_the_clusters() {
        let mut stats = LevelStats::new();
        for i in 0..16 {
            (0..100).for_each(|_| stats.add(f64::from(i) - 7.5));
        }
        assert_eq!(stats.fit(), std::array::from_fn(|i| i as f32 - 7.5));
    }
}
