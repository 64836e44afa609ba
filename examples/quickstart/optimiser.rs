//! The two rules by which training moves weights.

use crate::linear::Linear;

/// How Adam's running means forget.
const MEAN_DECAY: f32 = 0.9;
const SQUARE_DECAY: f32 = 0.999;
/// Keeps Adam from dividing by zero.
const TINY: f32 = 1e-8;

/// How a gradient becomes a step.
#[derive(Clone, Copy)]
pub enum Rule {
    /// Steps of similar size for every weight.
    Adam,
    /// Steps in proportion to a running mean of the gradient.
    Momentum,
}

/// One training run's optimiser.
pub struct Optimiser {
    rule: Rule,
    rate: f32,
    steps: i32,
    /// Running mean of each gradient and of its square.
    running: Vec<[Linear; 2]>,
}

impl Optimiser {
    /// An optimiser that has taken no step yet; `rate` is its learning rate.
    pub fn new(rule: Rule, rate: f32) -> Self {
        Self { rule, rate, steps: 0, running: Vec::new() }
    }

    /// Moves each layer against its gradient; both in the same order every time.
    pub fn step<'a>(&mut self, layers: impl IntoIterator<Item = &'a mut Linear>, gradients: &[Linear]) {
        if self.steps == 0 {
            let zeros = |gradient: &Linear| [gradient.zeros(), gradient.zeros()];
            self.running = gradients.iter().map(zeros).collect();
        }
        self.steps += 1;
        let mover = self.mover();
        for ((layer, gradient), [mean, square]) in layers.into_iter().zip(gradients).zip(&mut self.running) {
            let running = mean.values_mut().zip(square.values_mut());
            for ((value, slope), (mean, square)) in layer.values_mut().zip(gradient.values()).zip(running) {
                mover.step(value, *slope, mean, square);
            }
        }
    }

    /// The rule for this step, with Adam's correction for its first steps.
    fn mover(&self) -> Mover {
        let correction = match self.rule {
            Rule::Momentum => 1.0,
            Rule::Adam => {
                let mean = 1.0 - MEAN_DECAY.powi(self.steps);
                (1.0 - SQUARE_DECAY.powi(self.steps)).sqrt() / mean
            }
        };
        Mover { rule: self.rule, rate: self.rate * correction }
    }
}

/// Moves single weights.
struct Mover {
    rule: Rule,
    rate: f32,
}

impl Mover {
    #[inline]
    fn step(&self, value: &mut f32, slope: f32, mean: &mut f32, square: &mut f32) {
        *mean += (1.0 - MEAN_DECAY) * (slope - *mean);
        *value -= self.rate
            * match self.rule {
                Rule::Momentum => *mean,
                Rule::Adam => {
                    *square += (1.0 - SQUARE_DECAY) * (slope * slope - *square);
                    *mean / (square.sqrt() + TINY)
                }
            };
    }
}
