//! One gain a tensor, moved in its logarithm by slopes of whatever scale. [LRN-5]

/// How fast the running mean of the slopes forgets, and that of their squares.
const MEAN_MEMORY: f64 = 0.9;
const SQUARE_MEMORY: f64 = 0.95;

/// Tensors with smaller slopes than this share of the typical one move less: their slopes are mostly noise.
const FLOOR: f64 = 0.3;

/// A gain stays within this factor of where it began.
const FARTHEST: f64 = 3.0;

/// Adam over the logarithms of the gains.
pub(crate) struct Gains {
    start: f64,
    /// By tensor: how far the logarithm has moved, and the running means.
    moved: Vec<f64>,
    mean: Vec<f64>,
    square: Vec<f64>,
    step: i32,
}

impl Gains {
    /// All tensors begin with `gain`.
    pub fn new(tensors: usize, gain: f64) -> Self {
        let zeros = || vec![0.0; tensors];
        Gains { start: gain, moved: zeros(), mean: zeros(), square: zeros(), step: 0 }
    }

    /// The gain of each tensor.
    pub fn all(&self) -> impl Iterator<Item = f64> + '_ {
        self.moved.iter().map(|m| self.start * m.exp())
    }

    /// Moves against the slopes (of the loss by the logarithm of each gain), and back to the start by `lambda`.
    pub fn step(&mut self, slopes: &[f64], rate: f64, lambda: f64) {
        self.step += 1;
        let means = self.mean.iter_mut().zip(&mut self.square);
        for ((mean, square), slope) in means.zip(slopes) {
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
            *moved -= rate * (slope + lambda * *moved);
            *moved = moved.clamp(-FARTHEST.ln(), FARTHEST.ln());
        }
    }
}
