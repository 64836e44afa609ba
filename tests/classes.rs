//! Packs large enough to be coded by class: exact ones give back every bit, lossy ones what the judge says, at every effort, in
//! several blocks, on any number of threads; and what is coded by what the base has is not believed without it. [CLS-1] [CLS-4]
//! [CLS-5] [CLS-6] [ENT-4] [ENT-5]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::Random;
use common::case::{KINDS, check_merge, make};
use common::lying_packs::{Good, Parts};
use common::models::{Model, Tensor, unit_bytes};
use common::naive::{Chooser, How, HowLossy, NaiveRescale};
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::create::{CreateOptions, Effort, Method};
use stitchpack::limits::Limits;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::report::inspect::inspect;
use stitchpack::report::overlap::overlap;
use stitchpack::{BoundPack, GainChoice, MergeOptions, OpenedPack, VerifiedPack};

const EFFORTS: [Effort; 3] = [Effort::Fast, Effort::Default, Effort::Small];

/// Units whose highest byte varies little, as the exponents of weights do.
fn weights(name: &str, dtype: Dtype, shape: &[u64], random: &mut Random) -> Tensor {
    let width = 8 * unit_bytes(dtype);
    let n = shape.iter().product::<u64>() as usize;
    let unit = |random: &mut Random| {
        let sign = if dtype.is_float() { random.below(2) << (width - 1) } else { 0 };
        sign | (0x38 | random.below(8)) << (width - 8) | random.next() >> 8 >> (64 - width)
    };
    Tensor::of_units(name, dtype, shape, &(0..n).map(|_| unit(random)).collect::<Vec<_>>())
}

/// Some rows do not change, some columns change more, and small numbers change more often and by more.
fn trained(base: &Tensor, random: &mut Random) -> Tensor {
    let width = 8 * unit_bytes(base.dtype);
    let columns = *base.shape.last().unwrap();
    let mut units = base.units();
    for (i, unit) in units.iter_mut().enumerate() {
        let (row, column) = (i as u64 / columns, i as u64 % columns);
        let size = *unit >> (width - 8) & 7;
        if row % 7 == 3 || random.below(4 + size * 4) > 1 + 2 * u64::from(column % 9 == 0) {
            continue;
        }
        let by = 1 + random.below(1 + 6 / (size + 1));
        *unit = if random.once_in(2) { *unit + by } else { *unit - by };
    }
    let mut out = base.clone();
    out.set_units(&units.iter().map(|u| u & (u64::MAX >> (64 - width))).collect::<Vec<_>>());
    out
}

const DTYPES: [Dtype; 12] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::U8,
    Dtype::I16,
    Dtype::U32,
    Dtype::I64,
];

/// A tensor of three blocks, and one or two of every dtype of a few thousand units; one has few and shares what others learned.
fn models() -> (Model, Model) {
    let mut random = Random(11);
    let mut base = Model::new(vec![weights("big", Dtype::BF16, &[700, 800], &mut random)]);
    for dtype in DTYPES {
        base.tensors.push(weights(dtype.name(), dtype, &[96, 80], &mut random));
        base.tensors.push(weights(&format!("{}.more", dtype.name()), dtype, &[6, 16, 60], &mut random));
    }
    base.tensors.push(weights("flat", Dtype::F32, &[5000], &mut random));
    base.tensors.push(weights("few", Dtype::F32, &[10, 16], &mut random));
    let tuned = Model::new(base.tensors.iter().map(|t| trained(t, &mut random)).collect());
    (base, tuned)
}

fn with(method: Method, effort: Effort, threads: usize) -> CreateOptions {
    CreateOptions { effort, workers: workers(threads), ..options(method) }
}

/// By tensor: the codecs of its blocks that keep any, and whether it needs the base.
fn codecs(pack: &BoundPack) -> BTreeMap<String, (BTreeSet<(u8, u8)>, bool)> {
    let of = |delta: stitchpack::pack::bound::TensorDelta| {
        let blocks = delta.blocks().unwrap();
        let rows = (0..blocks.len()).filter_map(|i| blocks.row(i)).filter(|row| row.kept > 0);
        (
            delta.name().to_string(),
            (rows.map(|r| (r.mask_codec.code(), r.value_codec.code())).collect(), blocks.needs_base()),
        )
    };
    pack.deltas().map(of).collect()
}

fn verified(site: &Site, name: &str) -> VerifiedPack {
    OpenedPack::open(site.pack_path(name)).unwrap().verify().unwrap()
}

#[test]
fn an_exact_pack_by_class_loses_a_bit_or_depends_on_threads() {
    let (base, tuned) = models();
    let site = Site::new(&base);
    let expected = tuned.file(3);
    let mut contents = BTreeSet::new();
    for effort in EFFORTS {
        let packs: BTreeSet<Vec<u8>> = [1, 2, 5]
            .into_iter()
            .map(|threads| {
                site.create("p", &tuned, &CreateOptions { force: true, ..with(Method::Exact, effort, threads) })
                    .unwrap();
                site.pack_bytes("p")
            })
            .collect();
        assert_eq!(packs.len(), 1, "{effort:?}");
        let pack = site.bind("p").unwrap();
        contents.insert(pack.manifest().content);
        let found = codecs(&pack);
        assert_eq!(found["big"].0, [(6, 2)].into(), "{effort:?}");
        let mut spread = 0;
        for dtype in DTYPES {
            let (codecs, needs_base) = &found[dtype.name()];
            // About a sixth of the units moves, from where on steps of 16 bits have the mask among them.
            let is_spread = unit_bytes(dtype) == 2 && *codecs == [(7, 3)].into();
            spread += u32::from(is_spread);
            assert!(is_spread || *codecs == [(6, 2)].into(), "{effort:?} {dtype}: {codecs:?}");
            let may = dtype.is_float() && effort != Effort::Fast;
            assert!(may || !needs_base, "{effort:?} {dtype}");
        }
        assert_eq!(spread > 0, effort != Effort::Fast, "{effort:?}");
        assert_eq!(found["big"].1, effort != Effort::Fast, "{effort:?}");
        assert!(verified(&site, "p").check_content(Some(&site.base)).unwrap());
        let bytes = site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap();
        assert!(bytes == expected, "{effort:?}");
    }
    assert_eq!(contents.len(), 1, "the content depends on the effort");
}

/// By class the judge is in tests/common/classes.rs, which shares nothing with the crate's coder.
#[test]
fn another_reader_finds_another_content() {
    let (base, tuned) = models();
    let small = |model: &Model| Model::new(model.tensors[1..].to_vec());
    let (base, tuned) = (small(&base), small(&tuned));
    let site = Site::new(&base);
    for (i, effort) in EFFORTS.into_iter().enumerate() {
        for (j, method) in [Method::Exact, sparse("0.1", ValueKind::F16)].into_iter().enumerate() {
            let name = format!("p{i}{j}");
            site.create(&name, &tuned, &with(method, effort, 1)).unwrap();
            let parts = Parts { base: base.clone(), ..Parts::of(&site.pack_bytes(&name)) };
            assert!(parts.owns.iter().any(|o| o.blocks[0].mask_codec == 6), "{effort:?}");
            assert_eq!(parts.content_id(), parts.manifest.content, "{effort:?}");
        }
    }
}

#[test]
fn a_lossy_pack_by_class_differs_from_the_judge() {
    let mut random = Random(12);
    let base = Model::new(vec![
        weights("a", Dtype::F32, &[60, 70], &mut random),
        weights("b", Dtype::BF16, &[40, 130], &mut random),
        weights("c", Dtype::F32, &[50, 70], &mut random),
    ]);
    let tuned = Model::new(base.tensors.iter().map(|t| trained(t, &mut random)).collect());
    let site = Site::new(&base);
    let mut made = Vec::new();
    for (i, kind) in KINDS.into_iter().enumerate() {
        let (by_row, rescale) = (kind == ValueKind::Int8, NaiveRescale::Energy);
        let density = (1, if i % 2 == 0 { 8 } else { 12 });
        let how = HowLossy { density, chooser: Chooser::Magnitude, by_tensor: true, kind, by_row, rescale };
        let pack = make(&site, kind.name(), &base, &tuned, &How::Lossy(how)).unwrap();
        let found = codecs(&site.bind(kind.name()).unwrap());
        let values = if kind == ValueKind::Sign { [0, 1].into() } else { BTreeSet::from([0, 1, 2]) };
        let used: BTreeSet<(u8, u8)> = found.values().flat_map(|(codecs, _)| codecs.clone()).collect();
        assert!(used.iter().all(|(m, v)| *m == 6 && values.contains(v)), "{kind} {used:?}");
        // Signs are never coded by class, and floats only where their mantissas have no pattern.
        let quantized = matches!(kind, ValueKind::Int8 | ValueKind::Int4 | ValueKind::Codebook);
        assert!(!quantized || used.contains(&(6, 2)), "{kind} {used:?}");
        assert!(found.values().all(|(_, needs_base)| !needs_base), "{kind} needs the base");
        made.push((kind.name(), pack));
    }
    let packs: Vec<_> = made.iter().map(|(name, pack)| (*name, pack, 0.5)).collect();
    check_merge(&site, &base, &packs, OverlapRule::Average, 1.0, GainChoice::Stored);
}

#[test]
fn a_lossy_pack_of_several_blocks_depends_on_effort_or_threads() {
    let (base, tuned) = models();
    let keep = |model: &Model| Model::new(vec![model.get("big").clone(), model.get("F32").clone()]);
    let (base, tuned) = (keep(&base), keep(&tuned));
    let site = Site::new(&base);
    for kind in [ValueKind::Sign, ValueKind::Bf16, ValueKind::Codebook] {
        let mut results = BTreeSet::new();
        for (effort, threads) in EFFORTS.into_iter().zip([[1, 5], [1, 2], [2, 5]]) {
            let packs = threads.map(|n| {
                let how = CreateOptions { force: true, ..with(sparse("0.03", kind), effort, n) };
                site.create("p", &tuned, &how).unwrap();
                site.pack_bytes("p")
            });
            assert!(packs[0] == packs[1], "{kind} {effort:?}");
            let pack = site.bind("p").unwrap();
            let found = &codecs(&pack)["big"].0;
            assert!(found.iter().all(|c| c.0 == 6), "{kind} {effort:?}");
            let by_class = kind != ValueKind::Sign && (kind != ValueKind::Bf16 || effort == Effort::Fast);
            assert!(!by_class || found.iter().all(|c| c.1 == 2), "{kind} {effort:?} {found:?}");
            let bytes = site.apply_file(&[("p", 1.0)], &MergeOptions::default()).unwrap();
            results.insert((pack.manifest().content, bytes));
        }
        assert_eq!(results.len(), 1, "{kind}");
    }
}

/// Two exact packs that need the base, and what can be said of them with it, without it, and with another.
#[test]
fn what_needs_the_base_is_believed_without_it() {
    let (base, tuned) = Good::by_base_models();
    let site = Site::new(&base);
    let mut other = tuned.clone();
    other.get_mut("b").set_units(&base.get("b").units());
    site.create("p", &tuned, &options(Method::Exact)).unwrap();
    site.create("q", &other, &options(Method::Exact)).unwrap();
    let packs = [verified(&site, "p"), verified(&site, "q")];
    assert!(packs.iter().all(|p| p.needs_base().unwrap()));
    assert!(!packs[0].check_content(None).unwrap());
    assert!(packs[0].check_content(Some(&site.base)).unwrap());

    let blind = inspect(&packs[0], None).unwrap();
    let seeing = inspect(&packs[0], Some(&site.base)).unwrap();
    assert_eq!((blind.not_decoded, seeing.not_decoded), (2, 0));
    assert_eq!(blind.totals.kept, seeing.totals.kept);

    assert_eq!(overlap(&packs, None).unwrap_err().exit_code(), 2);
    let found = overlap(&packs, Some(&site.base)).unwrap();
    let differ =
        |name: &str| base.get(name).units().iter().zip(tuned.get(name).units()).filter(|(a, b)| **a != *b).count();
    assert_eq!(found[0].shared, differ("a") as u64);
    assert_eq!((found[0].kept.0, found[0].opposite), ((differ("a") + differ("b")) as u64, 0));

    let mut wrong = base.clone();
    wrong.get_mut("a").bytes[77] ^= 0x20;
    let wrong = site.checkpoint("wrong", &wrong);
    let e = packs[0].check_base(&wrong.identity(&workers(1)).unwrap()).unwrap_err();
    assert_eq!(e.exit_code(), 5, "{e}");
    // Whoever decodes with it all the same gets an error, never a panic.
    let e = packs[0].check_content(Some(&wrong)).unwrap_err();
    assert_eq!(e.exit_code(), 3, "{e}");
    let [p, _] = packs;
    assert_eq!(p.bind(&wrong.identity(&workers(1)).unwrap()).unwrap_err().exit_code(), 5);
}

/// Any bytes for a base: positions and codes come out wrong or not at all, and within the block.
#[test]
fn a_wrong_base_leads_out_of_the_block() {
    let mut random = Random(13);
    let (base, tuned) = Good::by_base_models();
    let site = Site::new(&base);
    site.create("p", &tuned, &options(Method::Exact)).unwrap();
    let bound = site.bind("p").unwrap();
    for i in 0..40 {
        let mut wrong = base.clone();
        for t in &mut wrong.tensors {
            let every = [1, 50, 4000][i % 3];
            t.bytes.iter_mut().for_each(|b| *b ^= if random.once_in(every) { random.next() as u8 } else { 0 });
        }
        let source = site.checkpoint("wrong", &wrong);
        for delta in bound.deltas() {
            let (blocks, mut block) = (delta.blocks().unwrap(), Default::default());
            match blocks.decode(0, Some(&source), &mut block) {
                Ok(()) => {
                    assert_eq!(block.positions.len(), block.codes.len());
                    assert!(block.positions.is_sorted() && block.positions.last().is_none_or(|p| *p < 48 * 128));
                }
                Err(e) => assert_eq!(e.exit_code(), 3, "{e}"),
            }
        }
    }
}

/// An exact pack merged with a lossy one, both by class, each block read by several runs.
#[test]
fn packs_by_class_do_not_merge_as_others_do() {
    let (base, tuned) = Good::by_base_models();
    let site = Site::new(&base);
    let exact = make(&site, "exact", &base, &tuned, &How::Exact).unwrap();
    let how = HowLossy {
        density: (1, 5),
        chooser: Chooser::Magnitude,
        by_tensor: true,
        kind: ValueKind::Int4,
        by_row: false,
        rescale: NaiveRescale::L1,
    };
    let lossy = make(&site, "lossy", &base, &tuned, &How::Lossy(how)).unwrap();
    let packs = [("exact", &exact, 1.0), ("lossy", &lossy, 0.75)];
    for rule in [OverlapRule::Average, OverlapRule::Sum, OverlapRule::Elect, OverlapRule::Max] {
        check_merge(&site, &base, &packs, rule, 1.0, GainChoice::Stored);
    }
    let once = site.apply(&[("exact", 1.0)], &merge(OverlapRule::Average, 1.0), "one.safetensors", 1).unwrap();
    let thrice = site.apply(&[("exact", 1.0)], &merge(OverlapRule::Average, 1.0), "two.safetensors", 3).unwrap();
    assert_eq!(once.recipe.result, thrice.recipe.result);
    let pack = OpenedPack::from_bytes(site.pack_bytes("exact"), &Limits::default()).unwrap().verify_as_read();
    assert!(pack.bind(&site.identity).unwrap().delta("a").is_some(), "read lazily, from memory");
}
