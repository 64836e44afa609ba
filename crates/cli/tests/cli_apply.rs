//! Every option of `apply` and `lock` does what its help says, and what makes no sense is refused before work begins.
//!
//! Contract: design, "The merge, precisely", "Apply"; reliability cases O-01 to O-10.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use support::{Lab, Tensor, base_model, by_name, read_model, tuned_model};

/// Base 10, 20, … 80; the packs `p` (positions 0 to 3: +1, +2, +3, +4) and `q` (positions 2 to 5: −6, +8, +10, +12),
/// f32 values, gain 1; and `r` (positions 6 and 7), which meets neither.
fn small_lab() -> Lab {
    let lab = Lab::new();
    let base: Vec<f32> = (1..=8).map(|i| i as f32 * 10.0).collect();
    lab.model("base.safetensors", &[Tensor::f32("w", &[8], &base), Tensor::f32("v", &[2], &[0.0, -0.0])]);
    let deltas = [
        ("p", [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]),
        ("q", [0.0, 0.0, -6.0, 8.0, 10.0, 12.0, 0.0, 0.0]),
        ("r", [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.5, 2.5]),
    ];
    for (name, delta) in deltas {
        let tuned: Vec<f32> = base.iter().zip(delta).map(|(b, d)| b + d).collect();
        let file = format!("{name}.safetensors");
        lab.model(&file, &[Tensor::f32("w", &[8], &tuned), Tensor::f32("v", &[2], &[0.0, -0.0])]);
        lab.run(&format!("create base.safetensors {file} -o {name}.stitch --density 0.9 --values f32")).ok();
        lab.run(&format!("create base.safetensors {file} -o {name}-exact.stitch --exact")).ok();
        lab.run(&format!(
            "create base.safetensors {file} -o {name}-gain.stitch --density 0.9 --values f32 --rescale 3"
        ))
        .ok();
    }
    lab
}

/// What the packs make of the base, less the base.
#[track_caller]
fn change(lab: &Lab, args: &str) -> Vec<f32> {
    lab.run(&format!("apply base.safetensors {args} -o out.safetensors --force")).ok();
    let out = read_model(&lab.path("out.safetensors"));
    assert_eq!(out["v"].data, [0, 0, 0, 0, 0, 0, 0, 0x80], "untouched is identical, −0 too");
    out["w"].floats().iter().enumerate().map(|(i, x)| x - (i + 1) as f32 * 10.0).collect()
}

#[test]
fn each_overlap_rule_gives_its_own_numbers() {
    let lab = small_lab();
    let cases: [(&str, [f32; 8]); 7] = [
        ("p.stitch q.stitch", [1.0, 2.0, -1.5, 6.0, 10.0, 12.0, 0.0, 0.0]),
        ("p.stitch q.stitch --overlap average", [1.0, 2.0, -1.5, 6.0, 10.0, 12.0, 0.0, 0.0]),
        ("p.stitch q.stitch --overlap sum", [1.0, 2.0, -3.0, 12.0, 10.0, 12.0, 0.0, 0.0]),
        ("p.stitch q.stitch --overlap elect", [1.0, 2.0, -6.0, 6.0, 10.0, 12.0, 0.0, 0.0]),
        ("p.stitch q.stitch --overlap max", [1.0, 2.0, -6.0, 8.0, 10.0, 12.0, 0.0, 0.0]),
        ("p.stitch q.stitch --overlap priority", [1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 0.0, 0.0]),
        ("q.stitch p.stitch --overlap priority", [1.0, 2.0, -6.0, 8.0, 10.0, 12.0, 0.0, 0.0]),
    ];
    for (args, want) in cases {
        assert_eq!(change(&lab, args), want, "{args}");
    }
    let weighted = change(&lab, "p.stitch@3 q.stitch@1 --overlap weighted-average");
    assert_eq!(weighted, [1.0, 2.0, 0.75, 5.0, 10.0, 12.0, 0.0, 0.0]);
    assert_eq!(change(&lab, "p.stitch r.stitch --overlap refuse"), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 1.5, 2.5]);
}

#[test]
fn an_overlap_that_was_ruled_out_is_named() {
    let lab = small_lab();
    let ran = lab.run("apply base.safetensors p.stitch r.stitch q.stitch -o out.safetensors --overlap refuse");
    ran.fails_with(6, &["\"w\"", "position 2", "refuse"]);
    lab.run("lock base.safetensors p.stitch q.stitch --overlap refuse").fails_with(6, &["position 2"]);
    assert!(!lab.path("out.safetensors").exists() && !lab.path("stitch.json").exists());
    // A pack of weight 0 is not in play.
    lab.run("apply base.safetensors p.stitch q.stitch@0 -o out.safetensors --overlap refuse").ok();
}

#[test]
fn weights_lambda_and_gain_multiply() {
    let lab = small_lab();
    assert_eq!(change(&lab, "p.stitch@0.5"), [0.5, 1.0, 1.5, 2.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(change(&lab, "p.stitch@-1"), [-1.0, -2.0, -3.0, -4.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(change(&lab, "p.stitch@2 --lambda 0.5"), [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(change(&lab, "p.stitch --lambda -2"), [-2.0, -4.0, -6.0, -8.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(change(&lab, "p.stitch --lambda 0"), [0.0; 8]);
    assert_eq!(change(&lab, "p.stitch@0"), [0.0; 8]);
    assert_eq!(lab.read("out.safetensors"), lab.read("base.safetensors"), "weight 0 gives the base's bytes");
    for (gain, factor) in [("auto", 3.0), ("stored", 3.0), ("none", 1.0), ("0.5", 0.5)] {
        let want = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0].map(|d| d * factor);
        assert_eq!(change(&lab, &format!("p-gain.stitch --gain {gain}")), want, "{gain}");
    }
    assert_eq!(change(&lab, "p-exact.stitch --gain 5"), change(&lab, "p-exact.stitch"), "exact packs have no gain");
}

#[test]
fn a_number_that_is_none_is_a_usage_error() {
    let lab = small_lab();
    for weight in ["NaN", "nan", "inf", "-inf", "1e39", "-1e39", ""] {
        lab.run(&format!("apply base.safetensors p.stitch@{weight} -o out.safetensors")).fails(2);
    }
    for lambda in ["NaN", "inf", "-inf", "1e39"] {
        lab.run(&format!("apply base.safetensors p.stitch -o out.safetensors --lambda={lambda}")).fails(2);
    }
    lab.run("apply base.safetensors p.stitch -o out.safetensors --lambda lots").refused_by_parser(&["lots"]);
    for gain in ["0", "NaN", "inf", "1e39", "some", "-1"] {
        lab.run(&format!("apply base.safetensors p.stitch -o out.safetensors --gain={gain}"))
            .fails_with(2, &["auto, stored, none"]);
    }
    lab.run("apply base.safetensors p.stitch -o out.safetensors --overlap mean")
        .fails_with(2, &["average", "weighted-average", "sum", "elect", "max", "priority", "refuse"]);
    lab.run("apply base.safetensors -o out.safetensors").fails_with(2, &["pack"]);
    lab.run("apply base.safetensors p.stitch@many -o out.safetensors").fails_with(7, &["p.stitch@many"]);
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn an_unknown_base_check_is_answered_with_the_known_ones() {
    let lab = small_lab();
    for command in [
        "apply base.safetensors p.stitch -o out.safetensors",
        "lock base.safetensors p.stitch",
        "verify p.stitch --base base.safetensors",
        "verify p.stitch",
    ] {
        lab.run(&format!("{command} --base-check some")).fails_with(2, &["full", "touched", "cached"]);
    }
}

#[test]
fn an_at_sign_in_a_name_is_not_a_weight_where_the_file_exists() {
    let lab = small_lab();
    fs::copy(lab.path("p.stitch"), lab.path("p@2")).unwrap();
    fs::copy(lab.path("p.stitch"), lab.path("v@1.stitch")).unwrap();
    let whole = [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(change(&lab, "p@2"), whole);
    assert_eq!(change(&lab, "p@2@0.5"), whole.map(|d| d * 0.5));
    assert_eq!(change(&lab, "v@1.stitch"), whole);
    assert_eq!(change(&lab, "v@1.stitch@3"), whole.map(|d| d * 3.0));
    assert_eq!(change(&lab, "./p.stitch@+2"), whole.map(|d| d * 2.0));
    assert_eq!(change(&lab, "p.stitch@5e-1"), whole.map(|d| d * 0.5));
}

#[test]
fn the_same_pack_twice_is_refused_under_any_name() {
    let lab = small_lab();
    fs::copy(lab.path("p.stitch"), lab.path("copy.stitch")).unwrap();
    for twice in
        ["p.stitch p.stitch", "p.stitch q.stitch p.stitch@0.5", "p.stitch copy.stitch", "p.stitch@0 copy.stitch"]
    {
        lab.run(&format!("apply base.safetensors {twice} -o out.safetensors --overlap sum")).fails_with(2, &["twice"]);
    }
}

#[test]
fn exact_and_lossy_packs_together_need_a_rule_said_aloud() {
    let lab = small_lab();
    lab.run("apply base.safetensors p-exact.stitch q.stitch -o out.safetensors").fails_with(6, &["--overlap"]);
    lab.run("lock base.safetensors p-exact.stitch q.stitch").fails(6);
    assert_eq!(change(&lab, "p-exact.stitch q.stitch --overlap sum"), change(&lab, "p.stitch q.stitch --overlap sum"));
    assert_eq!(change(&lab, "p-exact.stitch q-exact.stitch"), change(&lab, "p.stitch q.stitch"));
    // Not in play, not in the way.
    lab.run("apply base.safetensors p-exact.stitch q.stitch@0 -o out.safetensors --force").ok();
}

#[test]
fn what_can_only_be_exact_is_never_scaled_or_mixed() {
    let lab = Lab::new();
    let side = |ids: [i64; 3], w: f32| vec![Tensor::i64("ids", &[3], &ids), Tensor::f32("w", &[1], &[w])];
    lab.model("base.safetensors", &side([1, 2, 3], 0.0));
    lab.model("t.safetensors", &side([1, 2, 9], 1.0));
    lab.model("u.safetensors", &side([7, 2, 3], 2.0));
    for (name, how) in [("t", "--exact"), ("u", "--exact"), ("t", "--density 1 --values f32")] {
        let kind = if how == "--exact" { "exact" } else { "lossy" };
        lab.run(&format!("create base.safetensors {name}.safetensors -o {name}-{kind}.stitch {how}")).ok();
    }
    lab.run("apply base.safetensors t-lossy.stitch -o lossy.safetensors --check").ok();
    assert_eq!(
        lab.read("lossy.safetensors"),
        lab.read("t.safetensors"),
        "integers are carried exactly in a lossy pack"
    );
    for args in ["t-exact.stitch@0.5", "t-exact.stitch --lambda 2", "t-lossy.stitch@2"] {
        lab.run(&format!("apply base.safetensors {args} -o out.safetensors")).fails_with(6, &["ids", "I64", "exactly"]);
    }
    lab.run("apply base.safetensors t-exact.stitch u-exact.stitch -o out.safetensors")
        .fails_with(6, &["ids", "two packs"]);
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn check_proves_the_recorded_outcome_or_says_why_it_cannot() {
    let lab = small_lab();
    for pack in ["p.stitch", "p-exact.stitch", "p-gain.stitch"] {
        let made = lab.run(&format!("apply base.safetensors {pack} -o out.safetensors --force --check")).ok();
        assert!(made.stdout.contains("as recorded"), "{}", made.stdout);
        let json = lab.run(&format!("apply base.safetensors {pack} -o out.safetensors --force --check --json")).ok();
        assert_eq!(json.json()["result_checked"], true);
    }
    for args in ["p.stitch@0.5", "p.stitch --lambda 2", "p-gain.stitch --gain none", "p.stitch q.stitch", "p.stitch@0"]
    {
        lab.run(&format!("apply base.safetensors {args} -o no.safetensors --check")).fails_with(2, &["--check"]);
    }
    assert!(!lab.path("no.safetensors").exists());
}

#[test]
fn a_value_that_overflows_is_refused_and_counted() {
    let lab = Lab::new();
    lab.model("base.safetensors", &[Tensor::f16("w", &[3], &[60000.0, 1.0, -60000.0])]);
    lab.model("tuned.safetensors", &[Tensor::f16("w", &[3], &[65504.0, 2.0, -65504.0])]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --density 1 --values f32").ok();
    lab.run("apply base.safetensors p.stitch@2 -o out.safetensors").fails_with(6, &["2 finite elements", "\"w\""]);
    lab.run("apply base.safetensors p.stitch@2 -o out").fails(6);
    lab.run("lock base.safetensors p.stitch@2").fails(6);
    lab.run("create base.safetensors tuned.safetensors -o q.stitch --density 1 --values f32 --rescale 4")
        .fails_with(6, &["\"w\"", "--rescale"]);
    assert_eq!(lab.names("."), ["base.safetensors", "p.stitch", "tuned.safetensors"]);
    // What is infinite or NaN in the base already is no error where nothing is kept.
    lab.model("base.safetensors", &[Tensor::f16("w", &[3], &[f32::NAN, 1.0, f32::INFINITY])]);
    lab.model("tuned.safetensors", &[Tensor::f16("w", &[3], &[f32::NAN, 2.0, f32::INFINITY])]);
    lab.run("create base.safetensors tuned.safetensors -o q.stitch --exact").ok();
    lab.run("apply base.safetensors q.stitch -o out.safetensors").ok();
    assert_eq!(lab.read("out.safetensors"), lab.read("tuned.safetensors"));
}

#[test]
fn threads_mapping_order_and_sharding_never_show_in_a_model() {
    let lab = Lab::new();
    let (base, a, b) = (base_model(), tuned_model(2), tuned_model(3));
    lab.model("base.safetensors", &base);
    lab.sharded("base", &base, &[&[4, 0], &[1, 3, 2]]);
    lab.model("a.safetensors", &a);
    lab.model("b.safetensors", &b);
    lab.run("create base.safetensors a.safetensors -o a.stitch --density 30% --values int8").ok();
    lab.run("create base.safetensors b.safetensors -o b.stitch --density 30%").ok();
    for rule in ["average", "weighted-average", "sum", "elect", "max"] {
        lab.run(&format!(
            "apply base.safetensors a.stitch@0.7 b.stitch@0.6 -o one.safetensors --force --overlap {rule} --threads 1"
        ))
        .ok();
        for how in [
            "base.safetensors b.stitch@0.6 a.stitch@0.7 --threads 3",
            "base.safetensors a.stitch@0.7 b.stitch@0.6 --no-mmap",
            "base b.stitch@0.6 a.stitch@0.7",
        ] {
            lab.run(&format!("apply {how} -o two.safetensors --force --overlap {rule}")).ok();
            let (one, two) = (read_model(&lab.path("one.safetensors")), read_model(&lab.path("two.safetensors")));
            assert_eq!(one, two, "{rule}: {how}");
        }
    }
    let (_, touched) = (by_name(&base), read_model(&lab.path("one.safetensors")));
    assert_eq!(touched["plain"], base[3]);
    assert_eq!(touched["ids"], base[4]);
}

#[test]
fn a_pack_damaged_where_apply_reads_last_leaves_nothing() {
    let lab = Lab::with_packs();
    let pack = lab.read("exact.stitch");
    for at in [104, 200, pack.len() - 1] {
        let mut bytes = pack.clone();
        bytes[at] ^= 0x10;
        lab.write("damaged.stitch", &bytes);
        for out in ["out", "out.safetensors"] {
            lab.run(&format!("apply base.safetensors damaged.stitch -o {out}")).fails_with(4, &["damaged.stitch"]);
            lab.run(&format!("apply base.safetensors lossy.stitch damaged.stitch --overlap sum -o {out}")).fails(4);
        }
        lab.run("lock base.safetensors damaged.stitch").fails(4);
    }
    assert_eq!(
        lab.names("."),
        ["base.safetensors", "damaged.stitch", "exact.stitch", "lossy.stitch", "tuned.safetensors"]
    );
}

#[test]
fn what_is_missing_or_no_file_is_named_without_waiting() {
    let lab = Lab::with_packs();
    for args in [
        "base.safetensors nowhere.stitch",
        "nowhere exact.stitch",
        "base.safetensors . ",
        "base.safetensors exact.stitch/x",
    ] {
        lab.run(&format!("apply {args} -o out")).fails(7);
    }
    lab.run("apply . exact.stitch -o out").fails_with(3, &["safetensors files"]);
    lab.run("apply base.safetensors exact.stitch -o nowhere/out").fails_with(7, &["nowhere"]);
    lab.run("apply base.safetensors exact.stitch -o nowhere/out.safetensors").fails_with(7, &["nowhere"]);
    assert!(!lab.path("out").exists());
}

#[test]
fn a_chain_and_its_fold_give_what_was_trained_last() {
    let lab = small_lab();
    lab.run("create base.safetensors q.safetensors --after p-exact.stitch -o next.stitch --exact").ok();
    lab.run("apply base.safetensors next.stitch p-exact.stitch -o out.safetensors").ok();
    assert_eq!(lab.read("out.safetensors"), lab.read("q.safetensors"));
    lab.run("apply base.safetensors next.stitch -o no.safetensors").fails_with(5, &["not the base of the pack"]);
    lab.run("apply base.safetensors next.stitch p-exact.stitch@0.5 --overlap sum -o no.safetensors")
        .fails_with(5, &["nor was it made after the other packs"]);
    lab.run("verify next.stitch p-exact.stitch --base base.safetensors --result q.safetensors").ok();
    lab.run("verify next.stitch p-exact.stitch --base base.safetensors --result p.safetensors")
        .fails_with(4, &["result"]);
    lab.run("verify next.stitch --base base.safetensors").fails_with(5, &["not the base of the pack", "--after"]);
    lab.run("verify p-exact.stitch --base q.safetensors").fails_with(5, &["not the base of the pack"]);
    lab.run("lock base.safetensors p-exact.stitch next.stitch").ok();
    lab.run("apply base.safetensors --recipe stitch.json -o again.safetensors").ok();
    assert_eq!(lab.read("again.safetensors"), lab.read("q.safetensors"));
    lab.run("fold base.safetensors p-exact.stitch next.stitch -o both.stitch").ok();
    lab.run("fold --base base.safetensors p-exact.stitch next.stitch -o again.stitch").ok();
    assert_eq!(lab.read("again.stitch"), lab.read("both.stitch"));
    lab.run("apply base.safetensors both.stitch -o folded.safetensors --check").ok();
    assert_eq!(lab.read("folded.safetensors"), lab.read("q.safetensors"));
    lab.run("fold base.safetensors p-exact.stitch next.stitch -o both.stitch").fails_with(6, &["exists"]);
}

#[test]
fn a_recipe_says_which_pack_it_found_in_another_ones_place() {
    let lab = small_lab();
    lab.run("lock base.safetensors p.stitch").ok();
    std::fs::copy(lab.path("q.stitch"), lab.path("p.stitch")).unwrap();
    lab.run("apply base.safetensors --recipe stitch.json -o no.safetensors")
        .fails_with(6, &["p.stitch is pack", "the recipe's is"]);
    std::fs::write(lab.path("p.stitch"), "no pack").unwrap();
    lab.run("apply base.safetensors --recipe stitch.json -o no.safetensors").fails_with(3, &["p.stitch"]);
    std::fs::remove_file(lab.path("p.stitch")).unwrap();
    lab.run("apply base.safetensors --recipe stitch.json -o no.safetensors").fails_with(6, &["is not at hand"]);
}

#[test]
fn a_recipe_with_an_overlap_rule_of_a_newer_version_needs_that() {
    let lab = small_lab();
    lab.run("lock base.safetensors p.stitch").ok();
    let recipe = String::from_utf8(lab.read("stitch.json")).unwrap();
    let newer = recipe.replace("\"average\"", "\"geometric\\u001b[31m\"");
    assert_ne!(newer, recipe);
    lab.write("stitch.json", newer);
    lab.run("apply base.safetensors --recipe stitch.json -o no.safetensors").fails_with(
        8,
        &[
            "stitch.json: overlap rule \"geometric\\u{1b}[31m\" needs a newer stitchpack",
            "average, weighted-average, sum",
        ],
    );
}

#[test]
fn a_folded_merge_says_that_it_is_one() {
    let lab = small_lab();
    lab.run("fold base.safetensors p.stitch q.stitch@0.5 -o merge.stitch").ok();
    lab.run("apply base.safetensors p.stitch q.stitch@0.5 -o merged.safetensors").ok();
    lab.run("apply base.safetensors merge.stitch -o folded.safetensors").ok();
    assert_eq!(lab.read("folded.safetensors"), lab.read("merged.safetensors"));
    assert!(lab.run("inspect merge.stitch").ok().stdout.contains("folded"));
    let again = lab.run("apply base.safetensors merge.stitch r-exact.stitch -o again.safetensors").ok();
    assert!(again.stderr.contains("already a merge: "), "{}", again.stderr);
}

#[test]
fn an_output_never_replaces_the_recipe_and_a_recipe_that_is_a_pipe_is_refused_at_once() {
    let lab = small_lab();
    lab.run("lock base.safetensors p-exact.stitch -o recipe.safetensors").ok();
    let before = lab.read("recipe.safetensors");
    lab.run("apply base.safetensors --recipe recipe.safetensors -o recipe.safetensors --force")
        .fails_with(2, &["is an input"]);
    assert_eq!(lab.read("recipe.safetensors"), before);
    rustix::fs::mknodat(rustix::fs::CWD, lab.path("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    lab.run("apply base.safetensors --recipe pipe -o out.safetensors").fails_with(7, &["not a regular file"]);
    fs::write(lab.path("array.json"), r#"[1, "a", [], "average", 1.0, "b"]"#).unwrap();
    lab.run("apply base.safetensors --recipe array.json -o out.safetensors").fails_with(3, &["an object"]);
}

#[test]
fn a_report_never_replaces_what_it_is_about() {
    let lab = small_lab();
    for input in ["p-exact.stitch", "base.safetensors"] {
        let before = lab.read(input);
        let args = format!("inspect p-exact.stitch --base base.safetensors --html {input} --force");
        lab.run(&args).fails_with(2, &["is an input"]);
        assert_eq!(lab.read(input), before);
    }
}
