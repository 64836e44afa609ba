//! What people have on disk is read as they mean it, and what would be read in two ways is refused.
//!
//! Contract: rules CKP-1 to CKP-5; design, "Create meets differences"; reliability cases B-07, B-09, B-11, B-12, F-01 to F-05.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use support::{Lab, Rng, Tensor, base_model, by_name, read_model, safetensors, safetensors_with, tuned_model};

/// Opens something as a base; the other side is good.
fn open(lab: &Lab, what: &str) -> support::Ran {
    lab.run(&format!("diff {what} tuned.safetensors --json"))
}

#[test]
fn each_side_may_be_sharded_in_its_own_way() {
    let lab = Lab::with_packs();
    let (base, tuned) = (base_model(), tuned_model(2));
    lab.folder("base-folder", &base);
    lab.folder("tuned-folder", &tuned);
    lab.sharded("base-2", &base, &[&[0, 3], &[1, 2, 4]]);
    lab.sharded("base-5", &base, &[&[4], &[3], &[2], &[1], &[0]]);
    lab.sharded("tuned-3", &tuned, &[&[2], &[4, 0], &[3, 1]]);
    let mut packs = Vec::new();
    for b in ["base.safetensors", "base-folder", "base-2", "base-5"] {
        for t in ["tuned.safetensors", "tuned-folder", "tuned-3"] {
            lab.run(&format!("create {b} {t} -o p.stitch --exact --force")).ok();
            packs.push(lab.read("p.stitch"));
        }
        lab.run(&format!("apply {b} exact.stitch -o out --force --check")).ok();
        assert_eq!(read_model(&lab.path("out")), by_name(&tuned), "{b}");
        lab.run(&format!("apply {b} exact.stitch -o out.safetensors --force --check")).ok();
        assert_eq!(read_model(&lab.path("out.safetensors")), by_name(&tuned), "{b}");
    }
    assert!(packs.iter().all(|p| *p == packs[0]), "how a model is cut into files shows in the pack");
    assert_eq!(packs[0], lab.read("exact.stitch"));
}

#[test]
fn an_index_entry_never_leads_out_of_the_folder() {
    let lab = Lab::with_pair();
    lab.model("outside.safetensors", &base_model());
    let absolute = lab.path("outside.safetensors").to_string_lossy().into_owned();
    for entry in [
        "../outside.safetensors",
        absolute.as_str(),
        "a/../../outside.safetensors",
        "./model.safetensors",
        "",
        ".",
        "..",
        ".hidden.safetensors",
        "C:outside.safetensors",
        "a\\b.safetensors",
        "sub/model.safetensors",
        "x\0y",
        "a b",
    ] {
        lab.index("model", &json!({"weight_map": {"a.weight": entry}}));
        open(&lab, "model").fails_with(3, &["CKP-4", "a.weight", "index.json"]);
    }
    lab.index("model", &json!({"weight_map": {"a.weight": "x".repeat(256)}}));
    open(&lab, "model").fails(3);
}

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    let lab = Lab::with_pair();
    let model = base_model();
    lab.sharded("m", &model, &[&[0, 1], &[2, 3, 4]]);
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    open(&lab, "m").ok();
    let map = |changes: &[(&str, Option<&str>)]| {
        let mut map = json!({"a.weight": one, "b.weight": one, "c.bias": two, "plain": two, "ids": two});
        for (name, file) in changes {
            match file {
                Some(file) => map[*name] = json!(file),
                None => drop(map.as_object_mut().unwrap().remove(*name)),
            }
        }
        lab.index("m", &json!({"weight_map": map}));
    };
    map(&[("a.weight", Some(two))]);
    open(&lab, "m").fails_with(3, &["a.weight", one, two, "CKP-4"]);
    map(&[("ghost", Some(one))]);
    open(&lab, "m").fails_with(3, &["ghost", "not there"]);
    map(&[("a.weight", Some("model-00003-of-00002.safetensors"))]);
    open(&lab, "m").fails_with(7, &["model-00003-of-00002.safetensors"]);
    map(&[]);
    lab.model(&format!("m/{two}"), &model[1..]);
    open(&lab, "m").fails_with(3, &["b.weight", one, two, "CKP-5"]);
    fs::remove_file(lab.path(&format!("m/{two}"))).unwrap();
    open(&lab, "m").fails_with(7, &[two]);
    for text in ["", "{", "[]", "{}", "{\"weight_map\": 3}", "{\"weight_map\": {\"a\": 3}}", "\u{feff}{}", "null"] {
        lab.write("m/model.safetensors.index.json", text);
        open(&lab, "m").fails_with(3, &["CKP-4"]);
    }
}

#[test]
fn a_tensor_that_an_index_names_twice_is_not_read_from_the_last() {
    let lab = Lab::with_pair();
    lab.model("m/one.safetensors", &base_model());
    lab.model("m/two.safetensors", &tuned_model(3));
    let names: Vec<String> = base_model().into_iter().map(|t| t.name).collect();
    let entries =
        |file: &str| names.iter().map(|n| format!("\"{n}\":\"{file}.safetensors\"")).collect::<Vec<_>>().join(",");
    let text = format!("{{\"weight_map\":{{{},{}}}}}", entries("one"), entries("two"));
    lab.write("m/model.safetensors.index.json", text);
    open(&lab, "m").fails_with(3, &["a.weight", "twice"]);
    let both = format!("{{\"weight_map\":{{{}}},\"weight_map\":{{{}}}}}", entries("one"), entries("two"));
    lab.write("m/model.safetensors.index.json", both);
    open(&lab, "m").fails(3);
}

#[test]
fn an_index_of_nothing_is_not_a_model() {
    let lab = Lab::with_pair();
    lab.index("m", &json!({"weight_map": {}}));
    lab.model("m/model.safetensors", &base_model());
    open(&lab, "m").fails_with(3, &["CKP-4"]);
}

/// A header of one F32 tensor of two elements, with one part replaced.
fn header(from: &str, to: &str) -> Vec<u8> {
    let good = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    assert!(good.contains(from), "{from}");
    support::raw_file(good.replace(from, to).as_bytes(), &[0; 8])
}

#[test]
fn a_file_that_two_programs_would_read_differently_is_refused() {
    let lab = Lab::with_pair();
    let entry = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
    let other = "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}";
    let good = safetensors(&base_model());
    let len = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let resized = |n: u64| [&n.to_le_bytes()[..], &good[8..]].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("name twice", support::raw_file(format!("{{\"a\":{entry},\"a\":{other}}}").as_bytes(), &[0; 4])),
        (
            "name twice, once escaped",
            support::raw_file(format!("{{\"a\":{entry},\"\\u0061\":{other}}}").as_bytes(), &[0; 4]),
        ),
        ("metadata key twice", header("{\"a\"", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"},\"a\"")),
        ("metadata twice", header("{\"a\"", "{\"__metadata__\":{},\"__metadata__\":{},\"a\"")),
        ("metadata not text", header("{\"a\"", "{\"__metadata__\":{\"k\":1},\"a\"")),
        ("field twice", header("\"shape\":[2]", "\"shape\":[2],\"shape\":[1]")),
        ("one trailing byte", [good.clone(), vec![0]].concat()),
        ("an archive behind", [good.clone(), b"PK\x05\x06".to_vec(), vec![0; 18]].concat()),
        ("cut by one", good[..good.len() - 1].to_vec()),
        ("cut in the header", good[..8 + len / 2].to_vec()),
        ("cut after the header", good[..8 + len].to_vec()),
        ("no length", good[..7].to_vec()),
        ("empty", Vec::new()),
        ("header too long by one", resized(len as u64 + 1)),
        ("header past the end", resized(good.len() as u64)),
        ("header of 2^64-1", resized(u64::MAX)),
        ("header of 2^63", resized(1 << 63)),
        ("header of nothing", resized(0)),
        ("not JSON", support::raw_file(b"hello", &[])),
        ("a list", support::raw_file(b"[]", &[])),
        ("two documents", support::raw_file(b"{}{}", &[])),
        ("not UTF-8", header("\"a\"", "\"a\"").iter().map(|b| if *b == b'a' { 0xff } else { *b }).collect()),
        ("unknown dtype", header("F32", "F33")),
        ("lower-case dtype", header("F32", "f32")),
        ("no shape", header("\"shape\":[2],", "")),
        ("negative dimension", header("[2]", "[-2]")),
        ("fraction of a dimension", header("[2]", "[2.0]")),
        ("wrong size", header("[2]", "[3]")),
        ("a product that wraps to 2", header("[2]", "[4611686018427387904,8,2]")),
        ("end before start", header("[0,8]", "[8,0]")),
        ("hole", header("[0,8]", "[4,12]")),
        ("past the end", header("[0,8]", "[0,9]")),
        ("overlap", {
            let b = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}";
            support::raw_file(format!("{{\"a\":{entry},\"b\":{b}}}").as_bytes(), &[0; 6])
        }),
        ("empty name", header("\"a\"", "\"\"")),
        ("nested 100,000 deep", support::raw_file("[".repeat(100_000).as_bytes(), &[])),
    ];
    for (what, bytes) in cases {
        lab.write("odd.safetensors", bytes);
        let ran = open(&lab, "odd.safetensors");
        assert_eq!(ran.code, 3, "{what}: {}", ran.stderr);
        ran.fails_with(3, &["odd.safetensors"]);
    }
    lab.write("limit.safetensors", header("[2]", "[1,1,1,1,1,1,1,1,2]"));
    open(&lab, "limit.safetensors").fails_with(6, &["rank", "9"]);
    lab.write("limit.safetensors", header("\"a\"", &format!("\"{}\"", "n".repeat(513))));
    open(&lab, "limit.safetensors").fails_with(6, &["513"]);
    let huge = fs::File::create(lab.path("huge.safetensors")).unwrap();
    huge.set_len(200_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, &100_000_001u64.to_le_bytes(), 0).unwrap();
    open(&lab, "huge.safetensors").fails_with(6, &["100000001", "100000000"]);
}

#[test]
fn blanks_around_a_header_are_no_damage() {
    let lab = Lab::with_pair();
    let json = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    for text in [format!("  {json}"), format!("{json}   "), format!("{json}\n\t "), json.replace(':', " : ")] {
        lab.write("base.safetensors", support::raw_file(text.as_bytes(), &[0; 8]));
        lab.model("tuned.safetensors", &[Tensor::f32("a", &[2], &[0.0, 1.0])]);
        lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact --force").ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
        let out = lab.read("out.safetensors");
        assert_eq!(out[..8 + text.len()], lab.read("base.safetensors")[..8 + text.len()], "the base's header is kept");
    }
}

#[test]
fn names_that_could_move_a_cursor_are_refused_and_shown_escaped() {
    let lab = Lab::with_pair();
    for (name, shown) in [
        ("a\u{1b}[31mred", "\\u{1b}[31m"),
        ("line\nbreak", "\\u{a}"),
        ("nul\0", "\\u{0}"),
        ("right\u{202e}left", "\\u{202e}"),
        ("zero\u{200b}width", "\\u{200b}"),
        ("c1\u{9b}31m", "\\u{9b}"),
    ] {
        lab.model("odd.safetensors", &[Tensor::f32(name, &[1], &[0.0])]);
        open(&lab, "odd.safetensors").fails_with(3, &["TEN-1", shown]);
    }
    // Odd, but only a label.
    let odd = ["../../etc/passwd", "/abs", "C:\\x", "a b", "ü.ñ.重み", "quote\"s", "back\\slash", "\u{1f600}", "."];
    let side = |x: f32| -> Vec<Tensor> { odd.iter().map(|n| Tensor::f32(n, &[1], &[x])).collect() };
    lab.model("base.safetensors", &side(0.0));
    lab.model("tuned.safetensors", &side(1.0));
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --exact").ok();
    lab.run("verify p.stitch").ok();
    lab.run("apply base.safetensors p.stitch -o out --check").ok();
    assert_eq!(read_model(&lab.path("out")), by_name(&side(1.0)));
    assert_eq!(lab.names("out"), ["model.safetensors", "stitch.json"]);
}

#[test]
fn a_folder_without_safetensors_says_what_it_has() {
    let lab = Lab::with_pair();
    for name in
        ["pytorch_model.bin", "consolidated.00.pth", "model.gguf", "flax_model.msgpack", "tf_model.h5", "model.ckpt"]
    {
        lab.write("m/config.json", "{}");
        lab.write(&format!("m/{name}"), "\u{0}");
        open(&lab, "m").fails_with(3, &[name, "safetensors", "CKP-3"]);
        fs::remove_dir_all(lab.path("m")).unwrap();
    }
    fs::create_dir(lab.path("m")).unwrap();
    open(&lab, "m").fails_with(3, &["model.safetensors"]);
    lab.model("m/a.safetensors", &base_model());
    open(&lab, "m").ok();
    lab.model("m/b.safetensors", &base_model());
    open(&lab, "m").fails_with(3, &["2 safetensors files", "index.json"]);
    lab.model("m/model.safetensors", &base_model());
    open(&lab, "m").ok();
}

#[test]
fn the_hubs_cache_of_links_is_a_folder_like_any_other() {
    let lab = Lab::with_packs();
    let (base, tuned) = (base_model(), tuned_model(2));
    lab.sharded("plain", &base, &[&[0, 1], &[2, 3, 4]]);
    fs::create_dir_all(lab.path("hub/blobs")).unwrap();
    fs::create_dir_all(lab.path("hub/snapshots/abc")).unwrap();
    for (i, name) in lab.names("plain").iter().enumerate() {
        fs::rename(lab.path(&format!("plain/{name}")), lab.path(&format!("hub/blobs/{i:064}"))).unwrap();
        symlink(format!("../../blobs/{i:064}"), lab.path(&format!("hub/snapshots/abc/{name}"))).unwrap();
    }
    let snapshot = "hub/snapshots/abc";
    lab.run(&format!("create {snapshot} tuned.safetensors -o p.stitch --exact")).ok();
    assert_eq!(lab.read("p.stitch"), lab.read("exact.stitch"));
    lab.run(&format!("apply {snapshot} p.stitch -o out --check")).ok();
    assert_eq!(read_model(&lab.path("out")), by_name(&tuned));
    for name in lab.names("out") {
        assert!(
            fs::symlink_metadata(lab.path(&format!("out/{name}"))).unwrap().is_file(),
            "{name} is no file of its own"
        );
    }
    assert!(lab.names("out").contains(&"config.json".to_string()));
    // An output through a link to a blob would change the base.
    let blob = fs::canonicalize(lab.path(&format!("{snapshot}/model-00001-of-00002.safetensors"))).unwrap();
    fs::hard_link(&blob, lab.path("linked.safetensors")).unwrap();
    lab.run(&format!("apply {snapshot} p.stitch -o linked.safetensors --force")).fails_with(2, &["is an input"]);
    lab.run(&format!("apply {snapshot} p.stitch -o {snapshot} --force")).fails_with(2, &["is an input"]);
    // A dangling and a circular link.
    symlink("nowhere", lab.path("dangling.safetensors")).unwrap();
    symlink("loop.safetensors", lab.path("loop.safetensors")).unwrap();
    open(&lab, "dangling.safetensors").fails(7);
    open(&lab, "loop.safetensors").fails(7);
}

#[test]
fn what_is_no_file_is_refused_and_never_waited_for() {
    let lab = Lab::with_packs();
    let fifo = lab.path("fifo.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(lab.path("socket.safetensors")).unwrap();
    symlink("fifo.safetensors", lab.path("link.safetensors")).unwrap();
    fs::create_dir(lab.path("dir.stitch")).unwrap();
    for what in ["fifo.safetensors", "socket.safetensors", "link.safetensors", "/dev/zero", "/dev/null", "/dev/urandom"]
    {
        open(&lab, what).fails(7);
        lab.run(&format!("create base.safetensors {what} -o p.stitch")).fails(7);
        lab.run(&format!("create base.safetensors tuned.safetensors -o p.stitch --mask {what}")).fails(7);
        lab.run(&format!("apply base.safetensors {what} -o out")).fails(7);
        lab.run(&format!("verify {what}")).fails(7);
    }
    lab.run("verify dir.stitch").fails_with(7, &["folder"]);
    // A shard that is a pipe, a file under /proc that says it has 0 bytes.
    lab.index("m", &json!({"weight_map": {"a": "pipe.safetensors"}}));
    assert!(std::process::Command::new("mkfifo").arg(lab.path("m/pipe.safetensors")).status().unwrap().success());
    open(&lab, "m").fails(7);
    open(&lab, "/proc/self/maps").fails(3);
    drop(socket);
    // A pipe among the companions is no companion.
    lab.folder("base", &base_model());
    assert!(std::process::Command::new("mkfifo").arg(lab.path("base/pipe.json")).status().unwrap().success());
    lab.run("apply base exact.stitch -o out").ok();
    assert_eq!(lab.names("out"), ["config.json", "model.safetensors", "stitch.json"]);
}

#[test]
fn data_that_is_not_aligned_is_read_all_the_same() {
    let lab = Lab::new();
    let side = |x: f32| {
        vec![
            Tensor::u8("a", "U8", &[3], &[1, 2, 3]),
            Tensor::f32("b", &[3], &[x, 2.0, 3.0]),
            Tensor::u8("c", "BOOL", &[1], &[1]),
            Tensor::f64("d", &[2], &[f64::from(x), -1.0]),
            Tensor::bf16("e", &[3], &[1.0, x, 3.0]),
        ]
    };
    lab.model("base.safetensors", &side(1.0));
    lab.model("tuned.safetensors", &side(1.5));
    for options in ["--exact", "--density 1 --values f32"] {
        lab.run(&format!("create base.safetensors tuned.safetensors -o p.stitch --force {options}")).ok();
        for how in ["", "--no-mmap"] {
            lab.run(&format!("apply base.safetensors p.stitch -o out.safetensors --force --check {how}")).ok();
            assert_eq!(lab.read("out.safetensors"), lab.read("tuned.safetensors"), "{options} {how}");
        }
    }
}

#[test]
fn scalars_and_empty_tensors_survive() {
    let lab = Lab::new();
    let side = |x: f32| {
        vec![
            Tensor::f32("scalar", &[], &[x]),
            Tensor::f32("empty", &[0], &[]),
            Tensor::bf16("flat", &[3, 0, 2], &[]),
            Tensor::i64("count", &[], &[x as i64]),
            Tensor::f32("w", &[2, 2], &[x, 1.0, 2.0, 3.0]),
            Tensor::f32("last", &[0], &[]),
        ]
    };
    lab.model("base.safetensors", &side(0.0));
    lab.model("tuned.safetensors", &side(7.0));
    for options in ["--exact", "--density 1 --values f32", "--density 1 --values sign --groups row --rescale none"] {
        lab.run(&format!("create base.safetensors tuned.safetensors -o p.stitch --force {options}")).ok();
        lab.run("verify p.stitch --base base.safetensors").ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
        let out = read_model(&lab.path("out.safetensors"));
        assert_eq!(out.len(), 6);
        assert_eq!(out["scalar"], side(7.0)[0], "{options}");
        assert_eq!(out["count"], side(7.0)[3], "{options}");
    }
    // New ones are carried.
    lab.model("base.safetensors", &side(0.0)[4..5]);
    lab.run("create base.safetensors tuned.safetensors -o p.stitch --force --exact --new-tensors carry").ok();
    lab.run("verify p.stitch --base base.safetensors").ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
    assert_eq!(read_model(&lab.path("out.safetensors")), by_name(&side(7.0)));
}

#[test]
fn three_thousand_tensors_whose_names_sort_badly_stay_in_their_places() {
    let lab = Lab::new();
    let side = |seed: u64| -> Vec<Tensor> {
        let mut rng = Rng(7);
        let mut values = Rng(seed);
        let mut all: Vec<Tensor> = (0..3000)
            .map(|i| {
                let name = match i % 4 {
                    0 => format!("layers.{i}.weight"),
                    1 => format!("layers.{i}"),
                    2 => format!("Layers.{:x}.W{i}", i * 7919),
                    _ => format!("ü{}.{i}", "z".repeat(i % 9)),
                };
                Tensor::f32(&name, &[1 + i % 3], &values.units(1 + i % 3))
            })
            .collect();
        for i in (1..all.len()).rev() {
            all.swap(i, rng.below(i as u64 + 1) as usize);
        }
        all
    };
    let (base, tuned) = (side(1), side(2));
    lab.model("base.safetensors", &base);
    let halves: [Vec<usize>; 2] =
        [(0..3000).filter(|i| i % 2 == 0).collect(), (0..3000).filter(|i| i % 2 == 1).collect()];
    lab.sharded("tuned", &tuned, &[&halves[1], &halves[0]]);
    lab.run("create base.safetensors tuned -o p.stitch --exact").ok();
    lab.run("verify p.stitch").ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --check").ok();
    assert_eq!(read_model(&lab.path("out.safetensors")), by_name(&tuned));
    let made = lab.run("create base.safetensors tuned --density 5% --dry-run --json").ok().json();
    assert_eq!(made["kept"].as_u64().unwrap(), made["candidates"].as_u64().unwrap() / 20);
}

#[test]
fn companions_come_along_and_other_weights_do_not() {
    let lab = Lab::with_packs();
    lab.folder("base", &base_model());
    for name in [
        "tokenizer.json",
        "generation_config.json",
        "chat_template.jinja",
        "README.md",
        "merges.txt",
        "modeling.py",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "model.gguf",
        "consolidated.safetensors",
        "optimizer.pt",
        ".gitattributes",
        "old.stitch",
        "stitch.json",
    ] {
        lab.write(&format!("base/{name}"), format!("content of {name}"));
    }
    lab.run("apply base exact.stitch -o out").ok();
    let want = [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "modeling.py",
        "stitch.json",
        "tokenizer.json",
    ];
    assert_eq!(lab.names("out"), want);
    for name in want.iter().filter(|n| !["model.safetensors", "stitch.json"].contains(n)) {
        assert_eq!(lab.read(&format!("out/{name}")), lab.read(&format!("base/{name}")), "{name}");
    }
    assert_ne!(lab.read("out/stitch.json"), lab.read("base/stitch.json"));
}

#[test]
fn files_that_changed_are_told_and_carried_where_that_was_asked() {
    let lab = Lab::new();
    lab.folder("base", &base_model());
    lab.folder("tuned", &tuned_model(2));
    for (side, text) in [("base", "old"), ("tuned", "new")] {
        lab.write(&format!("{side}/tokenizer.json"), text.repeat(1000));
        lab.write(&format!("{side}/same.txt"), "same");
    }
    lab.write("tuned/chat_template.jinja", "{{ messages }}");
    lab.write("tuned/empty.txt", "");
    let told = lab.run("create base tuned -o p.stitch --exact --json").ok();
    assert_eq!(told.json()["differing_files"], json!(["chat_template.jinja", "empty.txt", "tokenizer.json"]));
    assert!(told.stderr.contains("--carry-files") && told.stderr.contains("tokenizer.json"), "{}", told.stderr);
    lab.run("apply base p.stitch -o out").ok();
    assert_eq!(lab.read("out/tokenizer.json"), lab.read("base/tokenizer.json"));
    let carried = lab.run("create base tuned -o q.stitch --exact --carry-files").ok();
    assert!(!carried.stderr.contains("not in the pack"), "{}", carried.stderr);
    lab.run("verify q.stitch").ok();
    lab.run("apply base q.stitch -o both").ok();
    for name in ["tokenizer.json", "chat_template.jinja", "empty.txt", "same.txt", "model.safetensors", "config.json"] {
        assert_eq!(lab.read(&format!("both/{name}")), lab.read(&format!("tuned/{name}")), "{name}");
    }
    let single = lab.run("apply base q.stitch -o single.safetensors").ok();
    assert!(single.stderr.contains("warning") && single.stderr.contains("folder"), "{}", single.stderr);
    // Two packs with different files: nobody can say which is meant.
    lab.write("tuned/tokenizer.json", "third");
    lab.run("create base tuned -o r.stitch --density 10% --carry-files").ok();
    lab.run("apply base q.stitch r.stitch -o no --overlap sum").fails_with(6, &["tokenizer.json"]);
    lab.run("apply base q.stitch r.stitch@0 -o yes --overlap sum").ok();
    assert!(!lab.path("no").exists());
    // A name that no pack can hold, said before work begins.
    lab.write("tuned/with blank.txt", "x");
    lab.run("create base tuned -o s.stitch --carry-files").fails_with(6, &["with blank.txt"]);
    assert!(!lab.path("s.stitch").exists());
}

#[test]
fn tensors_on_one_side_only_are_refused_with_the_list() {
    let lab = Lab::new();
    let mut base = base_model();
    base.push(Tensor::f32("only.base", &[2], &[1.0, 2.0]));
    let mut tuned = tuned_model(2);
    tuned.push(Tensor::f32("only.tuned", &[3], &[1.0, 2.0, 3.0]));
    tuned[1] = Tensor::f32("b.weight", &[18, 8], &Rng(3).units(144));
    lab.model("base.safetensors", &base);
    lab.model("tuned.safetensors", &tuned);
    let create = "create base.safetensors tuned.safetensors -o p.stitch --force";
    let list = ["\"b.weight\" has shape [16, 8]", "[18, 8]", "\"only.base\"", "\"only.tuned\"", "--new-tensors carry"];
    for how in ["--exact", "", "--density 5% --new-tensors refuse"] {
        lab.run(&format!("{create} {how}")).fails_with(6, &list);
    }
    for how in ["--exact", "--density 1 --values f32"] {
        let made = lab.run(&format!("{create} {how} --new-tensors carry --json")).ok();
        assert_eq!(made.json()["carried"], json!(["b.weight", "only.tuned"]));
        assert_eq!(made.json()["only_in_base"], json!(["only.base"]));
        assert_eq!(made.json()["exact"], false, "only.base stays, so it is not the fine-tuned model");
        assert!(made.stderr.contains("only.base"), "{}", made.stderr);
        lab.run("verify p.stitch --base base.safetensors").ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
        let out = read_model(&lab.path("out.safetensors"));
        assert_eq!((&out["b.weight"], &out["only.tuned"], &out["only.base"]), (&tuned[1], &tuned[5], &base[5]));
        lab.run("apply base.safetensors p.stitch@0.5 -o no.safetensors").fails_with(6, &["exactly"]);
    }
    let made = lab.run(&format!("{create} --exact --new-tensors skip --json")).ok();
    assert_eq!(made.json()["skipped"], json!(["b.weight", "only.tuned"]));
    assert!(made.stderr.contains("left out"), "{}", made.stderr);
    lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
    let out = read_model(&lab.path("out.safetensors"));
    assert_eq!((&out["b.weight"], out.get("only.tuned"), &out["a.weight"]), (&base[1], None, &tuned[0]));
}

#[test]
fn a_larger_vocabulary_goes_into_the_right_shard_and_the_index() {
    let lab = Lab::new();
    let base = vec![
        Tensor::bf16("embed", &[10, 4], &Rng(1).units(40)),
        Tensor::bf16("layer", &[4, 4], &Rng(2).units(16)),
        Tensor::bf16("head", &[10, 4], &Rng(3).units(40)),
    ];
    let mut tuned = base.clone();
    tuned[0] = Tensor::bf16("embed", &[12, 4], &Rng(4).units(48));
    tuned[2] = Tensor::bf16("head", &[12, 4], &Rng(5).units(48));
    tuned.push(Tensor::bf16("extra", &[2], &[1.0, 2.0]));
    lab.sharded("base", &base, &[&[0], &[1, 2]]);
    lab.sharded("tuned", &tuned, &[&[3, 2, 1], &[0]]);
    lab.run("create base tuned -o p.stitch --exact --new-tensors carry").ok();
    lab.run("apply base p.stitch -o out --check").ok();
    assert_eq!(read_model(&lab.path("out")), by_name(&tuned));
    let index: serde_json::Value = serde_json::from_slice(&lab.read("out/model.safetensors.index.json")).unwrap();
    assert_eq!(index["weight_map"]["embed"], "model-00001-of-00002.safetensors");
    assert_eq!(index["weight_map"]["extra"], "model-00002-of-00002.safetensors");
    assert_eq!(index["metadata"]["total_size"], 48 * 2 * 2 + 32 + 4);
    // The outcome is a checkpoint that we read ourselves.
    lab.run("verify p.stitch --base base --result out").ok();
    lab.run("diff base out --new-tensors skip").ok();
}

#[test]
fn an_index_with_odd_metadata_does_not_stop_a_carried_tensor() {
    let lab = Lab::new();
    let base = vec![Tensor::f32("a", &[2], &[1.0, 2.0]), Tensor::f32("b", &[1], &[3.0])];
    let tuned = [base.clone(), vec![Tensor::f32("c", &[1], &[4.0])]].concat();
    lab.model("tuned.safetensors", &tuned);
    for metadata in [json!({}), json!(null), json!([]), json!("text"), json!(3)] {
        lab.sharded("base", &base, &[&[0], &[1]]);
        let map = json!({"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"});
        lab.index("base", &json!({"metadata": metadata, "weight_map": map}));
        lab.run("create base tuned.safetensors -o p.stitch --exact --new-tensors carry --force").ok();
        lab.run("apply base p.stitch -o out --force --check").ok();
        assert_eq!(read_model(&lab.path("out")), by_name(&tuned), "{metadata}");
    }
}

#[test]
fn another_dtype_is_refused_or_rounded_never_reinterpreted() {
    let lab = Lab::new();
    let values = [1.0, 1.0 / 3.0, -2.5, 1e-30, 3.0e38, 0.0];
    lab.model("base.safetensors", &[Tensor::bf16("w", &[6], &[0.0; 6]), Tensor::bf16("v", &[2], &[1.0; 2])]);
    lab.model("tuned.safetensors", &[Tensor::f32("w", &[6], &values), Tensor::f16("v", &[2], &[2.0, 0.1])]);
    let create = "create base.safetensors tuned.safetensors -o p.stitch --force";
    let words = ["\"w\" is BF16 in the base and F32", "\"v\" is BF16 in the base and F16", "--cast"];
    lab.run(&format!("{create} --exact")).fails_with(6, &words);
    lab.run(create).fails_with(6, &words);
    lab.run(&format!("{create} --exact --cast")).ok();
    lab.run("apply base.safetensors p.stitch -o out.safetensors --check").ok();
    let out = read_model(&lab.path("out.safetensors"));
    let f16 = |x: f32| half::f16::from_f32(x).to_f32();
    assert_eq!(out["w"], Tensor::bf16("w", &[6], &values));
    assert_eq!(out["v"], Tensor::bf16("v", &[2], &[2.0, f16(0.1)]));
    // Of the wrong kind, and of a size that does not fit.
    lab.model("base.safetensors", &[Tensor::f16("w", &[6], &[0.0; 6])]);
    lab.model("tuned.safetensors", &[Tensor::f32("w", &[6], &values)]);
    lab.run(&format!("{create} --exact --cast")).fails_with(6, &["\"w\"", "F16"]);
    lab.model("tuned.safetensors", &[Tensor::raw("w", "I16", &[6], vec![0; 12])]);
    lab.run(&format!("{create} --exact --cast")).fails_with(6, &["\"w\"", "F16", "I16"]);
}

#[test]
fn globs_choose_tensors_and_a_glob_for_nothing_is_a_mistake() {
    let lab = Lab::with_pair();
    let create = "create base.safetensors tuned.safetensors -o p.stitch --force --exact";
    let touched = |options: &str| {
        lab.run(&format!("{create} {options}")).ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
        let (out, base) = (read_model(&lab.path("out.safetensors")), by_name(&base_model()));
        out.into_iter().filter(|(name, t)| base[name] != *t).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(touched(""), ["a.weight", "b.weight", "c.bias"]);
    assert_eq!(touched("--include *.weight"), ["a.weight", "b.weight"]);
    assert_eq!(touched("--include a.* --include c.*"), ["a.weight", "c.bias"]);
    assert_eq!(touched("--exclude *.weight"), ["c.bias"]);
    assert_eq!(touched("--include *.weight --exclude b*"), ["a.weight"]);
    assert_eq!(touched("--include [ac].*"), ["a.weight", "c.bias"]);
    assert_eq!(touched("--include plain"), Vec::<String>::new());
    for (option, word) in [
        ("--include nothing.*", "nothing.*"),
        ("--exclude lm_head*", "lm_head*"),
        ("--include a.* --include x", "\"x\""),
        ("--include a.weight --exclude a*", "leave no tensor"),
        ("--include [", "["),
    ] {
        lab.run(&format!("{create} {option}")).fails_with(2, &[word]);
    }
    lab.run("diff base.safetensors tuned.safetensors --include zz").fails_with(2, &["zz"]);
    let made = lab.run(&format!("{create} --include b.weight --json")).ok().json();
    assert_eq!((&made["candidates"], &made["exact"]), (&json!(128), &json!(false)));
}

#[test]
fn tied_weights_are_stored_once_and_counted_once() {
    let lab = Lab::new();
    let (b, t) = (Rng(1).units(4096), Rng(2).units(4096));
    let side =
        |v: &[f32], ties: &[&str]| -> Vec<Tensor> { ties.iter().map(|n| Tensor::bf16(n, &[64, 64], v)).collect() };
    lab.model("one-base.safetensors", &side(&b, &["embed"]));
    lab.model("one-tuned.safetensors", &side(&t, &["embed"]));
    lab.model("two-base.safetensors", &side(&b, &["embed", "lm_head"]));
    lab.model("two-tuned.safetensors", &side(&t, &["embed", "lm_head"]));
    for options in ["--exact", "--density 10%", "--density 50% --values int8"] {
        let one = lab
            .run(&format!("create one-base.safetensors one-tuned.safetensors -o one.stitch --force --json {options}"));
        let two = lab
            .run(&format!("create two-base.safetensors two-tuned.safetensors -o two.stitch --force --json {options}"));
        let (one, two) = (one.ok().json(), two.ok().json());
        assert_eq!(one["candidates"], two["candidates"], "{options}");
        assert_eq!(one["kept"], two["kept"], "{options}");
        assert_eq!(two["touched_tensors"], 2);
        let more = two["pack_bytes"].as_u64().unwrap() - one["pack_bytes"].as_u64().unwrap();
        assert!(more < 200, "{options}: {more} bytes for a tensor that is there already");
        lab.run("verify two.stitch --base two-base.safetensors").ok();
        lab.run("apply two-base.safetensors two.stitch -o out.safetensors --force --check").ok();
        let out = read_model(&lab.path("out.safetensors"));
        assert_eq!(out["embed"].data, out["lm_head"].data);
        lab.run("apply one-base.safetensors one.stitch -o one.safetensors --force").ok();
        assert_eq!(out["embed"].data, read_model(&lab.path("one.safetensors"))["embed"].data);
    }
    // Untied by the fine-tune: each for itself.
    lab.model("two-tuned.safetensors", &[side(&t, &["embed"]), side(&b, &["lm_head"])].concat());
    let made =
        lab.run("create two-base.safetensors two-tuned.safetensors -o two.stitch --force --exact --json").ok().json();
    assert_eq!(made["candidates"], 2 * 4096);
    lab.run("apply two-base.safetensors two.stitch -o out.safetensors --force --check").ok();
    assert_eq!(lab.read("out.safetensors"), lab.read("two-tuned.safetensors"));
}

#[test]
fn text_in_a_file_stays_with_the_file() {
    let lab = Lab::with_packs();
    let metadata = [("format", "pt"), ("licence", "MIT \u{1b}[31m \"quoted\"")];
    lab.write("base.safetensors", safetensors_with(&base_model(), &metadata));
    lab.run("apply base.safetensors exact.stitch -o out.safetensors --check").ok();
    let bytes = lab.read("out.safetensors");
    let (_, found) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(found.metadata().as_ref().unwrap()["licence"], metadata[1].1);
}

#[test]
fn a_dtype_is_a_text() {
    let lab = Lab::with_pair();
    for (dtype, code) in
        [(json!("F32"), 0), (json!({"F32": null}), 3), (json!(["F32"]), 3), (json!(null), 3), (json!(7), 3)]
    {
        let header = json!({"a": {"dtype": dtype, "shape": [1], "data_offsets": [0, 4]}}).to_string();
        lab.write("odd.safetensors", support::raw_file(header.as_bytes(), &[0; 4]));
        let ran = lab.run("diff odd.safetensors odd.safetensors");
        assert_eq!(ran.code, code, "{dtype}\n{}", ran.stderr);
        assert!(code == 0 || ran.stderr.contains("CKP-1"), "{}", ran.stderr);
    }
}
