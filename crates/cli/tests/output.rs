//! An output is whole or absent, is what the recipe says, and nothing else is touched or left behind.
//!
//! Contract: design, promises 1 and 9, "Apply"; rules OUT-1 to OUT-5, REC-1; reliability cases O-07, O-08, F-06 to F-18, faults
//! Q1, Q2, Q6. The long versions of the kill and injection tests are the scripts in tests/faults.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use support::{Lab, Ran, Rng, Tensor, base_model, by_name, is_root, read_model, safetensors, tuned_model};

/// The header of a safetensors file, its length included.
fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize]
}

fn sharded_lab() -> Lab {
    let lab = Lab::with_packs();
    lab.sharded("base", &base_model(), &[&[0, 3], &[4, 2, 1]]);
    lab
}

#[test]
fn a_folder_keeps_the_bases_files_and_headers() {
    let lab = sharded_lab();
    let index = lab.read("base/model.safetensors.index.json");
    lab.write("base/model.safetensors.index.json", [b"\n".as_slice(), &index, b"\n"].concat());
    for pack in ["exact.stitch", "lossy.stitch@0.5"] {
        lab.run(&format!("apply base {pack} -o out --force")).ok();
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert_eq!(
            lab.names("out"),
            ["config.json", shards[0], shards[1], "model.safetensors.index.json", "stitch.json"]
        );
        for shard in shards {
            let (base, out) = (lab.read(&format!("base/{shard}")), lab.read(&format!("out/{shard}")));
            assert_eq!(head(&base), head(&out), "{shard}");
            assert_eq!(base.len(), out.len());
        }
        let same = lab.read("base/model.safetensors.index.json");
        assert_eq!(same, lab.read("out/model.safetensors.index.json"));
    }
    // A file as a base gives a folder with the customary name.
    lab.run("apply base.safetensors exact.stitch -o single").ok();
    assert_eq!(lab.names("single"), ["model.safetensors", "stitch.json"]);
    assert_eq!(lab.read("single/model.safetensors"), lab.read("tuned.safetensors"));
    lab.run("apply base exact.stitch -o slash/").ok();
    assert_eq!(read_model(&lab.path("slash")), by_name(&tuned_model(2)));
}

#[test]
fn one_file_holds_all_shards_in_the_bases_order() {
    let lab = sharded_lab();
    lab.run("apply base exact.stitch -o out.safetensors --check").ok();
    let bytes = lab.read("out.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut order: Vec<(usize, String)> =
        tensors.iter().map(|(name, t)| (t.data().as_ptr() as usize, name.to_string())).collect();
    order.sort();
    let order: Vec<&str> = order.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(order, ["a.weight", "plain", "ids", "c.bias", "b.weight"]);
    assert_eq!(read_model(&lab.path("out.safetensors")), by_name(&tuned_model(2)));
    assert!(!lab.path("stitch.json").exists(), "a single file has no recipe beside it");
    // The other way round: the bytes of the fine-tuned file, header and all.
    lab.run("apply base.safetensors exact.stitch -o same.safetensors").ok();
    assert_eq!(lab.read("same.safetensors"), lab.read("tuned.safetensors"));
}

#[test]
fn a_recipe_makes_the_same_model_anywhere() {
    let lab = sharded_lab();
    lab.run("create base tuned.safetensors -o p.stitch --density 40% --values int8").ok();
    lab.run("apply base p.stitch@0.25 lossy.stitch@-0.5 --overlap sum --lambda 0.75 --gain 1.5 -o out").ok();
    let recipe: Value = serde_json::from_slice(&lab.read("out/stitch.json")).unwrap();
    assert_eq!((&recipe["overlap"], &recipe["lambda"]), (&json!("sum"), &json!(0.75)));
    assert_eq!(recipe["packs"][0]["file"], "p.stitch");
    assert_eq!((&recipe["packs"][1]["weight"], &recipe["packs"][1]["gain"]), (&json!(-0.5), &json!(1.5)));
    // Packs beside the recipe, here, or named in any order; another sharding of the base.
    let other = Lab::new();
    for name in ["p.stitch", "lossy.stitch"] {
        other.write(&format!("kit/{name}"), lab.read(name));
    }
    other.write("kit/stitch.json", lab.read("out/stitch.json"));
    other.model("base.safetensors", &base_model());
    other.run("apply base.safetensors --recipe kit/stitch.json -o one").ok();
    assert_eq!(read_model(&other.path("one")), read_model(&lab.path("out")));
    assert_eq!(other.read("one/stitch.json"), lab.read("out/stitch.json"), "the recipe of a remade model is the same");
    other.write("r/stitch.json", lab.read("out/stitch.json"));
    other.run("apply base.safetensors --recipe r/stitch.json -o no").fails_with(6, &["not at hand", "p.stitch"]);
    other.write("elsewhere/x.bin", lab.read("p.stitch"));
    other.write("elsewhere/y.bin", lab.read("lossy.stitch"));
    other.run("apply base.safetensors elsewhere/y.bin elsewhere/x.bin --recipe r/stitch.json -o two").ok();
    assert_eq!(read_model(&other.path("two")), read_model(&lab.path("out")));
    for check in ["full", "touched", "cached"] {
        let args =
            format!("apply base.safetensors --recipe kit/stitch.json -o c-{check} --base-check {check} --no-mmap");
        other.run(&args).ok();
    }
}

#[test]
fn a_recipe_makes_nothing_but_its_model() {
    let lab = sharded_lab();
    lab.run("apply base lossy.stitch@0.5 -o out").ok();
    let text = lab.read("out/stitch.json");
    let good: Value = serde_json::from_slice(&text).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut recipe = good.clone();
        change(&mut recipe);
        lab.write("r.json", serde_json::to_string(&recipe).unwrap());
        lab.run("apply base --recipe r.json -o no")
    };
    with(&|_| {}).ok();
    fs::remove_dir_all(lab.path("no")).unwrap();
    // Another base, whole or in one weight.
    lab.run("apply tuned.safetensors --recipe out/stitch.json -o no").fails_with(5, &["names base"]);
    let mut other = base_model();
    other[3].data[0] ^= 1;
    lab.model("other.safetensors", &other);
    for check in ["full", "touched", "cached"] {
        lab.run(&format!("apply other.safetensors --recipe out/stitch.json -o no --base-check {check}")).fails(5);
    }
    // Other packs, other numbers, another result.
    lab.run("apply base exact.stitch --recipe out/stitch.json -o no")
        .fails_with(6, &["not in the recipe", "exact.stitch"]);
    lab.run("apply base lossy.stitch exact.stitch --recipe out/stitch.json -o no").fails(6);
    let zeros = "0".repeat(64);
    with(&|r| r["packs"][0]["id"] = json!(zeros)).fails_with(6, &["the recipe's is 0000"]);
    with(&|r| r["result"] = json!(zeros)).fails_with(4, &["result"]);
    with(&|r| r["base"] = json!(zeros)).fails(5);
    with(&|r| r["packs"][0]["weight"] = json!(0.6)).fails_with(4, &["result"]);
    with(&|r| r["packs"][0]["gain"] = json!(2.0)).fails_with(4, &["result"]);
    with(&|r| r["lambda"] = json!(2.0)).fails_with(4, &["result"]);
    with(&|r| r["packs"][0]["file"] = json!("../../../../etc/passwd")).fails_with(6, &["not at hand"]);
    assert!(!lab.path("no").exists());
    // Options that say something else than the recipe.
    for option in ["--lambda 1", "--overlap sum", "--gain none"] {
        lab.run(&format!("apply base --recipe out/stitch.json -o no {option}")).refused_by_parser(&["--recipe"]);
    }
    lab.run("apply base lossy.stitch --recipe out/stitch.json -o yes").ok();
}

#[test]
fn a_weight_that_a_recipe_does_not_have_is_not_passed_over_in_silence() {
    let lab = sharded_lab();
    lab.run("apply base lossy.stitch@0.5 -o out").ok();
    let code = lab.run("apply base lossy.stitch@0.9 --recipe out/stitch.json -o no").code;
    assert!([2, 6].contains(&code), "exit {code}: the weight 0.9 was ignored");
    lab.run("apply base lossy.stitch lossy.stitch --recipe out/stitch.json -o no").fails_with(2, &["named twice"]);
}

#[test]
fn what_is_no_recipe_is_malformed() {
    let lab = sharded_lab();
    lab.run("apply base lossy.stitch -o out").ok();
    let good: Value = serde_json::from_slice(&lab.read("out/stitch.json")).unwrap();
    let run = |text: &str| {
        lab.write("r.json", text);
        lab.run("apply base --recipe r.json -o no")
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut recipe = good.clone();
        change(&mut recipe);
        run(&serde_json::to_string(&recipe).unwrap())
    };
    for text in ["", "{", "[]", "null", "{}", "\u{feff}{}"] {
        run(text).fails_with(3, &["REC-1"]);
    }
    with(&|r| r["extra"] = json!(1)).fails_with(3, &["extra"]);
    with(&|r| drop(r.as_object_mut().unwrap().remove("lambda"))).fails_with(3, &["lambda"]);
    with(&|r| r["base"] = json!("abc")).fails_with(3, &["64"]);
    with(&|r| r["packs"] = json!("p")).fails(3);
    with(&|r| r["stitch_recipe"] = json!(3)).fails_with(8, &["recipe version 3"]);
    with(&|r| (r["stitch_recipe"], r["newer"]) = (json!(3), json!(1))).fails_with(8, &["recipe version 3"]);
    with(&|r| r["overlap"] = json!("mean")).fails_with(8, &["mean"]);
    with(&|r| r["lambda"] = json!(1e39)).fails(3);
    with(&|r| r["packs"][0]["weight"] = json!(1e39)).fails(3);
    with(&|r| r["packs"][0]["gain"] = json!(-1.0)).fails(3);
    with(&|r| r["packs"] = json!([r["packs"][0], r["packs"][0]])).fails(3);
    let gains = |version: u32, gains: Value| {
        with(&|r| (r["stitch_recipe"], r["packs"][0]["tensor_gains"]) = (json!(version), gains.clone()))
    };
    with(&|r| r["stitch_recipe"] = json!(2)).fails_with(3, &["REC-2", "version 1"]);
    gains(1, json!({"b.weight": 1.5})).fails_with(3, &["REC-2", "version 2"]);
    gains(2, json!({"b.weight": 0.0})).fails_with(3, &["REC-1", "positive"]);
    gains(2, json!({"b.weight": 1e39})).fails(3);
    gains(2, json!({"nowhere": 1.5})).fails_with(3, &["REC-2", "nowhere"]);
    gains(2, json!({})).fails_with(3, &["not empty"]);
    gains(2, json!([1.5])).fails_with(3, &["an object"]);
    let twice =
        serde_json::to_string(&good).unwrap().replace("\"gain\"", "\"tensor_gains\":{\"a\":1,\"a\":2},\"gain\"");
    run(&twice).fails_with(3, &["twice"]);
    run("{").fails_with(3, &["r.json"]);
    lab.run("apply base --recipe nowhere.json -o no").fails_with(7, &["nowhere.json"]);
    lab.run("apply base --recipe out -o no").fails(7);
    assert!(!lab.path("no").exists());
}

#[test]
fn lock_writes_the_recipe_that_apply_would() {
    let lab = sharded_lab();
    for args in
        ["base lossy.stitch@0.7 --lambda 0.5", "base exact.stitch", "base exact.stitch lossy.stitch --overlap elect"]
    {
        lab.run(&format!("apply {args} -o out --force")).ok();
        for check in ["full", "cached", "touched"] {
            lab.run(&format!("lock {args} -o lock.json --force --base-check {check}")).ok();
            assert_eq!(lab.read("lock.json"), lab.read("out/stitch.json"), "{args} {check}");
        }
    }
    lab.run("lock base lossy.stitch").ok();
    lab.run("apply base --recipe stitch.json -o made").ok();
    lab.run("lock base lossy.stitch").fails_with(6, &["stitch.json", "--force"]);
    lab.run("lock base lossy.stitch -o nowhere/stitch.json").fails(7);
}

#[test]
fn a_recipe_never_replaces_an_input() {
    let lab = sharded_lab();
    let before = lab.snapshot();
    for out in [
        "base.safetensors",
        "exact.stitch",
        "base/model-00001-of-00002.safetensors",
        "base/model.safetensors.index.json",
    ] {
        let base = if out.starts_with("base/") { "base" } else { "base.safetensors" };
        let ran = lab.run(&format!("lock {base} exact.stitch -o {out} --force"));
        assert!(lab.snapshot() == before, "lock wrote its recipe over {out}");
        ran.fails_with(2, &["is an input"]);
    }
}

#[test]
fn an_output_that_exists_stays_unless_force_is_said() {
    let lab = sharded_lab();
    lab.write("out.safetensors", "precious");
    lab.folder("out", &base_model());
    lab.write("file", "precious");
    symlink("nowhere", lab.path("dangling")).unwrap();
    symlink("nowhere", lab.path("dangling.safetensors")).unwrap();
    let before = lab.snapshot();
    for out in ["out.safetensors", "out", "file", "dangling", "dangling.safetensors", "out/", "./out"] {
        lab.run(&format!("apply base exact.stitch -o {out}")).fails_with(6, &["exists", "--force"]);
    }
    assert!(lab.snapshot() == before);
    fs::create_dir(lab.path("empty")).unwrap();
    lab.run("apply base exact.stitch -o empty").ok();
    assert_eq!(read_model(&lab.path("empty")), by_name(&tuned_model(2)));
    for out in ["out.safetensors", "out"] {
        lab.run(&format!("apply base exact.stitch -o {out} --force")).ok();
        assert_eq!(read_model(&lab.path(out)), by_name(&tuned_model(2)));
    }
    assert!(lab.names("out").iter().all(|n| n != "model.safetensors"), "the old folder went as a whole");
}

#[test]
fn force_puts_no_file_in_the_place_of_a_socket() {
    let lab = sharded_lab();
    let path = lab.path("out.safetensors");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    lab.run("apply base exact.stitch -o out.safetensors").fails_with(6, &["out.safetensors"]);
    lab.run("apply base exact.stitch -o out.safetensors --force").fails_with(6, &["is not a regular file"]);
    lab.run("lock base exact.stitch -o out.safetensors --force").fails_with(6, &["is not a regular file"]);
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());
}

#[test]
fn force_never_removes_what_is_no_model() {
    let lab = sharded_lab();
    lab.write("thesis/chapter.txt", "years of work");
    lab.model("mixed/model.safetensors", &base_model());
    lab.write("mixed/notes/a.txt", "more work");
    lab.write("file", "precious");
    symlink("thesis", lab.path("link")).unwrap();
    fs::create_dir(lab.path("out.safetensors")).unwrap();
    let before = lab.snapshot();
    for out in ["thesis", "mixed", "file", "link", ".", "out.safetensors"] {
        // The folder that the pack stands in is an input besides.
        lab.run(&format!("apply base exact.stitch -o {out} --force")).fails(if out == "." { 2 } else { 6 });
    }
    assert!(lab.snapshot() == before);
}

#[test]
fn an_output_that_is_an_input_under_any_name_is_refused() {
    let lab = sharded_lab();
    fs::hard_link(lab.path("base.safetensors"), lab.path("hard.safetensors")).unwrap();
    symlink("base.safetensors", lab.path("soft.safetensors")).unwrap();
    symlink("base", lab.path("soft")).unwrap();
    fs::hard_link(lab.path("exact.stitch"), lab.path("pack.safetensors")).unwrap();
    fs::create_dir(lab.path("packs")).unwrap();
    fs::copy(lab.path("exact.stitch"), lab.path("packs/e.stitch")).unwrap();
    lab.model("packs/model.safetensors", &base_model());
    let before = lab.snapshot();
    let absolute = lab.path("base.safetensors").to_string_lossy().into_owned();
    for (base, pack, out) in [
        ("base.safetensors", "exact.stitch", "base.safetensors"),
        ("base.safetensors", "exact.stitch", "./base/../base.safetensors"),
        ("base.safetensors", "exact.stitch", absolute.as_str()),
        ("base.safetensors", "exact.stitch", "hard.safetensors"),
        ("base.safetensors", "exact.stitch", "soft.safetensors"),
        ("soft.safetensors", "exact.stitch", "base.safetensors"),
        ("base.safetensors", "exact.stitch", "pack.safetensors"),
        ("base", "exact.stitch", "base"),
        ("base", "exact.stitch", "base/"),
        ("base", "exact.stitch", "soft"),
        ("soft", "exact.stitch", "base"),
        ("base", "exact.stitch", "base/model-00001-of-00002.safetensors"),
        ("base.safetensors", "packs/e.stitch", "packs"),
    ] {
        for force in ["--force", ""] {
            lab.run(&format!("apply {base} {pack} -o {out} {force}")).fails_with(2, &["is an input"]);
        }
    }
    assert!(lab.snapshot() == before);
}

#[test]
fn the_folder_that_one_stands_in_is_not_replaced_with_the_inputs_in_it() {
    for out in [".", "../here", "../here/"] {
        let lab = Lab::new();
        lab.model("here/base.safetensors", &base_model());
        lab.model("here/tuned.safetensors", &tuned_model(2));
        let run = |args: &str| {
            let mut command = lab.command();
            command.current_dir(lab.path("here")).args(args.split_whitespace());
            Ran::of(args, command.output().unwrap())
        };
        run("create base.safetensors tuned.safetensors -o p.stitch --exact").ok();
        let before = lab.snapshot();
        let ran = run(&format!("apply base.safetensors p.stitch -o {out} --force"));
        assert!(lab.snapshot() == before, "-o {out} removed the base: {:?}", lab.names("here"));
        ran.fails_with(2, &["is an input"]);
    }
}

#[test]
fn a_link_as_output_is_replaced_and_what_it_points_to_is_not() {
    let lab = sharded_lab();
    lab.folder("model", &base_model());
    lab.model("file.safetensors", &base_model());
    symlink("model", lab.path("link")).unwrap();
    symlink("file.safetensors", lab.path("link.safetensors")).unwrap();
    let model = lab.read("model/model.safetensors");
    lab.run("apply base exact.stitch -o link --force").ok();
    lab.run("apply base exact.stitch -o link.safetensors --force").ok();
    assert_eq!(lab.read("model/model.safetensors"), model, "the folder behind the link was changed");
    assert_eq!(lab.read("file.safetensors"), model, "the file behind the link was changed");
    for link in ["link", "link.safetensors"] {
        assert_eq!(read_model(&lab.path(link)), by_name(&tuned_model(2)));
    }
    assert!(lab.leftovers(".").is_empty());
}

#[test]
fn unfinished_output_of_the_dead_goes_and_of_the_living_stays() {
    let lab = sharded_lab();
    for (out, how) in [
        ("p.stitch", "create base tuned.safetensors --exact"),
        ("o.safetensors", "apply base exact.stitch"),
        ("o", "apply base exact.stitch"),
    ] {
        for place in ["work", "."] {
            let name = |n: &str| if place == "." { n.to_string() } else { format!("{place}/{n}") };
            lab.write(&name(".stitch-tmp-1-0-1"), "a dead run's file");
            lab.write(&name(".stitch-tmp-1-1-1/model.safetensors"), "a dead run's folder");
            lab.write(&name(".stitch-old-1-2-1/model.safetensors"), "perhaps the only copy");
            lab.write(&name("stitch-tmp-mine"), "not ours");
            let living = lab.write(&name(".stitch-tmp-2-0-1"), "a living run's file");
            let folder = lab.path(&name(".stitch-tmp-2-1-1"));
            fs::create_dir_all(&folder).unwrap();
            let held = [fs::File::open(&living).unwrap(), fs::File::open(&folder).unwrap()];
            for file in &held {
                rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).unwrap();
            }
            assert!(Command::new("mkfifo").arg(lab.path(&name(".stitch-tmp-3-0-1"))).status().unwrap().success());
            symlink("/", lab.path(&name(".stitch-tmp-4-0-1"))).unwrap();
            lab.run(&format!("{how} -o {} --force", name(out))).ok();
            let names = lab.names(place);
            for (name, stays) in [
                (".stitch-tmp-1-0-1", false),
                (".stitch-tmp-1-1-1", false),
                (".stitch-tmp-2-0-1", true),
                (".stitch-tmp-2-1-1", true),
                (".stitch-old-1-2-1", true),
                ("stitch-tmp-mine", true),
                (out, true),
            ] {
                assert_eq!(names.iter().any(|n| n == name), stays, "{out} in {place}: {name} in {names:?}");
            }
            for name in [".stitch-tmp-3-0-1", ".stitch-tmp-4-0-1"] {
                drop(fs::remove_file(lab.path(&if place == "." { name.into() } else { format!("{place}/{name}") })));
            }
            drop(held);
        }
    }
}

#[test]
fn permissions_follow_the_umask() {
    let lab = sharded_lab();
    for (umask, file, folder) in
        [("022", 0o644, 0o755), ("077", 0o600, 0o700), ("002", 0o664, 0o775), ("027", 0o640, 0o750)]
    {
        let run = |args: &str| {
            let mut command = Command::new("sh");
            lab.settle(&mut command);
            let script = format!("umask {umask}; exec \"$0\" {args} --force");
            command.args(["-c", &script, env!("CARGO_BIN_EXE_stitchpack")]);
            Ran::of(args, command.output().unwrap()).ok();
        };
        run("create base tuned.safetensors --exact -o p.stitch");
        run("apply base exact.stitch -o o.safetensors");
        run("apply base exact.stitch -o o");
        run("lock base exact.stitch -o l.json");
        let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
        for name in ["p.stitch", "o.safetensors", "o/stitch.json", "o/model-00001-of-00002.safetensors", "l.json"] {
            assert_eq!(mode(name), file, "{name} under {umask}");
        }
        assert_eq!(mode("o"), folder, "under {umask}");
    }
}

/// Runs the command as nobody, who owns nothing here. None where that is not possible.
fn as_nobody(lab: &Lab, args: &str) -> Option<Ran> {
    if !is_root() || !support::has_program("setpriv") {
        return None;
    }
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let binary = lab.path("stitchpack");
    if !binary.exists() {
        fs::copy(env!("CARGO_BIN_EXE_stitchpack"), &binary).unwrap();
    }
    let mut command = Command::new("setpriv");
    lab.settle(&mut command);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(binary).args(args.split_whitespace());
    Some(Ran::of(args, command.output().unwrap()))
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let lab = sharded_lab();
    fs::create_dir(lab.path("closed")).unwrap();
    fs::set_permissions(lab.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    let run = |args: &str| match as_nobody(&lab, args) {
        Some(ran) => Some(ran),
        None if is_root() => None,
        None => Some(lab.run(args)),
    };
    for args in [
        "create base tuned.safetensors --exact -o closed/p.stitch",
        "apply base exact.stitch -o closed/o.safetensors",
        "apply base exact.stitch -o closed/o",
        "lock base exact.stitch -o closed/stitch.json",
    ] {
        let Some(ran) = run(args) else {
            return println!("skipped: root may write everywhere, and there is no setpriv");
        };
        ran.fails_with(7, &["closed", "ermission denied"]);
    }
    assert!(lab.names("closed").is_empty());
    // Files that may not be read.
    for name in ["base/model-00001-of-00002.safetensors", "exact.stitch"] {
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o000)).unwrap();
        let ran = run("apply base exact.stitch -o out").unwrap();
        ran.fails_with(7, &[name, "ermission denied"]);
        fs::set_permissions(lab.path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    // Inputs in a folder that is closed are read, and a cache that is closed is no error.
    fs::create_dir(lab.path("open")).unwrap();
    fs::set_permissions(lab.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir_all(lab.path(".cache")).unwrap();
    fs::set_permissions(lab.path(".cache"), fs::Permissions::from_mode(0o555)).unwrap();
    run("apply base exact.stitch -o open/o.safetensors").unwrap().ok();
    assert_eq!(read_model(&lab.path("open/o.safetensors")), by_name(&tuned_model(2)));
}

/// A small file system in memory; gone when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, kib: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "stitch-test"]).arg(at);
        let mounted = is_root() && command.output().is_ok_and(|o| o.status.success());
        mounted.then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let lab = Lab::new();
    let n = 20_000;
    let side =
        |seed: u64| Tensor::raw("w", "I16", &[n], (0..n / 4).flat_map(|_| Rng(seed).next().to_le_bytes()).collect());
    let noise = |seed: u64| {
        let mut rng = Rng(seed);
        Tensor::raw("w", "I16", &[n], (0..n / 4).flat_map(|_| rng.next().to_le_bytes()).collect())
    };
    lab.folder("base", &[side(1)]);
    lab.folder("tuned", &[noise(2)]);
    lab.write("base/tokenizer.json", "t".repeat(9000));
    lab.run("create base tuned -o p.stitch --exact").ok();
    let mut full = 0;
    for kib in (4..=84).step_by(8) {
        for (args, old) in [
            ("create base tuned --exact -o disk/p.stitch", "disk/p.stitch"),
            ("apply base p.stitch -o disk/o.safetensors", "disk/o.safetensors"),
            ("apply base p.stitch -o disk/o", "disk/o/model.safetensors"),
        ] {
            let Some(disk) = SmallDisk::mount(&lab.path("disk"), kib) else {
                return println!("skipped: no small disk can be mounted here");
            };
            let small = [Tensor::f32("old", &[1], &[1.0])];
            lab.write(old, safetensors(&small));
            let before = (lab.names("disk"), lab.read(old));
            let ran = lab.run(&format!("{args} --force"));
            if ran.code == 0 {
                assert_ne!(lab.read(old), before.1);
            } else {
                full += 1;
                ran.fails_with(7, &["space"]);
                assert_eq!((lab.names("disk"), lab.read(old)), before, "{args} on {kib} KiB");
            }
            assert!(lab.leftovers("disk").is_empty(), "{args} on {kib} KiB");
            drop(disk);
        }
    }
    assert!((9..30).contains(&full), "{full} of 33 runs met a full disk");
}

#[test]
fn a_base_that_changes_while_it_is_read_is_noticed() {
    use stitchpack::{ApplyOptions, Checkpoint, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};
    let lab = Lab::with_packs();
    let good = lab.read("base.safetensors");
    let changes: [(&str, &dyn Fn()); 3] = [
        ("cut", &|| fs::File::options().write(true).open(lab.path("base.safetensors")).unwrap().set_len(1000).unwrap()),
        ("rewritten", &|| {
            let file = fs::File::options().write(true).open(lab.path("base.safetensors")).unwrap();
            file.write_all_at(&[9; 64], good.len() as u64 - 64).unwrap();
        }),
        ("longer", &|| drop(fs::write(lab.path("base.safetensors"), [good.as_slice(), &[0; 9]].concat()))),
    ];
    for (what, change) in changes {
        lab.write("base.safetensors", &good);
        let base = Checkpoint::open(lab.path("base.safetensors")).unwrap();
        let identity = base.identity(&Workers::default()).unwrap();
        let pack = OpenedPack::open(lab.path("exact.stitch")).unwrap().verify().unwrap().bind(&identity).unwrap();
        let model = StitchedModel::new(&base, vec![Layer { pack, weight: 1.0 }], &MergeOptions::default()).unwrap();
        change();
        for out in ["out.safetensors", "out"] {
            let error = stitchpack::apply(&model, &identity, &lab.path(out), &ApplyOptions::default()).unwrap_err();
            assert_eq!(error.exit_code(), 7, "{what}: {error}");
            assert!(error.to_string().contains("changed while"), "{what}: {error}");
            assert!(!lab.path(out).exists());
        }
    }
    // Replaced by rename: the old file is read to its end.
    lab.write("base.safetensors", &good);
    let base = Checkpoint::open(lab.path("base.safetensors")).unwrap();
    let identity = base.identity(&Workers::default()).unwrap();
    let pack = OpenedPack::open(lab.path("exact.stitch")).unwrap().verify().unwrap().bind(&identity).unwrap();
    let model = StitchedModel::new(&base, vec![Layer { pack, weight: 1.0 }], &MergeOptions::default()).unwrap();
    lab.write("new", "something else");
    fs::rename(lab.path("new"), lab.path("base.safetensors")).unwrap();
    stitchpack::apply(&model, &identity, &lab.path("out.safetensors"), &ApplyOptions::default()).unwrap();
    assert_eq!(lab.read("out.safetensors"), lab.read("tuned.safetensors"));
    assert!(lab.leftovers(".").is_empty());
}

#[test]
fn writers_of_one_output_do_not_mix() {
    let lab = sharded_lab();
    let mut wanted = Vec::new();
    for (i, weight) in ["1", "0.5", "-1", "2"].iter().enumerate() {
        lab.run(&format!("apply base lossy.stitch@{weight} -o want-{i}.safetensors")).ok();
        wanted.push(read_model(&lab.path(&format!("want-{i}.safetensors"))));
    }
    for (out, force) in [("o.safetensors", ""), ("o", ""), ("o.safetensors", "--force"), ("o", "--force")] {
        let spawn = |weight: &&str| {
            let mut command = lab.command();
            command.args(["apply", "base", &format!("lossy.stitch@{weight}"), "-o", out]);
            command.args(force.split_whitespace()).stdout(std::process::Stdio::piped());
            command.stderr(std::process::Stdio::piped()).spawn().unwrap()
        };
        let running: Vec<_> = ["1", "0.5", "-1", "2"].iter().map(spawn).collect();
        let ended: Vec<Ran> = running.into_iter().map(|c| Ran::of(out, c.wait_with_output().unwrap())).collect();
        let done = ended.iter().filter(|r| r.code == 0).count();
        if force.is_empty() {
            assert_eq!(done, 1, "{out}: one writer wins");
            ended.into_iter().filter(|r| r.code != 0).for_each(|r| drop(r.fails_with(6, &["exists"])));
        } else {
            assert_eq!(done, 4, "{out}: {:?}", ended.iter().map(|r| r.stderr.as_str()).collect::<Vec<_>>());
        }
        assert!(wanted.contains(&read_model(&lab.path(out))), "{out} is a mixture");
        assert!(lab.leftovers(".").is_empty(), "{:?}", lab.names("."));
    }
}

#[test]
fn odd_names_are_names() {
    let lab = sharded_lab();
    let long = "n".repeat(243);
    for name in ["-o.safetensors", "with blank", "ü", "a\nb", &format!("{long}.safetensors")] {
        let path = format!("./{name}");
        lab.run_args(&["apply", "base", "exact.stitch", "-o", &path]).ok();
        assert_eq!(read_model(&lab.path(name)), by_name(&tuned_model(2)), "{name:?}");
    }
    let name = format!("{}.safetensors", "n".repeat(300));
    lab.run_args(&["apply", "base", "exact.stitch", "-o", &name]).fails_with(7, &["too long"]);
    let mut command = lab.command();
    use std::os::unix::ffi::OsStrExt;
    command.args(["apply", "base", "exact.stitch", "-o"]).arg(std::ffi::OsStr::from_bytes(b"not\xffutf8"));
    Ran::of("not UTF-8", command.output().unwrap()).ok();
    assert!(lab.leftovers(".").is_empty());
}

#[test]
fn an_input_is_never_written_to() {
    let lab = sharded_lab();
    let state = |name: &str| {
        let m = fs::metadata(lab.path(name)).unwrap();
        (m.ino(), m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec())
    };
    let names = ["base/model-00001-of-00002.safetensors", "base/config.json", "exact.stitch", "tuned.safetensors"];
    let before = names.map(state);
    for args in [
        "create base tuned.safetensors -o p.stitch --exact",
        "verify exact.stitch --base base",
        "inspect exact.stitch",
        "apply base exact.stitch -o out",
        "apply base exact.stitch -o out --force",
        "lock base exact.stitch",
        "diff base tuned.safetensors",
        "overlap exact.stitch lossy.stitch --base base",
    ] {
        lab.run(args).ok();
    }
    assert_eq!(names.map(state), before);
}

/// Runs a script of tests/faults on the command.
fn faults(script: &str, argument: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults").join(script);
    let output = Command::new("bash").arg(path).arg(env!("CARGO_BIN_EXE_stitchpack")).arg(argument).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}");
}

#[test]
fn a_kill_at_any_moment_leaves_the_old_or_the_new() {
    faults("kill.sh", "30");
}

#[test]
fn a_failing_call_leaves_the_old_or_the_new() {
    faults("inject.sh", "quick");
}
