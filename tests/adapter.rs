//! An adapter is the fine-tuned model that it makes: held against a judge that writes that model out, element by element.
//! [ADP-1] [ADP-2] [ADP-3] [ADP-4] [ADP-5]
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::Random;
use common::models::{FLOATS, Fill, Model, Tensor, base_tensor, unit_bytes};
use common::naive::{decode, encode};
use common::site::{Site, options, sparse, workers};
use serde_json::{Value, json};
use stitchpack::adapter;
use stitchpack::create::{CreateOptions, Effort, Method, NewTensors};
use stitchpack::export::{ExportOptions, Format};
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::model::source::TensorSource;
use stitchpack::{ApplyOptions, Error, MergeOptions, OpenedPack, Result, StitchedModel};

const PREFIX: &str = "base_model.model.";

/// The configuration of a LoRA as PEFT writes it, with fields in the place of its own.
fn lora_config(rank: u64, alpha: f64, fields: Value) -> Value {
    let mut config = json!({
        "alpha_pattern": {}, "auto_mapping": null, "base_model_name_or_path": "some/base", "bias": "none",
        "fan_in_fan_out": false, "inference_mode": true, "init_lora_weights": true, "layer_replication": null,
        "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": alpha, "lora_dropout": 0.0,
        "megatron_config": null, "modules_to_save": null, "peft_type": "LORA", "r": rank, "rank_pattern": {},
        "revision": null, "target_modules": ["proj"], "task_type": null, "use_dora": false, "use_rslora": false,
    });
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    config
}

fn write_folder(path: &Path, config: &[u8], tensors: Vec<Tensor>) -> PathBuf {
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("adapter_config.json"), config).unwrap();
    Model::new(tensors).write(&path.join("adapter_model.safetensors"));
    path.to_owned()
}

fn folder(site: &Site, config: &Value, tensors: Vec<Tensor>) -> PathBuf {
    write_folder(&site.path("adapter"), config.to_string().as_bytes(), tensors)
}

/// Numbers of about one, of a dtype.
fn matrix(name: &str, dtype: Dtype, shape: &[u64], random: &mut Random) -> Tensor {
    let number = |random: &mut Random| (random.below(2001) as f64 - 1000.0) / 1024.0 * 1.37;
    let units: Vec<u64> = (0..shape.iter().product()).map(|_| encode_any(dtype, number(random))).collect();
    Tensor::of_units(name, dtype, shape, &units)
}

fn encode_any(dtype: Dtype, x: f64) -> u64 {
    match dtype {
        Dtype::F64 => x.to_bits(),
        Dtype::F32 => u64::from((x as f32).to_bits()),
        _ => encode(dtype, x),
    }
}

/// The two halves of one linear module.
fn halves(module: &str, dtype: Dtype, (outputs, rank, inputs): (u64, u64, u64), random: &mut Random) -> Vec<Tensor> {
    vec![
        matrix(&format!("{PREFIX}{module}.lora_A.weight"), dtype, &[rank, inputs], random),
        matrix(&format!("{PREFIX}{module}.lora_B.weight"), dtype, &[outputs, rank], random),
    ]
}

/// The judge: base + scale × Σ B[i,k] A[k,j], in row i and column j of B A.
fn add_lora(base: &mut Tensor, a: &Tensor, b: &Tensor, scale: f32, turned: bool) {
    let numbers = |t: &Tensor| -> Vec<f32> { t.units().iter().map(|u| decode(t.dtype, *u) as f32).collect() };
    let (rank, inputs, outputs) = (a.shape[0] as usize, a.shape[1] as usize, b.shape[0] as usize);
    let (a, b) = (numbers(a), numbers(b));
    let mut units = base.units();
    for i in 0..outputs {
        for j in 0..inputs {
            let mut sum = 0f32;
            for k in 0..rank {
                let product = b[i * rank + k] * a[k * inputs + j];
                sum += product;
            }
            let x = scale * sum;
            let unit = &mut units[if turned { j * outputs + i } else { i * inputs + j }];
            *unit = add(base.dtype, *unit, x);
        }
    }
    base.set_units(&units);
}

fn add(dtype: Dtype, unit: u64, x: f32) -> u64 {
    let base = decode(dtype, unit);
    match dtype {
        _ if !base.is_finite() => unit,
        Dtype::F64 => (base + f64::from(x)).to_bits(),
        Dtype::F32 => u64::from((base as f32 + x).to_bits()),
        _ => encode(dtype, f64::from(base as f32 + x)),
    }
}

/// Base → adapter → exact pack → apply.
fn through_a_pack(site: &Site, adapter: &Path, threads: usize) -> Result<Model> {
    let tuned = adapter::open(&site.base, adapter)?;
    let how = CreateOptions { force: true, effort: Effort::Fast, workers: workers(threads), ..options(Method::Exact) };
    stitchpack::create(&site.base, &tuned, &site.pack_path("p"), &how)?;
    let packs = vec![(OpenedPack::open(site.pack_path("p"))?.verify()?, 1.0)];
    let model = StitchedModel::chain(&site.base, &site.identity, packs, &MergeOptions::default(), &workers(1))?;
    let out = site.path("out.safetensors");
    stitchpack::apply(&model, &site.identity, &out, &ApplyOptions { force: true, check: true, ..Default::default() })?;
    Ok(Model::read(&std::fs::read(out).unwrap()))
}

fn model_of(tensors: &[(&str, Dtype, &[u64])], random: &mut Random) -> Model {
    let tensor =
        |(name, dtype, shape): &(&str, Dtype, &[u64])| base_tensor(name, *dtype, shape, Fill::Ordinary, random);
    Model::new(tensors.iter().map(tensor).collect())
}

/// Every float dtype of base, each float of at most 32 bits in the adapter, both kinds of scale.
#[test]
fn a_pack_of_a_lora_that_is_not_the_sum() {
    let mut random = Random(1);
    for dtype in FLOATS {
        for (own, stabilized) in [(Dtype::F32, false), (Dtype::BF16, true), (Dtype::F16, false), (Dtype::F8_E5M2, true)]
        {
            let mut base =
                model_of(&[("m.proj.weight", dtype, &[9, 14]), ("m.other.weight", dtype, &[3, 3])], &mut random);
            base.get_mut("m.proj.weight").bytes[..unit_bytes(dtype)].fill(0xff); // NaN in most dtypes
            let site = Site::new(&base);
            let tensors = halves("m.proj", own, (9, 3, 14), &mut random);
            let (a, b) = (tensors[0].clone(), tensors[1].clone());
            let adapter = folder(&site, &lora_config(3, 2.0, json!({"use_rslora": stabilized})), tensors);
            let scale = (if stabilized { 2.0 / 3f64.sqrt() } else { 2.0 / 3.0 }) as f32;
            add_lora(base.get_mut("m.proj.weight"), &a, &b, scale, false);
            assert!(through_a_pack(&site, &adapter, 1).unwrap() == base, "{dtype} {own}");
        }
    }
}

/// More than one block, asked for in any run: only what was asked for, and the same whoever asks.
#[test]
fn a_run_that_differs_from_the_whole() {
    let mut random = Random(2);
    let shapes: [(&str, Dtype, &[u64]); 2] =
        [("m.proj.weight", Dtype::BF16, &[600, 450]), ("t.wte.weight", Dtype::BF16, &[70, 45])];
    let base = model_of(&shapes, &mut random);
    let site = Site::new(&base);
    let mut tensors = halves("m.proj", Dtype::BF16, (600, 5, 450), &mut random);
    tensors.push(matrix(&format!("{PREFIX}t.wte.lora_embedding_A"), Dtype::F32, &[5, 70], &mut random));
    tensors.push(matrix(&format!("{PREFIX}t.wte.lora_embedding_B"), Dtype::F32, &[45, 5], &mut random));
    let mut expected = base.clone();
    add_lora(expected.get_mut("m.proj.weight"), &tensors[0], &tensors[1], 0.1, false);
    add_lora(expected.get_mut("t.wte.weight"), &tensors[2], &tensors[3], 0.1, true);
    let adapter = folder(&site, &lora_config(5, 0.5, json!({})), tensors);
    let packs: Vec<Vec<u8>> = [1, 3]
        .into_iter()
        .map(|threads| {
            assert!(through_a_pack(&site, &adapter, threads).unwrap() == expected);
            site.pack_bytes("p")
        })
        .collect();
    assert!(packs[0] == packs[1], "threads show in the pack");
    let tuned = adapter::open(&site.base, &adapter).unwrap();
    assert_eq!(tuned.touched().collect::<Vec<_>>(), ["m.proj.weight", "t.wte.weight"]);
    for (name, _, shape) in shapes {
        let (columns, units) = (shape[1], shape[0] * shape[1]);
        let whole = &expected.get(name).bytes;
        let mut runs: Vec<(u64, u64)> =
            vec![(0, 0), (0, 1), (columns - 1, 1), (columns - 1, 2), (columns, columns), (units - 1, 1), (0, units)];
        runs.extend((0..40).map(|_| (random.below(units / 2), random.below(units / 4))));
        runs.extend((0..40).map(|_| (random.below(units / 2), random.below(columns))));
        for (start, len) in runs {
            let found = tuned.units(name, start, len).unwrap();
            assert!(*found == whole[2 * start as usize..2 * (start + len) as usize], "{name} {start} {len}");
        }
        assert!(tuned.units(name, units, 1).is_err());
    }
}

/// Ranks, alphas and the way weights are stored, by module.
#[test]
fn what_the_configuration_says_of_a_module() {
    let mut random = Random(3);
    let base = model_of(
        &[
            ("h.0.attn.weight", Dtype::F32, &[6, 6]),
            ("h.0.mlp.weight", Dtype::F32, &[8, 6]),
            ("h.1.mlp.weight", Dtype::F32, &[6, 8]),
            ("mlp.weight", Dtype::F32, &[8, 6]),
        ],
        &mut random,
    );
    let site = Site::new(&base);
    let fields = json!({
        "fan_in_fan_out": true, "rank_pattern": {"h.0.mlp": 1, "^mlp": 4}, "alpha_pattern": {"1.mlp": 9, "mlp": 5.5, "^mlp": 1}
    });
    let modules = [
        ("h.0.attn", (6, 2, 6), 6.0 / 2.0, true),
        ("h.0.mlp", (8, 1, 6), 5.5, false),
        ("h.1.mlp", (8, 2, 6), 9.0 / 2.0, true),
        ("mlp", (8, 4, 6), 5.5 / 4.0, false),
    ];
    let (mut expected, mut tensors) = (base.clone(), Vec::new());
    for (module, shape, scale, turned) in modules {
        let own = halves(module, Dtype::F32, shape, &mut random);
        add_lora(expected.get_mut(&format!("{module}.weight")), &own[0], &own[1], scale, turned);
        tensors.extend(own);
    }
    let adapter = folder(&site, &lora_config(2, 6.0, fields), tensors);
    assert!(through_a_pack(&site, &adapter, 1).unwrap() == expected);
}

/// Biases and heads that are saved whole take the place of the base's; what is new is carried, if that is asked for.
#[test]
fn tensors_that_are_saved_whole() {
    let mut random = Random(4);
    let base = model_of(&[("m.proj.bias", Dtype::F16, &[9]), ("m.proj.weight", Dtype::F16, &[9, 4])], &mut random);
    let site = Site::new(&base);
    let mut tensors = halves("m.proj", Dtype::F32, (9, 1, 4), &mut random);
    // As PEFT saves the bias of a module that has an adapter.
    tensors.push(matrix(&format!("{PREFIX}m.proj.base_layer.bias"), Dtype::F16, &[9], &mut random));
    let mut expected = base.clone();
    add_lora(expected.get_mut("m.proj.weight"), &tensors[0], &tensors[1], 1.0, false);
    expected.get_mut("m.proj.bias").bytes = tensors[2].bytes.clone();
    let config = lora_config(1, 1.0, json!({"bias": "lora_only"}));
    let adapter = folder(&site, &config, tensors.clone());
    assert!(through_a_pack(&site, &adapter, 1).unwrap() == expected);
    // Of another dtype, or new: what create does with any fine-tuned model.
    tensors[2] = matrix(&format!("{PREFIX}m.proj.bias"), Dtype::F32, &[9], &mut random);
    let adapter = folder(&site, &config, tensors.clone());
    let why = through_a_pack(&site, &adapter, 1).unwrap_err().to_string();
    assert!(why.contains("--cast"), "{why}");
    tensors[2] = matrix(&format!("{PREFIX}score.weight"), Dtype::F32, &[2, 9], &mut random);
    let head = tensors[2].clone();
    let adapter = folder(&site, &config, tensors);
    let why = through_a_pack(&site, &adapter, 1).unwrap_err().to_string();
    assert!(why.contains("\"score.weight\" is only in the fine-tuned checkpoint"), "{why}");
    let tuned = adapter::open(&site.base, &adapter).unwrap();
    let how = CreateOptions { new_tensors: NewTensors::Carry, ..options(Method::Exact) };
    let created = stitchpack::create(&site.base, &tuned, &site.pack_path("q"), &how).unwrap();
    assert_eq!((created.carried, created.fine_tuned_bytes), (vec!["score.weight".to_string()], site.base.file_bytes()));
    std::fs::remove_file(site.path("out.safetensors")).unwrap();
    let bytes = site.apply_file(&[("q", 1.0)], &MergeOptions::default()).unwrap();
    assert!(Model::read(&bytes).get("score.weight").bytes == head.bytes);
}

/// Checkpoints and modules are named with and without the trunk's name before each.
#[test]
fn names_that_only_end_alike() {
    let mut random = Random(5);
    let names = ["h.0.proj.weight", "h.1.proj.weight", "x.deep.proj.weight", "y.deep.proj.weight", "z.once.weight"];
    let shape: &[u64] = &[4, 3];
    let base = model_of(&names.map(|name| (name, Dtype::F32, shape)), &mut random);
    let site = Site::new(&base);
    let cases: [(&str, std::result::Result<&str, &[&str]>); 7] = [
        ("h.0.proj", Ok("h.0.proj.weight")),
        ("model.h.1.proj", Ok("h.1.proj.weight")),
        ("once", Ok("z.once.weight")),
        ("deep.proj", Err(&["\"deep.proj.weight\"", "\"x.deep.proj.weight\" or \"y.deep.proj.weight\""])),
        ("eep.proj", Err(&["no tensor"])),
        ("h.2.proj", Err(&["\"h.2.proj.weight\"", "no tensor", "the base that the adapter was trained on"])),
        ("proj", Err(&["\"h.0.proj.weight\" or"])),
    ];
    for (module, expected) in cases {
        let tensors = halves(module, Dtype::F32, (4, 1, 3), &mut random);
        let adapter = folder(&site, &lora_config(1, 1.0, json!({})), tensors);
        match (adapter::open(&site.base, &adapter), expected) {
            (Ok(tuned), Ok(name)) => assert_eq!(tuned.touched().collect::<Vec<_>>(), [name]),
            (Err(e), Err(words)) => {
                assert_eq!(e.exit_code(), 5, "{module}: {e}");
                words.iter().for_each(|word| assert!(e.to_string().contains(word), "{module}: {word} is not in {e}"));
            }
            (found, _) => panic!("{module}: {:?}", found.map(|t| t.touched().map(String::from).collect::<Vec<_>>())),
        }
    }
}

fn shira(module: &str, cells: &[(i32, i32, f32)]) -> Vec<Tensor> {
    let n = cells.len() as u64;
    let places: Vec<i32> = cells.iter().map(|c| c.0).chain(cells.iter().map(|c| c.1)).collect();
    let places = places.iter().flat_map(|x| x.to_le_bytes()).collect();
    let numbers: Vec<f32> = cells.iter().map(|c| c.2).collect();
    vec![
        Tensor::new(&format!("{PREFIX}{module}.shira_indices"), Dtype::I32, &[2, n], places),
        Tensor::f32s(&format!("{PREFIX}{module}.shira_weight"), &[n], &numbers),
    ]
}

#[test]
fn a_pack_of_a_shira_that_is_not_the_sum() {
    let mut random = Random(6);
    for dtype in FLOATS {
        let base = model_of(&[("m.proj.weight", dtype, &[5, 7])], &mut random);
        let site = Site::new(&base);
        // In no order.
        let cells = [(4, 6, 0.5), (0, 0, -0.25), (2, 3, 0.1), (2, 1, 1.0)];
        let mut expected = base.clone();
        let mut units = base.get("m.proj.weight").units();
        for (i, j, x) in cells {
            let unit = &mut units[(i * 7 + j) as usize];
            *unit = add(dtype, *unit, x);
        }
        expected.get_mut("m.proj.weight").set_units(&units);
        let config = json!({"peft_type": "SHIRA", "r": 1, "mask_type": "random", "target_modules": ["proj"]});
        let adapter = folder(&site, &config, shira("m.proj", &cells));
        assert!(through_a_pack(&site, &adapter, 1).unwrap() == expected, "{dtype}");
    }
}

/// What is exported as an adapter comes back as the same pack.
#[test]
fn a_round_trip_through_shira() {
    let mut random = Random(7);
    let base =
        model_of(&[("m.proj.weight", Dtype::BF16, &[30, 20]), ("m.q.weight", Dtype::F16, &[16, 16])], &mut random);
    let site = Site::new(&base);
    let tuned = common::case::random_tuned(&base, common::models::Change::Most, &mut random);
    let made = site.create("a", &tuned, &options(sparse("0.1", ValueKind::Sign))).unwrap();
    let model = StitchedModel::new(&site.base, site.layers(&[("a", 1.0)]), &MergeOptions::default()).unwrap();
    let adapter = site.path("shira");
    stitchpack::export(&model, &site.identity, &adapter, &ExportOptions::new(Format::Shira)).unwrap();
    let expected = site.apply_file(&[("a", 1.0)], &MergeOptions::default()).unwrap();
    assert!(made.kept > 0 && through_a_pack(&site, &adapter, 1).unwrap() == Model::read(&expected));
}

/// On the result of packs an adapter lies as the next pack does.
#[test]
fn an_adapter_after_a_pack() {
    let mut random = Random(8);
    let base = model_of(&[("m.proj.weight", Dtype::BF16, &[6, 5])], &mut random);
    let site = Site::new(&base);
    let tuned = common::case::random_tuned(&base, common::models::Change::Most, &mut random);
    site.create("a", &tuned, &options(Method::Exact)).unwrap();
    let below = StitchedModel::new(&site.base, site.layers(&[("a", 1.0)]), &MergeOptions::default()).unwrap();
    let tensors = halves("m.proj", Dtype::F32, (6, 2, 5), &mut random);
    let mut expected = tuned;
    add_lora(expected.get_mut("m.proj.weight"), &tensors[0], &tensors[1], 0.5, false);
    let adapter = folder(&site, &lora_config(2, 1.0, json!({})), tensors);
    let next = adapter::open(&below, &adapter).unwrap();
    stitchpack::create(&below, &next, &site.pack_path("b"), &options(Method::Exact)).unwrap();
    let open = |name: &str| (OpenedPack::open(site.pack_path(name)).unwrap().verify().unwrap(), 1.0);
    let packs = vec![open("a"), open("b")];
    let model = StitchedModel::chain(&site.base, &site.identity, packs, &MergeOptions::default(), &workers(1)).unwrap();
    assert!(*model.bytes("m.proj.weight").unwrap() == expected.get("m.proj.weight").bytes);
}

fn refused(site: &Site, config: &[u8], tensors: Vec<Tensor>, exit: u8, words: &[&str]) {
    let path = site.path("hostile");
    drop(std::fs::remove_dir_all(&path));
    let adapter = write_folder(&path, config, tensors);
    let out = adapter::open(&site.base, &adapter).and_then(|tuned| {
        stitchpack::create(&site.base, &tuned, &site.pack_path("no"), &options(Method::Exact)).map(|_| ())
    });
    let e = out.err().unwrap_or_else(|| panic!("{words:?}: taken"));
    assert_eq!(e.exit_code(), exit, "{e}");
    words.iter().for_each(|word| assert!(e.to_string().contains(word), "{word} is not in {e}"));
    assert!(!site.pack_path("no").exists());
}

#[test]
fn configurations_that_make_no_sense() {
    let mut random = Random(9);
    let base = model_of(&[("m.proj.weight", Dtype::F32, &[6, 4])], &mut random);
    let site = Site::new(&base);
    let own = halves("m.proj", Dtype::F32, (6, 2, 4), &mut random);
    let raw: [(&str, &[&str]); 9] = [
        ("", &["ADP-1"]),
        ("[1]", &["ADP-1"]),
        ("{\"peft_type\": \"LORA\", \"r\": 2", &["ADP-1"]),
        ("{\"r\": 2}", &["peft_type", "ADP-1"]),
        ("{\"peft_type\": \"LORA\", \"r\": 2, \"r\": 3, \"lora_alpha\": 1}", &["duplicate", "ADP-1"]),
        ("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": NaN}", &["ADP-1"]),
        ("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1e999}", &["ADP-1"]),
        ("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 1, \"rank_pattern\": {\"a\": 1, \"a\": 2}}", &["twice"]),
        ("\u{feff}{}", &["ADP-1"]),
    ];
    for (config, words) in raw {
        refused(&site, config.as_bytes(), own.clone(), 3, words);
    }
    let fields: [(Value, u8, &[&str]); 24] = [
        (json!({"r": 0}), 3, &["positive integer"]),
        (json!({"r": -2}), 3, &["ADP-1"]),
        (json!({"r": 2.5}), 3, &["ADP-1"]),
        (json!({"r": null}), 3, &["no r"]),
        (json!({"lora_alpha": null}), 3, &["no lora_alpha"]),
        (json!({"lora_alpha": 1e300}), 3, &["1e300", "no f32 holds"]),
        (json!({"r": 3}), 3, &["[2, 4]", "[6, 2]", "rank 3"]),
        (json!({"r": 1_000_000_000_000_u64}), 3, &["rank 1000000000000"]),
        (json!({"rank_pattern": {"proj": 0}}), 3, &["positive integer"]),
        (json!({"rank_pattern": {".*proj": 2}}), 6, &["\".*proj\"", "regular expression"]),
        (json!({"peft_type": "IA3"}), 6, &["\"IA3\"", "merge it"]),
        (json!({"peft_type": "SHIRA"}), 3, &["another type", "ADP-2"]),
        (json!({"use_dora": true}), 6, &["DoRA", "merge it"]),
        (json!({"lora_bias": true}), 6, &["lora_bias"]),
        (json!({"layer_replication": [[0, 1]]}), 6, &["layer_replication"]),
        (json!({"target_parameters": ["experts"]}), 6, &["target_parameters"]),
        (json!({"trainable_token_indices": [1]}), 6, &["trainable_token_indices"]),
        (json!({"alora_invocation_tokens": [5]}), 6, &["alora_invocation_tokens"]),
        (json!({"init_lora_weights": "pissa_niter_16"}), 6, &["pissa_niter_16", "changes the base"]),
        (json!({"use_qalora": true}), 6, &["use_qalora"]),
        (json!({"use_bdlora": {"a": []}}), 6, &["use_bdlora"]),
        (json!({"kasa_config": {"a": 1}}), 6, &["kasa_config"]),
        (json!({"monteclora_config": {"a": 1}}), 6, &["monteclora_config"]),
        (json!({"arrow_config": {"a": 1}}), 6, &["arrow_config"]),
    ];
    for (field, exit, words) in fields {
        refused(&site, lora_config(2, 4.0, field).to_string().as_bytes(), own.clone(), exit, words);
    }
    let huge = format!("{{\"peft_type\": \"LORA\", \"x\": \"{}\"}}", "y".repeat(1 << 20));
    refused(&site, huge.as_bytes(), own, 6, &["configuration size"]);
    let deep = "[".repeat(100_000);
    refused(&site, deep.as_bytes(), Vec::new(), 3, &["ADP-1"]);
}

#[test]
fn matrices_that_make_no_sense() {
    let mut random = Random(10);
    let base = model_of(
        &[
            ("m.proj.weight", Dtype::F32, &[6, 4]),
            ("m.conv.weight", Dtype::F32, &[6, 4, 1]),
            ("m.ids.weight", Dtype::I32, &[6, 4]),
        ],
        &mut random,
    );
    let site = Site::new(&base);
    let config = lora_config(2, 4.0, json!({})).to_string();
    let key = |end: &str| format!("{PREFIX}m.proj.{end}");
    let a =
        |shape: &[u64]| Tensor::f32s(&key("lora_A.weight"), shape, &vec![0.5; shape.iter().product::<u64>() as usize]);
    let b =
        |shape: &[u64]| Tensor::f32s(&key("lora_B.weight"), shape, &vec![0.5; shape.iter().product::<u64>() as usize]);
    let named = |t: Tensor, name: &str| Tensor { name: name.into(), ..t };
    let mut nan = b(&[6, 2]);
    nan.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut huge = b(&[6, 2]);
    huge.bytes[..8].copy_from_slice(&[f32::MAX.to_le_bytes(), f32::MAX.to_le_bytes()].concat());
    let f64s = Tensor::new(&key("lora_B.weight"), Dtype::F64, &[6, 2], vec![0; 96]);
    let cases: Vec<(Vec<Tensor>, u8, &[&str])> = vec![
        (vec![a(&[2, 4])], 3, &["lora_A.weight", "missing", "ADP-3"]),
        (vec![b(&[6, 2])], 3, &["lora_B.weight", "missing"]),
        (vec![a(&[2, 4]), b(&[6, 3])], 3, &["[6, 3]", "rank 2"]),
        (vec![a(&[2, 4]), b(&[2, 6])], 3, &["[2, 6]"]),
        (vec![a(&[8]), b(&[6, 2])], 3, &["[8]", "two dimensions"]),
        (vec![a(&[2, 4, 1]), b(&[6, 2])], 3, &["two dimensions"]),
        (vec![a(&[2, 5]), b(&[6, 2])], 5, &["[6, 4] in the base", "[6, 5] in the adapter"]),
        (vec![a(&[2, 0]), b(&[6, 2])], 5, &["[6, 0] in the adapter"]),
        (vec![a(&[2, 4]), nan], 6, &["4 finite elements", "\"m.proj.weight\""]),
        (vec![a(&[2, 4]), huge], 6, &["infinite or NaN"]),
        (vec![a(&[2, 4]), f64s], 3, &["F64", "ADP-3"]),
        (vec![named(a(&[2, 4]), "m.proj.lora_A.weight")], 3, &["base_model.model.", "ADP-2"]),
        (vec![named(a(&[2, 4]), &key("lora_C.weight"))], 3, &["no half that is known"]),
        (vec![named(a(&[2, 4]), &key("lora_A.default.weight"))], 3, &["no half that is known"]),
        (vec![named(a(&[2]), &key("lora_magnitude_vector"))], 6, &["DoRA"]),
        (vec![named(a(&[6, 4]), &key("base_layer.weight"))], 6, &["save_embedding_layers=False"]),
        (vec![], 3, &["no tensors"]),
        (
            vec![
                named(a(&[2, 4]), &format!("{PREFIX}m.conv.lora_A.weight")),
                named(b(&[6, 2]), &format!("{PREFIX}m.conv.lora_B.weight")),
            ],
            5,
            &["\"m.conv.weight\"", "[6, 4, 1]"],
        ),
        (
            vec![
                named(a(&[2, 4]), &format!("{PREFIX}m.ids.lora_A.weight")),
                named(b(&[6, 2]), &format!("{PREFIX}m.ids.lora_B.weight")),
            ],
            5,
            &["is I32 in the base"],
        ),
        (vec![a(&[2, 4]), b(&[6, 2]), named(a(&[6, 4]), &key("weight"))], 3, &["two parts"]),
        (
            vec![
                a(&[2, 4]),
                b(&[6, 2]),
                named(a(&[2, 4]), &format!("{PREFIX}x.m.proj.lora_A.weight")),
                named(b(&[6, 2]), &format!("{PREFIX}x.m.proj.lora_B.weight")),
            ],
            3,
            &["\"m.proj.weight\"", "two parts"],
        ),
    ];
    for (tensors, exit, words) in cases {
        refused(&site, config.as_bytes(), tensors, exit, words);
    }
    // A rank larger than the weight has rows or columns buys nothing, and above 1024 it is not computed.
    for (rank, taken) in [(7, true), (1024, true), (1025, false)] {
        let config = lora_config(rank, 4.0, json!({})).to_string();
        let tensors = vec![a(&[rank, 4]), b(&[6, rank])];
        match taken {
            true => {
                drop(through_a_pack(&site, &write_folder(&site.path("full"), config.as_bytes(), tensors), 1).unwrap())
            }
            false => refused(&site, config.as_bytes(), tensors, 6, &["rank", "1025", "1024"]),
        }
    }
}

#[test]
fn places_that_make_no_sense() {
    let mut random = Random(11);
    let base = model_of(&[("m.proj.weight", Dtype::F32, &[3, 4])], &mut random);
    let site = Site::new(&base);
    let config = json!({"peft_type": "SHIRA", "r": 1}).to_string();
    let with = |cells: &[(i32, i32, f32)]| shira("m.proj", cells);
    let reshaped = |cells: &[(i32, i32, f32)], which: usize, shape: &[u64]| {
        let mut tensors = with(cells);
        tensors[which].shape = shape.to_vec();
        tensors
    };
    let cells = [(0, 1, 0.5), (1, 0, 0.5)];
    let many: Vec<(i32, i32, f32)> = (0..13).map(|i| (i % 3, i % 4, 0.1)).collect();
    let mut floats = with(&cells);
    floats[0] = Tensor::f32s(&floats[0].name.clone(), &[2, 2], &[0.0, 1.5, 1.0, 0.0]);
    let cases: Vec<(Vec<Tensor>, u8, &[&str])> = vec![
        (with(&[(0, 1, 0.5), (0, 1, 0.5)]), 3, &["row 0 and column 1 twice"]),
        (with(&[(2, 3, 0.5), (0, 0, 1.0), (2, 3, 0.5)]), 3, &["row 2 and column 3 twice"]),
        (with(&[(3, 0, 0.5)]), 3, &["row 3", "3 rows"]),
        (with(&[(0, 4, 0.5)]), 3, &["column 4", "4 columns"]),
        (with(&[(-1, 0, 0.5)]), 3, &["-1"]),
        (with(&[(0, 0, f32::NAN)]), 6, &["infinite or NaN"]),
        (with(&many), 3, &["13 places"]),
        (reshaped(&cells, 0, &[4]), 3, &["[2, n]"]),
        (reshaped(&cells, 0, &[1, 4]), 3, &["[2, n]"]),
        (reshaped(&cells, 1, &[1, 2]), 3, &["[n]"]),
        (vec![with(&cells)[0].clone(), with(&cells[..1])[1].clone()], 3, &["2 places for 1 values"]),
        (vec![with(&cells)[1].clone()], 3, &["missing"]),
        (floats, 3, &["F32", "integers"]),
    ];
    for (tensors, exit, words) in cases {
        refused(&site, config.as_bytes(), tensors, exit, words);
    }
}

#[test]
fn folders_that_hold_no_adapter() {
    let mut random = Random(12);
    let base = model_of(&[("m.proj.weight", Dtype::F32, &[3, 4])], &mut random);
    let site = Site::new(&base);
    let path = site.path("a");
    std::fs::create_dir(&path).unwrap();
    assert!(!adapter::is_adapter(&path) && !adapter::is_adapter(&site.base_path));
    let open = || adapter::open(&site.base, &path).err().unwrap();
    assert!(matches!(open(), Error::Io { .. }));
    std::fs::write(path.join("adapter_config.json"), lora_config(1, 1.0, json!({})).to_string()).unwrap();
    assert!(adapter::is_adapter(&path) && matches!(open(), Error::Io { .. }));
    std::fs::write(path.join("adapter_model.bin"), "pickle").unwrap();
    assert!(open().exit_code() == 3 && open().to_string().contains("never opens"), "{}", open());
    std::fs::write(path.join("adapter_model.safetensors"), "short").unwrap();
    assert_eq!(open().exit_code(), 3);
    // Names that stand twice, and an adapter that says it is larger than it is.
    let twice = "{\"base_model.model.m.proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\
                  \"base_model.model.m.proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    let large = "{\"base_model.model.m.proj.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[1,1099511627776],\
                  \"data_offsets\":[0,4398046511104]}}";
    for (header, words) in [(twice, "stands twice"), (large, "bytes of data")] {
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        std::fs::write(path.join("adapter_model.safetensors"), file).unwrap();
        assert!(open().exit_code() == 3 && open().to_string().contains(words), "{}", open());
    }
}
