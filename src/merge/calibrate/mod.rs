//! Journey two with data: packs on their base and a gradient → the gains with which the packs do well together.
//! spec/numbers.md, "Calibrating".
//!
//! A gain that is right for a pack alone is not right beside others, whose deltas move what it was fitted to.

mod trial;

use crate::error::{Error, Result};
use crate::merge::gain::PackGain;
use crate::merge::model::StitchedModel;
use crate::method::learn::gains::Gains;
use crate::method::learn::gradient::{Batch, Gradient};
use crate::parallel::Workers;

use trial::Trial;

/// How [`calibrate`] moves gains. The defaults are meant for every model: slopes are measured in units of their own size.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    /// How often the gradient is asked for.
    pub steps: u32,
    /// Handed to the gradient with every batch, so that it can choose rows by it. Nothing else is random.
    pub seed: u64,
    /// How far the logarithm of a gain moves in the first step; later steps are smaller.
    pub rate: f64,
    /// How strongly gains are pulled back to where they began.
    pub lambda: f64,
    /// Threads and progress.
    pub workers: Workers,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        CalibrateOptions { steps: 24, seed: 0, rate: 0.1, lambda: 0.1, workers: Workers::default() }
    }
}

/// Most evaluations of a gradient: learning more from few rows learns them by heart.
const MOST_STEPS: u32 = 10_000;

impl CalibrateOptions {
    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::InvalidInput(what));
        if self.steps == 0 || self.steps > MOST_STEPS {
            return bad(format!("{} evaluations of the gradient, must be 1 to {MOST_STEPS}", self.steps));
        }
        match [("rate", self.rate), ("lambda", self.lambda)].iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
            Some((what, x)) => bad(format!("{what} {x} is not a number from 0 on")),
            None => Ok(()),
        }
    }
}

/// Moves the gains of a model's packs, a gain for each pack and tensor, by the gradient of one loss over all their tasks, for
/// instance the sum of the tasks' losses. The parameters that the gradient is asked about are all float tensors of the model, a
/// tied duplicate once, with the values that the merge has. Weights, rule and λ stay as they are; gains of packs that further ones
/// were made for, and of exact packs, stay too.
///
/// The model has the new gains afterwards, which [`apply`](crate::apply()) and [`lock`](crate::lock()) write into the recipe.
/// Memory: the parameters and the gradient in f32, and a few blocks of each pack.
///
/// # Errors
/// `InvalidInput` for options that are no numbers of their kind, and where no pack has a gain that could move; `Refused` for a loss or a
/// gradient that is not finite, and for a merge that is not; as the packs give them; and whatever the gradient returns. The
/// model has its old gains then.
pub fn calibrate(model: &mut StitchedModel, gradient: &mut dyn Gradient, how: &CalibrateOptions) -> Result<()> {
    how.check()?;
    let before = model.gains().to_vec();
    let done = moved(model, gradient, how);
    if done.is_err() {
        model.set_gains(before)?;
    }
    done
}

fn moved(model: &mut StitchedModel, gradient: &mut dyn Gradient, how: &CalibrateOptions) -> Result<()> {
    let held = held(model);
    if held.is_empty() {
        return Err(Error::InvalidInput("no pack in play has a gain: there is nothing to calibrate".into()));
    }
    let starts = held.iter().map(|h| model.gains().get(h.pack).map_or(1.0, |gain| gain.of(&h.tensor).into()));
    let mut gains = Gains::new(starts.collect(), held.iter().map(|h| h.pack).collect());
    let mut trial = Trial::new(model, &how.workers)?;
    for step in 0..how.steps {
        let batch = Batch { seed: how.seed, step, steps: how.steps };
        let slopes = trial.slopes(model, &held, batch, gradient, &how.workers)?;
        gains.step(&slopes, how.rate * (1.0 - f64::from(step) / f64::from(how.steps)), how.lambda);
        model.set_gains(with(model.gains(), &held, &gains))?;
    }
    Ok(())
}

/// A delta whose gain moves.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delta {
    pack: usize,
    /// The tensor that holds it.
    tensor: String,
}

/// By pack and name of the tensor.
fn held(model: &StitchedModel) -> Vec<Delta> {
    let in_play = model.layers().iter().enumerate().filter(|(_, layer)| layer.weight != 0.0);
    let deltas = in_play.flat_map(|(pack, layer)| layer.pack.deltas().map(move |delta| (pack, delta)));
    let own = deltas.filter(|(_, delta)| delta.has_gain() && delta.owner() == delta.name());
    let mut held: Vec<Delta> = own.map(|(pack, delta)| Delta { pack, tensor: delta.name().to_string() }).collect();
    held.sort_unstable();
    held
}

fn with(before: &[PackGain], held: &[Delta], gains: &Gains) -> Vec<PackGain> {
    let mut out = before.to_vec();
    for (delta, gain) in held.iter().zip(gains.all()) {
        if let Some(pack) = out.get_mut(delta.pack) {
            pack.tensors.insert(delta.tensor.clone(), gain as f32);
        }
    }
    out
}
