//! `export` writes what it says, or says why not: one line, the documented exit code, nothing left behind.
#![allow(clippy::unwrap_used)]

mod support;

use support::{Lab, Tensor, keys, read_model, report};

/// A base with one linear module and a bias, and packs that change only the module, and both.
fn lab() -> Lab {
    let lab = Lab::new();
    let base: Vec<f32> = (1..=40).map(|i| i as f32).collect();
    let model = |weight: &[f32], bias: f32| {
        [Tensor::f32("block.proj.weight", &[8, 5], weight), Tensor::f32("block.proj.bias", &[2], &[bias, 2.0])]
    };
    lab.model("base.safetensors", &model(&base, 1.0));
    let mut tuned = base;
    (tuned[3], tuned[17]) = (4.5, 16.0);
    lab.model("linear.safetensors", &model(&tuned, 1.0));
    lab.model("both.safetensors", &model(&tuned, 1.5));
    for name in ["linear", "both"] {
        lab.run(&format!("create base.safetensors {name}.safetensors -o {name}.stitch --exact")).ok();
    }
    lab
}

fn i32s(tensor: &Tensor) -> Vec<i32> {
    assert_eq!(tensor.dtype, "I32");
    tensor.data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
}

#[test]
fn a_weight_patch_lists_positions_and_values() {
    let lab = lab();
    let ran = lab.run("export base.safetensors both.stitch --format weight-patch -o patch.safetensors").ok();
    assert!(ran.stdout.contains("changed  3 positions of 2 tensors"), "{}", ran.stdout);
    let file = read_model(&lab.path("patch.safetensors"));
    let names: Vec<&String> = file.keys().collect();
    let bias = ["block.proj.bias.indices", "block.proj.bias.values"];
    assert_eq!(names, [bias[0], bias[1], "block.proj.weight.indices", "block.proj.weight.values"]);
    assert_eq!(i32s(&file["block.proj.weight.indices"]), [3, 17]);
    assert_eq!(file["block.proj.weight.values"].floats(), [4.5, 16.0]);
    assert_eq!((i32s(&file[bias[0]]), file[bias[1]].floats()), (vec![0], vec![1.5]));
}

#[test]
fn a_delta_lists_positions_and_numbers() {
    let lab = lab();
    lab.run("export base.safetensors linear.stitch@0.5 --format safetensors-delta -o d.safetensors").ok();
    let file = read_model(&lab.path("d.safetensors"));
    assert_eq!(i32s(&file["block.proj.weight.indices"]), [3, 17]);
    assert_eq!(file["block.proj.weight.values"].floats(), [0.25, -1.0]);
}

#[test]
fn an_adapter_lists_rows_columns_and_numbers() {
    let lab = lab();
    let ran = lab.run("export base.safetensors linear.stitch --format shira -o adapter").ok();
    assert!(ran.stdout.contains("r        1"), "{}", ran.stdout);
    assert_eq!(lab.names("adapter"), ["adapter_config.json", "adapter_model.safetensors"]);
    let file = read_model(&lab.path("adapter/adapter_model.safetensors"));
    let places = i32s(&file["base_model.model.block.proj.shira_indices"]);
    assert_eq!(file["base_model.model.block.proj.shira_indices"].shape, [2, 13]);
    // The first twelve positions but the one that changed fill up; then the other that changed.
    assert_eq!(places[..13], [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3]);
    assert_eq!(places[13..], [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]);
    let numbers = file["base_model.model.block.proj.shira_weight"].floats();
    let expected: Vec<f32> =
        (0..13).map(|i| [(3, 0.5), (12, -2.0)].iter().find(|c| c.0 == i).map_or(0.0, |c| c.1)).collect();
    assert_eq!(numbers, expected);
    assert!(numbers.iter().all(|x| *x != 0.0 || x.is_sign_negative()), "what leaves −0 alone");
}

#[test]
fn the_document_of_an_export() {
    let lab = lab();
    let run = |args: &str| lab.run(&format!("export base.safetensors {args} --json")).ok().json();
    let patch = run("both.stitch --format weight-patch -o p.safetensors");
    let own = ["base", "bytes", "changed", "format", "path", "rank", "result", "tensors", "whole"];
    assert_eq!(keys(&report(&patch)), own);
    assert_eq!((&patch["changed"], &patch["tensors"], &patch["rank"]), (&3.into(), &2.into(), &().into()));
    let applied = lab.run("apply base.safetensors both.stitch -o m.safetensors --json").ok().json();
    assert_eq!((&patch["result"], &patch["base"]), (&applied["recipe"]["result"], &applied["recipe"]["base"]));
    assert_eq!(patch["bytes"], lab.read("p.safetensors").len() as u64);
    assert_eq!(run("linear.stitch --format shira -o a")["rank"], 1);
    let touched = run("linear.stitch --format weight-patch -o t.safetensors --base-check touched");
    assert_eq!((&touched["result"], &touched["base"]), (&().into(), &().into()));
}

#[test]
fn what_cannot_be_exported_is_said_in_one_line() {
    let lab = lab();
    let before = lab.snapshot();
    let cases: [(&str, i32, &[&str]); 8] = [
        ("both.stitch --format shira -o a", 6, &["\"block.proj.bias\"", "linear module", "weight-patch", "--exclude"]),
        ("both.stitch --format onnx -o a", 2, &["\"onnx\"", "weight-patch, safetensors-delta, shira"]),
        ("both.stitch --format weight-patch -o patch", 2, &["patch", ".safetensors"]),
        ("both.stitch --format weight-patch -o base.safetensors --force", 2, &["is an input"]),
        ("both.stitch --format weight-patch -o linear.safetensors", 6, &["exists", "--force"]),
        ("both.stitch --format weight-patch -o no/p.safetensors", 7, &["no"]),
        ("--format weight-patch -o p.safetensors", 2, &["at least one pack"]),
        ("both.stitch linear.stitch --format weight-patch -o p.safetensors --overlap refuse", 6, &["position 3"]),
    ];
    for (args, code, words) in cases {
        lab.run(&format!("export base.safetensors {args}")).fails_with(code, words);
        assert!(lab.snapshot() == before, "{args}");
    }
    lab.run("export linear.safetensors both.stitch --format weight-patch -o p.safetensors").fails(5);
    lab.run("export base.safetensors both.stitch -o p.safetensors").refused_by_parser(&["--format"]);
    assert!(lab.snapshot() == before);
}

#[test]
fn force_replaces_what_is_there() {
    let lab = lab();
    for (format, out) in [("weight-patch", "out.safetensors"), ("shira", "out")] {
        lab.run(&format!("export base.safetensors linear.stitch@0.5 --format {format} -o {out}")).ok();
        lab.run(&format!("export base.safetensors linear.stitch --format {format} -o {out}"))
            .fails_with(6, &["exists"]);
        lab.run(&format!("export base.safetensors linear.stitch --format {format} -o {out} --force")).ok();
        let file = if format == "shira" { "out/adapter_model.safetensors" } else { out };
        let values = read_model(&lab.path(file)).into_iter().find(|(name, _)| !name.ends_with("indices")).unwrap().1;
        let last = if format == "shira" { -2.0 } else { 16.0 };
        assert_eq!(values.floats().last(), Some(&last), "{format}");
        assert!(lab.leftovers("").is_empty());
    }
}

/// A damaged pack is found while it is read, and no file appears.
#[test]
fn a_damaged_pack_leaves_nothing() {
    let lab = lab();
    let mut bytes = lab.read("linear.stitch");
    bytes[104] ^= 1;
    lab.write("bad.stitch", &bytes);
    let before = lab.snapshot();
    for (format, out) in [("weight-patch", "p.safetensors"), ("safetensors-delta", "p.safetensors"), ("shira", "a")] {
        lab.run(&format!("export base.safetensors bad.stitch --format {format} -o {out}")).fails_with(4, &["digest"]);
        assert!(lab.snapshot() == before);
    }
}

#[test]
fn the_help_shows_the_layouts() {
    let lab = Lab::new();
    let help = lab.run("export --help").ok().stdout;
    for word in ["NAME.indices", "NAME.values", "adapter_model.safetensors", "stitchpack_export"] {
        assert!(help.contains(word), "{word}");
    }
}
