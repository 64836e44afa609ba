//! Learned masks and gains through the public API: what is promised of every pack holds, a caller's mistakes are errors, and
//! a loss says what magnitude cannot know. [LRN-1] [LRN-2] [LRN-3] [LRN-4] [LRN-5] [GAI-3]
#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use common::models::{Model, Tensor};
use common::site::{Site, kept, merge, options, workers};
use stitchpack::create::{
    Batch, Budget, CreateOptions, LearnOptions, Localizer, Lossy, Method, Parameter, Rescale, Scope, Size, create_dry,
    learn,
};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::{Groups, ValueKind};
use stitchpack::{Checkpoint, Created, Error, Result, StitchedModel};

const NAMES: [&str; 2] = ["a.weight", "b.weight"];
const LEN: usize = 1200;

/// Every second column matters to the loss, and the others moved twice as far.
struct Planted {
    base: Vec<Vec<f32>>,
    tuned: Vec<Vec<f32>>,
    matters: Vec<Vec<bool>>,
}

impl Planted {
    fn new() -> Self {
        let mut random = Random(7);
        let mut this = Planted { base: Vec::new(), tuned: Vec::new(), matters: Vec::new() };
        for _ in NAMES {
            let base: Vec<f32> = (0..LEN).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).collect();
            let matters: Vec<bool> = (0..LEN).map(|i| i % 2 == 0).collect();
            let delta = |matters: &bool, random: &mut Random| {
                let size = (1.0 + random.below(1000) as f32 / 1000.0) * if *matters { 0.01 } else { 0.02 };
                if random.once_in(2) { size } else { -size }
            };
            let tuned = base.iter().zip(&matters).map(|(x, m)| x + delta(m, &mut random)).collect();
            this.base.push(base);
            this.tuned.push(tuned);
            this.matters.push(matters);
        }
        this
    }

    fn model(values: &[Vec<f32>]) -> Model {
        Model::new(NAMES.iter().zip(values).map(|(name, v)| Tensor::f32s(name, &[30, 40], v)).collect())
    }

    fn site(&self) -> (Site, Checkpoint) {
        let site = Site::new(&Self::model(&self.base));
        let tuned = site.checkpoint("tuned", &Self::model(&self.tuned));
        (site, tuned)
    }

    /// Half the squared distance from the fine-tuned model, where it matters.
    fn loss(&self, values: &[&[f32]]) -> f64 {
        let mut sum = 0.0;
        for ((values, tuned), matters) in values.iter().zip(&self.tuned).zip(&self.matters) {
            for i in (0..LEN).filter(|i| matters[*i]) {
                sum += f64::from(values[i] - tuned[i]).powi(2) / 2.0;
            }
        }
        sum
    }

    /// Loss and gradient over a random half of the elements, which the batch chooses.
    fn evaluate(&self, batch: Batch, parameters: &mut [Parameter<'_>]) -> Result<f64> {
        assert_eq!(parameters.iter().map(|p| p.name().to_string()).collect::<Vec<_>>(), NAMES);
        let mut random = Random(batch.seed << 32 | u64::from(batch.step));
        for (t, parameter) in parameters.iter_mut().enumerate() {
            assert_eq!(parameter.shape(), [30, 40]);
            assert!(parameter.gradient_mut().iter().all(|g| *g == 0.0), "a gradient begins with 0");
            let values = parameter.values().to_vec();
            for i in (0..LEN).filter(|i| self.matters[t][*i]) {
                if random.once_in(2) {
                    parameter.gradient_mut()[i] = values[i] - self.tuned[t][i];
                }
            }
        }
        Ok(self.loss(&parameters.iter().map(Parameter::values).collect::<Vec<_>>()))
    }
}

fn lossy(density: &str) -> Lossy {
    Lossy { density: density.parse().unwrap(), ..Lossy::default() }
}

fn how(seed: u64) -> LearnOptions {
    LearnOptions { seed, ..LearnOptions::default() }
}

/// Learns on the planted case and makes `NAME.stitch`.
fn make(planted: &Planted, site: &Site, tuned: &Checkpoint, name: &str, options: &CreateOptions) -> Created {
    let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| planted.evaluate(batch, parameters);
    let learned = learn(&site.base, tuned, &mut gradient, options, &how(1)).unwrap();
    stitchpack::create(&site.base, tuned, &site.pack_path(name), &learned).unwrap()
}

/// The elements of the model that a pack makes of the base.
fn stitched(site: &Site, name: &str) -> Vec<Vec<f32>> {
    let layers = site.layers(&[(name, 1.0)]);
    let model = StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0)).unwrap();
    let floats = |bytes: Vec<u8>| bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    NAMES.iter().map(|tensor| floats(model.bytes(tensor).unwrap().to_vec())).collect()
}

fn loss(planted: &Planted, site: &Site, name: &str) -> f64 {
    planted.loss(&stitched(site, name).iter().map(Vec::as_slice).collect::<Vec<_>>())
}

#[test]
fn magnitude_is_misled_and_a_loss_is_not() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    for rescale in [None, Some(Rescale::None)] {
        let how = options(Method::Lossy(Lossy { rescale, ..lossy("20%") }));
        stitchpack::create(
            &site.base,
            &tuned,
            &site.pack_path("magnitude"),
            &CreateOptions { force: true, ..how.clone() },
        )
        .unwrap();
        make(&planted, &site, &tuned, "learned", &CreateOptions { force: true, ..how });
        let (dataless, learned) = (loss(&planted, &site, "magnitude"), loss(&planted, &site, "learned"));
        assert!(learned < 0.8 * dataless, "{rescale:?}: {learned} against {dataless}");
        let pack = site.bind("learned").unwrap();
        let (mut right, mut all) = (0, 0);
        for (delta, matters) in pack.deltas().zip(&planted.matters) {
            let positions = kept(&delta, &site.base);
            right += positions.keys().filter(|p| matters[**p]).count();
            all += positions.len();
        }
        assert!(right * 10 >= all * 9, "{rescale:?}: {right} of {all} kept positions matter");
    }
}

#[test]
fn exactly_k_are_kept_and_the_pack_says_that_they_were_learned() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    for (density, scope, k) in [
        ("20%", Scope::Global, 480),
        ("0.05", Scope::Tensor, 120),
        ("0.0005", Scope::Global, 1),
        ("99.9%", Scope::Global, 2397),
    ] {
        for (values, groups) in
            [(ValueKind::Sign, Groups::Tensor), (ValueKind::Sign, Groups::Row), (ValueKind::Bf16, Groups::Tensor)]
        {
            let method = Method::Lossy(Lossy { scope, values, groups, ..lossy(density) });
            let created = make(&planted, &site, &tuned, "k", &CreateOptions { force: true, ..options(method) });
            assert_eq!(created.kept, k, "{density} {scope:?} {values}");
            let pack = site.bind("k").unwrap();
            let origin = &pack.manifest().origin;
            assert_eq!((origin.localizer.as_str(), origin.rescale.as_str()), ("learned", "learned"));
        }
    }
    // So few that none is kept.
    let none = make(&planted, &site, &tuned, "none", &options(Method::Lossy(lossy("0.0001"))));
    assert_eq!((none.kept, none.touched), (0, 0));
}

#[test]
fn the_first_model_that_is_evaluated_is_the_dataless_one() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    for (values, groups) in
        [(ValueKind::Sign, Groups::Tensor), (ValueKind::Sign, Groups::Row), (ValueKind::F32, Groups::Tensor)]
    {
        let like = Lossy { values, groups, ..lossy("10%") };
        let mut seen: Vec<Vec<f32>> = Vec::new();
        let mut gradient = |_: Batch, parameters: &mut [Parameter<'_>]| {
            if seen.is_empty() {
                seen = parameters.iter().map(|p| p.values().to_vec()).collect();
            }
            Ok(0.0)
        };
        // Nothing on the way, so that the first model evaluated is a pack's.
        let one = LearnOptions { path: 0, steps: 1, ..how(0) };
        learn(&site.base, &tuned, &mut gradient, &options(Method::Lossy(like.clone())), &one).unwrap();
        let balanced = Method::Lossy(Lossy { rescale: Some(Rescale::Balanced), ..like });
        let path = site.pack_path("balanced");
        stitchpack::create(&site.base, &tuned, &path, &CreateOptions { force: true, ..options(balanced) }).unwrap();
        for (seen, expected) in seen.iter().flatten().zip(stitched(&site, "balanced").iter().flatten()) {
            assert!((seen - expected).abs() < 1e-6, "{values} {groups:?}: {seen} {expected}");
        }
    }
}

#[test]
fn a_seed_makes_the_same_pack_with_any_number_of_threads() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    let pack = |seed: u64, threads: usize| {
        let options = CreateOptions { workers: workers(threads), force: true, ..options(Method::Lossy(lossy("10%"))) };
        let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| planted.evaluate(batch, parameters);
        let learned = learn(&site.base, &tuned, &mut gradient, &options, &how(seed)).unwrap();
        stitchpack::create(&site.base, &tuned, &site.pack_path("seed"), &learned).unwrap();
        site.pack_bytes("seed")
    };
    let first = pack(1, 1);
    assert!(first == pack(1, 1) && first == pack(1, 2) && first == pack(1, 5));
    assert!(first != pack(2, 1), "another seed chooses other rows");
}

#[test]
fn a_wrong_gradient_is_an_error_that_says_what_is_wrong() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    type Wrong = fn(&mut [Parameter<'_>]) -> Result<f64>;
    let cases: [(Wrong, &str); 6] = [
        (|_| Ok(f64::NAN), "loss of batch 2 is NaN"),
        (|_| Ok(f64::INFINITY), "loss of batch 2 is inf"),
        (
            |p| {
                p[1].gradient_mut()[5] = f32::NAN;
                Ok(1.0)
            },
            "gradient of tensor \"b.weight\" has NaN in batch 2",
        ),
        (|p| p[0].set_gradient(&[0.0; LEN - 1]).map(|()| 1.0), "\"a.weight\" has 1199 numbers, must have 1200"),
        (|p| p[0].set_gradient(&[]).map(|()| 1.0), "has 0 numbers"),
        (|_| Err(Error::InvalidInput("out of memory on the device".into())), "out of memory on the device"),
    ];
    for (wrong, says) in cases {
        let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| {
            if batch.step == 2 { wrong(parameters) } else { planted.evaluate(batch, parameters) }
        };
        let options = options(Method::Lossy(lossy("10%")));
        let error = learn(&site.base, &tuned, &mut gradient, &options, &how(0)).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn what_cannot_be_learned_is_refused_before_the_gradient_is_asked() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    let mask = site.checkpoint("mask", &Planted::model(&planted.base));
    let refused = |method: Method, how: LearnOptions, says: &str| {
        let mut gradient = |_: Batch, _: &mut [Parameter<'_>]| -> Result<f64> { panic!("asked in vain: {says}") };
        let error = learn(&site.base, &tuned, &mut gradient, &options(method), &how).unwrap_err();
        assert!(matches!(error, Error::InvalidInput(_)) && error.to_string().contains(says), "{error}");
    };
    refused(Method::Exact, how(0), "exact");
    refused(Method::Lossy(lossy("1")), how(0), "density 1");
    let scores = Lossy { localizer: Localizer::Scores(mask.into()), ..lossy("10%") };
    refused(Method::Lossy(scores), how(0), "localizer magnitude");
    let usual = || Method::Lossy(lossy("10%"));
    refused(usual(), LearnOptions { path: 0, steps: 0, ..how(0) }, "0 evaluations");
    refused(usual(), LearnOptions { rate: f64::NAN, ..how(0) }, "rate NaN");
    refused(usual(), LearnOptions { lambda: -1.0, ..how(0) }, "lambda -1");
    let learned_gain = Method::Lossy(Lossy { rescale: Some(Rescale::Learned), ..lossy("10%") });
    let error = create_dry(&site.base, &tuned, &options(learned_gain)).unwrap_err();
    assert!(error.to_string().contains("learned gain"), "{error}");
}

#[test]
fn a_budget_holds_for_what_was_learned() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    let sized = |bytes| Method::Sized(Budget { size: Size::Bytes(bytes), ..Budget::default() });
    let created = make(&planted, &site, &tuned, "sized", &options(sized(1400)));
    assert!(created.pack_bytes <= 1400 && created.kept > 300, "{created:?}");
    assert_eq!(site.bind("sized").unwrap().manifest().origin.localizer, "learned");
    // The exact pack fits, so that the gradient is not asked.
    let mut gradient = |_: Batch, _: &mut [Parameter<'_>]| -> Result<f64> { panic!("asked in vain") };
    let large = learn(&site.base, &tuned, &mut gradient, &options(sized(1_000_000)), &how(0)).unwrap();
    assert!(matches!(large.method, Method::Exact));
}

#[test]
fn what_was_learned_belongs_to_its_checkpoints() {
    let planted = Planted::new();
    let (site, tuned) = planted.site();
    let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| planted.evaluate(batch, parameters);
    let exclude = vec!["b.*".to_string()];
    let part = CreateOptions { exclude, ..options(Method::Lossy(lossy("10%"))) };
    let mut one = |batch: Batch, parameters: &mut [Parameter<'_>]| {
        assert_eq!(parameters.len(), 1);
        assert_eq!(batch.steps, 33);
        Ok(0.0)
    };
    let learned = learn(&site.base, &tuned, &mut one, &part, &how(0)).unwrap();
    let whole = CreateOptions { exclude: Vec::new(), ..learned };
    let error = create_dry(&site.base, &tuned, &whole).unwrap_err();
    assert!(error.to_string().contains("nothing was learned about tensor \"b.weight\""), "{error}");
    let learned = learn(&site.base, &tuned, &mut gradient, &options(Method::Lossy(lossy("10%"))), &how(0)).unwrap();
    let Method::Lossy(with) = learned.method else { panic!() };
    // A rule for the gain may still be chosen; what was learned of gains is left out then.
    let plain = options(Method::Lossy(Lossy { rescale: Some(Rescale::None), ..with }));
    assert_eq!(create_dry(&site.base, &tuned, &plain).unwrap().gain, 1.0);
}
