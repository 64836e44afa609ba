//! Gains of several packs calibrated together, through the public API: the merge that a gradient asks for is found, what is
//! evaluated is what a receiver gets, and a caller's mistakes are errors that change nothing. [CAL-1] [CAL-2] [CAL-3] [REC-2]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::Random;
use common::models::{Model, Tensor};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::create::{CreateOptions, Lossy, Method, Rescale};
use stitchpack::method::learn::gradient::{Batch, Parameter};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::{
    ApplyOptions, CalibrateOptions, Error, MergeOptions, PackGain, Result, StitchedModel, VerifiedPack, calibrate,
};

const NAMES: [&str; 2] = ["a.weight", "b.weight"];
const SHAPE: [u64; 2] = [30, 40];
const LEN: usize = 1200;

/// Two packs that overlap in part.
fn site(kind: ValueKind) -> Site {
    let mut random = Random(3);
    let mut numbers = |size: f32| -> Vec<Vec<f32>> {
        let mut number = || (random.below(2001) as f32 / 1000.0 - 1.0) * size;
        NAMES.iter().map(|_| (0..LEN).map(|_| number()).collect()).collect()
    };
    let model = |values: &[Vec<f32>]| {
        Model::new(NAMES.iter().zip(values).map(|(name, v)| Tensor::f32s(name, &SHAPE, v)).collect())
    };
    let base = numbers(1.0);
    let site = Site::new(&model(&base));
    for name in ["p", "q"] {
        let delta = numbers(0.05);
        let tuned: Vec<Vec<f32>> =
            base.iter().zip(&delta).map(|(b, d)| b.iter().zip(d).map(|(b, d)| b + d).collect()).collect();
        let method = match sparse("40%", kind) {
            Method::Lossy(lossy) => Method::Lossy(Lossy { rescale: Some(Rescale::Factor(3.0)), ..lossy }),
            other => other,
        };
        site.create(name, &model(&tuned), &options(method)).unwrap();
    }
    site
}

fn model<'a>(site: &'a Site, rule: OverlapRule) -> StitchedModel<'a> {
    StitchedModel::new(&site.base, site.layers(&[("p", 1.0), ("q", 0.5)]), &merge(rule, 0.8)).unwrap()
}

fn elements(model: &StitchedModel, name: &str) -> Vec<f32> {
    let bytes = model.bytes(name).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Half the squared distance from a model, over the rows that the batch chooses: all of them, or a random half.
struct Goal {
    values: Vec<Vec<f32>>,
    half: bool,
}

impl Goal {
    fn of(model: &StitchedModel) -> Self {
        Goal { values: NAMES.iter().map(|name| elements(model, name)).collect(), half: false }
    }

    fn evaluate(&self, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64> {
        assert_eq!(parameters.iter().map(|p| p.name().to_string()).collect::<Vec<_>>(), NAMES);
        let mut random = Random(batch.seed << 32 | u64::from(batch.step));
        let mut loss = 0.0;
        for (parameter, goal) in parameters.iter_mut().zip(&self.values) {
            assert_eq!(parameter.shape(), SHAPE);
            assert!(parameter.gradient_mut().iter().all(|g| *g == 0.0), "a gradient begins with 0");
            let values = parameter.values().to_vec();
            for (i, (value, goal)) in values.iter().zip(goal).enumerate() {
                if !self.half || random.once_in(2) {
                    parameter.gradient_mut()[i] = value - goal;
                    loss += f64::from(value - goal).powi(2) / 2.0;
                }
            }
        }
        Ok(loss)
    }
}

fn how(steps: u32) -> CalibrateOptions {
    CalibrateOptions { steps, lambda: 0.0, workers: workers(2), ..CalibrateOptions::default() }
}

fn gain(all: f32, tensors: &[f32]) -> PackGain {
    PackGain { gain: all, tensors: NAMES.iter().map(|n| n.to_string()).zip(tensors.iter().copied()).collect() }
}

#[test]
fn the_gains_that_made_a_model_are_found_again() {
    let wanted = [gain(3.0, &[1.5, 2.0]), gain(3.0, &[4.0, 2.5])];
    for kind in [ValueKind::Sign, ValueKind::Int8] {
        let site = site(kind);
        for rule in OverlapRule::ALL.iter().copied().filter(|rule| *rule != OverlapRule::Refuse) {
            let mut model = model(&site, rule);
            model.set_gains(wanted.to_vec()).unwrap();
            let goal = Goal::of(&model);
            model.set_gains(vec![3.0.into(), 3.0.into()]).unwrap();
            let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| goal.evaluate(batch, parameters);
            calibrate(&mut model, &mut gradient, &how(150)).unwrap();
            for (found, wanted) in model.gains().iter().zip(&wanted) {
                assert_eq!(found.gain, 3.0, "what no tensor has is left");
                for name in NAMES {
                    let ratio = found.of(name) / wanted.of(name);
                    assert!((ratio - 1.0).abs() < 0.05, "{rule}, {kind}: {found:?}, not {wanted:?}");
                }
            }
        }
    }
}

#[test]
fn what_is_evaluated_is_what_a_receiver_gets() {
    let site = site(ValueKind::Sign);
    let mut model = model(&site, OverlapRule::Average);
    let before: Vec<Vec<f32>> = NAMES.iter().map(|name| elements(&model, name)).collect();
    let mut seen = Vec::new();
    let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| {
        assert_eq!((batch.seed, batch.step, batch.steps), (7, seen.len() as u32, 2));
        seen.push(parameters.iter().map(|p| p.values().to_vec()).collect::<Vec<_>>());
        parameters.iter_mut().for_each(|p| p.gradient_mut().fill(1.0));
        Ok(0.0)
    };
    let still = CalibrateOptions { seed: 7, ..how(2) };
    calibrate(&mut model, &mut gradient, &still).unwrap();
    assert!(seen[0] == before && seen[1] != before);
}

#[test]
fn a_seed_gives_the_same_gains_with_any_number_of_threads() {
    let site = site(ValueKind::Sign);
    let goal =
        Goal { half: true, ..Goal::of(&StitchedModel::new(&site.base, Vec::new(), &MergeOptions::default()).unwrap()) };
    let gains = |seed: u64, threads: usize| {
        let mut model = model(&site, OverlapRule::Elect);
        let how = CalibrateOptions { seed, workers: workers(threads), ..how(5) };
        let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| goal.evaluate(batch, parameters);
        calibrate(&mut model, &mut gradient, &how).unwrap();
        model.gains().to_vec()
    };
    let first = gains(1, 1);
    assert!(first == gains(1, 1) && first == gains(1, 2) && first == gains(1, 5));
    assert!(first != gains(2, 1), "another seed chooses other rows");
}

#[test]
fn a_recipe_carries_the_gains_of_tensors() {
    let site = site(ValueKind::Sign);
    let mut model = model(&site, OverlapRule::Average);
    let plain = stitchpack::lock(&model, &site.identity, &ApplyOptions::default()).unwrap().recipe;
    let wanted = vec![gain(3.0, &[1.5, 2.0]), PackGain { gain: 2.0, tensors: [("b.weight".into(), 0.25)].into() }];
    model.set_gains(wanted.clone()).unwrap();
    let recipe = stitchpack::lock(&model, &site.identity, &ApplyOptions::default()).unwrap().recipe;
    assert_eq!((plain.stitch_recipe, recipe.stitch_recipe), (1, 2), "a recipe has the oldest version that can say it");
    assert_ne!(plain.result, recipe.result);
    assert_eq!(recipe.packs[1].tensor_gains, wanted[1].tensors);
    let read = stitchpack::merge::recipe::Recipe::parse(&recipe.to_json().unwrap()).unwrap();
    assert_eq!(read, recipe);
    // The same elements as from gains of the whole pack, tensor by tensor.
    for (name, p, q) in [("a.weight", 1.5, 2.0), ("b.weight", 2.0, 0.25)] {
        let mut whole = self::model(&site, OverlapRule::Average);
        whole.set_gains(vec![p.into(), q.into()]).unwrap();
        assert_eq!(elements(&whole, name), elements(&model, name));
    }
}

#[test]
fn tied_tensors_stay_tied_and_are_asked_about_once() {
    let values =
        |shift: f32| (0..LEN).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0 + shift * (i % 7) as f32).collect();
    let tied = |shift: f32| {
        let values: Vec<f32> = values(shift);
        Model::new(vec![Tensor::f32s("embed", &SHAPE, &values), Tensor::f32s("head", &SHAPE, &values)])
    };
    let site = Site::new(&tied(0.0));
    site.create("p", &tied(0.01), &options(sparse("40%", ValueKind::Sign))).unwrap();
    let mut model = StitchedModel::new(&site.base, site.layers(&[("p", 1.0)]), &MergeOptions::default()).unwrap();
    let before = elements(&model, "head");
    let mut gradient = |_: Batch, parameters: &mut [Parameter<'_>]| {
        assert_eq!(parameters.iter().map(|p| p.name()).collect::<Vec<_>>(), ["embed"]);
        parameters[0].gradient_mut().fill(1.0);
        Ok(0.0)
    };
    calibrate(&mut model, &mut gradient, &how(3)).unwrap();
    assert_eq!(model.gains()[0].tensors.keys().collect::<Vec<_>>(), ["embed"]);
    assert_ne!(elements(&model, "head"), before);
    assert_eq!(elements(&model, "head"), elements(&model, "embed"));
}

#[test]
fn packs_of_a_chain_keep_the_gains_that_later_ones_were_made_for() {
    let site = site(ValueKind::Sign);
    let below = StitchedModel::new(&site.base, site.layers(&[("p", 1.0)]), &MergeOptions::default()).unwrap();
    let tuned = Model::new(NAMES.iter().map(|name| Tensor::f32s(name, &SHAPE, &[0.125; LEN])).collect());
    let tuned = site.checkpoint("next", &tuned);
    stitchpack::create(&below, &tuned, &site.pack_path("next"), &options(sparse("30%", ValueKind::Sign))).unwrap();
    let open = |name: &str| VerifiedPack::open_all(&[&site.pack_path(name)], &workers(1)).unwrap().remove(0);
    let chain = |gains: Option<Vec<PackGain>>| {
        let options = MergeOptions { gains, ..MergeOptions::default() };
        let packs = [("next", 1.0), ("p", 1.0)].map(|(name, weight)| (open(name), weight)).into();
        StitchedModel::chain(&site.base, &site.identity, packs, &options, &workers(1))
    };
    let mut model = chain(None).unwrap();
    let goal = Goal::of(&below);
    let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| goal.evaluate(batch, parameters);
    calibrate(&mut model, &mut gradient, &how(5)).unwrap();
    assert!(model.gains()[0].tensors.values().all(|g| *g < model.gains()[0].gain), "the goal is to do nothing");
    assert_eq!(model.below().unwrap().gains(), below.gains());
    // What a recipe has, named in any order, is the same model.
    let again = chain(Some(vec![model.gains()[0].clone(), below.gains()[0].clone()])).unwrap();
    NAMES.iter().for_each(|name| assert_eq!(elements(&again, name), elements(&model, name)));
}

#[test]
fn a_failure_leaves_the_gains_as_they_were() {
    let site = site(ValueKind::Sign);
    let goal = Goal::of(&model(&site, OverlapRule::Sum));
    type Wrong = fn(&mut [Parameter<'_>]) -> Result<f64>;
    let cases: [(Wrong, &str); 3] = [
        (|_| Ok(f64::NAN), "loss of batch 2 is NaN"),
        (
            |p| {
                p[1].gradient_mut()[5] = f32::INFINITY;
                Ok(1.0)
            },
            "gradient of tensor \"b.weight\" has inf in batch 2",
        ),
        (|_| Err(Error::InvalidInput("out of memory on the device".into())), "out of memory on the device"),
    ];
    for (wrong, says) in cases {
        let mut model = model(&site, OverlapRule::Average);
        let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| {
            if batch.step == 2 { wrong(parameters) } else { goal.evaluate(batch, parameters) }
        };
        let error = calibrate(&mut model, &mut gradient, &how(4)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(model.gains(), [3.0.into(), 3.0.into()]);
    }
}

#[test]
fn what_cannot_be_calibrated_is_refused_before_the_gradient_is_asked() {
    let site = site(ValueKind::Sign);
    let refused = |model: &mut StitchedModel, how: CalibrateOptions, says: &str| {
        let mut gradient = |_: Batch, _: &mut [Parameter<'_>]| -> Result<f64> { panic!("asked in vain: {says}") };
        let error = calibrate(model, &mut gradient, &how).unwrap_err();
        assert!(matches!(error, Error::InvalidInput(_)) && error.to_string().contains(says), "{error}");
    };
    let mut usual = model(&site, OverlapRule::Average);
    refused(&mut usual, how(0), "0 evaluations");
    refused(&mut usual, CalibrateOptions { rate: f64::NAN, ..how(1) }, "rate NaN");
    refused(&mut usual, CalibrateOptions { lambda: -1.0, ..how(1) }, "lambda -1");
    let nothing =
        |packs: &[(&str, f32)]| StitchedModel::new(&site.base, site.layers(packs), &MergeOptions::default()).unwrap();
    refused(&mut nothing(&[]), how(1), "nothing to calibrate");
    refused(&mut nothing(&[("p", 0.0)]), how(1), "nothing to calibrate");
    let tuned = Model::new(NAMES.iter().map(|name| Tensor::f32s(name, &SHAPE, &[0.5; LEN])).collect());
    site.create("exact", &tuned, &CreateOptions { force: true, ..options(Method::Exact) }).unwrap();
    refused(&mut nothing(&[("exact", 1.0)]), how(1), "nothing to calibrate");
}

#[test]
fn gains_that_are_none_are_refused() {
    let site = site(ValueKind::Sign);
    let mut model = model(&site, OverlapRule::Average);
    let one = |name: &str, gain: f32| PackGain { gain: 1.0, tensors: BTreeMap::from([(name.into(), gain)]) };
    for (gains, says) in [
        (vec![1.0.into()], "1 gains for 2 packs"),
        (vec![1.0.into(), 0.0.into()], "a gain is 0"),
        (vec![1.0.into(), one("a.weight", f32::NAN)], "a gain is NaN"),
        (vec![one("a.weight", -1.0), 1.0.into()], "a gain is -1"),
        (vec![one("c.weight", 1.0), 1.0.into()], "tensor \"c.weight\""),
    ] {
        let error = model.set_gains(gains.clone()).unwrap_err();
        assert!(matches!(error, Error::InvalidInput(_)) && error.to_string().contains(says), "{error}");
        let options = MergeOptions { gains: Some(gains), ..MergeOptions::default() };
        let error = StitchedModel::new(&site.base, site.layers(&[("p", 1.0), ("q", 0.5)]), &options).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(model.gains(), [3.0.into(), 3.0.into()]);
    }
}
