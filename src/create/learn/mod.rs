//! Journey one with data: base, fine-tuned model and a gradient → what [`create`](crate::create()) needs for a better pack.

mod candidate;
pub(crate) mod learned;
mod preview;
mod session;

use std::sync::Arc;

use crate::checkpoint::ModelSource;
use crate::create::budget;
use crate::create::options::{Budget, CreateOptions, Localizer, Lossy, Method, Rescale};
use crate::create::prepared::Prepared;
use crate::error::{Error, Result};
use crate::method::learn::gradient::{Batch, Gradient};

use session::Session;

/// How [`learn`] learns. The defaults are meant for every model: gradients are measured in units of their own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnOptions {
    /// How often the gradient is asked for on the way from base to fine-tuned model, to learn what matters; 0 leaves the
    /// mask to |delta|. A mask is then chosen by a few more evaluations, all of one batch.
    pub path: u32,
    /// How often it is asked for after that, to learn the gains. It plays no part where the rule for the gain is given.
    pub steps: u32,
    /// Handed to the gradient with every batch, so that it can choose rows by it. Nothing else is random.
    pub seed: u64,
    /// How far the logarithm of a gain moves in the first step; later steps are smaller.
    pub rate: f64,
    /// How strongly gains are pulled back to where they began.
    pub lambda: f64,
}

impl Default for LearnOptions {
    fn default() -> Self {
        LearnOptions { path: 8, steps: 24, seed: 0, rate: 0.1, lambda: 0.1 }
    }
}

/// Most evaluations of a gradient: learning more from few rows learns them by heart.
const MOST_EVALUATIONS: u32 = 10_000;

impl LearnOptions {
    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::InvalidInput(what));
        let evaluations = self.path.saturating_add(self.steps);
        if evaluations == 0 || evaluations > MOST_EVALUATIONS {
            return bad(format!("{evaluations} evaluations of the gradient, must be 1 to {MOST_EVALUATIONS}"));
        }
        match [("rate", self.rate), ("lambda", self.lambda)].iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
            Some((what, x)) => bad(format!("{what} {x} is not a number from 0 on")),
            None => Ok(()),
        }
    }
}

/// Learns which positions to keep, and the gain of each tensor, and gives the options with which
/// [`create`](crate::create()) makes the pack, from the same checkpoints.
///
/// `options` say how large or dense the pack shall be and how it stores values, as they do without data. Where the exact pack
/// fits a budget there is nothing to learn, and the gradient is not asked. Memory: the parameters and the gradient in f32, and
/// 12 bytes for each element that is kept, besides what `create` takes.
///
/// # Errors
/// As [`create`](crate::create()); `InvalidInput` for an exact pack, density 1, or a localizer that is not `Magnitude`;
/// `Refused` for a loss or a gradient that is not finite; and whatever the gradient returns.
pub fn learn(
    base: &dyn ModelSource,
    fine_tuned: &dyn ModelSource,
    gradient: &mut dyn Gradient,
    options: &CreateOptions,
    how: &LearnOptions,
) -> Result<CreateOptions> {
    how.check()?;
    let given = rescale_given(&options.method)?;
    let prepared = Prepared::of(base, fine_tuned, options)?;
    let resolved = budget::resolve(&prepared, options)?;
    let Method::Lossy(lossy) = &resolved.method else { return Ok(resolved) };
    let steps = if given.is_some() { 0 } else { how.steps };
    let batch = |step| Batch { seed: how.seed, step, steps: how.path + 1 + steps };

    let like = Lossy { rescale: given.or(Some(Rescale::Balanced)), ..lossy.clone() };
    let mut session = Session::new(&prepared.pairs, like, &resolved, gradient)?;
    for step in 0..how.path {
        session.visit(batch(step), (f64::from(step) + 0.5) / f64::from(how.path))?;
    }
    let mut candidate = session.choose(batch(how.path), how.path > 0, given.is_none())?;
    for step in 0..steps {
        let left = 1.0 - f64::from(step) / f64::from(steps);
        session.calibrate(&mut candidate, batch(how.path + 1 + step), how.rate * left, how.lambda)?;
    }
    let localizer = Localizer::Learned(Arc::new(session.finish(candidate)?));
    let method = match &options.method {
        Method::Sized(budget) => {
            let lossy = Lossy { localizer, values: lossy.values, ..budget.lossy.clone() };
            Method::Sized(Budget { lossy, keep_values: true, ..budget.clone() })
        }
        Method::Lossy(lossy) => Method::Lossy(Lossy { localizer, ..lossy.clone() }),
        Method::Exact => Method::Exact,
    };
    Ok(CreateOptions { method, ..options.clone() })
}

/// The rule for the gain that the person chose, with which there is no gain to learn.
fn rescale_given(method: &Method) -> Result<Option<Rescale>> {
    let bad = |what: &str| Err(Error::InvalidInput(what.into()));
    match method {
        Method::Exact => bad("an exact pack keeps whatever changed, so that there is no mask to learn"),
        Method::Lossy(l) if l.density.is_all() => bad("density 1 keeps everything, so that there is no mask to learn"),
        Method::Lossy(l) | Method::Sized(Budget { lossy: l, .. }) => match l.localizer {
            Localizer::Magnitude => Ok(l.rescale),
            _ => bad("learning begins with the localizer magnitude; leave scores and masks away"),
        },
    }
}
