//! Every option of `create` does what its help says, and options that contradict each other are refused.
//!
//! Contract: design, "The command line", "Defaults of create", "Localizing", "Scores and masks".
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use serde_json::Value;
use support::{Lab, Tensor, base_model, by_name, read_model, tuned_model};

const CREATE: &str = "create base.safetensors tuned.safetensors";

/// Float elements of the standard model: a.weight, b.weight, c.bias, plain.
const CANDIDATES: u64 = 40 * 32 + 128 + 24 + 10;

fn two_floats() -> (Lab, Vec<f32>) {
    let lab = Lab::new();
    // Deltas 1, 2, … 20 in `big`, and 0.01, 0.02, … 0.2 in `small`, in an order that is not sorted.
    let deltas: Vec<f32> = (0..20).map(|i| ((i * 7) % 20 + 1) as f32).collect();
    let small: Vec<f32> = deltas.iter().map(|d| d / 128.0).collect();
    let zero = [0.0; 20];
    lab.model("base.safetensors", &[Tensor::f32("big", &[4, 5], &zero), Tensor::f32("small", &[4, 5], &zero)]);
    lab.model("tuned.safetensors", &[Tensor::f32("big", &[4, 5], &deltas), Tensor::f32("small", &[4, 5], &small)]);
    (lab, deltas)
}

/// Creates with these options, applies, and gives the values of two tensors of the outcome.
fn outcome(lab: &Lab, options: &str) -> (Vec<f32>, Vec<f32>) {
    lab.run(&format!("{CREATE} -o p.stitch --force {options}")).ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
    let out = read_model(&lab.path("out.safetensors"));
    (out["big"].floats(), out["small"].floats())
}

#[test]
fn exactly_k_positions_are_kept_however_the_density_is_written() {
    let lab = Lab::with_pair();
    let mut packs = Vec::new();
    for density in ["0.05", "5%", ".05", "05%", "5.0%", "0.0500"] {
        let made = lab.run(&format!("{CREATE} -o p.stitch --force --density {density} --json")).ok().json();
        assert_eq!(made["candidates"], CANDIDATES);
        assert_eq!(made["kept"], CANDIDATES * 5 / 100, "{density}");
        packs.push(lab.read("p.stitch").len());
    }
    assert!(packs.iter().all(|p| *p == packs[0]), "{packs:?}");
    // The default is --size 1%, which so small a model has no pack for.
    lab.run(&format!("{CREATE} -o d.stitch")).fails_with(6, &["smaller than", "budget is 35"]);
    lab.run(&format!("{CREATE} -o d.stitch --size 1%")).fails_with(6, &["smaller than", "budget is 35"]);
    // Fewer only where fewer changed; everything, zeros too, only at density 1.
    let most = lab.run(&format!("{CREATE} --dry-run --density 0.9999 --json")).ok().json();
    assert_eq!(most["kept"], most["changed"]);
    let all = lab.run(&format!("{CREATE} --dry-run --density 1 --json")).ok().json();
    assert_eq!(all["kept"], CANDIDATES);
    let none = lab.run(&format!("{CREATE} -o none.stitch --density 0 --json")).ok().json();
    assert_eq!((&none["kept"], &none["touched_tensors"]), (&0.into(), &0.into()));
    lab.run("verify none.stitch --base base.safetensors").ok();
    lab.run("apply base.safetensors none.stitch -o out.safetensors").ok();
    assert_eq!(lab.read("out.safetensors"), lab.read("base.safetensors"));
    lab.run("apply tuned.safetensors none.stitch -o out2.safetensors").fails(5);
    for bad in ["1.5", "101%", "-0.1", "abc", "1e-2", "", "%", "NaN", "inf"] {
        let args = ["create", "base.safetensors", "tuned.safetensors", "-o", "bad.stitch"];
        let ran = lab.run_args(&[&args[..], &[&format!("--density={bad}")]].concat());
        ran.fails_with(2, &["density"]);
    }
    assert!(!lab.path("bad.stitch").exists());
}

#[test]
fn every_value_kind_gives_what_it_promises() {
    let (lab, deltas) = two_floats();
    for kind in ["f32", "f16", "bf16"] {
        let (big, small) = outcome(&lab, &format!("--density 1 --values {kind}"));
        assert_eq!(big, deltas, "{kind}: small integers fit every float");
        assert_eq!(small, deltas.iter().map(|d| d / 128.0).collect::<Vec<_>>(), "{kind}");
    }
    for (kind, steps) in [("int8", 127.0), ("int4", 7.0)] {
        let (big, _) = outcome(&lab, &format!("--density 1 --values {kind} --rescale none"));
        for (got, want) in big.iter().zip(&deltas) {
            assert!((got - want).abs() <= 20.0 / steps / 2.0 * 1.001, "{kind}: {got} for {want}");
        }
    }
    let (big, small) = outcome(&lab, "--density 1 --values sign --rescale none");
    assert!(big.iter().all(|x| *x == big[0]), "one scale a tensor: {big:?}");
    assert!(small.iter().all(|x| *x == small[0]) && small[0] < big[0] / 100.0, "{small:?}");
    assert!((big[0] - 10.5).abs() < 0.01, "the mean of 1 to 20, not {}", big[0]);
    let (big, _) = outcome(&lab, "--density 1 --values codebook --rescale none");
    let levels: std::collections::BTreeSet<u32> = big.iter().map(|x| x.to_bits()).collect();
    assert!(levels.len() <= 16 && levels.len() >= 8, "{big:?}");
    for (got, want) in big.iter().zip(&deltas) {
        assert!((got - want).abs() <= 2.0, "codebook: {got} for {want}");
    }
    let (lab, default) = (Lab::with_pair(), "--density 5% -o");
    lab.run(&format!("{CREATE} {default} a.stitch")).ok();
    lab.run(&format!("{CREATE} {default} b.stitch --values sign --scope global --groups tensor --rescale energy")).ok();
    assert_eq!(lab.read("a.stitch"), lab.read("b.stitch"), "the documented defaults are the defaults");
}

#[test]
fn global_scope_lets_a_loud_tensor_win_and_tensor_scope_does_not() {
    let (lab, deltas) = two_floats();
    let (big, small) = outcome(&lab, "--density 25% --values f32");
    assert_eq!(big.iter().filter(|x| **x != 0.0).count(), 10);
    for (got, want) in big.iter().zip(&deltas) {
        assert_eq!(*got, if *want > 10.0 { *want } else { 0.0 });
    }
    assert!(small.iter().all(|x| *x == 0.0));
    let (big, small) = outcome(&lab, "--density 25% --values f32 --scope tensor");
    for (got, want) in big.iter().zip(&deltas) {
        assert_eq!(*got, if *want > 15.0 { *want } else { 0.0 });
    }
    assert_eq!(small.iter().filter(|x| **x != 0.0).count(), 5);
}

#[test]
fn equal_magnitudes_are_kept_by_name_and_position_not_by_chance() {
    let lab = Lab::new();
    let zero = [0.0; 12];
    let one = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0];
    lab.model("base.safetensors", &[Tensor::f32("small", &[12], &zero), Tensor::f32("big", &[12], &zero)]);
    lab.model("tuned.safetensors", &[Tensor::f32("small", &[12], &one), Tensor::f32("big", &[12], &one)]);
    let (big, small) = outcome(&lab, "--density 0.625 --values f32");
    assert_eq!(big, one, "big comes before small");
    assert_eq!(small, [1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_scale_a_row_follows_the_rows() {
    let lab = Lab::new();
    let rows: Vec<f32> = (0..20).map(|i| if i < 10 { 1.0 } else { 100.0 }).collect();
    lab.model("base.safetensors", &[Tensor::f32("big", &[2, 10], &[0.0; 20]), Tensor::f32("small", &[1], &[0.0])]);
    lab.model("tuned.safetensors", &[Tensor::f32("big", &[2, 10], &rows), Tensor::f32("small", &[1], &[2.0])]);
    for kind in ["sign", "int8", "int4"] {
        let (big, small) = outcome(&lab, &format!("--density 1 --values {kind} --groups row --rescale none"));
        assert_eq!((big, small), (rows.clone(), vec![2.0]), "{kind}");
    }
    let (big, _) = outcome(&lab, "--density 1 --values sign --groups tensor --rescale none");
    assert!(big.iter().all(|x| *x == big[0]), "{big:?}");
    for kind in ["f32", "bf16", "f16", "codebook"] {
        lab.run(&format!("{CREATE} -o q.stitch --values {kind} --groups row")).fails_with(2, &[kind, "row"]);
    }
    lab.run(&format!("{CREATE} -o q.stitch --groups column")).fails_with(2, &["column", "tensor or row"]);
    assert!(!lab.path("q.stitch").exists());
}

#[test]
fn rescale_gives_the_norm_that_it_names() {
    let (lab, deltas) = two_floats();
    let (square, sum) = deltas.iter().fold((0.0, 0.0), |(a, b), d| (a + d * d, b + d.abs()));
    let gain = |options: &str| {
        let made = lab.run(&format!("{CREATE} --dry-run --json --density 25% {options}")).ok().json();
        made["gain"].as_f64().unwrap() as f32
    };
    let (kept_square, kept_sum) = (11..=20).fold((0.0, 0.0), |(a, b), d| (a + (d * d) as f32, b + d as f32));
    let small = (1.0 + 1.0 / 128.0f32, (1.0 + 1.0 / (128.0 * 128.0f32)));
    let near = |a: f32, b: f32| assert!((a / b - 1.0).abs() < 1e-4, "{a} for {b}");
    near(gain("--values f32 --rescale energy"), (square * small.1 / kept_square).sqrt());
    near(gain("--values f32 --rescale l1"), sum * small.0 / kept_sum);
    assert_eq!(gain("--values f32 --rescale none"), 1.0);
    assert_eq!(gain("--values f32"), 1.0, "float values are left alone unless it is said");
    assert_eq!(gain("--rescale 2.5"), 2.5);
    assert!(gain("") > 1.0, "signs get the energy back");
    let (big, _) = outcome(&lab, "--density 25% --values f32 --rescale 2.5");
    for (got, want) in big.iter().zip(&deltas) {
        assert_eq!(*got, if *want > 10.0 { want * 2.5 } else { 0.0 });
    }
    for bad in ["0", "-1", "NaN", "inf", "1e39", "much", ""] {
        let ran =
            lab.run_args(&["create", "base.safetensors", "tuned.safetensors", "-o", "q", &format!("--rescale={bad}")]);
        ran.fails_with(2, &["none, energy, l1"]);
    }
}

#[test]
fn scores_choose_positions_and_not_values() {
    let (lab, deltas) = two_floats();
    // The largest scores where the deltas are smallest; negative scores rank below 0.
    let scores: Vec<f32> = deltas.iter().map(|d| -d).collect();
    let low = [-1000.0; 20];
    let write = |big: &Tensor, small: &Tensor| {
        lab.model("scores.safetensors", &[big.clone(), small.clone()]);
    };
    write(&Tensor::f32("big", &[4, 5], &scores), &Tensor::f32("small", &[4, 5], &low));
    let (big, small) = outcome(&lab, "--density 10% --values f32 --scores scores.safetensors");
    for (got, want) in big.iter().zip(&deltas) {
        assert_eq!(*got, if *want <= 4.0 { *want } else { 0.0 });
    }
    assert!(small.iter().all(|x| *x == 0.0));
    let again = "create base.safetensors tuned.safetensors -o q.stitch --density 10% --scores scores.safetensors";
    lab.model("scores.safetensors", &[Tensor::f32("big", &[4, 5], &scores)]);
    lab.run(again).fails_with(2, &["small"]);
    write(&Tensor::f32("big", &[5, 4], &scores), &Tensor::f32("small", &[4, 5], &low));
    lab.run(again).fails_with(2, &["big", "[5, 4]", "[4, 5]"]);
    write(&Tensor::u8("big", "U8", &[4, 5], &[1; 20]), &Tensor::f32("small", &[4, 5], &low));
    lab.run(again).fails_with(2, &["big", "U8"]);
    let mut nan = scores.clone();
    nan[3] = f32::NAN;
    write(&Tensor::f32("big", &[4, 5], &nan), &Tensor::f32("small", &[4, 5], &low));
    lab.run(again).fails_with(6, &["big", "NaN"]);
    let stray =
        [Tensor::f32("big", &[4, 5], &scores), Tensor::f32("small", &[4, 5], &low), Tensor::f32("x", &[], &[0.0])];
    lab.model("scores.safetensors", &stray);
    lab.run(again).fails_with(2, &["\"x\""]);
    lab.run("create base.safetensors tuned.safetensors -o q.stitch --scores nowhere").fails_with(7, &["nowhere"]);
    assert!(!lab.path("q.stitch").exists());
}

#[test]
fn a_mask_is_taken_as_it_is_and_what_it_drops_is_told() {
    let (lab, deltas) = two_floats();
    let mut tuned = deltas.clone();
    tuned[0] = 0.0;
    let small: Vec<f32> = deltas.iter().map(|d| d / 128.0).collect();
    lab.model("tuned.safetensors", &[Tensor::f32("big", &[4, 5], &tuned), Tensor::f32("small", &[4, 5], &small)]);
    for dtype in ["U8", "BOOL"] {
        let mut mask = [0; 20];
        (mask[0], mask[1], mask[19]) = (1, 1, 1);
        lab.model("mask.safetensors", &[Tensor::u8("big", dtype, &[4, 5], &mask)]);
        let (big, small) = outcome(&lab, "--values f32 --mask mask.safetensors");
        let kept: Vec<usize> = (0..20).filter(|i| big[*i] != 0.0).collect();
        assert_eq!(kept, [1, 19]);
        assert_eq!((big[1], big[19]), (deltas[1], deltas[19]));
        assert!(small.iter().all(|x| *x == 0.0), "a tensor that the mask lacks keeps nothing");
        let made = lab.run(&format!("{CREATE} --dry-run --mask mask.safetensors --json")).ok().json();
        assert_eq!((&made["kept"], &made["unchanged_in_mask"]), (&2.into(), &1.into()));
        let made = lab.run(&format!("{CREATE} --dry-run --mask mask.safetensors")).ok();
        assert!(made.stdout.contains("dropped  1 positions"), "{}", made.stdout);
    }
    lab.model("mask.safetensors", &[Tensor::f32("big", &[4, 5], &[1.0; 20])]);
    lab.run(&format!("{CREATE} -o q --mask mask.safetensors")).fails_with(2, &["big", "BOOL or U8"]);
    lab.model("mask.safetensors", &[Tensor::u8("big", "U8", &[20], &[1; 20])]);
    lab.run(&format!("{CREATE} -o q --mask mask.safetensors")).fails_with(2, &["[20]"]);
    lab.model("mask.safetensors", &[Tensor::u8("large", "U8", &[4, 5], &[1; 20])]);
    lab.run(&format!("{CREATE} -o q --mask mask.safetensors")).fails_with(2, &["large"]);
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let lab = Lab::with_pair();
    lab.model("mask.safetensors", &[Tensor::u8("plain", "U8", &[10], &[1; 10])]);
    for other in [
        "--density 5%",
        "--values sign",
        "--rescale none",
        "--scope tensor",
        "--groups row",
        "--scores tuned.safetensors",
        "--mask mask.safetensors",
    ] {
        let option = other.split(' ').next().unwrap();
        lab.run(&format!("{CREATE} -o p.stitch --exact {other}")).refused_by_parser(&["--exact", option]);
    }
    for other in ["--density 5%", "--scope tensor", "--scores tuned.safetensors"] {
        lab.run(&format!("{CREATE} -o p.stitch --mask mask.safetensors {other}")).refused_by_parser(&["--mask"]);
    }
    assert!(!lab.path("p.stitch").exists());
}

#[test]
fn an_unknown_value_is_answered_with_the_known_ones() {
    let lab = Lab::with_pair();
    for (option, known) in [
        ("--values int3", &["f32", "f16", "bf16", "int8", "int4", "sign", "codebook"][..]),
        ("--values step", &["f32", "codebook"]),
        ("--scope model", &["global", "tensor"]),
        ("--groups 64", &["tensor", "row"]),
        ("--rescale l2", &["none", "energy", "l1"]),
        ("--new-tensors keep", &["refuse", "carry", "skip"]),
    ] {
        lab.run(&format!("{CREATE} -o p.stitch {option}")).fails_with(2, known);
    }
    lab.run("diff base.safetensors tuned.safetensors --new-tensors keep").fails_with(2, &["refuse", "carry", "skip"]);
}

#[test]
fn notes_that_no_reader_would_accept_are_not_written() {
    let lab = Lab::with_pair();
    lab.run(&format!(
        "{CREATE} -o p.stitch --density 1% --meta task=sums --meta licence=MIT --meta empty= --meta eq=a=b"
    ))
    .ok();
    let pack = lab.read("p.stitch");
    lab.run(&format!(
        "{CREATE} -o r.stitch --density 1% --meta eq=a=b --meta empty= --meta licence=MIT --meta task=sums"
    ))
    .ok();
    assert_eq!(pack, lab.read("r.stitch"), "the order of notes makes no difference");
    lab.run("verify p.stitch").ok();
    lab.run(&format!("{CREATE} -o q.stitch --meta task=a --meta task=b")).fails_with(2, &["task", "twice"]);
    lab.run(&format!("{CREATE} -o q.stitch --meta task")).fails_with(2, &["KEY=VALUE"]);
    lab.run(&format!("{CREATE} -o q.stitch --meta =a")).fails_with(2, &["KEY=VALUE"]);
    let many: String = (0..1025).map(|i| format!(" --meta k{i}=v")).collect();
    let ran = lab.run(&format!("{CREATE} -o q.stitch --density 1% {many}"));
    assert_ne!(ran.code, 0, "a pack with 1,025 notes was written, and no reader opens it");
    let long = format!("k={}", "v".repeat(100_000));
    let mut args: Vec<String> = format!("{CREATE} -o q.stitch --density 1%").split(' ').map(String::from).collect();
    (0..11).for_each(|i| args.extend(["--meta".into(), format!("{i}{long}")]));
    let ran = lab.run_args(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_ne!(ran.code, 0, "a pack with more than 1 MiB of notes was written, and no reader opens it");
    assert!(!lab.path("q.stitch").exists());
}

#[test]
fn a_dry_run_tells_the_truth_and_writes_nothing() {
    let lab = Lab::with_pair();
    for options in ["--size 20%", "--exact", "--density 10% --values int8", "--density 50% --values bf16 --meta a=b"] {
        let before = lab.snapshot();
        let dry = lab.run(&format!("{CREATE} --dry-run --json {options}")).ok().json();
        let named = lab.run(&format!("{CREATE} --dry-run -o dry.stitch --json {options}")).ok().json();
        assert!(lab.snapshot() == before, "{:?}", lab.names("."));
        assert!(dry["path"].is_null() && named["path"].is_null());
        let real = lab.run(&format!("{CREATE} -o p.stitch --force --json {options}")).ok().json();
        let len = fs::metadata(lab.path("p.stitch")).unwrap().len();
        assert_eq!(real["pack_bytes"], len);
        for key in ["pack_bytes", "id", "content_id", "kept", "changed", "gain", "energy_kept"] {
            assert_eq!(dry[key], real[key], "{options}: {key}");
        }
        fs::remove_file(lab.path("p.stitch")).unwrap();
    }
}

#[test]
fn a_budget_is_kept_and_used() {
    let lab = Lab::new();
    let mut rng = support::Rng(9);
    let noise = |rng: &mut support::Rng, size: f32| (rng.below(2001) as f32 - 1000.0) * size;
    let base: Vec<f32> = (0..400_000).map(|_| noise(&mut rng, 1e-4)).collect();
    let tuned: Vec<f32> = base.iter().map(|x| x + noise(&mut rng, 1e-6)).collect();
    lab.model("base.safetensors", &[Tensor::f32("w", &[1000, 400], &base)]);
    lab.model("tuned.safetensors", &[Tensor::f32("w", &[1000, 400], &tuned)]);
    let whole = lab.read("tuned.safetensors").len() as u64;
    for (size, limit) in [("0.3%", whole * 3 / 1000), ("1%", whole / 100), ("40kB", 40_000), ("12%", whole * 12 / 100)]
    {
        let made = lab.run(&format!("{CREATE} -o p.stitch --force --size {size} --json")).ok().json();
        let len = lab.read("p.stitch").len() as u64;
        assert!(len <= limit && len * 100 >= limit * 98, "{size}: {len} bytes of {limit}");
        assert_eq!(made["exact"], false);
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
    }
    let default = lab.run(&format!("{CREATE} -o d.stitch")).ok();
    lab.run(&format!("{CREATE} -o p.stitch --force --size 1%")).ok();
    assert!(lab.read("d.stitch") == lab.read("p.stitch"), "{}", default.stdout);
    assert_eq!(lab.run(&format!("{CREATE} -o p.stitch --force --size 99% --json")).ok().json()["exact"], true);
    lab.run(&format!("{CREATE} -o q.stitch --size 1% --require-exact")).fails_with(6, &["exact", "budget"]);
    lab.run(&format!("{CREATE} -o q.stitch --size 10")).fails_with(6, &["smaller than", "budget is 10"]);
    lab.run(&format!("{CREATE} -o q.stitch --size much")).fails_with(2, &["much"]);
    for other in ["--exact", "--density 1%"] {
        lab.run(&format!("{CREATE} -o q.stitch --size 1% {other}")).refused_by_parser(&["--size"]);
    }
}

#[test]
fn effort_shows_in_a_model() {
    let lab = Lab::with_pair();
    for (how, base_size) in [("--exact", true), ("--density 40% --values f32", false)] {
        let mut contents = std::collections::BTreeSet::new();
        for effort in ["fast", "default", "small"] {
            lab.run(&format!("create base.safetensors tuned.safetensors -o p.stitch --force {how} --effort {effort}"))
                .ok();
            lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
            let inspected = lab.run("inspect p.stitch --json").ok().json();
            assert_eq!(inspected["not_decoded"] != 0, base_size && effort != "fast", "{how} {effort}");
            contents.insert((inspected["content_id"].to_string(), lab.read("out.safetensors")));
        }
        assert_eq!(contents.len(), 1, "{how}");
    }
    lab.run("create base.safetensors tuned.safetensors -o q.stitch --effort most").fails_with(2, &["fast", "small"]);
}

#[test]
fn threads_and_mapping_never_show_in_a_pack() {
    let lab = Lab::new();
    let mut rng = support::Rng(8);
    // More than one block of 2^18 elements, and ties enough that order matters.
    let n = 300_000;
    let values = |rng: &mut support::Rng| -> Vec<f32> { (0..n).map(|_| (rng.below(64) as f32) / 8.0).collect() };
    let (base, tuned) = (values(&mut rng), values(&mut rng));
    lab.model("base.safetensors", &[Tensor::bf16("w", &[3, 100_000], &base), Tensor::f32("v", &[7], &base[..7])]);
    lab.model("tuned.safetensors", &[Tensor::bf16("w", &[3, 100_000], &tuned), Tensor::f32("v", &[7], &tuned[..7])]);
    for options in ["--exact", "--density 3% --values int4 --groups row"] {
        lab.run(&format!("{CREATE} -o one.stitch --force --threads 1 {options}")).ok();
        for how in ["--threads 2", "--threads 5 --no-mmap", ""] {
            lab.run(&format!("{CREATE} -o other.stitch --force {how} {options}")).ok();
            assert!(lab.read("one.stitch") == lab.read("other.stitch"), "{options}: {how:?} gives other bytes");
        }
    }
}

#[test]
fn a_pack_never_replaces_what_is_there_unless_it_is_told_to() {
    let lab = Lab::with_pair();
    lab.write("p.stitch", "precious");
    lab.run(&format!("{CREATE} -o p.stitch --density 1%")).fails_with(6, &["p.stitch", "--force"]);
    assert_eq!(lab.read("p.stitch"), b"precious");
    lab.run(&format!("{CREATE} -o p.stitch --density 1% --force")).ok();
    lab.run("verify p.stitch").ok();
    fs::create_dir(lab.path("folder.stitch")).unwrap();
    lab.run(&format!("{CREATE} -o folder.stitch --density 1%")).fails(6);
    lab.run(&format!("{CREATE} -o folder.stitch --density 1% --force")).fails_with(6, &["folder"]);
    std::os::unix::fs::symlink("nowhere", lab.path("dangling")).unwrap();
    lab.run(&format!("{CREATE} -o dangling --density 1%")).fails(6);
    assert!(!lab.path("nowhere").exists());
    lab.run(&format!("{CREATE} -o missing/p.stitch --density 1%")).fails_with(7, &["missing"]);
    assert!(lab.leftovers(".").is_empty());
}

#[test]
fn a_pack_never_replaces_an_input() {
    let lab = Lab::with_pair();
    lab.folder("folder", &tuned_model(2));
    lab.model("mask.safetensors", &[Tensor::u8("plain", "U8", &[10], &[1; 10])]);
    lab.model("scores.safetensors", &base_model()[..4]);
    fs::hard_link(lab.path("base.safetensors"), lab.path("hard")).unwrap();
    std::os::unix::fs::symlink("tuned.safetensors", lab.path("soft")).unwrap();
    let before = lab.snapshot();
    for args in [
        "base.safetensors tuned.safetensors -o base.safetensors",
        "base.safetensors tuned.safetensors -o tuned.safetensors",
        "base.safetensors tuned.safetensors -o ./folder/../base.safetensors",
        "base.safetensors tuned.safetensors -o hard",
        "base.safetensors tuned.safetensors -o soft",
        "base.safetensors folder -o folder",
        "base.safetensors folder -o folder/model.safetensors",
        "base.safetensors tuned.safetensors -o mask.safetensors --mask mask.safetensors",
        "base.safetensors tuned.safetensors -o scores.safetensors --scores scores.safetensors",
    ] {
        lab.run(&format!("create {args} --force")).fails_with(2, &["is an input"]);
        lab.run(&format!("create {args}")).fails(2);
    }
    assert!(lab.snapshot() == before);
}

#[test]
fn a_pack_never_replaces_a_file_of_the_models() {
    let lab = Lab::new();
    lab.folder("base", &base_model());
    lab.folder("tuned", &tuned_model(2));
    lab.write("tuned/config.json", "{\"other\": true}");
    let before = lab.snapshot();
    for out in ["tuned/config.json", "base/config.json"] {
        let ran = lab.run(&format!("create base tuned -o {out} --exact --carry-files --force"));
        assert!(lab.snapshot() == before, "the pack was written over {out}");
        ran.fails_with(2, &["is an input"]);
    }
}

#[test]
fn an_exact_pack_gives_back_every_bit() {
    let lab = Lab::new();
    let odd = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 2.0, 1.0, f32::MAX];
    let mut special = Tensor::f32("special", &[7], &odd);
    let base_special = special.clone();
    special.data.rotate_left(4);
    special.data[0..4].copy_from_slice(&0x7fa0_0001u32.to_le_bytes());
    let bytes = |seed: u64, n: usize| -> Vec<u8> {
        let mut rng = support::Rng(seed);
        (0..n).map(|_| rng.next() as u8).collect()
    };
    let dtypes = [
        ("BOOL", 1),
        ("U8", 1),
        ("I8", 1),
        ("I16", 2),
        ("U16", 2),
        ("I32", 4),
        ("U32", 4),
        ("I64", 8),
        ("U64", 8),
        ("F16", 2),
        ("BF16", 2),
        ("F32", 4),
        ("F64", 8),
        ("C64", 8),
        ("F8_E4M3", 1),
        ("F8_E5M2", 1),
        ("F8_E8M0", 1),
    ];
    let side = |seed: u64| -> Vec<Tensor> {
        let one = |(i, (dtype, width)): (usize, &(&str, usize))| {
            Tensor::raw(&format!("t.{dtype}"), dtype, &[6, 5], bytes(seed + i as u64, 30 * width))
        };
        let mut all: Vec<Tensor> = dtypes.iter().enumerate().map(one).collect();
        all.push(Tensor::raw("t.F4", "F4", &[6, 4], bytes(seed + 90, 12)));
        all
    };
    lab.model("base.safetensors", &[side(100), vec![base_special]].concat());
    lab.model("tuned.safetensors", &[side(200), vec![special]].concat());
    let made = lab.run(&format!("{CREATE} -o p.stitch --exact --json")).ok().json();
    assert_eq!(made["exact"], true);
    lab.run("verify p.stitch --base base.safetensors").ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --check").ok();
    assert_eq!(lab.read("out.safetensors"), lab.read("tuned.safetensors"));
    lab.run("verify p.stitch --result tuned.safetensors").ok();
}

#[test]
fn a_pack_that_rounded_or_left_out_something_does_not_claim_every_bit() {
    let lab = Lab::with_pair();
    let made = lab.run(&format!("{CREATE} --dry-run --exact --exclude b.weight --json")).ok().json();
    assert_eq!(made["exact"], false);
    let made = lab.run(&format!("{CREATE} --dry-run --exact --exclude b.weight")).ok();
    assert!(!made.stdout.contains("bit for bit"), "{}", made.stdout);
    let third = [1.0f32 / 3.0; 4];
    lab.model("b.safetensors", &[Tensor::bf16("w", &[4], &[0.0; 4])]);
    lab.model("t.safetensors", &[Tensor::f32("w", &[4], &third)]);
    let made = lab.run("create b.safetensors t.safetensors -o p.stitch --exact --cast --json").ok().json();
    assert_eq!(made["exact"], false, "1/3 was rounded to bf16, so the fine-tuned model does not come back");
}

/// `exact` and `all_steps` mean the same in every report and on every pack.
#[test]
fn inspect_and_create_disagree_about_what_is_exact() {
    let lab = Lab::with_pair();
    let third = [1.0f32 / 3.0; 4];
    lab.model("b.safetensors", &[Tensor::bf16("w", &[4], &[0.0; 4])]);
    lab.model("t.safetensors", &[Tensor::f32("w", &[4], &third)]);
    let cases = [
        ("base.safetensors tuned.safetensors --exact", [true, true]),
        ("base.safetensors tuned.safetensors --exact --exclude b.weight", [false, true]),
        ("b.safetensors t.safetensors --exact --cast", [false, true]),
        ("base.safetensors tuned.safetensors --density 20%", [false, false]),
    ];
    for (how, want) in cases {
        let made = lab.run(&format!("create {how} -o p.stitch --force --json")).ok().json();
        let seen = lab.run("inspect p.stitch --json").ok().json();
        for json in [&made, &seen] {
            assert_eq!([&json["exact"], &json["all_steps"]], [&Value::from(want[0]), &want[1].into()], "{how}");
        }
        let text = lab.run("inspect p.stitch --html p.html --force").ok();
        assert!(text.stdout.is_empty(), "{}", text.stdout);
        let page = String::from_utf8(lab.read("p.html")).unwrap();
        let text = lab.run("inspect p.stitch").ok().stdout;
        for (what, said) in [("text", &text), ("html", &page)] {
            assert_eq!(said.contains("whole fine-tuned model"), want[0], "{what} of {how}: {said}");
        }
    }
}

#[test]
fn nothing_changed_is_a_pack_too() {
    let lab = Lab::with_pair();
    for options in ["--exact", "--size 50%", "--density 1 --values int8", "--density 1% --values codebook --rescale l1"]
    {
        let made = lab.run(&format!("create base.safetensors base.safetensors -o p.stitch --force {options} --json"));
        assert_eq!(made.ok().json()["changed"], 0);
        lab.run("verify p.stitch --base base.safetensors").ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
        assert_eq!(lab.read("out.safetensors"), lab.read("base.safetensors"), "{options}");
    }
}

#[test]
fn deltas_that_are_no_numbers_are_refused_where_they_cannot_be_stored() {
    let lab = Lab::new();
    lab.model("base.safetensors", &[Tensor::f32("w", &[3], &[0.0, 1.0, 2.0])]);
    for (x, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        lab.model("tuned.safetensors", &[Tensor::f32("w", &[3], &[0.0, x, 2.0])]);
        lab.run(&format!("{CREATE} -o p.stitch --density 1 --values f32")).fails_with(6, &["\"w\"", word, "--exact"]);
        lab.run(&format!("{CREATE} -o p.stitch --exact --force")).ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force").ok();
        assert_eq!(lab.read("out.safetensors"), lab.read("tuned.safetensors"));
        fs::remove_file(lab.path("p.stitch")).unwrap();
    }
    lab.model("tuned.safetensors", &[Tensor::f32("w", &[3], &[1e6, 1.0, 2.0])]);
    lab.run(&format!("{CREATE} -o p.stitch --density 1 --values f16")).fails_with(6, &["\"w\"", "f16"]);
    lab.run(&format!("{CREATE} -o p.stitch --density 1 --values bf16")).ok();
    assert_eq!(by_name(&tuned_model(2)).len(), 5);
}

#[test]
fn a_command_of_the_users_measures_candidates() {
    let lab = Lab::with_pair();
    // Bytes that differ from the fine-tuned file, so that fewer are better.
    fs::write(lab.path("score"), "cmp -l \"$1\" tuned.safetensors | wc -l\n").unwrap();
    let eval = |command: &str, more: &str| {
        let mut args: Vec<&str> = CREATE.split_whitespace().collect();
        args.extend(["-o", "p.stitch", "--json", "--eval", command]);
        args.extend(more.split_whitespace());
        lab.run_args(&args)
    };
    let document = eval("sh score", "--keep 60%").ok().json();
    let found = &document["evaluation"];
    assert_eq!(found["fine_tuned"], 0.0);
    assert!(found["chosen"]["kept"].as_f64().unwrap() >= 0.6);
    assert_eq!(
        found["chosen"]["pack_bytes"],
        found["trials"].as_array().unwrap().iter().find(|t| t["kept"].as_f64() >= Some(0.6)).unwrap()["pack_bytes"]
    );
    eval("sh score {}", "--keep 60% --force").ok();
    eval("false", "--force").fails_with(6, &["ended with"]);
    eval("echo nothing #", "--force").fails_with(6, &["must be a number"]);
    eval("sh score", "").fails_with(6, &["exists"]);
    eval("sh score", "--keep 0 --force").fails_with(2, &["share"]);
    eval("sh score", "--keep 200% --force").fails_with(2, &["--keep \"200%\""]);
    lab.run(&format!("{CREATE} -o q.stitch --keep 50%")).refused_by_parser(&["--eval"]);
}
