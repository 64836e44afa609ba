//! `create` takes the folder of an adapter for a fine-tuned model.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::{Lab, Rng, Tensor, read_model};

fn config(fields: Value) -> String {
    let mut config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none", "target_modules": ["proj"]});
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    config.to_string()
}

/// A base of bf16 with one module, in a folder and as a file, and a LoRA of rank 2 on it.
fn lab() -> Lab {
    let (lab, mut rng) = (Lab::new(), Rng(5));
    let base = [
        Tensor::bf16("block.proj.weight", &[64, 48], &rng.units(64 * 48)),
        Tensor::bf16("block.proj.bias", &[64], &rng.units(64)),
    ];
    lab.model("base.safetensors", &base);
    lab.folder("base", &base);
    lab.write("lora/adapter_config.json", config(json!({})));
    let key = |end: &str| format!("base_model.model.model.block.proj.{end}");
    let halves = [
        Tensor::f32(&key("lora_A.weight"), &[2, 48], &rng.units(96)),
        Tensor::f32(&key("lora_B.weight"), &[64, 2], &rng.units(128)),
    ];
    lab.model("lora/adapter_model.safetensors", &halves);
    lab
}

/// base + scale × B A of the lab, with scale 4 / 2.
fn merged(lab: &Lab) -> Vec<u8> {
    let base = read_model(&lab.path("base.safetensors")).remove("block.proj.weight").unwrap();
    let halves = read_model(&lab.path("lora/adapter_model.safetensors"));
    let half = |end: &str| halves[&format!("base_model.model.model.block.proj.{end}.weight")].floats();
    let (a, b) = (half("lora_A"), half("lora_B"));
    let units = base.data.as_chunks::<2>().0.iter().enumerate();
    let sums = units.map(|(at, unit)| {
        let (i, j) = (at / 48, at % 48);
        let sum = b[2 * i] * a[j] + b[2 * i + 1] * a[48 + j];
        half::bf16::from_f32(half::bf16::from_le_bytes(*unit).to_f32() + 2.0 * sum)
    });
    sums.flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn an_exact_pack_of_an_adapter_is_the_merged_model() {
    let lab = lab();
    let created = lab.run("create base.safetensors lora -o lora.stitch --exact --json").ok().json();
    assert_eq!((&created["exact"], &created["touched_tensors"]), (&true.into(), &1.into()));
    assert_eq!(created["fine_tuned_bytes"], lab.read("base.safetensors").len() as u64, "the base's, not the adapter's");
    lab.run("apply base.safetensors lora.stitch -o out.safetensors --check").ok();
    let out = read_model(&lab.path("out.safetensors"));
    assert!(out["block.proj.weight"].data == merged(&lab));
    assert!(out["block.proj.bias"] == read_model(&lab.path("base.safetensors"))["block.proj.bias"]);
    // A folder beside it says nothing about the adapter's own files.
    let ran = lab.run("create base lora -o folder.stitch --exact").ok();
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
}

#[test]
fn the_other_ways_to_make_a_pack() {
    let lab = lab();
    for how in ["--size 30%", "--density 5%", "--density 0.1 --values int8 --scope tensor", ""] {
        let ran = lab.run(&format!("create base.safetensors lora -o p.stitch --force {how}"));
        // The smallest pack of so small a model is more than 1 %.
        if how.is_empty() {
            ran.fails_with(6, &["the budget is 64"]);
            continue;
        }
        ran.ok();
        lab.run("verify p.stitch --base base.safetensors").ok();
        lab.run("apply base.safetensors p.stitch -o out.safetensors --force --check").ok();
    }
    let dry = lab.run("create base.safetensors lora --exact --dry-run").ok();
    assert!(dry.stdout.contains("exact"), "{}", dry.stdout);
    lab.run("create base.safetensors lora -o a.stitch --exact").ok();
    lab.run("create base.safetensors lora --after a.stitch -o b.stitch --exact").ok();
    lab.run("apply base.safetensors a.stitch b.stitch -o twice.safetensors").ok();
}

#[test]
fn an_adapter_that_cannot_be_used() {
    let lab = lab();
    let halves = lab.read("lora/adapter_model.safetensors");
    let adapter = |name: &str, config: String| {
        lab.write(&format!("{name}/adapter_config.json"), config);
        lab.write(&format!("{name}/adapter_model.safetensors"), &halves);
    };
    adapter("dora", config(json!({"use_dora": true})));
    adapter("ia3", config(json!({"peft_type": "IA3"})));
    adapter("list", "[]".into());
    adapter("escape", "{\"peft_type\": \"\\u001b[31mred\"}".into());
    adapter("rank", config(json!({"r": 4})));
    lab.write("empty/adapter_config.json", config(json!({})));
    lab.model("other.safetensors", &[Tensor::bf16("block.proj.weight", &[2, 2], &[1.0; 4])]);
    lab.model("names.safetensors", &[Tensor::bf16("layer.weight", &[2, 2], &[1.0; 4])]);
    let before = lab.snapshot();
    let cases: [(&str, i32, &[&str]); 10] = [
        ("base.safetensors dora -o p.stitch", 6, &["DoRA", "merge it"]),
        ("base.safetensors ia3 -o p.stitch", 6, &["IA3", "LORA and SHIRA"]),
        ("base.safetensors list -o p.stitch", 3, &["adapter_config.json", "ADP-1"]),
        ("base.safetensors escape -o p.stitch", 6, &["\\u{1b}[31mred"]),
        ("base.safetensors rank -o p.stitch", 3, &["rank 4", "ADP-3"]),
        ("base.safetensors empty -o p.stitch", 7, &["adapter_model.safetensors"]),
        ("other.safetensors lora -o p.stitch", 5, &["\"block.proj.weight\"", "[2, 2] in the base"]),
        ("names.safetensors lora -o p.stitch", 5, &["\"model.block.proj.weight\"", "trained on"]),
        ("base.safetensors lora -o lora/adapter_model.safetensors --exact --force", 2, &["is an input"]),
        ("base.safetensors lora -o lora/adapter_config.json --exact --force", 2, &["is an input"]),
    ];
    for (args, code, words) in cases {
        lab.run(&format!("create {args}")).fails_with(code, words);
        assert!(lab.snapshot() == before, "{args}");
    }
}
