//! Nothing is applied to a base that the pack was not made from, and the error says what that base probably is.
//!
//! Contract: design, promise 8; rules BAS-1 to BAS-3; reliability cases B-01 to B-10, F-07.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::time::SystemTime;

use support::{Lab, Tensor, base_model, tuned_model, wait_until_settled};

const CHECKS: [&str; 3] = ["full", "cached", "touched"];

/// Applies the exact pack to `other` under every check, and expects exit code 5 with these words each time.
#[track_caller]
fn refused(lab: &Lab, words: &[&str]) {
    for check in CHECKS {
        for pack in ["exact.stitch", "lossy.stitch"] {
            let ran = lab.run(&format!("apply other.safetensors {pack} -o out --base-check {check}"));
            ran.fails_with(5, &[&["not the base of the pack", pack], words].concat());
        }
        lab.run(&format!("verify exact.stitch --base other.safetensors --base-check {check}")).fails_with(5, words);
        lab.run(&format!("lock other.safetensors exact.stitch --base-check {check}")).fails_with(5, words);
    }
    assert!(!lab.path("out").exists() && !lab.path("stitch.json").exists());
}

fn other(lab: &Lab, change: impl FnOnce(&mut Vec<Tensor>)) {
    let mut model = base_model();
    change(&mut model);
    lab.model("other.safetensors", &model);
}

#[test]
fn one_weight_off_by_one_step_is_the_wrong_base() {
    let lab = Lab::with_packs();
    for (i, name) in [(0, "a.weight"), (1, "b.weight"), (2, "c.bias")] {
        other(&lab, |m| m[i].data[6] ^= 1);
        refused(&lab, &[&format!("\"{name}\" (other bytes)"), "1 of 3 touched tensors"]);
    }
}

#[test]
fn a_changed_tensor_that_no_pack_touches_is_found_by_whoever_reads_all() {
    let lab = Lab::with_packs();
    for i in [3, 4] {
        other(&lab, |m| m[i].data[0] ^= 1);
        for check in ["full", "cached"] {
            lab.run(&format!("apply other.safetensors exact.stitch -o out --base-check {check}"))
                .fails_with(5, &["every tensor that the pack touches is right", "--base-check touched"]);
            lab.run(&format!("verify exact.stitch --base other.safetensors --base-check {check}")).fails(5);
        }
        lab.run("apply other.safetensors exact.stitch -o default.safetensors").fails(5);
        let ran = lab.run("apply other.safetensors exact.stitch -o out.safetensors --force --base-check touched").ok();
        assert!(ran.stderr.contains("the others were not read"), "{}", ran.stderr);
        let out = support::read_model(&lab.path("out.safetensors"));
        assert_eq!(out["a.weight"], tuned_model(2)[0]);
        assert_ne!(out[&base_model()[i].name], base_model()[i], "what is untouched comes from the base at hand");
    }
}

#[test]
fn the_same_base_in_other_files_is_the_same_base() {
    let lab = Lab::with_packs();
    lab.sharded("sharded", &base_model(), &[&[3, 1], &[4, 0, 2]]);
    lab.folder("folder", &base_model());
    let mut shuffled = base_model();
    shuffled.reverse();
    lab.write("shuffled.safetensors", support::safetensors_with(&shuffled, &[("made", "elsewhere")]));
    for base in ["sharded", "folder", "shuffled.safetensors", "base.safetensors"] {
        for check in CHECKS {
            lab.run(&format!("apply {base} exact.stitch -o out.safetensors --force --check --base-check {check}")).ok();
            lab.run(&format!("verify exact.stitch --base {base} --base-check {check}")).ok();
        }
    }
}

#[test]
fn a_converted_base_is_called_converted() {
    let lab = Lab::with_packs();
    other(&lab, |m| m[0] = Tensor::f16("a.weight", &[40, 32], &[0.5; 1280]));
    refused(&lab, &["converted", "\"a.weight\" (F16, the pack has BF16)", "1 of 3"]);
    other(&lab, |m| {
        m[0] = Tensor::f32("a.weight", &[40, 32], &[0.5; 1280]);
        m[1] = Tensor::bf16("b.weight", &[16, 8], &[0.5; 128]);
        m[2] = Tensor::f32("c.bias", &[24], &[0.5; 24]);
    });
    refused(&lab, &["converted", "3 of 3"]);
    // The same bytes under another name of the dtype are another base.
    other(&lab, |m| m[0].dtype = "F16".into());
    refused(&lab, &["F16, the pack has BF16"]);
}

#[test]
fn another_shape_is_called_another_model_or_vocabulary() {
    let lab = Lab::with_packs();
    other(&lab, |m| m[0].shape = vec![32, 40]);
    refused(&lab, &["another vocabulary", "1 have another shape", "shape [32, 40], the pack has [40, 32]"]);
    other(&lab, |m| m[0] = Tensor::bf16("a.weight", &[42, 32], &[0.0; 42 * 32]));
    refused(&lab, &["shape [42, 32]"]);
}

#[test]
fn missing_tensors_and_another_model_are_told_apart() {
    let lab = Lab::with_packs();
    other(&lab, |m| drop(m.remove(1)));
    refused(&lab, &["1 tensors are missing", "\"b.weight\" (not in the base)"]);
    lab.model("other.safetensors", &[Tensor::f32("model.embed", &[4], &[0.0; 4])]);
    refused(&lab, &["another model: it has none of the pack's tensors", "check the path"]);
    // The fine-tuned model itself, or another fine-tune of the base.
    lab.model("other.safetensors", &tuned_model(2));
    refused(&lab, &["another revision, or a fine-tune of the same architecture", "3 of 3"]);
    // One tensor more than the base has.
    other(&lab, |m| m.push(Tensor::f32("more", &[1], &[0.0])));
    for check in ["full", "cached"] {
        lab.run(&format!("apply other.safetensors exact.stitch -o out --base-check {check}"))
            .fails_with(5, &["the rest of the checkpoint is not"]);
    }
}

#[test]
fn many_differing_tensors_are_listed_in_part_and_counted() {
    let lab = Lab::new();
    let side = |x: f32| -> Vec<Tensor> { (0..40).map(|i| Tensor::f32(&format!("t{i:02}"), &[2], &[x, 1.0])).collect() };
    lab.model("base.safetensors", &side(0.0));
    lab.model("tuned.safetensors", &side(2.0));
    lab.model("other.safetensors", &side(3.0));
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact").ok();
    lab.run("apply other.safetensors p.stitch -o o").fails_with(5, &["t00", "t04", "and 35 more", "40 of 40"]);
    let error = lab.run("apply other.safetensors p.stitch -o o --json").json()["error"].clone();
    assert_eq!((&error["differing"], &error["touched"]), (&40.into(), &40.into()));
    assert_eq!(error["tensors"].as_array().unwrap().len(), 5);
    assert_ne!(error["expected"], error["found"]);
}

#[test]
fn a_pack_that_touches_nothing_is_bound_too() {
    let lab = Lab::with_packs();
    lab.run("create base.safetensors base.safetensors -o none.stitch --exact").ok();
    lab.run("apply base.safetensors none.stitch -o ok.safetensors").ok();
    for other in ["tuned.safetensors", "lossy.stitch"] {
        let code = lab.run(&format!("apply {other} none.stitch -o out.safetensors")).code;
        assert!([3, 5].contains(&code), "{other}: {code}");
    }
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn packs_of_different_bases_never_meet() {
    let lab = Lab::with_packs();
    lab.model("base2.safetensors", &tuned_model(9));
    lab.run("create base2.safetensors tuned.safetensors -o two.stitch --exact").ok();
    for base in ["base.safetensors", "base2.safetensors"] {
        lab.run(&format!("apply {base} exact.stitch two.stitch -o out.safetensors")).fails(5);
        lab.run(&format!("verify exact.stitch two.stitch --base {base}")).fails(5);
    }
    // Weight 0 is no way around it.
    lab.run("apply base.safetensors exact.stitch two.stitch@0 -o out.safetensors").fails(5);
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn a_merged_model_is_not_its_own_base() {
    let lab = Lab::with_packs();
    lab.run("apply base.safetensors exact.stitch -o merged").ok();
    lab.run("apply merged exact.stitch -o twice").fails_with(5, &["another revision"]);
    assert!(!lab.path("twice").exists());
}

#[test]
fn a_carried_tensor_is_bound_by_the_whole_base() {
    let lab = Lab::new();
    lab.model("base.safetensors", &[Tensor::f32("w", &[2], &[0.0; 2])]);
    lab.model("tuned.safetensors", &[Tensor::f32("w", &[3], &[1.0; 3])]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact --new-tensors carry").ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --check").ok();
    lab.model("other.safetensors", &[Tensor::f32("w", &[2], &[5.0; 2])]);
    for check in ["full", "cached"] {
        lab.run(&format!("apply other.safetensors p.stitch -o no.safetensors --base-check {check}")).fails(5);
    }
    assert!(!lab.path("no.safetensors").exists());
}

/// The number of entries in the digest cache.
fn cached(lab: &Lab) -> usize {
    fs::read_dir(lab.path(".cache/digests-1")).map_or(0, Iterator::count)
}

#[test]
fn a_stale_cache_never_makes_a_wrong_base_right() {
    let lab = Lab::with_packs();
    let apply = "apply base.safetensors exact.stitch -o out.safetensors --force --check";
    let base = lab.path("base.safetensors");
    let good = lab.read("base.safetensors");
    let mut wrong = good.clone();
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    wait_until_settled();
    lab.run(apply).ok();
    assert_eq!(cached(&lab), 1, "a base that has settled is remembered");
    lab.run(apply).ok();
    // Written again in place with the same size: found at once.
    fs::write(&base, &wrong).unwrap();
    lab.run(apply).fails(5);
    fs::write(&base, &good).unwrap();
    lab.run(apply).ok();
    wait_until_settled();
    lab.run(apply).ok();
    let times = fs::metadata(&base).unwrap();
    let entries = cached(&lab);
    // The same, with the old times set back: ctime cannot be.
    fs::write(&base, &wrong).unwrap();
    let file = fs::File::options().write(true).open(&base).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(times.modified().unwrap())).unwrap();
    drop(file);
    assert_eq!(fs::metadata(&base).unwrap().modified().unwrap(), times.modified().unwrap());
    lab.run(apply).fails(5);
    // Replaced by rename with a file of the same size and times.
    lab.write("new", &wrong);
    let file = fs::File::options().write(true).open(lab.path("new")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(times.modified().unwrap())).unwrap();
    fs::rename(lab.path("new"), &base).unwrap();
    lab.run(apply).fails(5);
    // A time in the future is never settled.
    fs::write(&base, &good).unwrap();
    let file = fs::File::options().write(true).open(&base).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(SystemTime::now() + std::time::Duration::from_secs(86_400)))
        .unwrap();
    drop(file);
    lab.run(apply).ok();
    assert_eq!(cached(&lab), entries, "a file whose time lies ahead was remembered");
}

#[test]
fn a_damaged_cache_is_no_cache() {
    let lab = Lab::with_packs();
    wait_until_settled();
    let apply = "apply base.safetensors exact.stitch -o out.safetensors --force --check";
    lab.run(apply).ok();
    let folder = lab.path(".cache/digests-1");
    let entry = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&entry).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        fs::write(&entry, bytes).unwrap();
        if at % 16 == 0 {
            lab.run(apply).ok();
        }
    }
    for bytes in [&good[..0], &good[..31], &good[..good.len() - 32], &[good.as_slice(), &[0; 32]].concat()] {
        fs::write(&entry, bytes).unwrap();
        lab.run(apply).ok();
    }
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    lab.run(apply).ok();
    // An entry of another file, under this one's name.
    fs::remove_dir(&entry).unwrap();
    lab.run(apply).ok();
    let own = fs::read(&entry).unwrap();
    fs::write(&entry, own.iter().rev().copied().collect::<Vec<_>>()).unwrap();
    lab.run(apply).ok();
    // A wrong base is wrong whatever the cache was.
    lab.run("apply tuned.safetensors exact.stitch -o no.safetensors").fails(5);
}

#[test]
fn a_cache_never_replaces_the_full_check() {
    let lab = Lab::with_packs();
    wait_until_settled();
    lab.run("apply base.safetensors exact.stitch -o out.safetensors").ok();
    let entries = cached(&lab);
    lab.run("verify exact.stitch --base base.safetensors").ok();
    lab.run("apply base.safetensors exact.stitch -o out.safetensors --force --base-check full").ok();
    lab.run("apply base.safetensors exact.stitch -o out.safetensors --force --base-check touched").ok();
    assert_eq!(cached(&lab), entries, "only the cached check writes to the cache");
    let leftovers = fs::read_dir(lab.path(".cache/digests-1")).unwrap();
    assert!(leftovers.flatten().all(|e| e.file_name().len() == 64), "unfinished entries stay in the cache");
}
