//! The fast paths against the slow judge of `common/naive.rs`: what `create` keeps and stores, and what `apply` computes, is
//! what spec/numbers.md says, byte for byte, for random small models, packs, weights and rules. [TSK-1] [LOC-1] [LOC-2]
//! [LOC-3] [LOC-4] [VAL-3] [VAL-4] [VAL-5] [VAL-6] [GAI-1] [GAI-2] [STI-1] [STI-2] [STI-3] [STI-4] [STI-5] [STI-6] [STI-7]
//! [STI-8] [STI-9] [FLT-1] [STP-1]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Random;
use common::case::*;
use common::interesting::BLOCK_EDGES;
use common::models::{Change, FLOATS, Fill, Model, Tensor, base_tensor, special_bits, tuned_tensor, unit_bytes};
use common::naive::{self, Chooser, How, HowLossy, NaiveRescale};
use common::site::{Site, kept, merge, options, sparse, workers};
use proptest::prelude::*;
use stitchpack::create::{Lossy, Method, Rescale};
use stitchpack::method::density::Density;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{ApplyOptions, Checkpoint, Error, GainChoice, MergeOptions, StitchedModel};

fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(160))]

    #[test]
    fn a_merge_in_which_one_bit_differs_from_the_judge_is_found(
        seed in any::<u64>(), tensors in 1usize..6, packs in 1usize..6, only_floats in any::<bool>(), odd in any::<bool>()
    ) {
        packs_and_merges(seed, tensors, packs, only_floats, odd);
    }
}

proptest! {
    #![proptest_config(cases(96))]

    /// Any bits on both sides: NaN payloads, infinities, −0. [STI-6]
    #[test]
    fn an_exact_pack_that_loses_a_bit_is_found(seed in any::<u64>(), tensors in 1usize..7, priority in any::<bool>()) {
        let mut random = Random(seed);
        let base = random_base(tensors, false, Fill::Any, &mut random);
        let tuned = random_tuned(&base, Change::Any, &mut random);
        let site = Site::new(&base);
        site.create_as("p", &tuned, &How::Exact).unwrap();
        let rule = if priority { OverlapRule::Priority } else { OverlapRule::WeightedAverage };
        let bytes = site.apply_file(&[("p", 1.0)], &merge(rule, 1.0)).unwrap();
        prop_assert!(bytes == tuned.file(3));
    }

    /// Exact packs that overlap on numbers of any kind, under every rule.
    #[test]
    fn exact_packs_that_overlap_follow_the_judge(seed in any::<u64>(), packs in 2usize..4) {
        let mut random = Random(seed);
        let base = random_base(2, true, Fill::Odd, &mut random);
        let site = Site::new(&base);
        let mut made = Vec::new();
        for i in 0..packs {
            let name = format!("p{i}");
            let tuned = random_tuned(&base, Change::Some, &mut random);
            let pack = make(&site, &name, &base, &tuned, &How::Exact).unwrap();
            if made.iter().all(|(_, p)| *p != pack) {
                made.push((name, pack));
            }
        }
        for rule in rules() {
            let packs: Vec<_> = made.iter().map(|(n, p)| (n.as_str(), p, 1.0)).collect();
            check_merge(&site, &base, &packs, rule, 1.0, GainChoice::Stored);
        }
    }
}

proptest! {
    #![proptest_config(cases(7))]

    /// More than one block of 2^18 units: sums and ties cross from block to block.
    #[test]
    fn a_tensor_of_several_blocks_is_treated_otherwise(
        seed in any::<u64>(), which in 0usize..4, kind in 0usize..7, exact in any::<bool>()
    ) {
        let mut random = Random(seed);
        let dtype = [Dtype::BF16, Dtype::F8_E4M3, Dtype::F32, Dtype::F64][which];
        let n = if random.once_in(2) { 300_000 } else { *random.pick(&BLOCK_EDGES) };
        let shape = if n % 3 == 0 { vec![3, n / 3] } else { vec![n] };
        let base = Model::new(vec![
            base_tensor("big", dtype, &shape, Fill::Ordinary, &mut random),
            base_tensor("small", Dtype::F16, &[7, 9], Fill::Ordinary, &mut random),
        ]);
        let site = Site::new(&base);
        let mut made = Vec::new();
        for i in 0..2 {
            let tuned = Model::new(base.tensors.iter().map(|t| tuned_tensor(t, Change::Some, &mut random)).collect());
            let kind = KINDS[(kind + i) % KINDS.len()];
            let by_row = matches!(kind, ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign);
            let lossy = HowLossy {
                density: (1, 20), chooser: Chooser::Magnitude, by_tensor: i == 1, kind, by_row, rescale: NaiveRescale::Energy,
            };
            let how = if exact && i == 0 { How::Exact } else { How::Lossy(lossy) };
            let name = format!("p{i}");
            if let Some(pack) = make(&site, &name, &base, &tuned, &how) {
                made.push((name, pack));
            }
        }
        let packs: Vec<_> = made.iter().map(|(n, p)| (n.as_str(), p, 0.75)).collect();
        check_merge(&site, &base, &packs, *random.pick(&rules()), 1.0, GainChoice::Stored);
    }
}

// ---- One fact each ----

/// The judge has its own list of the dtypes that lossy deltas are for.
#[test]
fn the_floats_are_those_of_the_judge() {
    let floats = Dtype::ALL.iter().copied().filter(|dtype| dtype.is_float());
    assert_eq!(floats.collect::<Vec<_>>(), FLOATS);
}

/// All dtypes at once, with scalars, empty tensors, odd sizes and data that is aligned to nothing.
fn every_dtype(seed: u64, fill: Fill) -> Model {
    let mut random = Random(seed);
    let mut model = Model::default();
    for dtype in Dtype::ALL.iter().copied() {
        let n = [13, 12][usize::from(dtype.bits() < 8)];
        for (suffix, shape) in [("", vec![n]), (".empty", vec![0, 3]), (".scalar", vec![])] {
            if !(shape.is_empty() && dtype.bits() < 8) {
                let name = format!("{}{suffix}", dtype.name());
                model.tensors.push(base_tensor(&name, dtype, &shape, fill, &mut random));
            }
        }
    }
    model
}

#[test]
fn no_dtype_is_left_out_by_an_exact_pack() {
    let base = every_dtype(1, Fill::Any);
    let mut random = Random(2);
    let mut tuned = base.clone();
    for t in &mut tuned.tensors {
        let units: Vec<u64> =
            t.units().iter().map(|u| u ^ 1 ^ (random.next() & 1) << (8 * unit_bytes(t.dtype) - 1)).collect();
        t.set_units(&units);
    }
    let site = Site::new(&base);
    let created = site.create_as("p", &tuned, &How::Exact).unwrap();
    assert!(created.exact);
    assert_eq!(created.touched, tuned.tensors.iter().filter(|t| !t.bytes.is_empty()).count());
    let bytes = site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap();
    assert!(bytes == tuned.file(3));
}

#[test]
fn every_pair_of_small_float_bits_survives_a_step() {
    // F8 kinds: all 65,536 pairs. [STP-1]
    for dtype in [Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ, Dtype::F8_E5M2FNUZ, Dtype::F8_E8M0, Dtype::I8] {
        let all = |f: fn(u32) -> u64| (0..1u32 << 16).map(f).collect::<Vec<u64>>();
        let base = Model::new(vec![Tensor::of_units("t", dtype, &[1 << 16], &all(|i| u64::from(i >> 8)))]);
        let tuned = Model::new(vec![Tensor::of_units("t", dtype, &[1 << 16], &all(|i| u64::from(i & 0xff)))]);
        let site = Site::new(&base);
        site.create_as("p", &tuned, &How::Exact).unwrap();
        let pack = site.bind("p").unwrap();
        let codes = kept(&pack.delta("t").unwrap(), &site.base);
        for (p, code) in &codes {
            assert_eq!(*code, naive::step(dtype, *p as u64 >> 8, *p as u64 & 0xff), "{dtype} {p}");
        }
        assert_eq!(codes.len(), 65_536 - 256, "equal bits are no step");
        let bytes = site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap();
        assert!(bytes == tuned.file(3), "{dtype}");
    }
}

#[test]
fn a_tie_is_broken_by_name_in_bytes_and_then_by_position() {
    let zeros = [0.0; 4];
    // By bytes "B" < "a" < "a-b" < "a.b" < "ä".
    let names = ["ä", "a.b", "B", "a-b", "a"];
    let base = Model::new(names.iter().map(|n| Tensor::f32s(n, &[4], &zeros)).collect());
    let tuned = Model::new(names.iter().map(|n| Tensor::f32s(n, &[4], &[1.0, -1.0, 1.0, 2.0])).collect());
    let site = Site::new(&base);
    // 5 twos, and of fifteen ones the first 4: B 0, 1, 2 and a 0.
    let mut options = options(sparse("0.45", ValueKind::F32));
    options.include = vec!["*".into()];
    let created = site.create("p", &tuned, &options).unwrap();
    assert_eq!(created.kept, 9);
    let pack = site.bind("p").unwrap();
    let found: BTreeMap<String, Vec<usize>> =
        pack.deltas().map(|d| (d.name().to_string(), kept(&d, &site.base).into_keys().collect())).collect();
    let expected = [("B", vec![0, 1, 2, 3]), ("a", vec![0, 3]), ("a-b", vec![3]), ("a.b", vec![3]), ("ä", vec![3])];
    assert_eq!(found, expected.into_iter().map(|(n, p)| (n.to_string(), p)).collect());
}

#[test]
fn k_is_not_rounded_in_binary() {
    // 0.29 × 100 is 28.999… as a double.
    let base = Model::new(vec![Tensor::f32s("t", &[100], &[0.0; 100])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[100], &std::array::from_fn::<f32, 100, _>(|i| i as f32 + 1.0))]);
    let site = Site::new(&base);
    assert_eq!(site.create("p", &tuned, &options(sparse("0.29", ValueKind::Sign))).unwrap().kept, 29);
    assert_eq!(site.create("q", &tuned, &options(sparse("29%", ValueKind::Sign))).unwrap().kept, 29);
}

#[test]
fn density_one_keeps_zeros_and_any_other_never_does() {
    let base = Model::new(vec![Tensor::f32s("t", &[6], &[1.0, 2.0, 3.0, -0.0, 5.0, 6.0])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[6], &[1.0, 2.5, 3.0, 0.0, 5.0, 6.0])]);
    let site = Site::new(&base);
    for (i, (density, kept_positions)) in [("1", vec![0, 1, 2, 3, 4, 5]), ("0.99", vec![1])].into_iter().enumerate() {
        let name = format!("p{i}");
        site.create(&name, &tuned, &options(sparse(density, ValueKind::F32))).unwrap();
        let pack = site.bind(&name).unwrap();
        let positions: Vec<usize> = kept(&pack.delta("t").unwrap(), &site.base).into_keys().collect();
        assert_eq!(positions, kept_positions, "density {density}");
    }
}

#[test]
fn packs_that_are_not_in_play_change_a_byte() {
    let mut random = Random(3);
    let base = every_dtype(4, Fill::Any);
    let tuned = random_tuned(&base, Change::Any, &mut random);
    for site in [Site::new(&base), Site::sharded(&base, 7)] {
        site.create_as("p", &tuned, &How::Exact).unwrap();
        for packs in [&[][..], &[("p", 0.0)], &[("p", -0.0)]] {
            let bytes = site.apply(packs, &merge(OverlapRule::Sum, 3.0), "out", 2).unwrap();
            assert_eq!(bytes.touched, 0);
            let read = Model::read_folder(&site.path("out"));
            assert_eq!(read.len(), base.tensors.len());
            base.tensors.iter().for_each(|t| assert_eq!(read[&t.name], *t));
            std::fs::remove_dir_all(site.path("out")).unwrap();
        }
        let out = site.apply_file(&[("p", 0.0)], &merge(OverlapRule::Sum, 3.0)).unwrap();
        if site.base_path.is_file() {
            assert!(out == std::fs::read(&site.base_path).unwrap(), "one base file gives the same file");
        }
    }
}

#[test]
fn the_order_in_which_packs_are_named_matters_under_another_rule_than_priority() {
    let mut random = Random(5);
    let dtypes = [Dtype::BF16, Dtype::F32, Dtype::F64, Dtype::F16];
    let tensor = |d: &Dtype| base_tensor(d.name(), *d, &[5, 8], Fill::Odd, &mut random);
    let base = Model::new(dtypes.iter().map(tensor).collect());
    let site = Site::new(&base);
    let names = ["p0", "p1", "p2", "p3"];
    for (i, name) in names.iter().enumerate() {
        let tuned = random_tuned(&base, Change::Most, &mut random);
        site.create(name, &tuned, &options(sparse("0.8", KINDS[i + 2]))).unwrap();
    }
    let weights = [1.0, -0.3, 0.7, 1.3];
    let mut moved = 0;
    for rule in rules().into_iter().filter(|r| *r != OverlapRule::Refuse) {
        let mut outputs = BTreeSet::new();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let packs: Vec<_> = order.iter().map(|i| (names[*i], weights[*i])).collect();
            outputs.insert(site.apply_file(&packs, &merge(rule, 0.9)).unwrap());
        }
        if rule == OverlapRule::Priority {
            moved = outputs.len();
        } else {
            assert_eq!(outputs.len(), 1, "{rule}");
        }
    }
    assert!(moved > 1, "the packs do not overlap, so the test shows nothing");
}

/// `elect` has no delta of either sign where all are zero, and its mean is then +0, whatever the sign of the zero; also where
/// one pack alone touches the tensor. A base of −0 shows it. [STI-4]
#[test]
fn electing_among_zeros_depends_on_how_many_packs_touch_the_tensor() {
    let base = Model::new(vec![Tensor::f32s("t", &[2], &[-0.0, 1.0])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[2], &[-0.0, 1.5])]);
    let other = Model::new(vec![Tensor::f32s("t", &[2], &[-0.0, 1.25])]);
    let site = Site::new(&base);
    let how = |density| {
        let (chooser, kind, rescale) = (Chooser::Magnitude, ValueKind::F32, NaiveRescale::None);
        How::Lossy(HowLossy { density, chooser, by_tensor: false, kind, by_row: false, rescale })
    };
    let dense = make(&site, "dense", &base, &tuned, &how((1, 1))).unwrap();
    let sparse = make(&site, "sparse", &base, &other, &how((1, 2))).unwrap();
    for rule in rules() {
        check_merge(&site, &base, &[("dense", &dense, -1.0)], rule, 1.0, GainChoice::Stored);
        let both = [("dense", &dense, -1.0), ("sparse", &sparse, 1.0)];
        check_merge(&site, &base, &both, rule, 1.0, GainChoice::Stored);
    }
}

#[test]
fn an_infinity_or_nan_of_the_base_is_changed_by_a_lossy_pack() {
    for dtype in FLOATS {
        let mut units = special_bits(dtype);
        units.push(naive::encode(dtype, 1.0));
        let n = units.len() as u64;
        let base = Model::new(vec![Tensor::of_units("t", dtype, &[n], &units)]);
        let mut tuned = base.clone();
        *units.last_mut().unwrap() = naive::encode(dtype, 2.0);
        tuned.tensors[0].set_units(&units);
        let site = Site::new(&base);
        site.create("p", &tuned, &options(sparse("1", ValueKind::F32))).unwrap();
        let pack = site.bind("p").unwrap();
        assert_eq!(pack.delta("t").unwrap().kept(), n, "density 1 keeps them all");
        let found = Model::read(&site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap());
        for (p, (b, f)) in base.tensors[0].units().into_iter().zip(found.tensors[0].units()).enumerate() {
            let x = naive::decode(dtype, b);
            assert!(x.is_finite() || b == f, "{dtype} position {p}: {b:#x} became {f:#x}");
        }
    }
}

#[test]
fn an_overflow_passes_or_is_not_counted_and_named() {
    for dtype in FLOATS {
        let max = [Dtype::F64, Dtype::F32].contains(&dtype);
        let top = if max {
            naive::encode(dtype, if dtype == Dtype::F64 { f64::MAX } else { f64::from(f32::MAX) })
        } else {
            largest(dtype)
        };
        let one = naive::encode(dtype, 1.0);
        let base = Model::new(vec![
            Tensor::of_units("fine", dtype, &[1], &[one]),
            Tensor::of_units("over", dtype, &[4], &[top, one, top, top]),
        ]);
        let half = naive::decode(dtype, top) / 2.0;
        let mut tuned = base.clone();
        tuned.tensors[1].set_units(&[naive::encode(dtype, half), one, naive::encode(dtype, half), top]);
        let site = Site::new(&base);
        site.create_as("p", &tuned, &How::Exact).unwrap();
        // Minus the way down is the way up: above the largest number, twice.
        let e = site.apply_file(&[("p", -1.0)], &merge(OverlapRule::Sum, 1.0)).unwrap_err();
        assert_eq!(e.exit_code(), 6, "{dtype} {e}");
        assert!(e.to_string().contains("2 finite") && e.to_string().contains("\"over\""), "{dtype} {e}");
        assert!(!site.names().iter().any(|n| n.starts_with("out") || n.starts_with('.')), "{:?}", site.names());
    }
}

fn largest(dtype: Dtype) -> u64 {
    let finite = (0..1u64 << (8 * unit_bytes(dtype) - 1)).filter(|b| naive::decode(dtype, *b).is_finite());
    finite.max_by(|a, b| naive::decode(dtype, *a).total_cmp(&naive::decode(dtype, *b))).unwrap()
}

#[test]
fn a_lossy_pack_that_overflows_alone_is_made() {
    let base = Model::new(vec![Tensor::of_units("t", Dtype::F16, &[2], &[0x7bff, 0])]);
    let tuned = Model::new(vec![Tensor::of_units("t", Dtype::F16, &[2], &[0x7bfe, 0x3c00])]);
    let site = Site::new(&base);
    let how = |density| {
        Method::Lossy(Lossy {
            density,
            values: ValueKind::Sign,
            rescale: Some(Rescale::Factor(3.0)),
            ..Lossy::default()
        })
    };
    site.create("fine", &tuned, &options(how(Density::ALL))).unwrap();
    let up = Model::new(vec![Tensor::of_units("t", Dtype::F16, &[2], &[0x7bff, 0x7bff])]);
    let base2 = Model::new(vec![Tensor::of_units("t", Dtype::F16, &[2], &[0x7bfe, 0])]);
    let site = Site::new(&base2);
    let e = site.create("p", &up, &options(how(Density::ALL))).unwrap_err();
    assert_eq!(e.exit_code(), 6, "{e}");
    assert!(!site.pack_path("p").exists());
}

#[test]
fn a_file_a_folder_and_a_sharded_base_give_different_tensors() {
    let mut random = Random(6);
    let base = random_base(6, false, Fill::Odd, &mut random);
    let tuned = random_tuned(&base, Change::Some, &mut random);
    let one = Site::new(&base);
    one.create("p", &tuned, &options(sparse("0.3", ValueKind::Int8))).unwrap();
    let expected = Model::read(&one.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap());
    assert_ne!(expected, base);
    for each in [1, 2, 4, 6] {
        let site = Site::sharded(&base, each);
        std::fs::copy(one.pack_path("p"), site.pack_path("p")).unwrap();
        assert_eq!(site.identity.digest(), one.identity.digest(), "sharding is not part of a base");
        let folder = site.apply(&[("p", 1.0)], &MergeOptions::default(), "out", 2).unwrap();
        let file = Model::read(&site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap());
        let read = Model::read_folder(&site.path("out"));
        assert_eq!(read.len(), expected.tensors.len());
        for t in &expected.tensors {
            assert_eq!(read[&t.name], *t, "folder with {each} tensors a shard");
            assert_eq!(file.get(&t.name), t, "file from shards");
        }
        if each < base.tensors.len() {
            // One file from several has a new header, in its one form. [CKP-2]
            let bare = expected.head(0).len();
            let bytes = site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap();
            assert!(bytes == expected.file(bare.next_multiple_of(8) - bare), "the header of a new file");
        }
        let (mut before, mut after) = (shard_names(&site.base_path), shard_names(&site.path("out")));
        before.retain(|n| n.ends_with(".safetensors") || n.ends_with(".index.json"));
        after.retain(|n| n != "stitch.json");
        assert_eq!(before, after, "the base's files");
        let digest = naive::hex(&naive::checkpoint_digest(expected.tensors.iter()));
        assert_eq!(folder.recipe.result, digest, "the digest of the result, by the judge");
        // A merged folder is a checkpoint again.
        let again = Checkpoint::open(site.path("out")).unwrap().identity(&workers(1)).unwrap();
        assert_eq!(again.digest().unwrap().to_string(), digest);
    }
}

fn shard_names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn exact_and_lossy_packs_are_averaged_unasked() {
    let base = Model::new(vec![Tensor::f32s("t", &[4], &[1.0, 2.0, 3.0, 4.0])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[4], &[1.0, 2.5, 3.5, 4.0])]);
    let site = Site::new(&base);
    site.create_as("exact", &tuned, &How::Exact).unwrap();
    site.create("lossy", &tuned, &options(sparse("0.5", ValueKind::F32))).unwrap();
    let both = [("exact", 1.0), ("lossy", 1.0)];
    assert_eq!(site.apply_file(&both, &MergeOptions::default()).unwrap_err().exit_code(), 6);
    site.apply_file(&both, &merge(OverlapRule::Average, 1.0)).unwrap();
    // One that is not in play does not count. [STI-9]
    site.apply_file(&[("exact", 1.0), ("lossy", 0.0)], &MergeOptions::default()).unwrap();
}

#[test]
fn a_weight_that_is_no_number_or_a_pack_named_twice_is_accepted() {
    let base = Model::new(vec![Tensor::f32s("t", &[2], &[1.0, 2.0])]);
    let tuned = Model::new(vec![Tensor::f32s("t", &[2], &[1.0, 2.5])]);
    let site = Site::new(&base);
    site.create_as("p", &tuned, &How::Exact).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let weight = site.apply_file(&[("p", bad)], &MergeOptions::default()).unwrap_err();
        let lambda = site.apply_file(&[("p", 1.0)], &merge(OverlapRule::Sum, bad)).unwrap_err();
        assert_eq!((weight.exit_code(), lambda.exit_code()), (2, 2));
    }
    let twice = site.apply_file(&[("p", 1.0), ("p", 0.0)], &MergeOptions::default()).unwrap_err();
    assert_eq!(twice.exit_code(), 2);
}

/// B-01 … B-06: a pack on another base. [BAS-1] [BAS-2]
#[test]
fn a_pack_binds_to_another_base() {
    let t = |values: &[f32]| Tensor::f32s("t", &[2, 2], values);
    let u = Tensor::f32s("u", &[1], &[9.0]);
    let base = Model::new(vec![t(&[1.0, 2.0, 3.0, 4.0]), u.clone()]);
    let tuned = Model::new(vec![t(&[1.0, 2.0, 3.5, 4.0]), u.clone()]);
    let site = Site::new(&base);
    site.create_as("p", &tuned, &How::Exact).unwrap();
    site.create_as("nothing", &base, &How::Exact).unwrap();
    let mut transposed = t(&[1.0, 2.0, 3.0, 4.0]);
    transposed.shape = vec![4, 1];
    let mut integers = t(&[1.0, 2.0, 3.0, 4.0]);
    integers.dtype = Dtype::I32;
    let others = [
        ("one bit", Model::new(vec![t(&[1.0, 2.0, 3.0, f32::from_bits(4f32.to_bits() ^ 1)]), u.clone()])),
        ("untouched tensor", Model::new(vec![t(&[1.0, 2.0, 3.0, 4.0]), Tensor::f32s("u", &[1], &[8.0])])),
        ("missing", Model::new(vec![u.clone()])),
        ("one more", Model::new(vec![t(&[1.0, 2.0, 3.0, 4.0]), u.clone(), Tensor::f32s("v", &[1], &[0.0])])),
        ("other shape", Model::new(vec![transposed, u.clone()])),
        ("other dtype", Model::new(vec![integers, u.clone()])),
        ("the fine-tuned one", tuned.clone()),
    ];
    for (what, other) in others {
        let identity = site.checkpoint("other", &other).identity(&workers(1)).unwrap();
        for pack in ["p", "nothing"] {
            let opened = stitchpack::OpenedPack::open(site.pack_path(pack)).unwrap();
            let e = opened.verify().unwrap().bind(&identity).unwrap_err();
            assert!(matches!(e.root(), Error::BaseMismatch(_)) && e.exit_code() == 5, "{what}, {pack}: {e}");
        }
    }
    let mut moved = base.clone();
    moved.tensors.reverse();
    let identity = site.checkpoint("other", &moved).identity(&workers(1)).unwrap();
    for pack in ["p", "nothing"] {
        stitchpack::OpenedPack::open(site.pack_path(pack)).unwrap().verify().unwrap().bind(&identity).unwrap();
    }
}

/// The digest that a pack records is that of what it gives alone. [RES-1]
#[test]
fn a_recorded_result_that_is_not_the_result_passes() {
    let mut random = Random(8);
    let base = random_base(5, false, Fill::Odd, &mut random);
    let tuned = random_tuned(&base, Change::Some, &mut random);
    let site = Site::new(&base);
    for (i, kind) in KINDS.into_iter().enumerate() {
        let name = format!("p{i}");
        site.create(&name, &tuned, &options(sparse("0.5", kind))).unwrap();
        let model = StitchedModel::new(&site.base, site.layers(&[(&name, 1.0)]), &MergeOptions::default()).unwrap();
        let check = ApplyOptions { check: true, workers: workers(1), ..ApplyOptions::default() };
        assert!(stitchpack::lock(&model, &site.identity, &check).unwrap().checked);
        let found = Model::read(&site.apply_file(&[(&name, 1.0)], &MergeOptions::default()).unwrap());
        let pack = site.bind(&name).unwrap();
        let touched: BTreeSet<&str> = pack.deltas().map(|d| d.name()).collect();
        let digest = naive::checkpoint_digest(found.tensors.iter().filter(|t| touched.contains(t.name.as_str())));
        assert_eq!(pack.manifest().result, Some(digest), "{kind}");
    }
}
