//! A base that is digested while it is stitched: the wrong one gives the error that a reading beforehand gives, and leaves nothing.
//!
//! The judge is the long way round: the base read first, then the packs bound to it. [BAS-2] [CLS-1]
#![allow(clippy::unwrap_used)]

mod common;

use common::Random;
use common::lying_packs::{Good, f32_tensor};
use common::models::Model;
use common::site::{Site, merge, options, sparse, workers};
use stitchpack::checkpoint::BaseCheck;
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::merge::OpenOptions;
use stitchpack::merge::recipe::Recipe;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::{
    Applied, ApplyOptions, Checkpoint, DeferredModel, Error, GainChoice, MergeOptions, OpenedPack, Result,
    StitchedModel, VerifiedPack,
};

const CHECKS: [BaseCheck; 2] = [BaseCheck::Full, BaseCheck::Touched];

/// `a` and `b` are coded by what the base has, `p` is not; nothing touches `u`, `r` gets another shape.
fn models() -> (Model, Model) {
    let (mut base, mut tuned) = Good::by_base_models();
    base.tensors.push(f32_tensor("p", &[6], |i| i as f32));
    tuned.tensors.push(f32_tensor("p", &[6], |i| i as f32 + 1.0));
    base.tensors.push(f32_tensor("u", &[300, 1000], |i| i as f32));
    tuned.tensors.push(base.get("u").clone());
    base.tensors.push(f32_tensor("r", &[4], |i| i as f32));
    tuned.tensors.push(f32_tensor("r", &[3], |i| i as f32));
    (base, tuned)
}

fn site() -> (Site, Model) {
    let (base, tuned) = models();
    let site = Site::new(&base);
    site.create("p", &tuned, &CreateOptions { new_tensors: NewTensors::Carry, ..options(Method::Exact) }).unwrap();
    assert!(packs(&site, &["p"])[0].0.needs_base().unwrap());
    (site, base)
}

fn packs(site: &Site, names: &[&str]) -> Vec<(VerifiedPack, f32)> {
    let open = |name: &&str| OpenedPack::open(site.pack_path(name)).unwrap().verify_as_read();
    names.iter().map(|name| (open(name), 1.0)).collect()
}

fn how(check: BaseCheck, merge: &MergeOptions, threads: usize) -> OpenOptions {
    OpenOptions { merge: merge.clone(), base_check: check, workers: workers(threads) }
}

/// In one reading.
fn at_once(base: &Checkpoint, packs: Vec<(VerifiedPack, f32)>, how: &OpenOptions, site: &Site) -> Result<Applied> {
    let options = ApplyOptions { workers: how.workers.clone(), ..ApplyOptions::default() };
    DeferredModel::new(base, packs, None, how)?.apply(&site.path("out.safetensors"), &options)
}

/// In two.
fn by_and_by(base: &Checkpoint, packs: Vec<(VerifiedPack, f32)>, how: &OpenOptions, site: &Site) -> Result<Applied> {
    let options = ApplyOptions { workers: how.workers.clone(), ..ApplyOptions::default() };
    let touched: Vec<String> = packs.iter().flat_map(|(p, _)| p.tensors().map(|t| t.name)).collect();
    let identity = base.identity_with(how.base_check, &|name| touched.iter().any(|t| t == name), &how.workers)?;
    let model = StitchedModel::chain(base, &identity, packs, &how.merge, &how.workers)?;
    stitchpack::apply(&model, &identity, &site.path("out.safetensors"), &options)
}

/// Both ways end alike, whatever the threads, and what fails leaves nothing. Gives how they end.
#[track_caller]
fn alike(site: &Site, base: &Checkpoint, names: &[&str], check: BaseCheck, merge: &MergeOptions) -> Result<Applied> {
    let (out, mut ends) = (site.path("out.safetensors"), Vec::new());
    let before = site.names();
    for threads in [1, 2] {
        for way in [at_once, by_and_by] {
            let end = way(base, packs(site, names), &how(check, merge, threads), site);
            let file = std::fs::read(&out).ok();
            assert_eq!(file.is_some(), end.is_ok(), "{end:?}");
            file.iter().for_each(|_| std::fs::remove_file(&out).unwrap());
            assert_eq!(site.names(), before);
            ends.push((end, file));
        }
    }
    let words = |end: &Result<Applied>| format!("{end:?}");
    let all: Vec<_> = ends.iter().map(|(end, file)| (words(end), file)).collect();
    assert!(
        all.windows(2).all(|pair| pair[0] == pair[1]),
        "{:?}",
        ends.iter().map(|e| words(&e.0)).collect::<Vec<_>>()
    );
    ends.remove(0).0
}

fn code(end: &Result<Applied>) -> u8 {
    end.as_ref().map_or_else(Error::exit_code, |_| 0)
}

#[test]
fn one_flipped_bit_anywhere_is_the_wrong_base() {
    let (site, base) = site();
    let mut random = Random(1);
    for check in CHECKS {
        assert_eq!(code(&alike(&site, &site.base, &["p"], check, &MergeOptions::default())), 0);
        for (i, t) in base.tensors.iter().enumerate() {
            // Some of its first, its last, and in between: every block and every piece of a digest has one.
            let mut places = vec![0, t.bytes.len() - 1];
            places.extend((0..6).map(|_| random.below(t.bytes.len() as u64) as usize));
            for at in places {
                let mut wrong = base.clone();
                wrong.tensors[i].bytes[at] ^= 1 << random.below(8);
                let wrong = site.checkpoint("wrong", &wrong);
                let end = alike(&site, &wrong, &["p"], check, &MergeOptions::default());
                let asked = check == BaseCheck::Full || !["u", "r"].contains(&t.name.as_str());
                assert_eq!(code(&end), if asked { 5 } else { 0 }, "{} {at} {check:?}", t.name);
            }
        }
    }
}

#[test]
fn what_a_wrong_base_makes_of_a_block_is_not_what_is_said() {
    let (site, base) = site();
    let mut random = Random(2);
    let mut led_to_errors = 0;
    for i in 0..30 {
        let mut wrong = base.clone();
        let every = [2, 50, 2000][i % 3];
        for name in ["a", "b"] {
            let bytes = &mut wrong.get_mut(name).bytes;
            bytes.iter_mut().for_each(|b| *b ^= if random.once_in(every) { random.next() as u8 } else { 0 });
        }
        let wrong = site.checkpoint("wrong", &wrong);
        let [(pack, _)] = &packs(&site, &["p"])[..] else { panic!() };
        led_to_errors += usize::from(pack.check_content(Some(&wrong)).is_err_and(|e| e.to_string().contains("block")));
        for check in CHECKS {
            assert_eq!(code(&alike(&site, &wrong, &["p"], check, &MergeOptions::default())), 5);
        }
    }
    assert!(led_to_errors > 5, "the blocks were decoded as if nothing was wrong");
}

#[test]
fn other_errors_are_said_of_the_right_base_only() {
    let (base, tuned) = models();
    let base = Model::new(base.tensors[..4].to_vec());
    let tuned = Model::new(tuned.tensors[..4].to_vec());
    let site = Site::new(&base);
    site.create("p", &tuned, &options(Method::Exact)).unwrap();
    site.create("q", &tuned, &options(sparse("0.5", ValueKind::F32))).unwrap();
    let mut damaged = site.pack_bytes("p");
    damaged[200] ^= 1;
    std::fs::write(site.pack_path("damaged"), damaged).unwrap();
    let mut wrong = base.clone();
    wrong.get_mut("u").bytes[1_000_000] ^= 1;
    let wrong = site.checkpoint("wrong", &wrong);
    let refuse = merge(OverlapRule::Refuse, 1.0);
    let huge = MergeOptions { gain: GainChoice::Factor(1e30), ..merge(OverlapRule::Sum, 1e30) };
    let cases: [(&[&str], &MergeOptions, u8); 3] =
        [(&["p", "q"], &refuse, 6), (&["q"], &huge, 6), (&["damaged"], &MergeOptions::default(), 4)];
    for (names, merge, expected) in cases {
        assert_eq!(code(&alike(&site, &site.base, names, BaseCheck::Full, merge)), expected, "{names:?}");
        assert_eq!(code(&alike(&site, &wrong, names, BaseCheck::Full, merge)), 5, "{names:?}");
        assert_eq!(code(&alike(&site, &wrong, names, BaseCheck::Touched, merge)), expected, "{names:?}");
    }
    // A pack that is not in play is bound all the same.
    let idle = |base: &Checkpoint| {
        let packs = packs(&site, &["q"]).into_iter().map(|(pack, _)| (pack, 0.0)).collect();
        at_once(base, packs, &how(BaseCheck::Full, &MergeOptions::default(), 2), &site)
    };
    assert_eq!(code(&idle(&wrong)), 5);
    assert_eq!(code(&idle(&site.base)), 0);
}

#[test]
fn a_recipe_of_another_base_is_found_at_the_end() {
    let (site, base) = site();
    let how = how(BaseCheck::Full, &MergeOptions::default(), 2);
    let own = DeferredModel::new(&site.base, packs(&site, &["p"]), None, &how).unwrap();
    let recipe = own.lock(&ApplyOptions::default()).unwrap().recipe;
    let lock = |base: &Checkpoint, recipe: &Recipe| {
        DeferredModel::new(base, packs(&site, &["p"]), Some(recipe), &how)?.lock(&ApplyOptions::default())
    };
    assert_eq!(lock(&site.base, &recipe).unwrap().recipe, recipe);
    let other = Recipe { base: recipe.result.clone(), ..recipe.clone() };
    let mut wrong = base.clone();
    wrong.get_mut("u").bytes[0] ^= 1;
    let wrong = site.checkpoint("wrong", &wrong);
    for (base, recipe) in [(&site.base, &other), (&wrong, &recipe), (&wrong, &other)] {
        let e = lock(base, recipe).unwrap_err();
        assert_eq!((e.exit_code(), e.to_string().contains("the recipe names base")), (5, true), "{e}");
    }
}
