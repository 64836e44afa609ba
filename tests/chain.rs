//! Packs on the results of packs. The judge is the long way round: every link written to a file and opened again. [STI-10]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::Random;
use common::case::{random_base, random_tuned};
use common::lying_packs::f32_tensor;
use common::models::{Change, Fill, Model, Tensor};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{ApplyOptions, Checkpoint, MergeOptions, OpenedPack, Result, StitchedModel, VerifiedPack};

fn verified(site: &Site, packs: &[(&str, f32)]) -> Vec<(VerifiedPack, f32)> {
    let open = |name: &str| OpenedPack::open(site.pack_path(name)).unwrap().verify().unwrap();
    packs.iter().map(|(name, weight)| (open(name), *weight)).collect()
}

fn chain<'a>(site: &'a Site, packs: &[(&str, f32)]) -> Result<StitchedModel<'a>> {
    let options = MergeOptions { overlap: Some(OverlapRule::Average), ..MergeOptions::default() };
    StitchedModel::chain(&site.base, &site.identity, verified(site, packs), &options, &workers(2))
}

fn written(site: &Site, model: &StitchedModel, name: &str) -> Checkpoint {
    let out = site.path(&format!("{name}.safetensors"));
    stitchpack::apply(model, &site.identity, &out, &ApplyOptions { force: true, ..Default::default() }).unwrap();
    Checkpoint::open(out).unwrap()
}

fn exact() -> CreateOptions {
    CreateOptions { force: true, ..options(Method::Exact) }
}

#[test]
fn a_chain_differs_from_its_links_made_one_by_one() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let base = random_base(4, false, Fill::Ordinary, &mut random);
        let first = random_tuned(&base, Change::Some, &mut random);
        let second = random_tuned(&first, if seed % 2 == 0 { Change::Some } else { Change::Most }, &mut random);
        if first == base {
            continue;
        }
        let site = Site::new(&base);
        site.create("a", &first, &exact()).unwrap();
        let below = chain(&site, &[("a", 1.0)]).unwrap();
        let middle = written(&site, &below, "middle");
        let (tuned, how) = (site.checkpoint("second", &second), exact());
        stitchpack::create(&below, &tuned, &site.pack_path("b"), &how).unwrap();
        stitchpack::create(&middle, &tuned, &site.pack_path("judge"), &how).unwrap();
        assert!(site.pack_bytes("b") == site.pack_bytes("judge"), "seed {seed}: the pack");
        // In any order of naming.
        let model = chain(&site, &[("b", 1.0), ("a", 1.0)]).unwrap();
        written(&site, &model, "out");
        let (found, expected) = (fs::read(site.path("out.safetensors")), fs::read(site.path("second.safetensors")));
        assert_eq!(Model::read(&found.unwrap()), Model::read(&expected.unwrap()), "seed {seed}: the model");
        // Folded it is the pack that would have been made at once.
        let base = Checkpoint::open(&site.base_path).unwrap();
        stitchpack::create(&base, &model, &site.pack_path("fold"), &how).unwrap();
        stitchpack::create(&base, &tuned, &site.pack_path("at-once"), &how).unwrap();
        assert!(site.pack_bytes("fold") == site.pack_bytes("at-once"), "seed {seed}: the folded pack");
    }
}

/// Three links of which the second is a merge, large enough for several blocks, coded by what the model below has.
#[test]
fn links_of_many_blocks_differ_from_files() {
    let n = 600_000;
    let wave = |by: f64, every: u64| {
        let units: Vec<u64> = (0..n)
            .map(|i| {
                let size = 2f64.powi(-((i * 7 % 11) as i32)) * (1.0 + (i % 100) as f64 / 100.0);
                common::naive::encode(Dtype::BF16, size + if i % every == 0 { by } else { 0.0 })
            })
            .collect();
        Model::new(vec![Tensor::of_units("w", Dtype::BF16, &[n / 100, 100], &units)])
    };
    let site = Site::new(&wave(0.0, 1));
    site.create("a", &wave(0.01, 3), &exact()).unwrap();
    let one = chain(&site, &[("a", 1.0)]).unwrap();
    let one_file = written(&site, &one, "one");
    let lossy = options(sparse("0.05", ValueKind::Sign));
    for (name, tuned) in [("b", wave(0.02, 2)), ("c", wave(-0.03, 5))] {
        let tuned = site.checkpoint(&format!("{name}-tuned"), &tuned);
        stitchpack::create(&one, &tuned, &site.pack_path(name), &lossy).unwrap();
    }
    let two = chain(&site, &[("b", 1.0), ("c", 0.5), ("a", 1.0)]).unwrap();
    let identity = one_file.identity(&workers(1)).unwrap();
    let packs = verified(&site, &[("b", 1.0), ("c", 0.5)]);
    let judge =
        StitchedModel::chain(&one_file, &identity, packs, &merge(OverlapRule::Average, 1.0), &workers(1)).unwrap();
    let (found, expected) = (written(&site, &two, "two"), site.path("two-judge.safetensors"));
    stitchpack::apply(&judge, &identity, &expected, &ApplyOptions::default()).unwrap();
    assert!(fs::read(site.path("two.safetensors")).unwrap() == fs::read(expected).unwrap());
    let last = site.checkpoint("last", &wave(0.07, 4));
    stitchpack::create(&two, &last, &site.pack_path("d"), &exact()).unwrap();
    stitchpack::create(&found, &last, &site.pack_path("judge"), &exact()).unwrap();
    assert!(site.pack_bytes("d") == site.pack_bytes("judge"));
    let three = chain(&site, &[("a", 1.0), ("b", 1.0), ("c", 0.5), ("d", 1.0)]).unwrap();
    written(&site, &three, "three");
    assert!(fs::read(site.path("three.safetensors")).unwrap() == fs::read(site.path("last.safetensors")).unwrap());
}

#[test]
fn a_link_is_put_where_it_does_not_fit() {
    let model = |by: f32| Model::new(vec![f32_tensor("w", &[40], move |i| i as f32 + by * (i % 3) as f32)]);
    let site = Site::new(&model(0.0));
    site.create("a", &model(1.0), &exact()).unwrap();
    let below = chain(&site, &[("a", 1.0)]).unwrap();
    let tuned = site.checkpoint("tuned", &model(2.0));
    stitchpack::create(&below, &tuned, &site.pack_path("b"), &exact()).unwrap();
    for packs in [&[("b", 1.0)][..], &[("a", 0.5), ("b", 1.0)], &[("a", 0.0), ("b", 1.0)]] {
        let refused = chain(&site, packs).map(drop).unwrap_err();
        assert_eq!(refused.exit_code(), 5, "{packs:?}: {refused}");
    }
    let refused = chain(&site, &[("a", 0.5), ("b", 1.0)]).map(drop).unwrap_err().to_string();
    assert!(refused.contains("nor was it made after the other packs"), "{refused}");
}

/// A tensor that the first link brings is changed by the second, and one is brought by the second.
#[test]
fn a_new_tensor_is_lost_on_the_way() {
    let wave = |name: &str, n: u64, by: f32| f32_tensor(name, &[n], move |i| i as f32 / 8.0 + by * (i % 5) as f32);
    let base = Model::new(vec![wave("old", 50, 0.0)]);
    let first = Model::new(vec![wave("new", 9, 0.0), wave("old", 50, 0.0)]);
    let second = Model::new(vec![wave("late", 3, 0.0), wave("new", 9, 1.0), wave("old", 50, 2.0)]);
    let site = Site::new(&base);
    let how = CreateOptions { new_tensors: NewTensors::Carry, ..exact() };
    site.create("a", &first, &how).unwrap();
    let below = chain(&site, &[("a", 1.0)]).unwrap();
    let tuned = site.checkpoint("second", &second);
    stitchpack::create(&below, &tuned, &site.pack_path("b"), &how).unwrap();
    let model = chain(&site, &[("a", 1.0), ("b", 1.0)]).unwrap();
    let sorted = |bytes: Vec<u8>| {
        let mut model = Model::read(&bytes);
        model.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        model
    };
    written(&site, &model, "out");
    assert_eq!(sorted(fs::read(site.path("out.safetensors")).unwrap()), second);
    stitchpack::create(&site.base, &model, &site.pack_path("fold"), &how).unwrap();
    let folded = chain(&site, &[("fold", 1.0)]).unwrap();
    written(&site, &folded, "folded");
    assert_eq!(sorted(fs::read(site.path("folded.safetensors")).unwrap()), second);
}
