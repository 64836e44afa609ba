//! A gain for all and a factor a tensor, moved in their logarithms by slopes of whatever scale. [LRN-5]

/// How fast the running mean of the slopes forgets, and that of their squares.
const MEAN_MEMORY: f64 = 0.9;
const SQUARE_MEMORY: f64 = 0.95;

/// Slopes that are small beside the typical one move less than in proportion: they are mostly noise.
const FLOOR: f64 = 0.3;

/// Neither part of a gain moves by more than this many powers of e.
const FARTHEST: f64 = 3.0;

/// The gains of all tensors.
pub(crate) struct Gains {
    start: f64,
    /// What all tensors share: many slopes agree on it, so that it is found fast.
    common: Mover,
    /// What each tensor has beside that.
    each: Mover,
}

impl Gains {
    /// All tensors begin with `gain`.
    pub fn new(tensors: usize, gain: f64) -> Self {
        Gains { start: gain, common: Mover::new(1), each: Mover::new(tensors) }
    }

    /// The gain of each tensor.
    pub fn all(&self) -> impl Iterator<Item = f64> + '_ {
        let common: f64 = self.common.moved.iter().sum();
        self.each.moved.iter().map(move |moved| self.start * (common + moved).exp())
    }

    /// Moves against the slopes (of the loss by the logarithm of each gain), and back to the start by `lambda`.
    pub fn step(&mut self, slopes: &[f64], rate: f64, lambda: f64) {
        self.common.step(&[slopes.iter().sum()], rate, lambda);
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
        let mut gains = Gains::new(best.len(), 4.0);
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
        let mut still = Gains::new(2, 4.0);
        still.step(&[0.0, 0.0], 0.1, 0.1);
        assert_eq!(still.all().collect::<Vec<_>>(), [4.0, 4.0]);
    }
}
