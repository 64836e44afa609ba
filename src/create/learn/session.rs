//! The stages of learning: on the way to the fine-tuned model, choosing a mask, moving the gains.

use std::sync::Arc;

use crate::create::learn::candidate::Candidate;
use crate::create::learn::learned::{Learned, LearnedTensor};
use crate::create::learn::preview::Preview;
use crate::create::options::{CreateOptions, Localizer, Lossy, Method};
use crate::create::pairs::{Pair, Pairs};
use crate::create::spans::cut;
use crate::error::{Error, Result};
use crate::method::learn::gradient::{Batch, Gradient, Parameter, evaluate};
use crate::method::learn::importance::{Importance, mean_square};
use crate::method::localize::keys::numbers;

/// How far the gradient may overrule |delta|: the masks of these are tried, and the loss decides. [LRN-3]
const TRUSTS: [f64; 5] = [0.0, 0.125, 0.25, 0.5, 1.0];

/// Each with these powers of the gain that the rule gives, from the rule to no gain: a mask whose gain is far off would seem a bad one.
const POWERS: [f64; 5] = [1.0, 0.8, 0.6, 0.4, 0.0];

/// The model that is evaluated, its gradient, and what was seen so far.
pub(super) struct Session<'a> {
    pairs: &'a Pairs<'a>,
    own: Vec<&'a Pair>,
    /// What the pack would be without data.
    lossy: Lossy,
    options: &'a CreateOptions,
    gradient: &'a mut dyn Gradient,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    importance: Vec<Importance>,
}

impl<'a> Session<'a> {
    pub fn new(
        pairs: &'a Pairs,
        lossy: Lossy,
        options: &'a CreateOptions,
        gradient: &'a mut dyn Gradient,
    ) -> Result<Self> {
        let own: Vec<&Pair> = pairs.floats().map(|(_, pair)| pair).collect();
        let values = own.iter().map(|pair| between(pairs, pair, 0.0)).collect::<Result<Vec<_>>>()?;
        let gradients = values.iter().map(|v| vec![0.0; v.len()]).collect();
        let importance = own.iter().zip(&values).map(|(p, v)| Importance::new(v.len(), p.info.row_len() as usize));
        let importance = importance.collect();
        options.workers.progress().stage("learning", 0);
        Ok(Session { pairs, own, lossy, options, gradient, values, gradients, importance })
    }

    /// Sees the gradient at a point between base (0) and fine-tuned model (1). [LRN-2]
    pub fn visit(&mut self, batch: Batch, at: f64) -> Result<()> {
        self.go_to(at)?;
        self.evaluate(batch)?;
        let unit = mean_square(&self.gradients);
        if unit > 0.0 {
            let each = self.importance.iter_mut().zip(&self.gradients);
            each.for_each(|(importance, gradient)| importance.add(gradient, unit));
        }
        Ok(())
    }

    /// The mask and the gain with the smallest loss on one batch; of equal ones the one nearest to what is done without data.
    pub fn choose(&mut self, batch: Batch, by_importance: bool, any_gain: bool) -> Result<Candidate> {
        self.go_to(0.0)?;
        let trusts = if by_importance { &TRUSTS[..] } else { &TRUSTS[..1] };
        let powers = if any_gain { &POWERS[..] } else { &POWERS[..1] };
        let mut best: Option<(f64, Candidate)> = None;
        for trust in trusts {
            let learned = self.learned(*trust);
            let preview = self.preview(&learned)?;
            // With one mask and one gain there is nothing to choose.
            let (loss, power) = match trusts.len() * powers.len() {
                1 => (0.0, 1.0),
                _ => self.best_power(&preview, powers, batch)?,
            };
            preview.clear(&mut self.values)?;
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                let gain = preview.gain.powf(power);
                best = Some((loss, Candidate::new(learned, preview, gain, self.own.len())));
            }
        }
        best.map(|(_, candidate)| candidate).ok_or_else(|| Error::Internal("no mask was tried".into()))
    }

    /// The smallest loss of a mask, and the power of its gain that has it.
    fn best_power(&mut self, preview: &Preview, powers: &[f64], batch: Batch) -> Result<(f64, f64)> {
        let mut least = (f64::INFINITY, 1.0);
        for power in powers {
            preview.place(&vec![preview.gain.powf(*power); self.own.len()], &mut self.values)?;
            let loss = self.evaluate(batch)?;
            if loss > least.0 {
                break; // A loss that rises on the way to no gain goes on rising.
            }
            if loss < least.0 {
                least = (loss, *power);
            }
        }
        Ok(least)
    }

    /// Moves the gains by the gradient at the model that a receiver would get. [LRN-5]
    pub fn calibrate(&mut self, candidate: &mut Candidate, batch: Batch, rate: f64, lambda: f64) -> Result<()> {
        let gains: Vec<f64> = candidate.gains.all().collect();
        candidate.preview.place(&gains, &mut self.values)?;
        self.evaluate(batch)?;
        let slopes = candidate.preview.gain_slopes(&gains, &self.gradients)?;
        candidate.gains.step(&slopes, rate, lambda);
        Ok(())
    }

    /// What was learned.
    pub fn finish(self, candidate: Candidate) -> Result<Learned> {
        candidate.finish(self.own.iter().map(|pair| pair.info.name.as_str()))
    }

    fn go_to(&mut self, at: f64) -> Result<()> {
        for (pair, values) in self.own.iter().zip(&mut self.values) {
            // Freed first, so that no tensor is held twice.
            *values = Vec::new();
            *values = between(self.pairs, pair, at)?;
        }
        Ok(())
    }

    fn learned(&self, trust: f64) -> Learned {
        let tensors = self.own.iter().zip(&self.importance).map(|(pair, importance)| {
            let (rows, columns) = importance.factors(trust);
            (pair.info.name.clone(), LearnedTensor { elements: pair.info.elements(), rows, columns, gain: 1.0 })
        });
        Learned { tensors: tensors.collect() }
    }

    fn preview(&self, learned: &Learned) -> Result<Preview> {
        let localizer = Localizer::Learned(Arc::new(learned.clone()));
        let method = Method::Lossy(Lossy { localizer, ..self.lossy.clone() });
        Preview::of(self.pairs, &CreateOptions { method, ..self.options.clone() }, &self.values)
    }

    /// The loss at what the values are now; the gradients become those of the same place.
    fn evaluate(&mut self, batch: Batch) -> Result<f64> {
        self.options.workers.check_cancelled()?;
        let mut parameters = Vec::with_capacity(self.own.len());
        for ((pair, values), slopes) in self.own.iter().zip(&self.values).zip(&mut self.gradients) {
            parameters.push(Parameter::new(&pair.info.name, &pair.info.shape, values, slopes));
        }
        evaluate(self.gradient, batch, &mut parameters)
    }
}

/// Elements of a tensor between those of the base (0) and the fine-tuned model (1).
fn between(pairs: &Pairs, pair: &Pair, at: f64) -> Result<Vec<f32>> {
    let mut out = Vec::with_capacity(pair.info.elements() as usize);
    let (mut from, mut to) = (Vec::new(), Vec::new());
    for (start, len) in cut(pair.info.units()) {
        numbers(pair.info.dtype, &pairs.base_units(pair, start, len)?, &mut from);
        if at == 0.0 {
            out.extend(from.iter().map(|x| *x as f32));
            continue;
        }
        numbers(pair.info.dtype, &pairs.tuned_units(pair, start, len)?, &mut to);
        // Equal numbers stay as they are, also where they are infinite.
        let mixed = from.iter().zip(&to).map(|(a, b)| if a == b { *a } else { a + at * (b - a) });
        out.extend(mixed.map(|x| x as f32));
    }
    Ok(out)
}
