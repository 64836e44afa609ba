//! Journey one with data: base, fine-tuned model and a gradient → what [`create`](crate::create()) needs for a better pack.

use std::sync::Arc;

use crate::checkpoint::ModelSource;
use crate::create::gradient::{Batch, Gradient, Parameter};
use crate::create::learned::{Learned, LearnedTensor};
use crate::create::localize::Localized;
use crate::create::options::{CreateOptions, Localizer, Lossy, Method, Rescale, Scope};
use crate::create::pairs::{Pair, Pairs};
use crate::create::values::Quantizer;
use crate::create::{Budget, Prepared};
use crate::error::{Error, Escaped, Result};
use crate::method::density::Density;
use crate::method::localize::keys::numbers;
use crate::method::localize::learned::{Candidates, Group, Learner, Rates, Stored};
use crate::model::delta::{Groups, ValueKind};

/// How [`learn`] learns. The defaults are meant for every model: slopes are measured in units of their own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearnOptions {
    /// How often the gradient is asked for.
    pub evaluations: u32,
    /// Handed to the gradient with every batch, so that it can choose rows by it. Nothing else is random.
    pub seed: u64,
    /// How far the logarithm of a typical score moves in the first step; later steps are smaller.
    pub score_rate: f64,
    /// The same of the gain of a tensor. It plays no part where the rule for the gain is given.
    pub gain_rate: f64,
    /// How strongly scores are pulled back to |delta|, and gains to the rule `balanced`.
    pub lambda: f64,
    /// So many times the kept positions are candidates: those of largest |delta|.
    pub shortlist: u32,
}

impl Default for LearnOptions {
    fn default() -> Self {
        LearnOptions { evaluations: 40, seed: 0, score_rate: 0.1, gain_rate: 0.1, lambda: 0.1, shortlist: 4 }
    }
}

/// Most evaluations of a gradient: learning more from few rows learns them by heart.
const MOST_EVALUATIONS: u32 = 10_000;

impl LearnOptions {
    fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::InvalidInput(what));
        if self.evaluations == 0 || self.evaluations > MOST_EVALUATIONS {
            return bad(format!("{} evaluations of the gradient, must be 1 to {MOST_EVALUATIONS}", self.evaluations));
        }
        if self.shortlist == 0 {
            return bad("a shortlist of 0 times the kept positions has no candidates; use 1 or more".into());
        }
        let rates = [("score rate", self.score_rate), ("gain rate", self.gain_rate), ("lambda", self.lambda)];
        match rates.iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
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
/// 21 bytes a candidate.
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
    check_method(&options.method)?;
    let prepared = Prepared::of(base, fine_tuned, options)?;
    let resolved = prepared.resolve(options)?;
    let Method::Lossy(lossy) = &resolved.method else { return Ok(resolved) };
    let given = rescale_given(&options.method);
    let mut lesson = Lesson::of(&prepared.pairs, lossy, given, &resolved, how)?;
    for step in 0..how.evaluations {
        lesson.step(gradient, Batch { seed: how.seed, step, steps: how.evaluations })?;
    }
    let localizer = Localizer::Learned(Arc::new(lesson.finish()));
    let method = match &options.method {
        Method::Sized(budget) => {
            let lossy = Lossy { localizer, values: lossy.values, ..budget.lossy.clone() };
            Method::Sized(Budget { lossy, keep_values: true, ..budget.clone() })
        }
        _ => Method::Lossy(Lossy { localizer, ..lossy.clone() }),
    };
    Ok(CreateOptions { method, ..options.clone() })
}

fn check_method(method: &Method) -> Result<()> {
    let bad = |what: &str| Err(Error::InvalidInput(what.into()));
    match method {
        Method::Exact => bad("an exact pack keeps whatever changed, so that there is no mask to learn"),
        Method::Lossy(l) if l.density.is_all() => bad("density 1 keeps everything, so that there is no mask to learn"),
        Method::Lossy(l) | Method::Sized(Budget { lossy: l, .. }) => match l.localizer {
            Localizer::Magnitude => Ok(()),
            _ => bad("learning begins with the localizer magnitude; leave scores and masks away"),
        },
    }
}

/// The rule for the gain that the person chose: then there is no gain to learn.
fn rescale_given(method: &Method) -> Option<Rescale> {
    match method {
        Method::Exact => None,
        Method::Lossy(lossy) | Method::Sized(Budget { lossy, .. }) => lossy.rescale,
    }
}

/// The model that is evaluated, its gradient, and what was learned so far.
struct Lesson<'a> {
    pairs: Vec<&'a Pair>,
    values: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    learner: Learner<'a>,
}

impl<'a> Lesson<'a> {
    fn of(
        pairs: &'a Pairs,
        lossy: &Lossy,
        given: Option<Rescale>,
        options: &'a CreateOptions,
        how: &LearnOptions,
    ) -> Result<Self> {
        let own: Vec<&Pair> = pairs.floats().map(|(_, pair)| pair).collect();
        let values = own.iter().map(|pair| base_values(pairs, pair)).collect::<Result<Vec<_>>>()?;
        let candidates = shortlist(pairs, lossy, options, how.shortlist, &values)?;
        let rates = Rates {
            evaluations: how.evaluations,
            scores: how.score_rate,
            gains: if given.is_some() { 0.0 } else { how.gain_rate },
            lambda: how.lambda,
        };
        let groups = groups(&own, lossy);
        let gain = dataless_gain(pairs, lossy, given, options)?;
        let gradients = values.iter().map(|v| vec![0.0; v.len()]).collect();
        let learner = Learner::new(candidates, groups, gain, rates, &options.workers)?;
        options.workers.progress().stage("learning", 0);
        Ok(Lesson { pairs: own, values, gradients, learner })
    }

    fn step(&mut self, gradient: &mut dyn Gradient, batch: Batch) -> Result<()> {
        self.learner.place(&mut self.values);
        let mut parameters = Vec::with_capacity(self.pairs.len());
        for ((pair, values), slopes) in self.pairs.iter().zip(&self.values).zip(&mut self.gradients) {
            slopes.fill(0.0);
            parameters.push(Parameter::new(&pair.info.name, &pair.info.shape, values, slopes));
        }
        let loss = gradient.evaluate(batch, &mut parameters)?;
        let at = batch.step + 1;
        if !loss.is_finite() {
            return Err(Error::Refused(format!("the loss of evaluation {at} is {loss}, must be finite")));
        }
        for (pair, slopes) in self.pairs.iter().zip(&self.gradients) {
            if let Some(x) = slopes.iter().find(|x| !x.is_finite()) {
                let name = Escaped(&pair.info.name);
                return Err(Error::Refused(format!(
                    "the gradient of tensor \"{name}\" has {x} in evaluation {at}, must be finite"
                )));
            }
        }
        self.learner.step(&self.gradients)
    }

    fn finish(self) -> Learned {
        let Lesson { pairs, values, learner, .. } = self;
        let tensors = pairs.iter().zip(values).zip(learner.finish()).map(|((pair, values), (candidates, gain))| {
            let (positions, factors) = candidates.into_factors();
            (pair.info.name.clone(), LearnedTensor { elements: values.len() as u64, positions, factors, gain })
        });
        Learned { tensors: tensors.collect() }
    }
}

/// The base's elements of a tensor.
fn base_values(pairs: &Pairs, pair: &Pair) -> Result<Vec<f32>> {
    let (mut out, mut block) = (Vec::with_capacity(pair.info.elements() as usize), Vec::new());
    for (start, len) in super::cut(pair.info.units()) {
        numbers(pair.info.dtype, &pairs.base_units(pair, start, len)?, &mut block);
        out.extend(block.iter().map(|x| *x as f32));
    }
    Ok(out)
}

/// The elements of largest |delta|, several times as many as will be kept.
fn shortlist(
    pairs: &Pairs,
    lossy: &Lossy,
    options: &CreateOptions,
    times: u32,
    values: &[Vec<f32>],
) -> Result<Vec<Candidates>> {
    let n = pairs.candidates().max(1);
    // Density 1 would take what did not change, too.
    let most = lossy.density.of(n).saturating_mul(times.into()).min(n - 1);
    let wide = Lossy { density: Density::new(most, n)?, ..lossy.clone() };
    let options = CreateOptions { method: Method::Lossy(wide), ..options.clone() };
    let localized = Localized::of(pairs, &options)?;
    let mut out = Vec::with_capacity(values.len());
    for ((number, pair), values) in pairs.floats().zip(values) {
        let stored = match (lossy.values, lossy.groups) {
            (ValueKind::Sign, Groups::Row) => Stored::Sign { run: pair.info.row_len() },
            (ValueKind::Sign, Groups::Tensor) => Stored::Sign { run: u64::MAX },
            _ => Stored::Whole,
        };
        let mut own = Candidates::new(pair.info.dtype, stored);
        for i in localized.blocks_of_pair(number) {
            let start = localized.blocks.get(i).map_or(0, |b| b.start);
            let kept = localized.kept(pairs, i)?;
            for (position, delta) in kept.positions.iter().zip(&kept.deltas) {
                let position = start + u64::from(*position);
                own.push(position, values.get(position as usize).copied().unwrap_or(0.0), *delta as f32);
            }
        }
        out.push(own);
    }
    Ok(out)
}

/// Which tensors share a top-k, and k. [LOC-1]
fn groups(pairs: &[&Pair], lossy: &Lossy) -> Vec<Group> {
    let elements = |range: std::ops::Range<usize>| -> u64 {
        pairs.get(range).unwrap_or_default().iter().map(|p| p.info.elements()).sum()
    };
    match lossy.scope {
        Scope::Global => vec![(0..pairs.len(), lossy.density.of(elements(0..pairs.len())))],
        Scope::Tensor => (0..pairs.len()).map(|i| (i..i + 1, lossy.density.of(elements(i..i + 1)))).collect(),
    }
}

/// The gain that the pack would have without data; `balanced` where no rule is given.
fn dataless_gain(pairs: &Pairs, lossy: &Lossy, given: Option<Rescale>, options: &CreateOptions) -> Result<f64> {
    let lossy = Lossy { rescale: given.or(Some(Rescale::Balanced)), ..lossy.clone() };
    let options = CreateOptions { method: Method::Lossy(lossy), ..options.clone() };
    let localized = Localized::of(pairs, &options)?;
    Ok(Quantizer::fit(pairs, &localized, &options)?.gain.into())
}
