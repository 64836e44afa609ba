//! Swapping packs in memory: after any commits the tensors are those of a model that is built anew, a stage that fails changes
//! nothing, and what is written is only what either set keeps. Promises 1 and 4.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use common::Random;
use common::case::{KINDS, random_base, random_how, random_tuned, rules};
use common::interesting::FACTORS;
use common::models::{Change, Fill, Model, Tensor, base_tensor, tuned_tensor};
use common::naive::{Chooser, How, HowLossy, NaiveRescale};
use common::site::{Site, merge, options, sparse, workers};
use proptest::prelude::*;
use stitchpack::create::{Method, NewTensors};
use stitchpack::limits::Limits;
use stitchpack::live::{Staged, Update};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{Checkpoint, Error, Layer, Live, MergeOptions, OpenedPack, Result, StitchedModel};

/// A writable buffer for each tensor of the base, full of bytes that are nobody's.
struct Buffers(BTreeMap<String, Vec<u8>>);

impl Buffers {
    fn of(base: &Model) -> Self {
        Buffers(base.tensors.iter().map(|t| (t.name.clone(), vec![0xa5; t.bytes.len()])).collect())
    }

    fn slices(&mut self) -> impl Iterator<Item = (&str, &mut [u8])> {
        self.0.iter_mut().map(|(name, bytes)| (name.as_str(), &mut bytes[..]))
    }
}

type Packs<'n> = [(&'n str, f32)];

fn stage<'a>(live: &Live<'a>, site: &'a Site, packs: &Packs, how: &MergeOptions, threads: usize) -> Result<Staged<'a>> {
    live.stage(&StitchedModel::new(&site.base, site.layers(packs), how)?, &workers(threads))
}

fn check_is(live: &Live, model: &Model) {
    for t in &model.tensors {
        assert!(live.tensor(&t.name).unwrap() == t.bytes, "{} {}", t.name, t.dtype);
    }
}

/// What a model that is built anew has.
fn fresh(site: &Site, packs: &Packs, how: &MergeOptions) -> Result<Model> {
    site.apply_file(packs, how).map(|bytes| Model::read(&bytes))
}

/// Tensors into which updates are written as a receiver elsewhere would.
fn receive(model: &mut Model, updates: &[Update]) {
    for update in updates {
        let tensor = model.get_mut(&update.tensor.name);
        let width = update.tensor.dtype.unit_bytes();
        assert!(update.positions.is_sorted_by(|a, b| a < b));
        assert_eq!(update.values.len(), update.positions.len() * width);
        for (position, value) in update.positions.iter().zip(update.values.chunks(width)) {
            tensor.bytes[*position as usize * width..][..width].copy_from_slice(value);
        }
    }
}

/// Makes packs of a base, all of them different.
fn packs(
    site: &Site,
    base: &Model,
    n: usize,
    how: impl Fn(&Model, &mut Random) -> How,
    random: &mut Random,
) -> Vec<String> {
    let (mut names, mut ids) = (Vec::new(), BTreeSet::new());
    for i in 0..n {
        let change = if random.once_in(2) { Change::Some } else { Change::Most };
        let tuned = random_tuned(base, change, random);
        let name = format!("p{i}");
        let made = site.create_as(&name, &tuned, &how(&tuned, random));
        if made.is_ok_and(|created| ids.insert(created.id)) {
            names.push(name);
        }
    }
    names
}

/// Some of the packs in some order, and how they are merged.
fn random_set<'n>(names: &'n [String], random: &mut Random) -> (Vec<(&'n str, f32)>, MergeOptions) {
    let unit = random.once_in(2);
    let factor = |random: &mut Random| if unit && !random.once_in(4) { 1.0 } else { *random.pick(&FACTORS) };
    let mut set = Vec::new();
    for name in names {
        if !random.once_in(3) {
            set.push((name.as_str(), factor(random)));
        }
    }
    let turn = random.below(set.len().max(1) as u64) as usize;
    set.rotate_left(turn);
    (set, merge(*random.pick(&rules()), factor(random)))
}

/// Swaps at random between sets, held against fresh builds after each; at the end, the base.
fn swaps(site: &Site, base: &Model, names: &[String], steps: usize, random: &mut Random) {
    let mut buffers = Buffers::of(base);
    let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    check_is(&live, base);
    let (mut now, mut seen) = (base.clone(), vec![]);
    for _ in 0..steps {
        let (set, how) = random_set(names, random);
        let threads = 1 + random.below(3) as usize;
        match (stage(&live, site, &set, &how, threads), fresh(site, &set, &how)) {
            (Ok(staged), Ok(model)) => {
                check_is(&live, &now);
                let updates: Vec<Update> = staged.updates(live.held()).collect();
                receive(&mut now, &updates);
                assert!(now.tensors.iter().eq(&model.tensors), "updates lead elsewhere: {set:?} {how:?}");
                let staged = Arc::new(staged);
                live.commit(staged.clone()).unwrap();
                seen.push((staged, model));
            }
            // Which tensor comes first is a matter of order: here by name, there by file.
            (Err(e), Err(f)) => assert_eq!((e.exit_code(), e.kind()), (6, f.kind()), "{e} {f}"),
            (a, b) => panic!("{set:?} {how:?}: {:?} {:?}", a.err(), b.err()),
        }
        check_is(&live, &now);
        if random.once_in(3) && !seen.is_empty() {
            let (staged, model) = random.pick(&seen);
            live.commit(staged.clone()).unwrap();
            now = model.clone();
            check_is(&live, &now);
        }
    }
    if random.once_in(2) {
        live.clear()
    } else {
        live.commit(stage(&live, site, &[], &merge(OverlapRule::Sum, 1.0), 1).unwrap()).unwrap()
    }
    check_is(&live, base);
}

fn cases(n: u32) -> ProptestConfig {
    ProptestConfig { cases: n, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_swap_that_differs_from_a_fresh_build_is_found(
        seed in any::<u64>(), tensors in 1usize..6, n in 1usize..5, only_floats in any::<bool>(), odd in any::<bool>()
    ) {
        let mut random = Random(seed);
        let base = random_base(tensors, only_floats, if odd { Fill::Odd } else { Fill::Ordinary }, &mut random);
        let site = Site::new(&base);
        let names = packs(&site, &base, n, |tuned, random| random_how(&base, tuned, random), &mut random);
        swaps(&site, &base, &names, 6, &mut random);
    }

    /// Any bits, NaN payloads and −0 among them.
    #[test]
    fn exact_packs_give_every_bit_in_memory_too(seed in any::<u64>(), tensors in 1usize..6) {
        let mut random = Random(seed);
        let base = random_base(tensors, false, Fill::Any, &mut random);
        let site = Site::new(&base);
        let mut buffers = Buffers::of(&base);
        let mut live = Live::new(&site.base, buffers.slices(), &workers(2)).unwrap();
        for i in 0..3 {
            let tuned = random_tuned(&base, Change::Any, &mut random);
            let name = format!("p{i}");
            site.create_as(&name, &tuned, &How::Exact).unwrap();
            let staged = stage(&live, &site, &[(&name, 1.0)], &MergeOptions::default(), 2).unwrap();
            live.commit(staged).unwrap();
            check_is(&live, &tuned);
        }
        live.clear();
        check_is(&live, &base);
    }
}

proptest! {
    #![proptest_config(cases(6))]

    /// Blocks that only one set touches, blocks held whole and as lists, and a short one at the end.
    #[test]
    fn tensors_of_several_blocks_are_swapped_likewise(seed in any::<u64>(), which in 0usize..4, kind in 0usize..7) {
        let mut random = Random(seed);
        let dtype = [Dtype::BF16, Dtype::F8_E4M3, Dtype::F32, Dtype::F64][which];
        let base = Model::new(vec![
            base_tensor("big", dtype, &[3, 200_000], Fill::Ordinary, &mut random),
            base_tensor("small", Dtype::F16, &[7, 9], Fill::Ordinary, &mut random),
        ]);
        let site = Site::new(&base);
        let mut names = Vec::new();
        for (i, density) in [(1, 50), (1, 1), (1, 2), (1, 1000)].into_iter().enumerate() {
            let mut tuned = Model::new(base.tensors.iter().map(|t| tuned_tensor(t, Change::Most, &mut random)).collect());
            // One block is as in the base, so that a pack keeps nothing of it.
            let block = i * (1 << 18) * dtype.unit_bytes();
            let end = (block + (1 << 18) * dtype.unit_bytes()).min(base.tensors[0].bytes.len());
            if let Some(bytes) = base.tensors[0].bytes.get(block..end) {
                tuned.tensors[0].bytes[block..end].copy_from_slice(bytes);
            }
            let lossy = HowLossy {
                density, chooser: Chooser::Magnitude, by_tensor: false, kind: KINDS[(kind + i) % KINDS.len()], by_row: false,
                rescale: NaiveRescale::None,
            };
            let how = if i == 2 { How::Exact } else { How::Lossy(lossy) };
            let name = format!("p{i}");
            if site.create_as(&name, &tuned, &how).is_ok() {
                names.push(name);
            }
        }
        swaps(&site, &base, &names, 8, &mut random);
    }
}

// ---- One fact each ----

/// Ten f32 numbers and four bytes; `a` moves 1 and 3, `b` moves 3 and 4, `ids` changes a byte.
fn small() -> (Site, Model) {
    let base =
        Model::new(vec![Tensor::f32s("w", &[10], &[1.0; 10]), Tensor::of_units("ids", Dtype::U8, &[4], &[1, 2, 3, 4])]);
    let site = Site::new(&base);
    let tuned = |moved: [(usize, f32); 2]| {
        let mut model = base.clone();
        let mut values = [1.0; 10];
        moved.iter().for_each(|(at, x)| values[*at] = *x);
        model.tensors[0] = Tensor::f32s("w", &[10], &values);
        model
    };
    site.create_as("a", &tuned([(1, 2.0), (3, 3.0)]), &How::Exact).unwrap();
    site.create_as("b", &tuned([(3, -1.0), (4, 5.0)]), &How::Exact).unwrap();
    let mut other = base.clone();
    other.tensors[1].bytes[2] = 9;
    site.create_as("ids", &other, &How::Exact).unwrap();
    (site, base)
}

fn one(rule: OverlapRule) -> MergeOptions {
    merge(rule, 1.0)
}

#[test]
fn updates_are_the_positions_of_both_sets_with_their_new_values() {
    let (site, base) = small();
    let mut buffers = Buffers::of(&base);
    let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    let sum = one(OverlapRule::Sum);
    let a = Arc::new(stage(&live, &site, &[("a", 1.0)], &sum, 1).unwrap());
    let b = Arc::new(stage(&live, &site, &[("b", 1.0), ("ids", 1.0)], &sum, 1).unwrap());
    let say = |updates: Vec<Update>| -> Vec<(String, Vec<u64>, Vec<u8>)> {
        updates.into_iter().map(|u| (u.tensor.name.clone(), u.positions, u.values)).collect()
    };
    let floats = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|x| x.to_le_bytes()).collect() };
    let w = |positions: &[u64], values: &[f32]| ("w".to_string(), positions.to_vec(), floats(values));
    assert_eq!(say(a.updates(live.held()).collect()), [w(&[1, 3], &[2.0, 3.0])]);
    live.commit(a.clone()).unwrap();
    let ids = |value: u8| ("ids".to_string(), vec![2], vec![value]);
    assert_eq!(say(b.updates(live.held()).collect()), [ids(9), w(&[1, 3, 4], &[1.0, -1.0, 5.0])]);
    live.commit(b.clone()).unwrap();
    assert_eq!(say(a.updates(live.held()).collect()), [ids(3), w(&[1, 3, 4], &[2.0, 3.0, 1.0])]);
    assert_eq!((b.units(), b.memory()), (3, 2 * (4 + 8) + 4 + 2));
}

#[test]
fn a_block_is_held_whole_from_where_a_list_is_larger() {
    // For bf16 a list has 8 bytes a kept unit, a whole block 4 a unit: half of the block is where they meet.
    for (moved, memory) in [(49, 49 * 8), (50, 50 * 8), (51, 100 * 4), (100, 100 * 4)] {
        let base = Model::new(vec![Tensor::of_units("w", Dtype::BF16, &[100], &[0x3f80; 100])]);
        let site = Site::new(&base);
        let mut units = [0x3f80; 100];
        units.iter_mut().rev().take(moved).for_each(|u| *u += 1);
        let tuned = Model::new(vec![Tensor::of_units("w", Dtype::BF16, &[100], &units)]);
        site.create_as("a", &tuned, &How::Exact).unwrap();
        let mut buffers = Buffers::of(&base);
        let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
        let staged = stage(&live, &site, &[("a", 1.0)], &MergeOptions::default(), 1).unwrap();
        assert_eq!(staged.memory(), memory, "{moved}");
        live.commit(staged).unwrap();
        check_is(&live, &tuned);
        live.clear();
        check_is(&live, &base);
    }
}

/// A chain is a set like others: what any of its links keeps is written, and put back.
#[test]
fn a_chain_is_swapped_in_otherwise_than_it_is_built() {
    let (site, base) = small();
    let packs = |names: &[&str]| {
        let open = |n: &&str| (OpenedPack::open(site.pack_path(n)).unwrap().verify().unwrap(), 1.0);
        names.iter().map(open).collect::<Vec<_>>()
    };
    let chain = |names: &[&str]| {
        let sum = one(OverlapRule::Sum);
        StitchedModel::chain(&site.base, &site.identity, packs(names), &sum, &workers(1)).unwrap()
    };
    let mut last = base.clone();
    last.tensors[0] = Tensor::f32s("w", &[10], &[1.0, 2.0, 7.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let tuned = site.checkpoint("last", &last);
    stitchpack::create(&chain(&["a"]), &tuned, &site.pack_path("after-a"), &options(Method::Exact)).unwrap();
    let mut buffers = Buffers::of(&base);
    let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    let staged = live.stage(&chain(&["a", "after-a"]), &workers(1)).unwrap();
    assert_eq!(staged.updates(None).next().unwrap().positions, [1, 2, 3]);
    live.commit(staged).unwrap();
    check_is(&live, &last);
    live.clear();
    check_is(&live, &base);
}

#[test]
fn ten_thousand_swaps_leave_something_behind() {
    let mut random = Random(4);
    let base = random_base(3, false, Fill::Ordinary, &mut random);
    let site = Site::new(&base);
    let names = packs(&site, &base, 4, |_, _| How::Exact, &mut random);
    let mut buffers = Buffers::of(&base);
    let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    let mut sets: Vec<Arc<Staged>> = vec![];
    while sets.len() < 20 {
        let (set, how) = random_set(&names, &mut random);
        sets.extend(stage(&live, &site, &set, &how, 1).ok().map(Arc::new));
    }
    for _ in 0..10_000 {
        live.commit(random.pick(&sets).clone()).unwrap();
    }
    live.clear();
    check_is(&live, &base);
}

/// What no set keeps is never written: bytes that somebody else put there stay.
#[test]
fn only_what_either_set_keeps_is_written() {
    let (site, base) = small();
    let mut buffers = Buffers::of(&base);
    let mut live = Live::holding_base(&site.base, buffers.slices()).unwrap();
    for packs in [&[("a", 1.0)][..], &[("b", 1.0)], &[]] {
        live.commit(stage(&live, &site, packs, &MergeOptions::default(), 1).unwrap()).unwrap();
    }
    let (w, ids) = (live.tensor("w").unwrap(), live.tensor("ids").unwrap());
    let nobodys = |at: usize| w[at * 4..at * 4 + 4] == [0xa5; 4];
    assert_eq!((0..10).filter(|at| !nobodys(*at)).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(ids, [0xa5; 4]);
}

#[test]
fn a_stage_that_fails_changes_nothing() {
    let (site, base) = small();
    let mut huge = base.clone();
    huge.tensors[0] = Tensor::f32s("w", &[10], &[3e38; 10]);
    site.create("huge", &huge, &options(sparse("1", ValueKind::F32))).unwrap();
    let mut buffers = Buffers::of(&base);
    let mut live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    live.commit(stage(&live, &site, &[("a", 1.0)], &MergeOptions::default(), 1).unwrap()).unwrap();
    let before: Vec<Vec<u8>> = ["w", "ids"].map(|name| live.tensor(name).unwrap().to_vec()).into();
    let fails = |result: Result<Staged>, code: u8, words: &str| {
        let e = result.unwrap_err();
        assert!(e.exit_code() == code && e.to_string().contains(words), "{} {e}", e.exit_code());
    };
    // Finite elements that would become infinite.
    let twice = stage(&live, &site, &[("huge", 2.0)], &one(OverlapRule::Sum), 2);
    fails(twice, 6, "10 finite elements would become infinite or NaN, the first in tensor \"w\"");
    let refuse = stage(&live, &site, &[("a", 1.0), ("b", 1.0)], &one(OverlapRule::Refuse), 1);
    fails(refuse, 6, "packs overlap at position 3");
    // A pack that is damaged and verified only as it is read.
    let mut damaged = site.pack_bytes("b");
    let payload = kept_payload(&damaged);
    damaged[payload] ^= 1;
    let pack = OpenedPack::from_bytes(damaged, &Limits::default()).unwrap().verify_as_read();
    let layers = vec![Layer { pack: pack.bind(&site.identity).unwrap(), weight: 1.0 }];
    let model = StitchedModel::new(&site.base, layers, &MergeOptions::default()).unwrap();
    fails(live.stage(&model, &workers(1)), 4, "digest is");
    // The same base, opened by somebody else.
    let again = Checkpoint::open(&site.base_path).unwrap();
    let elsewhere = StitchedModel::new(&again, site.layers(&[("b", 1.0)]), &MergeOptions::default()).unwrap();
    fails(live.stage(&elsewhere, &workers(1)), 2, "another checkpoint");
    let after: Vec<Vec<u8>> = ["w", "ids"].map(|name| live.tensor(name).unwrap().to_vec()).into();
    assert_eq!(before, after);
    live.commit(stage(&live, &site, &[("b", 1.0)], &MergeOptions::default(), 1).unwrap()).unwrap();
    check_is(&live, &fresh(&site, &[("b", 1.0)], &MergeOptions::default()).unwrap());
}

/// Where the first payload section begins: right after the header.
fn kept_payload(pack: &[u8]) -> usize {
    u32::from_le_bytes(pack[40..44].try_into().unwrap()) as usize
}

#[test]
fn a_set_that_adds_or_reshapes_tensors_is_refused() {
    let (site, base) = small();
    let mut buffers = Buffers::of(&base);
    let live = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    let mut longer = base.clone();
    longer.tensors[0] = Tensor::f32s("w", &[11], &[1.0; 11]);
    let mut more = base.clone();
    more.tensors.push(Tensor::f32s("new", &[2], &[1.0; 2]));
    for (name, model, tensor) in [("longer", longer, "\"w\""), ("more", more, "\"new\"")] {
        let mut how = options(Method::Exact);
        how.new_tensors = NewTensors::Carry;
        site.create(name, &model, &how).unwrap();
        let e = stage(&live, &site, &[(name, 1.0)], &MergeOptions::default(), 1).unwrap_err();
        assert!(matches!(e, Error::Refused(_)) && e.to_string().contains(tensor), "{e}");
        // At weight 0 it is not in play.
        stage(&live, &site, &[(name, 0.0)], &MergeOptions::default(), 1).unwrap();
    }
}

#[test]
fn tensors_that_are_not_the_bases_are_refused() {
    let (site, base) = small();
    let refused = |tensors: Vec<(&str, &mut [u8])>, words: &str| {
        let e = Live::new(&site.base, tensors, &workers(1)).unwrap_err();
        assert!(matches!(e, Error::InvalidInput(_)) && e.to_string().contains(words), "{e}");
    };
    refused(vec![("v", &mut [0; 40])], "\"v\" is not in the base");
    refused(vec![("w", &mut [0; 39])], "has 39 bytes, must have 40");
    refused(vec![("w", &mut [0; 41])], "has 41 bytes, must have 40");
    refused(vec![("ids", &mut [0; 4]), ("ids", &mut [0; 4])], "named twice");
    // A part of the model is enough for packs that touch nothing else.
    let mut ids = [0; 4];
    let mut part = Live::new(&site.base, [("ids", &mut ids[..])], &workers(1)).unwrap();
    part.commit(stage(&part, &site, &[("ids", 1.0)], &MergeOptions::default(), 1).unwrap()).unwrap();
    assert_eq!(part.tensor("ids"), Some(&[1, 2, 9, 4][..]));
    let e = stage(&part, &site, &[("a", 1.0)], &MergeOptions::default(), 1).unwrap_err();
    assert!(e.to_string().contains("\"w\" is touched, but is not among the live tensors"), "{e}");
    // Nor does it take what was staged for the whole.
    let mut buffers = Buffers::of(&base);
    let whole = Live::new(&site.base, buffers.slices(), &workers(1)).unwrap();
    let staged = stage(&whole, &site, &[("a", 1.0), ("ids", 1.0)], &one(OverlapRule::Sum), 1).unwrap();
    assert!(part.commit(staged).is_err());
    assert_eq!(part.tensor("ids"), Some(&[1, 2, 9, 4][..]));
    assert!(part.held().is_some_and(|held| held.units() == 1));
}
