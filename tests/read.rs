//! Tensors in memory: any range of bytes is what the written model has there.
#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use common::case::{random_base, random_tuned};
use common::models::{Change, Fill, Model};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::checkpoint::BaseCheck;
use stitchpack::create::Method;
use stitchpack::merge::{Buffers, OpenOptions};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::{Checkpoint, Error, StitchedModel};

#[test]
fn a_range_differs_from_the_file() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let base = random_base(5, true, Fill::Ordinary, &mut random);
        let site = Site::new(&base);
        for name in ["a", "b"] {
            let tuned = random_tuned(&base, Change::Some, &mut random);
            let exact = seed % 3 == 0;
            let method = if exact { Method::Exact } else { sparse("0.2", ValueKind::Int4) };
            site.create(name, &tuned, &options(method)).unwrap();
        }
        let packs = [("a", 1.0), ("b", 0.5)];
        let how = merge(OverlapRule::Sum, 1.0);
        let Ok(written) = site.apply_file(&packs[..1 + seed as usize % 2], &how) else { continue };
        let written = Model::read(&written);
        let model = StitchedModel::new(&site.base, site.layers(&packs[..1 + seed as usize % 2]), &how).unwrap();
        let mut buffers = Buffers::default();
        for tensor in &written.tensors {
            assert!(*model.bytes(&tensor.name).unwrap() == *tensor.bytes, "seed {seed}: {}", tensor.name);
            let (reader, len) = (model.reader(&tensor.name).unwrap(), tensor.bytes.len() as u64);
            for _ in 0..20 {
                let from = random.below(len + 1);
                let to = from + random.below(len - from + 1);
                let mut out = vec![0xa5; (to - from) as usize];
                reader.read_into(from, &mut out, &mut buffers).unwrap();
                assert!(out == tensor.bytes[from as usize..to as usize], "seed {seed}: {} {from}..{to}", tensor.name);
                out.fill(0x5a);
                model.read_into(&tensor.name, from..to, &mut out).unwrap();
                assert!(out == tensor.bytes[from as usize..to as usize]);
            }
            assert!(reader.read_into(len, &mut [0], &mut buffers).is_err());
            assert!(model.read_into(&tensor.name, 0..len, &mut vec![0; len as usize + 1]).is_err());
        }
        check_many_at_once(&model, &written);
        let paths = packs[..1 + seed as usize % 2].iter().map(|(name, weight)| (site.pack_path(name), *weight));
        let open = OpenOptions { merge: how, base_check: BaseCheck::Full, workers: workers(2) };
        let (owner, identity) = StitchedModel::open(Checkpoint::open(&site.base_path).unwrap(), paths, &open).unwrap();
        assert_eq!(identity.digest(), site.identity.digest());
        check_many_at_once(&owner, &written);
    }
}

/// All tensors into memory that is there, and in the order of the file.
fn check_many_at_once(model: &StitchedModel, written: &Model) {
    for threads in [1, 3] {
        let mut memory: Vec<Vec<u8>> = written.tensors.iter().map(|t| vec![0xa5; t.bytes.len()]).collect();
        let names = written.tensors.iter().map(|t| t.name.as_str());
        model.fill(names.zip(memory.iter_mut().map(|m| &mut m[..])), &workers(threads)).unwrap();
        assert!(written.tensors.iter().zip(&memory).all(|(t, m)| t.bytes == *m));

        let workers = workers(threads);
        let found: Vec<_> = model.in_file_order(&workers).unwrap().map(|t| t.unwrap()).collect();
        let expected: Vec<_> = written.tensors.iter().map(|t| (t.name.as_str(), &t.bytes[..])).collect();
        assert!(found.iter().map(|(info, bytes)| (info.name.as_str(), &bytes[..])).eq(expected));
    }
    let mut long = vec![0; written.tensors[0].bytes.len() + 1];
    let wrong = model.fill([(written.tensors[0].name.as_str(), &mut long[..])], &workers(1));
    assert!(matches!(wrong, Err(Error::InvalidInput(_))));
    assert!(matches!(model.fill([("no such tensor", &mut [][..])], &workers(1)), Err(Error::InvalidInput(_))));
}

/// Ranges that begin and end anywhere in a tensor of several blocks, coded by what the base has.
#[test]
fn a_range_across_blocks_differs_from_the_file() {
    let n = 700_000u64;
    let of = |by: f64| {
        let value = |i: u64| 2f64.powi(-((i * 7 % 11) as i32)) + if i.is_multiple_of(3) { by } else { 0.0 };
        let units: Vec<u64> =
            (0..n).map(|i| common::naive::encode(stitchpack::model::dtype::Dtype::BF16, value(i))).collect();
        let dtype = stitchpack::model::dtype::Dtype::BF16;
        Model::new(vec![common::models::Tensor::of_units("w", dtype, &[n / 100, 100], &units)])
    };
    let (site, tuned) = (Site::new(&of(0.0)), of(0.01));
    site.create("a", &tuned, &options(Method::Exact)).unwrap();
    let how = merge(OverlapRule::Average, 1.0);
    let model = StitchedModel::new(&site.base, site.layers(&[("a", 1.0)]), &how).unwrap();
    let bytes = &tuned.get("w").bytes;
    let mut random = Random(9);
    for _ in 0..60 {
        let from = random.below(2 * n);
        let to = from + random.below(2 * n - from + 1);
        let mut out = vec![0; (to - from) as usize];
        model.read_into("w", from..to, &mut out).unwrap();
        assert!(out == bytes[from as usize..to as usize], "{from}..{to}");
    }
}
