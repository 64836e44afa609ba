//! A part that gains share and a part of each, moved in their logarithms by slopes of whatever scale. [LRN-5] [CAL-3]

/// How fast the running mean of the slopes forgets, and that of their squares.
const MEAN_MEMORY: f64 = 0.9;
const SQUARE_MEMORY: f64 = 0.95;

/// Slopes that are small beside the typical one move less than in proportion: they are mostly noise.
const FLOOR: f64 = 0.3;

/// Neither part of a gain moves by more than this many powers of e.
const FARTHEST: f64 = 3.0;

/// Gains in groups: those of a pack's tensors, or those of several packs.
pub(crate) struct Gains {
    starts: Vec<f64>,
    /// The group of each.
    groups: Vec<usize>,
    /// What a group shares: many slopes agree on it, so that it is found fast.
    common: Mover,
    /// What each gain has beside that.
    each: Mover,
}

impl Gains {
    /// Where each begins, and the group that it is of.
    pub fn new(starts: Vec<f64>, groups: Vec<usize>) -> Self {
        let count = groups.iter().max().map_or(0, |last| last + 1);
        let each = Mover::new(starts.len());
        Gains { starts, groups, common: Mover::new(count), each }
    }

    /// All gains.
    pub fn all(&self) -> impl Iterator<Item = f64> + '_ {
        let of_group = |group: &usize| self.common.moved.get(*group).copied().unwrap_or(0.0);
        let moved = self.groups.iter().zip(&self.each.moved).map(move |(group, own)| of_group(group) + own);
        self.starts.iter().zip(moved).map(|(start, moved)| start * moved.exp())
    }

    /// Moves against the slopes (of the loss by the logarithm of each gain), and back to the start by `lambda`.
    pub fn step(&mut self, slopes: &[f64], rate: f64, lambda: f64) {
        let mut sums = vec![0.0; self.common.moved.len()];
        for (group, slope) in self.groups.iter().zip(slopes) {
            if let Some(sum) = sums.get_mut(*group) {
                *sum += slope;
            }
        }
        self.common.step(&sums, rate, lambda);
        self.each.step(slopes, rate, lambda);
    }
}

/// Adam, with a floor that tensors share.
struct Mover {
    moved: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    step: i32,
}

impl Mover {
    fn new(n: usize) -> Self {
        let zeros = || vec![0.0; n];
        Mover { moved: zeros(), mean: zeros(), square: zeros(), step: 0 }
    }

    fn step(&mut self, slopes: &[f64], rate: f64, lambda: f64) {
        self.step += 1;
        for ((mean, square), slope) in self.mean.iter_mut().zip(&mut self.square).zip(slopes) {
            *mean = MEAN_MEMORY * *mean + (1.0 - MEAN_MEMORY) * slope;
            *square = SQUARE_MEMORY * *square + (1.0 - SQUARE_MEMORY) * slope * slope;
        }
        let (unbias, unbias_square) = (1.0 - MEAN_MEMORY.powi(self.step), 1.0 - SQUARE_MEMORY.powi(self.step));
        let total: f64 = self.square.iter().sum();
        let typical = (total / unbias_square / self.square.len().max(1) as f64).sqrt();
        if typical <= 0.0 {
            return;
        }
        for ((moved, mean), square) in self.moved.iter_mut().zip(&self.mean).zip(&self.square) {
            let slope = mean / unbias / ((square / unbias_square).sqrt() + FLOOR * typical);
            *moved = (*moved - rate * (slope + lambda * *moved)).clamp(-FARTHEST, FARTHEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses Σ c × (gain − best)², of sizes far apart.
    fn learn(best: &[f64], size: f64, lambda: f64) -> Vec<f64> {
        let mut gains = Gains::new(vec![4.0; best.len()], vec![0; best.len()]);
        for step in 0..60 {
            let slopes: Vec<f64> = gains.all().zip(best).map(|(g, b)| size * 2.0 * (g - b) * g).collect();
            gains.step(&slopes, 0.15 * (1.0 - f64::from(step) / 60.0), lambda);
        }
        gains.all().collect()
    }

    #[test]
    fn the_best_gains_are_found_whatever_the_size_of_the_loss() {
        let best = [2.0, 3.0, 5.0, 8.0];
        for size in [1e-9, 1.0, 1e9] {
            for (found, best) in learn(&best, size, 0.0).iter().zip(best) {
                assert!((found / best - 1.0).abs() < 0.1, "{size}: {found} {best}");
            }
        }
    }

    #[test]
    fn lambda_pulls_back_and_no_slope_moves_nothing() {
        let (free, pulled) = (learn(&[8.0, 8.0], 1.0, 0.0), learn(&[8.0, 8.0], 1.0, 5.0));
        assert!(4.0 < pulled[0] && pulled[0] < free[0] * 0.95, "{pulled:?} {free:?}");
        let mut still = Gains::new(vec![4.0; 2], vec![0; 2]);
        still.step(&[0.0, 0.0], 0.1, 0.1);
        assert_eq!(still.all().collect::<Vec<_>>(), [4.0, 4.0]);
    }

    #[test]
    fn a_group_has_a_part_of_its_own_and_starts_differ() {
        let mut gains = Gains::new(vec![4.0, 4.0, 2.0], vec![0, 0, 1]);
        gains.step(&[1.0, 0.0, 0.0], 0.1, 0.0);
        let moved: Vec<f64> = gains.all().zip([4.0, 4.0, 2.0]).map(|(gain, start)| gain / start).collect();
        assert!(moved[0] < moved[1] && moved[1] < 1.0 && moved[2] == 1.0, "{moved:?}");
    }
}
