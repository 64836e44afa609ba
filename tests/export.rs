//! What is exported, read by nothing of ours and put onto the base, is what `apply` writes, bit for bit. [EXP-1]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::Random;
use common::case::{random_base, random_tuned};
use common::models::{Change, FLOATS, Fill, Model, Tensor, base_tensor, tuned_tensor, unit_bytes};
use common::naive::{checkpoint_digest, decode, encode, hex};
use common::site::{Site, merge, options, sparse, workers};
use safetensors::{Dtype as StDtype, SafeTensors};
use stitchpack::checkpoint::BaseCheck;
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::export::{ExportOptions, Exported, Format};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{Error, MergeOptions, OpenedPack, Result, StitchedModel};

type Packs<'n> = [(&'n str, f32)];

fn model<'a>(site: &'a Site, packs: &Packs, how: &MergeOptions) -> StitchedModel<'a> {
    let open = |name: &str| OpenedPack::open(site.pack_path(name)).unwrap().verify().unwrap();
    let packs = packs.iter().map(|(name, weight)| (open(name), *weight)).collect();
    StitchedModel::chain(&site.base, &site.identity, packs, how, &workers(1)).unwrap()
}

fn export(site: &Site, packs: &Packs, how: &MergeOptions, format: Format, out: &str) -> Result<Exported> {
    let options = ExportOptions { workers: workers(2), force: true, ..ExportOptions::new(format) };
    stitchpack::export(&model(site, packs, how), &site.identity, &site.path(out), &options)
}

/// What `apply` makes of the base.
fn applied(site: &Site, packs: &Packs, how: &MergeOptions) -> BTreeMap<String, Tensor> {
    let options = stitchpack::ApplyOptions { force: true, ..Default::default() };
    let out = site.path("applied.safetensors");
    stitchpack::apply(&model(site, packs, how), &site.identity, &out, &options).unwrap();
    let model = Model::read(&std::fs::read(out).unwrap());
    model.tensors.into_iter().map(|t| (t.name.clone(), t)).collect()
}

fn by_name(model: &Model) -> BTreeMap<String, Tensor> {
    model.tensors.iter().map(|t| (t.name.clone(), t.clone())).collect()
}

/// Whole numbers of 4 or 8 bytes.
fn integers(file: &SafeTensors, name: &str) -> Vec<u64> {
    let view = file.tensor(name).unwrap();
    match view.dtype() {
        StDtype::I32 => view.data().chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()) as u64).collect(),
        StDtype::I64 => view.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u64).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// R(base) + x, rounded once, with x an f32 or an f64: spec/export.md, by the judge's own floats.
fn add(dtype: Dtype, base: u64, x: f64, wide: bool) -> u64 {
    let base = decode(dtype, base);
    let sum = if wide || dtype == Dtype::F64 { base + x } else { f64::from(base as f32 + x as f32) };
    if dtype == Dtype::F32 { u64::from((sum as f32).to_bits()) } else { encode(dtype, sum) }
}

/// A reader of weight patches and deltas that knows nothing but the page that describes them.
fn put_on(base: &Model, path: &Path, adds: bool) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut out = by_name(base);
    for key in file.names() {
        let Some(name) = key.strip_suffix(".values") else {
            let name = key.strip_suffix(".indices").unwrap();
            file.tensor(&format!("{name}.values")).unwrap();
            continue;
        };
        let values = file.tensor(key).unwrap();
        // Every tensor can be looked at where it lies.
        let at = values.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let dtype = Dtype::from_name(&values.dtype().to_string()).unwrap();
        assert_eq!(at % unit_bytes(dtype), 0, "{key}");
        let Ok(positions) = file.tensor(&format!("{name}.indices")) else {
            let shape: Vec<u64> = values.shape().iter().map(|d| *d as u64).collect();
            out.insert(name.into(), Tensor::new(name, dtype, &shape, values.data().to_vec()));
            continue;
        };
        assert_eq!((positions.shape(), positions.shape().len()), (values.shape(), 1));
        let positions = integers(&file, &format!("{name}.indices"));
        assert!(!positions.is_empty() && positions.is_sorted_by(|a, b| a < b), "{name}");
        let tensor = out.get_mut(name).unwrap();
        let (mut units, width) = (tensor.units(), unit_bytes(dtype));
        for (position, value) in positions.iter().zip(values.data().chunks(width)) {
            let bits = value.iter().rev().fold(0u64, |x, byte| x << 8 | u64::from(*byte));
            let unit = &mut units[*position as usize];
            let before = *unit;
            *unit = match (adds, dtype) {
                (false, _) => bits,
                (true, Dtype::F32) => add(tensor.dtype, before, f64::from(f32::from_bits(bits as u32)), false),
                (true, Dtype::F64) => add(tensor.dtype, before, f64::from_bits(bits), true),
                (true, other) => panic!("{name}: numbers of {other}"),
            };
            assert_ne!(*unit, before, "{name}: a position at which nothing changes");
        }
        assert!(adds || dtype == tensor.dtype);
        tensor.set_units(&units);
    }
    out
}

/// What PEFT does with an adapter of this type when it merges it.
fn put_shira_on(base: &Model, folder: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!((&config["peft_type"], &config["fan_in_fan_out"]), (&"SHIRA".into(), &false.into()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut out = by_name(base);
    let modules: Vec<&str> =
        config["target_modules"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(file.names().len(), 2 * modules.len());
    for module in modules {
        let weight = file.tensor(&format!("base_model.model.{module}.shira_weight")).unwrap();
        let places = file.tensor(&format!("base_model.model.{module}.shira_indices")).unwrap();
        let tensor = out.get_mut(&format!("{module}.weight")).unwrap();
        let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
        let n = config["r"].as_u64().unwrap() * (rows + columns);
        assert_eq!((weight.dtype(), weight.shape()), (StDtype::F32, &[n as usize][..]));
        assert_eq!((places.dtype(), places.shape()), (StDtype::I32, &[2, n as usize][..]));
        let places = integers(&file, &format!("base_model.model.{module}.shira_indices"));
        let (row, column) = places.split_at(n as usize);
        let mut units = tensor.units();
        let mut seen = std::collections::BTreeSet::new();
        for ((i, j), x) in row.iter().zip(column).zip(weight.data().chunks(4)) {
            assert!(*i < rows && *j < columns && seen.insert((i, j)), "{module}: {i} {j}");
            let unit = &mut units[(i * columns + j) as usize];
            let x = f64::from(f32::from_le_bytes(x.try_into().unwrap()));
            *unit = add(tensor.dtype, *unit, x, false);
        }
        tensor.set_units(&units);
    }
    out
}

fn check_is(found: &BTreeMap<String, Tensor>, expected: &BTreeMap<String, Tensor>, what: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}");
    for (name, tensor) in expected {
        assert!(found[name] == *tensor, "{what}: {name} {}", tensor.dtype);
    }
}

fn exact() -> CreateOptions {
    CreateOptions { force: true, ..options(Method::Exact) }
}

fn average() -> MergeOptions {
    merge(OverlapRule::Average, 1.0)
}

/// Packs `a` (exact), `b` (signs), `c` (f32) of one base, and `d`, exact, on the result of `a`.
fn pack_all(site: &Site, base: &Model, random: &mut Random) -> Model {
    let tuned = random_tuned(base, Change::Some, random);
    site.create("a", &tuned, &exact()).unwrap();
    for (name, kind) in [("b", ValueKind::Sign), ("c", ValueKind::F32)] {
        let other = random_tuned(base, Change::Most, random);
        site.create(name, &other, &options(sparse("0.4", kind))).unwrap();
    }
    let below = model(site, &[("a", 1.0)], &average());
    let next = site.checkpoint("next", &random_tuned(&tuned, Change::Some, random));
    stitchpack::create(&below, &next, &site.pack_path("d"), &exact()).unwrap();
    tuned
}

const SETS: [&Packs; 6] = [
    &[("a", 1.0)],
    &[("b", 1.0)],
    &[("b", 0.5), ("c", -0.25)],
    &[("a", 0.5)],
    &[("a", 1.0), ("d", 1.0)],
    &[("b", 0.0)],
];

#[test]
fn a_weight_patch_that_is_not_what_apply_writes() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let base = random_base(6, false, if seed % 2 == 0 { Fill::Ordinary } else { Fill::Odd }, &mut random);
        // Integers in two packs that change them, or by a weight other than 1, are no merge.
        let floats = base.tensors.iter().all(|t| FLOATS.contains(&t.dtype));
        let site = Site::new(&base);
        let tuned = random_tuned(&base, Change::Any, &mut random);
        site.create("any", &tuned, &exact()).unwrap();
        let out = export(&site, &[("any", 1.0)], &average(), Format::WeightPatch, "any.safetensors").unwrap();
        check_is(&put_on(&base, &site.path("any.safetensors"), false), &by_name(&tuned), "any bits");
        assert_eq!(hex(&checkpoint_digest(by_name(&tuned).values())), out.result.unwrap().to_string());
        if !floats || seed % 2 == 1 {
            continue;
        }
        pack_all(&site, &base, &mut random);
        for set in SETS {
            export(&site, set, &average(), Format::WeightPatch, "out.safetensors").unwrap();
            let found = put_on(&base, &site.path("out.safetensors"), false);
            check_is(&found, &applied(&site, set, &average()), &format!("seed {seed} {set:?}"));
        }
    }
}

/// A model with one tensor of each float dtype whose numbers an f32 can lead to, the weight of a linear module.
fn linear_model(random: &mut Random) -> Model {
    let tensor = |(i, dtype): (usize, &Dtype)| {
        base_tensor(&format!("block.{i}.proj.weight"), *dtype, &[24, 20], Fill::Ordinary, random)
    };
    let mut model = Model::new(FLOATS.iter().filter(|d| **d != Dtype::F64).enumerate().map(tensor).collect());
    // A −0 first, which nothing that is added to an unchanged element may touch.
    let signed = |t: &&mut Tensor| [Dtype::F32, Dtype::F16, Dtype::BF16].contains(&t.dtype);
    for t in model.tensors.iter_mut().filter(signed) {
        let mut units = t.units();
        units[..4].fill(1 << (8 * unit_bytes(t.dtype) - 1));
        t.set_units(&units);
    }
    model
}

#[test]
fn a_float_model_whose_delta_or_adapter_is_not_what_apply_writes() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let base = linear_model(&mut random);
        let site = Site::new(&base);
        pack_all(&site, &base, &mut random);
        for set in SETS {
            let expected = applied(&site, set, &average());
            let what = format!("seed {seed} {set:?}");
            for (format, adds) in [(Format::WeightPatch, false), (Format::SafetensorsDelta, true)] {
                let out = export(&site, set, &average(), format, "out.safetensors").unwrap();
                check_is(&put_on(&base, &site.path("out.safetensors"), adds), &expected, &what);
                let file = std::fs::metadata(site.path("out.safetensors")).unwrap().len();
                assert_eq!(out.bytes, file);
            }
            let out = export(&site, set, &average(), Format::Shira, "adapter");
            if *set == [("b", 0.0)] {
                assert!(matches!(out.unwrap_err().root(), Error::Refused(why) if why.contains("change nothing")));
                continue;
            }
            assert!(out.unwrap().rank.unwrap() >= 1);
            check_is(&put_shira_on(&base, &site.path("adapter")), &expected, &what);
        }
    }
}

/// Several blocks and several rows, with a rank above 1 and modules that hold less than it asks for.
#[test]
fn large_tensors_differ_from_what_apply_writes() {
    let mut random = Random(7);
    let tensors = [("big.weight", 700, 800), ("small.weight", 300, 40), ("still.weight", 8, 8)];
    let base = Model::new(
        tensors
            .iter()
            .map(|(name, rows, columns)| {
                base_tensor(name, Dtype::BF16, &[*rows, *columns], Fill::Ordinary, &mut random)
            })
            .collect(),
    );
    let mut tuned = base.clone();
    for (name, change) in [("big.weight", Change::Most), ("small.weight", Change::Some)] {
        *tuned.get_mut(name) = tuned_tensor(base.get(name), change, &mut random);
    }
    let site = Site::new(&base);
    site.create("signs", &tuned, &options(sparse("0.004", ValueKind::Sign))).unwrap();
    site.create("exact", &tuned, &exact()).unwrap();
    for (set, shira) in [([("signs", 1.0)], true), ([("exact", 1.0)], false)] {
        let expected = applied(&site, &set, &average());
        for (format, adds) in [(Format::WeightPatch, false), (Format::SafetensorsDelta, true)] {
            export(&site, &set, &average(), format, "out.safetensors").unwrap();
            check_is(&put_on(&base, &site.path("out.safetensors"), adds), &expected, "large");
        }
        let out = export(&site, &set, &average(), Format::Shira, "adapter");
        match shira {
            true => {
                assert_eq!(out.unwrap().rank, Some(2));
                check_is(&put_shira_on(&base, &site.path("adapter")), &expected, "large");
            }
            // Nearly all of the large tensor changed: r x (700 + 800) is more than the small one has.
            false => {
                let why = out.unwrap_err().to_string();
                assert!(why.contains("\"small.weight\" has 12000 elements"), "{why}");
            }
        }
    }
}

/// Tensors that are not all staged together: some share a turn, one has its own. Nonfinite elements are counted over all turns.
#[test]
fn turns_that_mix_up_their_tensors() {
    let units = 1 << 21;
    let tensor = |name: &str, at: usize, bits: u64| {
        let mut all = vec![0x4000u64; units];
        (all[at], all[units - 1]) = (bits, bits + 1);
        Tensor::of_units(name, Dtype::BF16, &[1024, 2048], &all)
    };
    let names = ["a.weight", "b.weight", "c.weight"];
    let base = Model::new(names.iter().map(|name| tensor(name, 7, 0x4000)).collect());
    let tuned = Model::new(names.iter().enumerate().map(|(i, name)| tensor(name, 9 + i, 0x4080 + i as u64)).collect());
    let site = Site::new(&base);
    site.create("p", &tuned, &exact()).unwrap();
    for (format, adds) in [(Format::WeightPatch, false), (Format::SafetensorsDelta, true)] {
        let out = export(&site, &[("p", 1.0)], &average(), format, "out.safetensors").unwrap();
        assert_eq!((out.tensors, out.changed), (3, 6));
        check_is(&put_on(&base, &site.path("out.safetensors"), adds), &by_name(&tuned), "turns");
    }
    export(&site, &[("p", 1.0)], &average(), Format::Shira, "adapter").unwrap();
    check_is(&put_shira_on(&base, &site.path("adapter")), &by_name(&tuned), "turns");
    let (far, how) = ([("p", 3e38)], average());
    let expected = site.apply(&far, &how, "no.safetensors", 1).unwrap_err().to_string();
    assert!(expected.contains("6 finite"), "{expected}");
    assert_eq!(export(&site, &far, &how, Format::WeightPatch, "no").unwrap_err().to_string(), expected);
}

/// What no number leads to is refused as a number, and written as bits.
#[test]
fn a_value_that_no_sum_gives_is_written_as_one() {
    let base = Model::new(vec![Tensor::f32s("m.weight", &[2, 4], &[1.0, 0.0, 1e30, 2.0, 3.0, 4.0, 5.0, 6.0])]);
    let cases: [(usize, f32, &[Format]); 5] = [
        (0, 0.3f32.next_up(), &[Format::WeightPatch, Format::SafetensorsDelta]),
        // The smallest negative f64 is −0 once it is rounded to the tensor's f32.
        (1, -0.0, &[Format::WeightPatch, Format::SafetensorsDelta]),
        (2, 1e-30, &[Format::WeightPatch]),
        (3, f32::NAN, &[Format::WeightPatch]),
        (3, 2.5, &[Format::WeightPatch, Format::SafetensorsDelta, Format::Shira]),
    ];
    for (position, value, possible) in cases {
        let mut tuned = base.clone();
        tuned.get_mut("m.weight").bytes[4 * position..][..4].copy_from_slice(&value.to_le_bytes());
        let site = Site::new(&base);
        site.create("p", &tuned, &exact()).unwrap();
        for format in [Format::WeightPatch, Format::SafetensorsDelta, Format::Shira] {
            let folder = format == Format::Shira;
            let out = if folder { "out" } else { "out.safetensors" };
            let before = site.names();
            match export(&site, &[("p", 1.0)], &average(), format, out) {
                Ok(_) => {
                    assert!(possible.contains(&format), "{value} {format}");
                    let found = match folder {
                        true => put_shira_on(&base, &site.path(out)),
                        false => put_on(&base, &site.path(out), format == Format::SafetensorsDelta),
                    };
                    check_is(&found, &by_name(&tuned), "one value");
                }
                Err(e) => {
                    assert!(!possible.contains(&format), "{value} {format}: {e}");
                    assert!(matches!(e.root(), Error::Refused(_)) && e.to_string().contains("use weight-patch"), "{e}");
                    assert_eq!(site.names(), before, "something is left behind");
                }
            }
        }
    }
}

#[test]
fn a_tensor_without_numbers_is_written_as_bits_or_refused() {
    let mut random = Random(3);
    let odd = [Dtype::I64, Dtype::BOOL, Dtype::U8, Dtype::F8_E8M0, Dtype::F4, Dtype::F6_E2M3, Dtype::C64];
    for dtype in odd {
        let base = Model::new(vec![base_tensor("m.weight", dtype, &[4, 8], Fill::Any, &mut random)]);
        let tuned = Model::new(vec![tuned_tensor(base.get("m.weight"), Change::Any, &mut random)]);
        let site = Site::new(&base);
        site.create("p", &tuned, &exact()).unwrap();
        let out = export(&site, &[("p", 1.0)], &average(), Format::WeightPatch, "out.safetensors").unwrap();
        check_is(&put_on(&base, &site.path("out.safetensors"), false), &by_name(&tuned), "no number");
        let by_byte = [Dtype::F4, Dtype::F6_E2M3, Dtype::C64].contains(&dtype);
        assert_eq!(out.whole.len(), usize::from(by_byte), "{dtype}");
        for format in [Format::SafetensorsDelta, Format::Shira] {
            let why = export(&site, &[("p", 1.0)], &average(), format, "no.safetensors").unwrap_err();
            assert!(matches!(why.root(), Error::Refused(_)) && why.to_string().contains("\"m.weight\""), "{why}");
        }
        assert!(!site.path("no.safetensors").exists());
    }
}

#[test]
fn a_carried_tensor_is_written_whole_or_refused() {
    let mut random = Random(4);
    let base = Model::new(vec![
        base_tensor("a.weight", Dtype::BF16, &[6, 4], Fill::Ordinary, &mut random),
        base_tensor("b.weight", Dtype::F32, &[3, 5], Fill::Ordinary, &mut random),
    ]);
    let tuned = Model::new(vec![
        base_tensor("a.weight", Dtype::BF16, &[8, 4], Fill::Ordinary, &mut random),
        tuned_tensor(base.get("b.weight"), Change::Some, &mut random),
        base_tensor("new.bias", Dtype::F16, &[7], Fill::Any, &mut random),
    ]);
    let site = Site::new(&base);
    site.create("p", &tuned, &CreateOptions { new_tensors: NewTensors::Carry, ..exact() }).unwrap();
    let out = export(&site, &[("p", 1.0)], &average(), Format::WeightPatch, "out.safetensors").unwrap();
    assert_eq!(out.whole, ["a.weight", "new.bias"]);
    check_is(&put_on(&base, &site.path("out.safetensors"), false), &by_name(&tuned), "carried");
    for format in [Format::SafetensorsDelta, Format::Shira] {
        let why = export(&site, &[("p", 1.0)], &average(), format, "no").unwrap_err().to_string();
        assert!(why.contains("\"a.weight\"") && !site.path("no").exists(), "{why}");
    }
}

#[test]
fn what_no_linear_module_has_is_named() {
    let mut random = Random(5);
    let cases = [
        ("ln.weight", vec![6], "not the weight of a linear module"),
        ("conv.weight", vec![2, 2, 3], "not the weight of a linear module"),
        ("m.kernel", vec![4, 4], "not the weight of a linear module"),
        (".weight", vec![4, 4], "not the weight of a linear module"),
        ("bert.word_embeddings.weight", vec![6, 4], "an embedding"),
        ("transformer.wte.weight", vec![6, 4], "an embedding"),
        ("tiny.weight", vec![1, 4], "fewer than"),
    ];
    for (name, shape, words) in cases {
        let base = Model::new(vec![
            base_tensor(name, Dtype::F32, &shape, Fill::Ordinary, &mut random),
            base_tensor("z.weight", Dtype::F32, &[9, 9], Fill::Ordinary, &mut random),
        ]);
        let mut tuned = base.clone();
        for t in &mut tuned.tensors {
            t.bytes[..4].copy_from_slice(&0.75f32.to_le_bytes());
        }
        let site = Site::new(&base);
        site.create("p", &tuned, &exact()).unwrap();
        let why = export(&site, &[("p", 1.0)], &average(), Format::Shira, "adapter").unwrap_err();
        assert!(matches!(why.root(), Error::Refused(_)), "{why}");
        assert!(why.to_string().contains(words) && why.to_string().contains(&format!("\"{name}\"")), "{name}: {why}");
        assert!(why.to_string().contains("weight-patch"), "{why}");
    }
}

/// Finite elements that would become infinite are counted over all tensors, as `apply` counts them, and nothing is left. [STI-7]
#[test]
fn an_overflow_that_is_exported() {
    let base = Model::new(vec![
        Tensor::f32s("a.weight", &[2, 2], &[3e38, 1.0, 3e38, 1.0]),
        Tensor::f32s("b.weight", &[2, 2], &[1.0, 3e38, 1.0, 1.0]),
    ]);
    let mut tuned = base.clone();
    *tuned.get_mut("a.weight") = Tensor::f32s("a.weight", &[2, 2], &[3.3e38, 1.0, 3.3e38, 2.0]);
    *tuned.get_mut("b.weight") = Tensor::f32s("b.weight", &[2, 2], &[1.0, 3.3e38, 1.0, 1.0]);
    let site = Site::new(&base);
    site.create("p", &tuned, &options(sparse("0.9", ValueKind::F32))).unwrap();
    let set = [("p", 20.0)];
    let expected = site.apply(&set, &average(), "no.safetensors", 1).unwrap_err().to_string();
    assert!(expected.contains("3 finite elements") && expected.contains("\"a.weight\""), "{expected}");
    let before = site.names();
    for format in [Format::WeightPatch, Format::SafetensorsDelta, Format::Shira] {
        assert_eq!(export(&site, &set, &average(), format, "no").unwrap_err().to_string(), expected);
        assert_eq!(site.names(), before);
    }
}

#[test]
fn threads_or_runs_that_show_in_the_file() {
    let mut random = Random(11);
    let base = linear_model(&mut random);
    let site = Site::new(&base);
    pack_all(&site, &base, &mut random);
    let bytes = |threads: usize, format: Format| {
        let options = ExportOptions { workers: workers(threads), force: true, ..ExportOptions::new(format) };
        let out = site.path("out");
        stitchpack::export(&model(&site, SETS[2], &average()), &site.identity, &out, &options).unwrap();
        let file = if format == Format::Shira { out.join("adapter_model.safetensors") } else { out.clone() };
        let bytes = std::fs::read(file).unwrap();
        if out.is_dir() { std::fs::remove_dir_all(&out) } else { std::fs::remove_file(&out) }.unwrap();
        bytes
    };
    for format in [Format::WeightPatch, Format::SafetensorsDelta, Format::Shira] {
        assert!(bytes(1, format) == bytes(3, format), "{format}");
    }
}

/// The file names base and result where all of the base was read, and nothing where it was not. [EXP-2]
#[test]
fn a_file_that_does_not_say_what_it_is() {
    let mut random = Random(12);
    let base = linear_model(&mut random);
    let site = Site::new(&base);
    pack_all(&site, &base, &mut random);
    let metadata = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        header.metadata().clone().unwrap()
    };
    let out = export(&site, SETS[0], &average(), Format::WeightPatch, "out.safetensors").unwrap();
    let found = metadata(&site.path("out.safetensors"));
    assert_eq!(found["stitchpack_export"], "weight-patch");
    assert_eq!(found["stitchpack_version"], "1");
    assert_eq!(found["base"], site.identity.digest().unwrap().to_string());
    assert_eq!(found["result"], hex(&checkpoint_digest(applied(&site, SETS[0], &average()).values())));
    assert_eq!(out.result.map(|d| d.to_string()), found.get("result").cloned());
    let touched = site.base.identity_with(BaseCheck::Touched, &|name| name.contains('0'), &workers(1)).unwrap();
    let options = ExportOptions { force: true, ..ExportOptions::new(Format::WeightPatch) };
    let out = stitchpack::export(&model(&site, SETS[0], &average()), &touched, &site.path("out.safetensors"), &options);
    let found = metadata(&site.path("out.safetensors"));
    assert!(out.unwrap().result.is_none() && !found.contains_key("base") && !found.contains_key("result"));
}

#[test]
fn an_output_that_is_an_input_or_exists() {
    let mut random = Random(13);
    let base = linear_model(&mut random);
    let site = Site::new(&base);
    pack_all(&site, &base, &mut random);
    for format in [Format::WeightPatch, Format::SafetensorsDelta] {
        for input in ["base.safetensors", "a.stitch"] {
            let e = export(&site, SETS[0], &average(), format, input).unwrap_err();
            assert_eq!(e.exit_code(), 2, "{e}");
        }
    }
    for format in [Format::WeightPatch, Format::Shira] {
        std::fs::write(site.path("there"), "mine").unwrap();
        let options = ExportOptions::new(format);
        let out = site.path("there");
        let e = stitchpack::export(&model(&site, SETS[1], &average()), &site.identity, &out, &options).unwrap_err();
        assert_eq!((e.exit_code(), std::fs::read(&out).unwrap()), (6, b"mine".to_vec()), "{e}");
    }
}
