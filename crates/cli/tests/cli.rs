//! The command as a pipeline meets it: exit codes, streams, one JSON document, one line for an error, nothing left behind.
//!
//! Contract: design, "The command line". Options of create and apply have files of their own.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{Lab, Ran, Rng, Tensor, base_model, keys, report, reseal, safetensors, tuned_model};

const COMMANDS: [&str; 9] = ["create", "inspect", "verify", "apply", "lock", "overlap", "diff", "completions", "man"];

#[test]
fn a_command_that_cannot_explain_itself_is_not_used() {
    let lab = Lab::new();
    let all = lab.run("--help").ok();
    assert!(all.stdout.contains("Exit codes: 0 done"), "{}", all.stdout);
    for command in COMMANDS {
        assert!(all.stdout.contains(command), "{command} is not in the help");
        for help in ["--help", "-h"] {
            let ran = lab.run(&format!("{command} {help}")).ok();
            assert!(ran.stdout.contains("Usage: stitchpack"), "{}", ran.stdout);
            assert!(ran.stderr.is_empty(), "{}", ran.stderr);
            assert!(ran.stdout.lines().all(|l| l.chars().count() <= 120), "{}", ran.stdout);
        }
    }
    let create = lab.run("create --help").ok().stdout;
    for option in [
        "--density",
        "--exact",
        "--values",
        "--scope",
        "--groups",
        "--rescale",
        "--scores",
        "--mask",
        "--include",
        "--exclude",
        "--cast",
        "--new-tensors",
        "--meta",
        "--carry-files",
        "--dry-run",
        "--force",
        "--threads",
        "--json",
        "--quiet",
        "--no-mmap",
        "--output",
    ] {
        assert!(create.contains(option), "create --help does not say {option}");
    }
    let apply = lab.run("apply --help").ok().stdout;
    for option in ["--lambda", "--overlap", "--gain", "--base-check", "--recipe", "--check", "--force", "--output"] {
        assert!(apply.contains(option), "apply --help does not say {option}");
    }
    assert!(lab.run("--version").ok().stdout.starts_with("stitchpack 0."));
    assert!(lab.names(".").is_empty());
}

#[test]
fn a_typing_mistake_never_looks_like_success() {
    let lab = Lab::with_packs();
    lab.run("").refused_by_parser(&["Usage"]);
    lab.run("creat").refused_by_parser(&["create"]);
    lab.run("create").refused_by_parser(&["BASE"]);
    lab.run("create base.safetensors tuned.safetensors").refused_by_parser(&["--output"]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --densty 0.1").refused_by_parser(&["--densty"]);
    lab.run("apply base.safetensors exact.stitch").refused_by_parser(&["--output"]);
    lab.run("verify").refused_by_parser(&["PACKS"]);
    lab.run("overlap exact.stitch").refused_by_parser(&["2"]);
    lab.run("verify exact.stitch --threads many").refused_by_parser(&["many"]);
    lab.run("completions teletype").refused_by_parser(&["bash", "zsh", "fish"]);
    assert_eq!(lab.names("."), ["base.safetensors", "exact.stitch", "lossy.stitch", "tuned.safetensors"]);
}

#[test]
fn completions_that_do_not_parse_break_a_shell() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = lab.run(&format!("completions {shell}")).ok().stdout;
        assert!(text.contains("density") && text.contains("base-check"), "{shell}");
        if !support::has_program(shell) {
            println!("skipped: {shell} is not here to parse its completions");
            continue;
        }
        lab.write("completions", &text);
        let flag = if shell == "fish" { "--no-execute" } else { "-n" };
        let parsed = Command::new(shell).arg(flag).arg(lab.path("completions")).output().unwrap();
        assert!(parsed.status.success(), "{shell}: {}", String::from_utf8_lossy(&parsed.stderr));
    }
    lab.run("man pages").ok();
    let pages = lab.names("pages");
    assert!(pages.contains(&"stitchpack.1".into()) && pages.contains(&"stitchpack-create.1".into()), "{pages:?}");
}

#[test]
fn another_file_given_as_a_pack_is_named_for_what_it_is() {
    let lab = Lab::with_packs();
    let pack = lab.read("exact.stitch");
    let text_mode: Vec<u8> = {
        // What a transfer in text mode does: CR LF becomes LF.
        let mut out = Vec::new();
        let mut rest = pack.as_slice();
        while let Some((first, tail)) = rest.split_first() {
            if !(*first == b'\r' && tail.first() == Some(&b'\n')) {
                out.push(*first);
            }
            rest = tail;
        }
        out
    };
    let crlf: Vec<u8> = pack.iter().flat_map(|b| if *b == b'\n' { vec![b'\r', b'\n'] } else { vec![*b] }).collect();
    let cases: [(&str, Vec<u8>, &str); 13] = [
        ("safetensors", safetensors(&base_model()), "safetensors"),
        ("gguf", [b"GGUF\x03\0\0\0".as_slice(), &[0; 200]].concat(), "GGUF"),
        ("zip", [b"PK\x03\x04".as_slice(), &[0; 200]].concat(), "ZIP"),
        ("pickle", [b"\x80\x02".as_slice(), &[0; 200]].concat(), "pickle"),
        ("gzip", [b"\x1f\x8b\x08".as_slice(), &[0; 200]].concat(), "gzip"),
        ("json", b"{\"packs\": []}".to_vec(), "JSON"),
        ("empty", Vec::new(), "empty"),
        ("text-mode", text_mode, "text mode"),
        ("crlf", crlf, "text mode"),
        ("noise", Rng(9).units(60).iter().flat_map(|x| x.to_le_bytes()).collect(), "must start with 89535450"),
        ("one-byte", vec![0x89], "not a stitch pack"),
        ("magic-only", pack[..8].to_vec(), "too few"),
        ("cut-header", pack[..103].to_vec(), "too few"),
    ];
    for (name, bytes, word) in &cases {
        let file = format!("{name}.stitch");
        lab.write(&file, bytes);
        for command in ["verify", "inspect", "apply base.safetensors -o out.safetensors", "overlap exact.stitch"] {
            lab.run(&format!("{command} {file}")).fails_with(3, &[word, &file]);
        }
    }
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn a_flipped_bit_in_the_header_never_reads_as_a_newer_version() {
    let lab = Lab::with_packs();
    let pack = lab.read("lossy.stitch");
    for at in 0..104 {
        let mut bytes = pack.clone();
        bytes[at] ^= 1 << (at % 8);
        lab.write("flipped.stitch", &bytes);
        // The magic and the header's own length are read before the digest can be.
        let code = if at < 8 || (40..44).contains(&at) { [3, 4] } else { [4, 4] };
        let ran = lab.run("verify flipped.stitch");
        assert!(code.contains(&ran.code), "byte {at}: exit {}\n{}", ran.code, ran.stderr);
        let code = ran.code;
        ran.fails(code);
    }
}

#[test]
fn damage_anywhere_in_a_pack_is_an_integrity_error() {
    let lab = Lab::with_packs();
    for name in ["exact.stitch", "lossy.stitch"] {
        let pack = lab.read(name);
        let mut rng = Rng(4);
        for _ in 0..40 {
            let mut bytes = pack.clone();
            let at = 104 + rng.below(bytes.len() as u64 - 104) as usize;
            bytes[at] ^= 1 << rng.below(8);
            lab.write("flipped.stitch", &bytes);
            lab.run("verify flipped.stitch").fails_with(4, &["digest", "flipped.stitch"]);
            lab.run("apply base.safetensors flipped.stitch -o out.safetensors").fails(4);
        }
        for len in [104, 105, pack.len() / 2, pack.len() - 1] {
            lab.write("cut.stitch", &pack[..len]);
            lab.run("verify cut.stitch").fails_with(3, &["bytes"]);
        }
        for extra in [&b"\0"[..], &[0; 64], b"PK\x05\x06 appended"] {
            lab.write("longer.stitch", [&pack, extra].concat());
            lab.run("verify longer.stitch").fails_with(3, &["bytes"]);
        }
    }
    assert!(!lab.path("out.safetensors").exists());
    assert!(lab.leftovers(".").is_empty());
}

#[test]
fn a_newer_pack_is_refused_as_newer_and_an_impossible_one_as_malformed() {
    let lab = Lab::with_packs();
    let pack = lab.read("lossy.stitch");
    let with = |at: usize, bytes: &[u8]| {
        let mut pack = pack.clone();
        pack[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut pack);
        lab.write("other.stitch", pack);
        lab.run("verify other.stitch")
    };
    with(44, &2u16.to_le_bytes()).fails_with(8, &["version 2", "newer stitchpack"]);
    with(44, &u16::MAX.to_le_bytes()).fails_with(8, &["65535"]);
    with(44, &0u16.to_le_bytes()).fails_with(3, &["version is 0"]);
    with(46, &7u16.to_le_bytes()).ok();
    with(48, &(1u32 << 5).to_le_bytes()).fails_with(8, &["feature bit 5"]);
    with(52, &(1u32 << 9).to_le_bytes()).ok();
    with(56, &1u64.to_le_bytes()).fails(3);
    with(56, &u64::MAX.to_le_bytes()).fails(3);
    with(64, &0u32.to_le_bytes()).fails(3);
    with(64, &u32::MAX.to_le_bytes()).fails(3);
    with(72, &[0; 32]).fails_with(4, &["manifest"]);
}

#[test]
fn a_pack_from_standard_input_is_checked_like_a_file() {
    let lab = Lab::with_packs();
    let pack = lab.read("exact.stitch");
    let from_file = lab.run("verify exact.stitch --json").ok().json();
    let from_input = lab.run_with_input("verify - --json", &pack).ok().json();
    assert_eq!(from_file["ids"], from_input["ids"]);
    lab.run_with_input("verify -", &pack[..pack.len() - 1]).fails(3);
    lab.run_with_input("verify -", b"").fails_with(3, &["empty"]);
    let mut damaged = pack.clone();
    damaged[200] ^= 4;
    lab.run_with_input("verify -", &damaged).fails(4);
    lab.run_with_input("apply base.safetensors - -o out.safetensors --check", &pack).ok();
    assert_eq!(support::read_model(&lab.path("out.safetensors")), support::by_name(&tuned_model(2)));
}

#[test]
fn a_pack_under_anothers_name_is_not_taken_for_it() {
    let lab = Lab::with_packs();
    let created = lab.run("create base.safetensors tuned.safetensors --exact --dry-run --json").ok().json();
    let id = created["id"].as_str().unwrap().to_string();
    let ran = lab.run(&format!("verify exact.stitch --expect-id {id}")).ok();
    assert!(ran.stdout.contains(&id) && ran.stderr.contains("proved      identity"), "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stderr.contains("not proved  origin"), "{}", ran.stderr);
    lab.run(&format!("verify lossy.stitch --expect-id {id}")).fails_with(4, &["pack id", &id[..16]]);
    // Digests that begin alike are named whole.
    let other = format!("{}{}", &id[..63], if id.ends_with('0') { '1' } else { '0' });
    lab.run(&format!("verify exact.stitch --expect-id {other}")).fails_with(4, &[&id, &other]);
    lab.run("verify exact.stitch --expect-id abc").fails_with(2, &["64"]);
    lab.run(&format!("verify exact.stitch --expect-id {}", "g".repeat(64))).fails(2);
    lab.run(&format!("verify exact.stitch lossy.stitch --expect-id {id}")).fails(2);
}

#[test]
fn verify_says_what_it_did_not_prove() {
    let lab = Lab::with_packs();
    let ran = lab.run("verify exact.stitch lossy.stitch").ok();
    assert_eq!(ran.stdout.lines().count(), 2, "one line a pack\n{}", ran.stdout);
    for word in ["integrity", "not proved  origin", "not proved  base", "not proved  harmlessness"] {
        assert!(ran.stderr.contains(word), "{word} is not in\n{}", ran.stderr);
    }
    let ran = lab.run("verify exact.stitch --base base.safetensors").ok();
    assert!(!ran.stderr.contains("not proved  base"), "{}", ran.stderr);
    lab.run("verify exact.stitch --base tuned.safetensors").fails(5);
}

/// An exact pack that is coded by what the base has, as far as each command can see it.
#[test]
fn what_cannot_be_decoded_without_the_base_is_called_proved() {
    let lab = Lab::with_packs();
    let blind = lab.run("verify exact.stitch --json").ok().json();
    let said = |json: &Value, key: &str, word: &str| {
        json[key].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains(word))
    };
    assert!(!said(&blind, "proved", "everything decodes") && said(&blind, "not_proved", "content"), "{blind}");
    let seeing = lab.run("verify exact.stitch --base base.safetensors --json").ok().json();
    assert!(said(&seeing, "proved", "everything decodes") && !said(&seeing, "not_proved", "content"), "{seeing}");
    let lossy = lab.run("verify lossy.stitch --json").ok().json();
    assert!(said(&lossy, "proved", "everything decodes") && !said(&lossy, "not_proved", "content"), "{lossy}");

    assert_eq!(lab.run("inspect exact.stitch --json").ok().json()["not_decoded"], 1);
    assert_eq!(lab.run("inspect exact.stitch --base base.safetensors --json").ok().json()["not_decoded"], 0);
    lab.run("inspect exact.stitch --base tuned.safetensors").fails(5);
    lab.run("overlap exact.stitch lossy.stitch").fails_with(2, &["--base", "a.weight"]);
    lab.run("overlap exact.stitch lossy.stitch --base tuned.safetensors").fails(5);
    lab.run("overlap exact.stitch lossy.stitch --base base.safetensors").ok();
}

#[test]
fn an_outcome_is_proved_or_refuted() {
    let lab = Lab::with_packs();
    lab.run("apply base.safetensors exact.stitch -o one.safetensors").ok();
    lab.run("apply base.safetensors lossy.stitch -o two.safetensors").ok();
    lab.run("verify exact.stitch --result tuned.safetensors").ok();
    lab.run("verify exact.stitch --result one.safetensors").ok();
    lab.run("verify lossy.stitch --result two.safetensors").ok();
    lab.run("verify lossy.stitch --result two.safetensors --base base.safetensors").ok();
    lab.run("verify exact.stitch --result base.safetensors").fails_with(4, &["result"]);
    lab.run("verify exact.stitch --result two.safetensors").fails(4);
    lab.run("verify exact.stitch --result two.safetensors --base base.safetensors").fails(4);
    lab.run("verify exact.stitch lossy.stitch --result two.safetensors").fails_with(2, &["--base"]);
    let without: Vec<Tensor> = tuned_model(2).into_iter().filter(|t| t.name != "b.weight").collect();
    lab.model("without.safetensors", &without);
    lab.run("verify exact.stitch --result without.safetensors").fails_with(6, &["b.weight"]);
    lab.run("verify exact.stitch --result nowhere").fails_with(7, &["nowhere"]);
    // A change that the pack does not touch shows only where the base is at hand.
    let mut other = tuned_model(2);
    other[3].data[0] ^= 1;
    lab.model("other.safetensors", &other);
    lab.run("verify exact.stitch --result other.safetensors").ok();
    lab.run("verify exact.stitch --result other.safetensors --base base.safetensors").fails(4);
}

#[test]
fn json_is_one_document_with_the_keys_that_scripts_read() {
    let lab = Lab::with_packs();
    let created = lab.run("create base.safetensors tuned.safetensors -o p.stitch --density 1% --json").ok();
    assert!(created.stderr.is_empty(), "{}", created.stderr);
    let want = [
        "all_steps",
        "candidates",
        "carried",
        "changed",
        "content_id",
        "differing_files",
        "energy_kept",
        "exact",
        "fine_tuned_bytes",
        "gain",
        "id",
        "kept",
        "only_in_base",
        "pack_bytes",
        "path",
        "size_share",
        "skipped",
        "touched_tensors",
        "unchanged_in_mask",
    ];
    assert_eq!(keys(&report(&created.json())), want);
    let verified = lab.run("verify p.stitch --json").ok();
    assert_eq!(keys(&report(&verified.json())), ["ids", "not_proved", "packs", "proved"]);
    assert_eq!(verified.json()["ids"][0], created.json()["id"]);
    let applied = lab.run("apply base.safetensors p.stitch@0.5 -o out --json").ok().json();
    assert_eq!(keys(&report(&applied)), ["base_check", "bytes", "path", "recipe", "result_checked", "touched_tensors"]);
    assert_eq!(keys(&applied["recipe"]), ["base", "lambda", "overlap", "packs", "result", "stitch_recipe"]);
    assert_eq!(keys(&applied["recipe"]["packs"][0]), ["file", "gain", "id", "weight"]);
    let recipe: Value = serde_json::from_slice(&lab.read("out/stitch.json")).unwrap();
    assert_eq!(recipe, applied["recipe"]);
    let locked = lab.run("lock base.safetensors p.stitch@0.5 --json").ok().json();
    assert_eq!(locked["recipe"], recipe);
    let overlap = lab.run("overlap exact.stitch lossy.stitch p.stitch --base base.safetensors --json").ok().json();
    assert_eq!(keys(&report(&overlap)), ["ids", "overlaps", "packs"]);
    assert_eq!(overlap["overlaps"].as_array().unwrap().len(), 3);
    assert_eq!(keys(&overlap["overlaps"][0]), ["by_chance", "kept", "opposite", "packs", "shared", "tensors"]);
    let diff = lab.run("diff base.safetensors tuned.safetensors --json").ok().json();
    let want = [
        "base_norm",
        "changed",
        "companions",
        "elements",
        "energy",
        "norm",
        "only_in_base",
        "only_in_fine_tuned",
        "tensors",
    ];
    assert_eq!(keys(&report(&diff)), want);
    assert_eq!(diff["changed"], created.json()["changed"]);
    assert_eq!(diff["elements"], created.json()["candidates"]);
}

#[test]
fn a_failure_with_json_is_one_document_too() {
    let lab = Lab::with_packs();
    lab.write("noise.stitch", [7; 300]);
    let mut damaged = lab.read("exact.stitch");
    damaged[150] ^= 1;
    lab.write("damaged.stitch", &damaged);
    let mut newer = lab.read("exact.stitch");
    newer[44] = 9;
    reseal(&mut newer);
    lab.write("newer.stitch", &newer);
    let cases = [
        ("apply base.safetensors exact.stitch exact.stitch -o o", 2, "usage"),
        ("verify noise.stitch", 3, "malformed"),
        ("verify damaged.stitch", 4, "integrity"),
        ("apply tuned.safetensors exact.stitch -o o", 5, "wrong-base"),
        ("apply base.safetensors exact.stitch lossy.stitch -o o", 6, "refused"),
        ("verify nowhere.stitch", 7, "io"),
        ("verify newer.stitch", 8, "unsupported"),
    ];
    for (args, code, kind) in cases {
        let ran = lab.run(&format!("{args} --json")).fails(code);
        let error = &ran.json()["error"];
        assert_eq!(error["kind"], kind, "{args}");
        assert_eq!(error["exit_code"], code, "{args}");
        assert_eq!(error["message"], ran.error_line(), "{args}");
    }
    let error = lab.run("verify noise.stitch --json").json()["error"].clone();
    assert_eq!(error["rule"], "HDR-1");
    let error = lab.run("apply tuned.safetensors exact.stitch -o o --json").json()["error"].clone();
    assert_eq!(error["touched"], 3);
    assert_eq!(error["tensors"][0]["name"], "a.weight");
}

#[test]
fn quiet_says_nothing_but_results_and_errors() {
    let lab = Lab::with_packs();
    lab.folder("base", &base_model());
    lab.folder("tuned", &tuned_model(2));
    lab.write("tuned/config.json", "{\"other\": 1}");
    let loud = lab.run("create base tuned -o q.stitch --density 1%").ok();
    assert!(loud.stderr.starts_with("warning: files that differ"), "{}", loud.stderr);
    let quiet = lab.run("create base tuned -o q.stitch --density 1% --force -q").ok();
    assert!(quiet.stderr.is_empty(), "{}", quiet.stderr);
    assert_eq!(quiet.stdout, loud.stdout);
    for args in ["verify exact.stitch -q", "apply base.safetensors exact.stitch -o o.safetensors -q"] {
        let ran = lab.run(args).ok();
        assert!(ran.stderr.is_empty() && !ran.stdout.is_empty(), "{args}: {}", ran.stderr);
    }
    lab.run("verify nowhere -q").fails(7);
}

#[test]
fn a_reader_that_stops_early_does_not_make_a_failure() {
    let lab = Lab::with_packs();
    for args in ["verify exact.stitch", "diff base.safetensors tuned.safetensors --json", "completions bash"] {
        let mut command = lab.command();
        command.args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn results_that_do_not_fit_the_disk_are_not_called_done() {
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        return println!("skipped: no /dev/full here");
    };
    let lab = Lab::with_packs();
    let output = lab.command().args(["verify", "exact.stitch", "--json"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn text_from_a_file_cannot_write_on_the_terminal() {
    let lab = Lab::with_pair();
    let header = |name: &str, dtype: &str| {
        let text = format!("{{\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[1],\"data_offsets\":[0,4]}}}}");
        support::raw_file(text.as_bytes(), &[0; 4])
    };
    let nasty = "\\u001b[31mred\\u0007\\u202e\\n";
    let cases = [
        ("name", header(nasty, "F32")),
        ("dtype", header("a", nasty)),
        ("twice", {
            let entry = "{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}";
            support::raw_file(format!("{{\"{nasty}\":{entry},\"{nasty}\":{entry}}}").as_bytes(), &[])
        }),
        ("key", support::raw_file(format!("{{\"a\":{{\"{nasty}\":1}}}}").as_bytes(), &[])),
        ("metadata", support::raw_file(format!("{{\"__metadata__\":\"{nasty}\"}}").as_bytes(), &[])),
    ];
    for (name, bytes) in cases {
        let file = format!("{name}.safetensors");
        lab.write(&file, bytes);
        let ran = lab.run(&format!("create base.safetensors {file} -o p.stitch")).fails(3);
        assert!(!ran.stderr.contains('\u{202e}'), "{name}: {:?}", ran.stderr);
    }
    lab.write("index/model.safetensors.index.json", format!("{{\"weight_map\":{{\"{nasty}\":\"../{nasty}\"}}}}"));
    lab.run("create base.safetensors index -o p.stitch").fails_with(3, &["\\u{1b}", "CKP-4"]);
    lab.write("recipe.json", format!("{{\"{nasty}\": 1}}"));
    let ran = lab.run("apply base.safetensors --recipe recipe.json -o o").fails(3);
    assert!(!ran.stderr.contains('\u{202e}'), "{:?}", ran.stderr);
    // Names of files are text from somewhere else too: a glob may have put them on the command line.
    let mut args = vec!["verify", "no\n\u{1b}[31mfile"];
    lab.run_args(&args).fails(7);
    args[1] = "no\u{1b}[31mfile@";
    lab.run_args(&["apply", "base.safetensors", args[1], "-o", "o"]).fails(2);
    lab.run_args(&["create", "base.safetensors", "tuned.safetensors", "-o", "p", "--meta", "a\n\u{1b}b"]).fails(2);
    lab.run_args(&["create", "base.safetensors", "tuned.safetensors", "-o", "p", "--values", "a\n\u{1b}b"]).fails(2);
}

#[test]
fn an_error_about_many_long_names_stays_short() {
    let lab = Lab::new();
    let long = |i: usize| format!("model.{}.{i}", "very_long_part_of_a_name".repeat(12));
    let base: Vec<Tensor> = (0..9).map(|i| Tensor::f32(&long(i), &[2], &[0.0; 2])).collect();
    let dtype: Vec<Tensor> = (0..9).map(|i| Tensor::f16(&long(i), &[2], &[0.0; 2])).collect();
    let shape: Vec<Tensor> = (0..9).map(|i| Tensor::f32(&long(i), &[1], &[0.0])).collect();
    lab.model("base.safetensors", &base);
    lab.model("dtype.safetensors", &dtype);
    lab.model("shape.safetensors", &shape);
    lab.run("create base.safetensors dtype.safetensors -o p.stitch").fails(6);
    lab.run("create base.safetensors shape.safetensors -o p.stitch").fails(6);
    let moved: Vec<Tensor> = (0..9).map(|i| Tensor::f32(&long(i), &[2], &[1.0; 2])).collect();
    lab.model("moved.safetensors", &moved);
    lab.run("create base.safetensors moved.safetensors -o p.stitch --exact").ok();
    lab.run("apply moved.safetensors p.stitch -o o.safetensors").fails(5);
    let unknown = format!("{{\"a\":{{\"dtype\":\"{}\",\"shape\":[1],\"data_offsets\":[0,4]}}}}", "X".repeat(5000));
    lab.write("unknown.safetensors", support::raw_file(unknown.as_bytes(), &[0; 4]));
    lab.run("create unknown.safetensors base.safetensors -o p2.stitch").fails(3);
}

/// Sends a signal to a child.
fn signal(child: &std::process::Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    // It may just have ended.
    rustix::process::kill_process(pid, signal).ok();
}

#[test]
fn an_interrupt_leaves_nothing_and_exits_130() {
    let lab = Lab::new();
    let mut rng = Rng(3);
    let n = 1 << 20;
    let bytes = |rng: &mut Rng| -> Vec<u8> { (0..n / 4).flat_map(|_| rng.next().to_le_bytes()).collect() };
    let base = Tensor::raw("w", "I16", &[n], bytes(&mut rng));
    let tuned = Tensor::raw("w", "I16", &[n], bytes(&mut rng));
    lab.model("base.safetensors", &[base]);
    lab.model("tuned.safetensors", &[tuned]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact").ok();
    for args in [
        "create base.safetensors tuned.safetensors -o out.safetensors --exact --threads 1 --json",
        "apply base.safetensors p.stitch -o out.safetensors --threads 1 --json",
        "apply base.safetensors p.stitch -o out --threads 1 --json",
    ] {
        let before = lab.snapshot();
        let mut interrupted = 0;
        // Machines differ in speed, so the moment is moved until it was met a few times.
        for i in 0..100u64 {
            if interrupted == 3 {
                break;
            }
            let mut command = lab.command();
            command.args(args.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_micros(1500 * (i + 1)));
            signal(&child, rustix::process::Signal::INT);
            let output = child.wait_with_output().unwrap();
            if output.status.code() == Some(0) {
                // It was done before the signal came.
                drop(fs::remove_dir_all(lab.path("out")));
                drop(fs::remove_file(lab.path("out.safetensors")));
                continue;
            }
            if output.status.code().is_none() {
                // The signal came before the command could listen; nothing had been begun.
                continue;
            }
            interrupted += 1;
            let ran = Ran::of(args, output).fails_with(130, &["interrupted"]);
            assert_eq!(ran.json()["error"]["kind"], "interrupted");
            assert!(lab.snapshot() == before, "an interrupted {args} left {:?}", lab.names("."));
        }
        assert!(interrupted > 0, "{args} was never caught at work");
    }
}

#[test]
fn standard_input_is_one_pack() {
    let lab = Lab::with_packs();
    let verify = |args: &[&str], input: &str| {
        let input = std::fs::File::open(lab.path(input)).unwrap();
        let done = lab.command().arg("verify").args(args).stdin(input).output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(verify(&["-"], "lossy.stitch").0, Some(0));
    let (code, said) = verify(&["-", "-"], "lossy.stitch");
    assert!(code == Some(2) && said.contains("`-` is named twice"), "{said}");
    let (code, said) = verify(&["-"], "base.safetensors");
    assert!(code == Some(3) && said.contains("error: -: "), "{said}");
}

#[test]
fn an_interrupt_ends_a_wait_for_standard_input() {
    let lab = Lab::new();
    let mut command = lab.command();
    command.args(["verify", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"\x89STP").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut ended = None;
    for _ in 0..30 {
        signal(&child, rustix::process::Signal::INT);
        std::thread::sleep(std::time::Duration::from_millis(100));
        ended = child.try_wait().unwrap();
        if ended.is_some() {
            break;
        }
    }
    drop(stdin);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    child.wait().unwrap();
    let ended = ended.expect("the command still waited for input after many interrupts");
    assert_eq!(ended.code(), Some(130), "{stderr}");
}

#[test]
fn the_environment_does_not_change_results() {
    let lab = Lab::with_packs();
    let plain = lab.run("apply base.safetensors lossy.stitch -o plain.safetensors").ok();
    let mut command = lab.command();
    command.env_clear().args(["apply", "base.safetensors", "lossy.stitch", "-o", "bare.safetensors"]);
    // No cache, no home, no locale.
    let bare = Ran::of("bare", command.current_dir(lab.path("")).output().unwrap()).ok();
    assert_eq!(lab.read("plain.safetensors"), lab.read("bare.safetensors"));
    assert_eq!(plain.stdout.replace("plain", ""), bare.stdout.replace("bare", ""));
    let mut command = lab.command();
    command.env("STITCHPACK_CACHE", "/dev/null/nowhere");
    command.args(["apply", "base.safetensors", "lossy.stitch", "-o", "other.safetensors"]);
    Ran::of("no cache", command.output().unwrap()).ok();
}

#[test]
fn verify_checks_every_pack_and_ends_with_the_first_reason() {
    let lab = Lab::with_packs();
    let pack = lab.read("lossy.stitch");
    lab.write("cut.stitch", &pack[..pack.len() - 1]);
    let mut damaged = pack.clone();
    damaged[150] ^= 1;
    lab.write("damaged.stitch", &damaged);
    let named = ["lossy.stitch", "damaged.stitch", "exact.stitch", "cut.stitch", "nowhere.stitch"];
    let ran = lab.run(&format!("verify {}", named.join(" ")));
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let good: Vec<&str> = ran.stdout.lines().map(|l| l.rsplit(' ').next().unwrap()).collect();
    assert_eq!(good, ["lossy.stitch", "exact.stitch"]);
    let bad: Vec<&str> = ran.stderr.lines().map(|l| l.split(':').nth(1).unwrap().trim()).collect();
    assert_eq!(bad, ["damaged.stitch", "cut.stitch", "nowhere.stitch"], "{}", ran.stderr);
    // One document, about the first in the shape of every error, and about each.
    let ran = lab.run("verify lossy.stitch cut.stitch damaged.stitch --json");
    assert_eq!((ran.code, ran.stderr.lines().count()), (3, 2));
    let json = ran.json();
    assert_eq!(keys(&report(&json)), ["error", "packs"]);
    assert!(json["error"]["message"].as_str().unwrap().starts_with("cut.stitch"));
    let packs = json["packs"].as_array().unwrap();
    assert_eq!(packs.iter().map(|p| p["path"].as_str().unwrap()).collect::<Vec<_>>(), [named[0], named[3], named[1]]);
    assert_eq!((keys(&packs[0]), &packs[1]["error"]), (vec!["id", "not_proved", "path", "proved"], &json["error"]));
    assert_eq!(packs[2]["error"]["kind"], "integrity");
    // Also where only the base tells.
    lab.run("create tuned.safetensors base.safetensors -o back.stitch --density 5%").ok();
    let ran = lab.run("verify exact.stitch back.stitch lossy.stitch damaged.stitch --base base.safetensors");
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.lines().count()), (5, 2, 2), "{}", ran.stderr);
    lab.run("verify exact.stitch lossy.stitch --base base.safetensors").ok();
}

#[test]
fn a_dash_is_no_output() {
    let lab = Lab::with_packs();
    for command in [
        "create base.safetensors tuned.safetensors",
        "apply base.safetensors lossy.stitch",
        "lock base.safetensors lossy.stitch",
        "fold base.safetensors lossy.stitch",
        "export base.safetensors lossy.stitch --format weight-patch",
    ] {
        lab.run(&format!("{command} -o -")).refused_by_parser(&["standard output", "./-"]);
    }
    lab.run("inspect lossy.stitch --html -").refused_by_parser(&["standard output"]);
    assert!(!lab.path("-").exists());
    lab.run("create base.safetensors tuned.safetensors --density 1% -o ./-").ok();
    lab.run("verify ./-").ok();
}

#[test]
fn what_is_cut_out_of_a_long_error_is_whole_words() {
    let lab = Lab::new();
    let name = |i: usize| format!("model.layers.{i}.a_module_with_a_rather_long_name.of_its_own.projection.weight");
    let model = |x: f32| (0..40).map(|i| Tensor::f32(&name(i), &[2, 2], &[x; 4])).collect::<Vec<_>>();
    for (file, x) in [("base", 1.0), ("tuned", 2.0), ("other", 3.0)] {
        lab.model(&format!("{file}.safetensors"), &model(x));
    }
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --density 50%").ok();
    let ran = lab.run("verify p.stitch --base other.safetensors").fails(5);
    let line = ran.error_line();
    assert!(line.len() <= 490 && !line.contains('…'), "{line}");
    assert!(line.contains(&name(0)) && line.contains("and 39 more") && line.contains("stitchpack create"), "{line}");
    // Where even one name is too much, as behind a long path.
    let folder = ["a folder with words in its name"; 6].join(" ");
    std::fs::create_dir_all(lab.path(&folder)).unwrap();
    std::fs::rename(lab.path("p.stitch"), lab.path(&folder).join("p.stitch")).unwrap();
    let pack = format!("{folder}/p.stitch");
    let ran = lab.run_args(&["verify", &pack, "--base", "other.safetensors", "--json"]).fails(5);
    let (line, document) = (ran.error_line(), ran.json());
    let message = document["error"]["message"].as_str().unwrap();
    let (head, tail) = line.split_once(" … ").unwrap();
    assert!(message.strip_prefix(head).is_some_and(|rest| rest.starts_with(' ')), "{line}");
    assert!(message.strip_suffix(tail).is_some_and(|rest| rest.ends_with(' ')), "{line}");
    assert!(message.ends_with(" needs those before it") && tail.len() > 60, "{line}");
}
