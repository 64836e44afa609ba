//! Same input, same bytes (promises 3 and 5): whatever the number of threads, the run, the order of files and folders, and
//! the order in which packs are named, a pack and a merged model are the same to the last bit.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::Random;
use common::models::{Change, FLOATS, Fill, Model, Tensor, base_tensor, tuned_tensor};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::create::{CreateOptions, Localizer, Lossy, Method, Rescale, Scope};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::{Groups, ValueKind};
use stitchpack::model::dtype::Dtype;
use stitchpack::{ApplyOptions, Checkpoint, StitchedModel};

/// Two blocks in one tensor, many ties, tied tensors, and small ones of every float dtype.
fn models() -> (Model, Model) {
    let mut random = Random(42);
    let mut base = Model::new(vec![
        base_tensor("big.fp8", Dtype::F8_E4M3, &[150, 2000], Fill::Ordinary, &mut random),
        base_tensor("big.bf16", Dtype::BF16, &[20_001], Fill::Ordinary, &mut random),
        base_tensor("flags", Dtype::BOOL, &[77], Fill::Ordinary, &mut random),
    ]);
    for dtype in FLOATS {
        base.tensors.push(base_tensor(
            &format!("small.{}", dtype.name()),
            dtype,
            &[9, 11],
            Fill::Ordinary,
            &mut random,
        ));
    }
    let mut tuned = Model::new(base.tensors.iter().map(|t| tuned_tensor(t, Change::Some, &mut random)).collect());
    for (model, from) in [(&mut base, "small.F32"), (&mut tuned, "small.F32")] {
        let twin = Tensor { name: "tied".into(), ..model.get(from).clone() };
        model.tensors.push(twin);
    }
    (base, tuned)
}

fn lossy(kind: ValueKind, scope: Scope, groups: Groups, rescale: Rescale) -> Method {
    let density = "0.07".parse().unwrap();
    Method::Lossy(Lossy {
        density,
        values: kind,
        scope,
        groups,
        rescale: Some(rescale),
        localizer: Localizer::Magnitude,
    })
}

#[test]
fn a_pack_depends_on_threads_or_on_the_run() {
    let (base, tuned) = models();
    let site = Site::new(&base);
    let tuned = site.checkpoint("tuned", &tuned);
    type Make = fn() -> Method;
    let methods: [(&str, Make); 4] = [
        ("exact", || Method::Exact),
        ("sign", || lossy(ValueKind::Sign, Scope::Global, Groups::Tensor, Rescale::Energy)),
        ("int4", || lossy(ValueKind::Int4, Scope::Tensor, Groups::Row, Rescale::L1)),
        ("codebook", || lossy(ValueKind::Codebook, Scope::Global, Groups::Tensor, Rescale::Energy)),
    ];
    for (name, method) in methods {
        let mut packs = BTreeSet::new();
        for (i, threads) in [1, 2, 5].into_iter().enumerate() {
            let path = site.path(&format!("{name}-{i}.stitch"));
            let options = CreateOptions { workers: workers(threads), ..options(method()) };
            let created = stitchpack::create(&site.base, &tuned, &path, &options).unwrap();
            if i == 1 {
                // Another run with the same number of threads, of which nothing is written.
                let dry = stitchpack::create_dry(&site.base, &tuned, &options).unwrap();
                assert_eq!(created, dry, "what a dry run tells");
            }
            packs.insert(std::fs::read(path).unwrap());
        }
        assert_eq!(packs.len(), 1, "{name}");
    }
}

#[test]
fn a_pack_depends_on_how_the_checkpoints_are_stored() {
    let (base, tuned) = models();
    let mut packs = BTreeSet::new();
    let mut turned = (base.clone(), tuned.clone());
    turned.0.tensors.reverse();
    turned.1.tensors.rotate_left(3);
    for (i, (base, tuned)) in [(base, tuned), turned].into_iter().enumerate() {
        for site in [Site::new(&base), Site::sharded(&base, 2 + i)] {
            tuned.write_folder(&site.path("tuned"), 3 - i);
            let tuned = Checkpoint::open(site.path("tuned")).unwrap();
            let how = options(sparse("0.03", ValueKind::Int8));
            stitchpack::create(&site.base, &tuned, &site.pack_path("p"), &how).unwrap();
            packs.insert(site.pack_bytes("p"));
        }
    }
    // Not the denominator of a size, but the content is the same whatever the files.
    assert_eq!(packs.len(), 1);
}

#[test]
fn a_merged_model_depends_on_threads_runs_or_the_order_of_packs() {
    let (base, _) = models();
    let site = Site::new(&base);
    let mut random = Random(7);
    let kinds = [ValueKind::Sign, ValueKind::Int8, ValueKind::Codebook, ValueKind::Bf16];
    let names = ["p0", "p1", "p2", "p3"];
    for (name, kind) in names.iter().zip(kinds) {
        let tensors = base.tensors.iter().map(|t| match t.dtype {
            Dtype::BOOL => t.clone(),
            _ => tuned_tensor(t, Change::Some, &mut random),
        });
        let tuned = Model::new(tensors.collect());
        // All of them keep much, so that most positions are kept by several.
        site.create(name, &tuned, &options(sparse("0.2", kind))).unwrap();
    }
    let weights = [0.5, -0.25, 0.3, 0.1];
    for rule in
        [OverlapRule::Average, OverlapRule::WeightedAverage, OverlapRule::Sum, OverlapRule::Elect, OverlapRule::Max]
    {
        let mut files = BTreeSet::new();
        let mut digests = BTreeSet::new();
        for (order, threads) in [([0, 1, 2, 3], 1), ([0, 1, 2, 3], 5), ([3, 1, 0, 2], 2)] {
            let packs: Vec<_> = order.iter().map(|i| (names[*i], weights[*i])).collect();
            let applied = site.apply(&packs, &merge(rule, 0.8), "out.safetensors", threads).unwrap();
            digests.insert(applied.recipe.result.clone());
            files.insert(std::fs::read(site.path("out.safetensors")).unwrap());
            std::fs::remove_file(site.path("out.safetensors")).unwrap();
            if rule == OverlapRule::Elect {
                let model = StitchedModel::new(&site.base, site.layers(&packs), &merge(rule, 0.8)).unwrap();
                let options = ApplyOptions { workers: workers(threads), ..ApplyOptions::default() };
                assert_eq!(stitchpack::lock(&model, &site.identity, &options).unwrap().recipe, applied.recipe);
            }
        }
        assert_eq!((files.len(), digests.len()), (1, 1), "{rule}");
    }
}

/// Under `priority` the order is part of the question, the number of threads is not.
#[test]
fn priority_depends_on_threads() {
    let (base, mut tuned) = models();
    // What can only be carried exactly, two packs must not change.
    *tuned.get_mut("flags") = base.get("flags").clone();
    let site = Site::new(&base);
    site.create("p0", &tuned, &options(sparse("0.2", ValueKind::Sign))).unwrap();
    site.create("p1", &tuned, &options(sparse("0.2", ValueKind::Int4))).unwrap();
    let mut outputs = Vec::new();
    for (packs, threads) in [(["p0", "p1"], 1), (["p0", "p1"], 5), (["p1", "p0"], 2)] {
        let packs: Vec<_> = packs.iter().map(|p| (*p, 1.0)).collect();
        site.apply(&packs, &merge(OverlapRule::Priority, 1.0), "out.safetensors", threads).unwrap();
        outputs.push(std::fs::read(site.path("out.safetensors")).unwrap());
        std::fs::remove_file(site.path("out.safetensors")).unwrap();
    }
    assert!(outputs[0] == outputs[1]);
    assert!(outputs[0] != outputs[2], "the packs do not overlap, so the test shows nothing");
}

/// The error, too, is the same: the first tensor and the whole count.
#[test]
fn a_refusal_depends_on_threads() {
    let mut random = Random(9);
    let big = |v: u64| Tensor::of_units("big", Dtype::F8_E5M2, &[540_000], &vec![v; 540_000]);
    let small = base_tensor("a", Dtype::F32, &[3], Fill::Ordinary, &mut random);
    let base = Model::new(vec![big(0x7a), small.clone()]);
    let tuned = Model::new(vec![big(0x7b), small]);
    let site = Site::new(&base);
    site.create("p", &tuned, &options(Method::Exact)).unwrap();
    let texts: BTreeSet<String> = [1, 2, 5]
        .into_iter()
        .map(|threads| {
            site.apply(&[("p", 2.0)], &merge(OverlapRule::Sum, 1.0), "out", threads).unwrap_err().to_string()
        })
        .collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts.first().unwrap().contains("540000 finite"), "{texts:?}");
}
