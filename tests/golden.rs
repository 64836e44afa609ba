//! Packs that every later reader must read (promise 12): spec/vectors, in both directions. What is in a vector's pack, and what
//! it gives on its base, is what `expected.json` says; made again from the same models it has the same bytes, except for the
//! program's name and version and for what zstd chose. [CID-1] [RES-1]
//!
//! Vectors are written by one command and never overwritten. To make them anew while the format may still change, delete
//! `spec/vectors/valid` and `spec/vectors/corrupt` and run
//! `STITCHPACK_WRITE_VECTORS=1 cargo test --test golden write_vectors -- --ignored`.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use common::Random;
use common::lying_packs::{self as lies, Expect, Good, Parts, f32_tensor};
use common::models::{Change, FLOATS, Fill, Model, Tensor, base_tensor, special_bits, tuned_tensor};
use common::naive;
use common::site::{Site, kept, options, sparse, workers};
use serde_json::{Value, json};
use stitchpack::create::{CreateOptions, Localizer, Lossy, Method, NewTensors, Rescale, Scope};
use stitchpack::limits::Limits;
use stitchpack::model::codec::{MaskCodec, ValueCodec};
use stitchpack::model::delta::{Groups, ValueKind};
use stitchpack::model::dtype::Dtype;
use stitchpack::{ApplyOptions, Checkpoint, Error, Layer, MergeOptions, OpenedPack, StitchedModel};

fn vectors(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors").join(part)
}

// ---- What the vectors are made of. A builder never changes once its vector is released; new needs get new ones. ----

/// One vector: its models, how its pack is made, and what is done to the pack afterwards.
struct Vector {
    name: &'static str,
    base: Model,
    tuned: Model,
    how: Box<dyn Fn(&Site) -> CreateOptions>,
    files: Vec<(&'static str, &'static [u8])>,
    after: Option<fn(&mut Parts)>,
}

fn vector(name: &'static str, models: (Model, Model), how: impl Fn(&Site) -> CreateOptions + 'static) -> Vector {
    Vector { name, base: models.0, tuned: models.1, how: Box::new(how), files: vec![], after: None }
}

fn lossy(density: &str, kind: ValueKind, scope: Scope, groups: Groups, rescale: Rescale) -> CreateOptions {
    let density = density.parse().unwrap();
    let localizer = Localizer::Magnitude;
    options(Method::Lossy(Lossy { density, values: kind, scope, groups, rescale: Some(rescale), localizer }))
}

/// Tensors of these dtypes, and some of their units changed.
fn some(seed: u64, dtypes: &[Dtype], shape: &[u64], change: Change) -> (Model, Model) {
    let mut random = Random(seed);
    let tensor = |d: &Dtype| base_tensor(&format!("t.{}", d.name()), *d, shape, Fill::Ordinary, &mut random);
    let base = Model::new(dtypes.iter().map(tensor).collect());
    let tuned = Model::new(base.tensors.iter().map(|t| tuned_tensor(t, change, &mut random)).collect());
    (base, tuned)
}

/// U8 units of which those are changed by one that `which` says.
fn bytes(n: u64, which: impl Fn(u64) -> bool) -> (Model, Model) {
    let tensor = |changed: bool| {
        let units: Vec<u64> = (0..n).map(|i| (i * i % 251 + u64::from(changed && which(i))) % 256).collect();
        Model::new(vec![Tensor::of_units("u", Dtype::U8, &[n], &units)])
    };
    (tensor(false), tensor(true))
}

fn all_vectors() -> Vec<Vector> {
    use Dtype::{BF16, F16, F32, F64};
    use Groups::{Row, Tensor as Whole};
    use Scope::{Global, Tensor as Each};
    let exact = |_: &Site| options(Method::Exact);
    let mut all = vec![
        vector("empty", (Good::sign_models().0, Good::sign_models().0), exact),
        vector("exact-every-dtype", every_dtype(), exact),
        vector("exact-special-floats", special_floats(), exact),
        vector(
            "exact-wide-gaps",
            {
                let (base, mut tuned) = some(3, &[F64, Dtype::I64, Dtype::U64], &[7, 43], Change::Some);
                for (t, b) in tuned.tensors.iter_mut().zip(&base.tensors) {
                    let units = t.units().into_iter().zip(b.units()).enumerate();
                    t.set_units(&units.map(|(i, (t, b))| if i % 19 == 5 { t } else { b }).collect::<Vec<_>>());
                }
                (base, tuned)
            },
            exact,
        ),
        vector("mask-bitmap", bytes(700, |i| i * i % 7 < 3), exact),
        vector("mask-gaps", bytes(900, |i| i * i % 64 == 33 || i == 899), exact),
        vector("mask-bitmap-zstd", bytes(4000, |i| i % 2 == 0), exact),
        vector("mask-gaps-zstd", bytes(9000, |i| i % 100 == 7), exact),
        vector("mask-all", (bytes(77, |_| true).0, bytes(77, |_| true).1), exact),
        vector("sign-f32-rows", some(11, &[F32], &[12, 25], Change::Most), move |_| {
            lossy("0.2", ValueKind::Sign, Global, Row, Rescale::Energy)
        }),
        vector("sign-every-float", some(12, &FLOATS, &[6, 13], Change::Some), |_| {
            options(sparse("0.1", ValueKind::Sign))
        }),
        vector("int8-f16-rows", some(13, &[F16], &[5, 40], Change::Most), move |_| {
            lossy("0.3", ValueKind::Int8, Each, Row, Rescale::L1)
        }),
        vector("int4-bf16", some(14, &[BF16, F64], &[3, 7, 5], Change::Most), move |_| {
            lossy("0.37", ValueKind::Int4, Global, Whole, Rescale::Energy)
        }),
        vector("codebook-bf16", Good::codebook_models(), |_| options(sparse("0.25", ValueKind::Codebook))),
        vector("f32-on-f64", some(15, &[F64, F32], &[90], Change::Most), move |_| {
            lossy("0.5", ValueKind::F32, Each, Whole, Rescale::None)
        }),
        vector("f16-on-f8", some(16, &FLOATS[4..], &[64], Change::Some), move |_| {
            lossy("0.2", ValueKind::F16, Global, Whole, Rescale::None)
        }),
        vector("bf16-density-one", some(17, &[BF16, F16], &[33], Change::Some), move |_| {
            lossy("1", ValueKind::Bf16, Global, Whole, Rescale::Factor(1.25))
        }),
        vector("lossy-on-odd-base", special_base(), |_| options(sparse("1", ValueKind::Int8))),
        vector("tied", Good::sign_models(), |_| options(sparse("0.1", ValueKind::Sign))),
        vector("given-mask", Good::codebook_models(), |site| {
            let mask: Vec<u64> = (0..700).map(|i| u64::from(i % 11 == 0)).collect();
            let mask = Model::new(vec![Tensor::of_units("w", Dtype::BOOL, &[700], &mask)]);
            let mut how = lossy("0.5", ValueKind::Int4, Global, Whole, Rescale::Energy);
            if let Method::Lossy(lossy) = &mut how.method {
                lossy.localizer = Localizer::Mask(site.checkpoint("mask", &mask).into());
            }
            how
        }),
        vector("carried-tensors", carried_tensors(), |_| {
            let mut how = options(sparse("0.2", ValueKind::Sign));
            how.new_tensors = NewTensors::Carry;
            how
        }),
        vector("notes-globs-no-result", Good::sign_models(), |_| {
            let mut how = options(sparse("5%", ValueKind::Int8));
            how.notes = [("licence", "MIT"), ("task", "π ≠ 3 \u{1b}[31m")].map(|(k, v)| (k.into(), v.into())).into();
            (how.include, how.exclude, how.record_result) = (vec!["*".into()], vec!["[xyz]".into()], false);
            how
        }),
    ];
    let mut files = vector("carried-files", Good::codebook_models(), |_| {
        let mut how = options(sparse("0.05", ValueKind::F16));
        how.carry_files = true;
        how
    });
    files.files =
        vec![("chat_template.jinja", b"{{ messages }}"), ("empty.txt", b""), ("tokenizer.json", &[b' '; 900])];
    all.push(files);
    all.push(vector("classes", Good::classed_models(), |_| options(sparse("0.2", ValueKind::Int8))));
    all.push(vector("classes-by-base", Good::by_base_models(), exact));
    all.push(vector("steps-of-all", Good::dense_models(), exact));
    // What our writer never makes: small blocks, of which some keep nothing and some everything, all codecs plain.
    let mut blocks =
        vector("small-blocks", bytes(5000, |i| i < 1024 || i % 3 == 0 && !(2048..3072).contains(&i)), exact);
    blocks.after = Some(small_blocks);
    all.push(blocks);
    all
}

fn every_dtype() -> (Model, Model) {
    let mut random = Random(1);
    let mut base = Model::default();
    for dtype in Dtype::ALL.iter().copied() {
        base.tensors.push(base_tensor(dtype.name(), dtype, &[12], Fill::Ordinary, &mut random));
    }
    base.tensors.push(base_tensor("scalar", Dtype::F32, &[], Fill::Ordinary, &mut random));
    base.tensors.push(base_tensor("no elements", Dtype::BF16, &[4, 0], Fill::Ordinary, &mut random));
    let tuned = base.tensors.iter().map(|t| {
        let units: Vec<u64> = t.units().iter().map(|u| if t.dtype == Dtype::BOOL { 1 - u } else { u ^ 1 }).collect();
        let mut t = t.clone();
        t.set_units(&units);
        t
    });
    (base.clone(), Model::new(tuned.collect()))
}

/// Every special value to every other, in every float dtype.
fn special_floats() -> (Model, Model) {
    let side = |second: bool| {
        let tensor = |d: &Dtype| {
            let special = special_bits(*d);
            let n = special.len();
            let units: Vec<u64> = (0..n * n).map(|i| special[if second { i % n } else { i / n }]).collect();
            Tensor::of_units(d.name(), *d, &[n as u64, n as u64], &units)
        };
        Model::new(FLOATS.iter().map(tensor).collect())
    };
    (side(false), side(true))
}

/// Infinities and NaN in the base, kept at density 1 and left as they are. [STI-3]
fn special_base() -> (Model, Model) {
    let side = |last: f64| {
        let tensor = |d: &Dtype| {
            let mut units = special_bits(*d);
            units.retain(|u| naive::decode(*d, *u).abs() <= 1.0 || !naive::decode(*d, *u).is_finite());
            units.extend([naive::encode(*d, last), naive::encode(*d, 1.0)]);
            Tensor::of_units(d.name(), *d, &[units.len() as u64], &units)
        };
        Model::new(FLOATS.iter().map(tensor).collect())
    };
    (side(1.0), side(1.5))
}

/// One tensor is new, one has another shape, one without elements is new, one is changed.
fn carried_tensors() -> (Model, Model) {
    let wave = |name: &str, n: u64, by: f32| f32_tensor(name, &[n], move |i| i as f32 / 8.0 + by * (i % 5) as f32);
    let base = Model::new(vec![wave("changed", 50, 0.0), wave("resized", 6, 0.0), wave("same", 5, 0.0)]);
    let tuned = Model::new(vec![
        wave("changed", 50, 0.5),
        wave("resized", 8, 0.0),
        wave("same", 5, 0.0),
        Tensor::of_units("new", Dtype::F8_E4M3, &[2, 3], &[0, 0x80, 0x7f, 0xff, 1, 2]),
        Tensor::of_units("new.empty", Dtype::I32, &[0, 3], &[]),
    ]);
    (base, tuned)
}

fn small_blocks(parts: &mut Parts) {
    let whole = parts.clone();
    parts.manifest.block_log2 = 10;
    let kept = whole.kept_of(0, &whole.owns[0], ValueKind::Step, Dtype::U8);
    parts.owns[0].coder.clear();
    parts.owns[0].blocks = (0..5u64)
        .map(|i| {
            let n = 1024.min(5000 - i * 1024);
            let (positions, codes): (Vec<u64>, Vec<u64>) =
                kept.iter().filter(|(p, _)| p / 1024 == i).map(|(p, c)| (p % 1024, *c)).unzip();
            let codes = lies::pack(&codes, ValueKind::Step, Dtype::U8);
            let (mask_codec, mask) = match positions.len() as u64 {
                0 => return lies::BlockParts::default(),
                k if k == n => (1, vec![]),
                _ if i == 1 => (2, lies::bitmap(&positions, n)),
                _ if i == 2 => (8, lies::rice(&positions, 3)),
                _ => (3, lies::gaps(&positions)),
            };
            lies::BlockParts { mask_codec, value_codec: 0, kept: positions.len() as u32, mask, codes }
        })
        .collect();
}

impl Vector {
    /// The pack, made now.
    fn make(&self) -> Vec<u8> {
        let site = Site::new(&self.base);
        let how = (self.how)(&site);
        if self.files.is_empty() {
            site.create("p", &self.tuned, &how).unwrap();
        } else {
            let (from, to) = (site.path("from"), site.path("to"));
            self.base.write_folder(&from, 99);
            self.tuned.write_folder(&to, 99);
            self.files.iter().for_each(|(name, bytes)| std::fs::write(to.join(name), bytes).unwrap());
            let (from, to) = (Checkpoint::open(from).unwrap(), Checkpoint::open(to).unwrap());
            stitchpack::create(&from, &to, &site.pack_path("p"), &how).unwrap();
        }
        let pack = site.pack_bytes("p");
        let Some(after) = self.after else { return pack };
        let mut parts = Parts::of(&pack);
        after(&mut parts);
        parts.seal_with_content()
    }
}

// ---- Reading ----

/// What a pack decodes to and gives, as `expected.json` has it; and the bytes of the result.
fn describe(base: &Path, pack: &[u8]) -> (Value, Vec<u8>) {
    let checkpoint = Checkpoint::open(base).unwrap();
    let identity = checkpoint.identity(&workers(1)).unwrap();
    let bound = OpenedPack::from_bytes(pack, &Limits::default()).unwrap().verify().unwrap().bind(&identity).unwrap();
    let mut tensors = serde_json::Map::new();
    for delta in bound.deltas() {
        let (blocks, codes, info) = (delta.blocks().unwrap(), kept(&delta, &checkpoint), delta.info());
        let units = info.units();
        let scales: Vec<String> = match (delta.kind().has_scale(), delta.kind() == ValueKind::Codebook) {
            (true, _) => (0..units).map(|u| format!("{:08x}", blocks.scale_at(u).to_bits())).collect(),
            (_, true) => blocks.levels().iter().map(|l| format!("{:08x}", l.to_bits())).collect(),
            _ => vec![],
        };
        // One scale for each unit says who shares it, run by run.
        let mut runs: Vec<(String, u64)> = Vec::new();
        for scale in scales {
            match runs.last_mut() {
                Some((last, n)) if *last == scale && delta.kind().has_scale() => *n += 1,
                _ => runs.push((scale, 1)),
            }
        }
        let floats = if delta.kind() == ValueKind::Codebook { "levels" } else { "scales" };
        let floats_are: Vec<Value> =
            runs.into_iter().map(|(bits, n)| if floats == "levels" { json!(bits) } else { json!([bits, n]) }).collect();
        let entry = json!({
            "dtype": info.dtype.name(), "shape": info.shape, "kind": delta.kind().name(), "carried": delta.is_carried(),
            "positions": codes.keys().collect::<Vec<_>>(),
            "codes": codes.values().map(|c| format!("{c:x}")).collect::<Vec<_>>(),
            floats: floats_are,
        });
        tensors.insert(delta.name().to_string(), entry);
    }
    let files: BTreeMap<String, String> =
        bound.files().map(|f| f.unwrap()).map(|(name, bytes)| (name.to_string(), naive::hex(&bytes))).collect();
    let manifest = bound.manifest();
    let mut expected = json!({
        "id": bound.id().to_string(),
        "content_id": naive::hex(&manifest.content),
        "base": naive::hex(&manifest.base),
        "recorded_result": manifest.result.map(|r| naive::hex(&r)),
        "all_steps": manifest.all_steps,
        "exact": manifest.exact,
        "gain": format!("{:08x}", manifest.gain.to_bits()),
        "tensors": tensors,
        "files": files,
    });
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("out.safetensors");
    let check = manifest.result.is_some();
    let model =
        StitchedModel::new(&checkpoint, vec![Layer { pack: bound, weight: 1.0 }], &MergeOptions::default()).unwrap();
    let options = ApplyOptions { check, workers: workers(2), ..ApplyOptions::default() };
    let applied = stitchpack::apply(&model, &identity, &path, &options).unwrap();
    expected["result"] = json!(applied.recipe.result);
    (expected, std::fs::read(path).unwrap())
}

fn folders(part: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(vectors(part)).expect("spec/vectors is there");
    let mut all: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_old_pack_reads_otherwise() {
    let all = folders("valid");
    assert!(all.len() >= 16, "{} vectors", all.len());
    for folder in all {
        let pack = std::fs::read(folder.join("pack.stitch")).unwrap();
        let (found, out) = describe(&folder.join("base.safetensors"), &pack);
        let expected = read_json(&folder.join("expected.json"));
        for (key, value) in expected.as_object().unwrap() {
            assert_eq!(found[key], *value, "{}: {key}", folder.display());
        }
        assert!(out == std::fs::read(folder.join("out.safetensors")).unwrap(), "{}: the result", folder.display());
        // The book says the same as the crate.
        let mut parts = Parts::of(&pack);
        parts.base = Model::read(&std::fs::read(folder.join("base.safetensors")).unwrap());
        assert_eq!(naive::hex(&parts.content_id()), expected["content_id"], "{}", folder.display());
        let result = Model::read(&out);
        assert_eq!(naive::hex(&naive::checkpoint_digest(result.tensors.iter())), expected["result"]);
    }
}

#[test]
fn a_pack_made_again_has_other_bytes() {
    for vector in all_vectors() {
        let folder = vectors("valid").join(vector.name);
        let old = std::fs::read(folder.join("pack.stitch")).unwrap();
        let base = std::fs::read(folder.join("base.safetensors")).unwrap();
        assert!(base == vector.base.file(3), "{}: the builder of its base has changed", vector.name);
        let new = vector.make();
        if new == old {
            continue;
        }
        // Another version of this program writes another name, codes blocks otherwise, and has another zstd.
        let (mut old, mut new) = (Parts::of(&old), Parts::of(&new));
        (old.base, new.base) = (vector.base.clone(), vector.base.clone());
        let comparable = |parts: &Parts| {
            let mut m = parts.manifest.clone();
            m.tool.clear();
            (m.payloads, m.tables) = (vec![], vec![]);
            m.files.clear();
            lies::own_rows_mut(&mut m).for_each(|own| (own.payload_len, own.table_len) = (0, 0));
            let files: Vec<_> =
                parts.files.iter().map(|(n, stored, raw)| (n.clone(), lies::plain(stored, *raw))).collect();
            (m, parts.content_id(), files)
        };
        assert_eq!(comparable(&old), comparable(&new), "{}", vector.name);
        let frames = |p: &Parts| p.owns.iter().flat_map(|o| &o.blocks).any(|b| b.mask_codec > 3 || b.value_codec > 0);
        let tool = old.manifest.tool != new.manifest.tool;
        assert!(tool || frames(&old) || frames(&new), "{}: the bytes differ for no reason", vector.name);
    }
}

#[test]
fn a_vector_has_no_builder_or_a_builder_no_vector() {
    let built: BTreeSet<String> = all_vectors().iter().map(|v| v.name.to_string()).collect();
    let stored: BTreeSet<String> =
        folders("valid").iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_string()).collect();
    assert_eq!(built, stored);
}

/// Every dtype, every mask codec, every value codec, every value kind, both groupings, and every odd part of a pack.
#[test]
fn a_part_of_the_format_has_no_vector() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for folder in folders("valid") {
        let parts = Parts::of(&std::fs::read(folder.join("pack.stitch")).unwrap());
        let m = &parts.manifest;
        for row in &m.tensors {
            seen.insert(format!("dtype {}", row.dtype));
            if let stitchpack::format::manifest::DeltaRow::SameAs(_) = row.delta {
                seen.insert("shared delta".into());
            }
        }
        for own in lies::own_rows(m) {
            seen.insert(format!("kind {}", own.kind));
            seen.insert(format!("groups {}", own.groups));
            seen.extend(own.base.is_none().then(|| "carried".to_string()));
        }
        for b in parts.owns.iter().flat_map(|o| &o.blocks) {
            seen.insert(format!("mask codec {}", b.mask_codec));
            seen.extend((b.kept > 0).then(|| format!("value codec {}", b.value_codec)));
        }
        let manifest_frame = std::fs::read(folder.join("pack.stitch")).unwrap();
        seen.insert(format!("manifest in a frame: {}", manifest_frame[64..68] != manifest_frame[68..72]));
        seen.extend(m.tables.iter().map(|t| format!("table in a frame: {}", t.len < t.raw_len)));
        seen.extend(m.files.iter().map(|f| format!("file in a frame: {}", f.section.len < f.section.raw_len)));
        seen.extend(m.tensors.is_empty().then(|| "nothing".to_string()));
        seen.extend((!m.notes.is_empty()).then(|| "notes".to_string()));
        seen.extend(m.result.is_none().then(|| "no result".to_string()));
        seen.insert(format!("exact {}", m.exact));
    }
    let mut wanted: Vec<String> = Dtype::ALL.iter().map(|d| format!("dtype {}", d.code())).collect();
    wanted.extend(ValueKind::ALL.iter().map(|k| format!("kind {}", k.code())));
    wanted.extend(MaskCodec::ALL.iter().map(|c| format!("mask codec {}", c.code())));
    wanted.extend(ValueCodec::ALL.iter().map(|c| format!("value codec {}", c.code())));
    wanted.extend((0..=1).map(|g| format!("groups {g}")));
    wanted.extend(
        ["manifest", "table", "file"].iter().flat_map(|p| [true, false].map(|b| format!("{p} in a frame: {b}"))),
    );
    wanted.extend(
        ["shared delta", "carried", "nothing", "notes", "no result", "exact true", "exact false"].map(String::from),
    );
    let missing: Vec<_> = wanted.iter().filter(|w| !seen.contains(*w)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_corrupt_pack_gets_another_answer() {
    let all = folders("corrupt");
    let mut rules = BTreeSet::new();
    for path in all.iter().filter(|p| p.extension().is_some_and(|e| e == "stitch")) {
        let expected = read_json(&path.with_extension("json"));
        let pack = std::fs::read(path).unwrap();
        let answer = OpenedPack::from_bytes(pack, &Limits::default()).and_then(OpenedPack::verify);
        let e = answer.map(drop).err().unwrap_or_else(|| panic!("{} is accepted", path.display()));
        assert_eq!(u64::from(e.exit_code()), expected["exit_code"], "{}: {e}", path.display());
        let rule = if let Error::Malformed { rule, .. } = &e { json!(rule) } else { Value::Null };
        assert_eq!(rule, expected["rule"], "{}: {e}", path.display());
        rules.insert(rule.to_string());
    }
    assert!(rules.len() >= 25, "{} rules are broken by vectors: {rules:?}", rules.len());
}

/// A vector folder stays small enough to be read by people and to be part of the crate.
#[test]
fn the_vectors_weigh_a_megabyte() {
    fn weigh(path: &Path) -> u64 {
        let entries = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path());
        entries.map(|p| if p.is_dir() { weigh(&p) } else { p.metadata().unwrap().len() }).sum()
    }
    assert!(weigh(&vectors("")) < 1 << 20);
}

// ---- Writing ----

fn write_new(path: &Path, bytes: &[u8]) {
    if path.exists() {
        return;
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn write_json(path: &Path, value: &Value) {
    let mut text = serde_json::to_string(value).unwrap();
    text.push('\n');
    write_new(path, text.as_bytes());
}

/// Words as a file name.
fn slug(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    plain.split('-').filter(|w| !w.is_empty()).collect::<Vec<_>>().join("-")
}

#[test]
#[ignore = "writes spec/vectors; run it with STITCHPACK_WRITE_VECTORS=1"]
fn write_vectors() {
    if std::env::var_os("STITCHPACK_WRITE_VECTORS").is_none_or(|v| v != "1") {
        return;
    }
    for vector in all_vectors() {
        let folder = vectors("valid").join(vector.name);
        if folder.exists() {
            continue;
        }
        let base = folder.join("base.safetensors");
        write_new(&base, &vector.base.file(3));
        let pack = vector.make();
        let (expected, out) = describe(&base, &pack);
        write_new(&folder.join("pack.stitch"), &pack);
        write_json(&folder.join("expected.json"), &expected);
        write_new(&folder.join("out.safetensors"), &out);
    }
    // Of each number and each rule one, and only small ones.
    let mut seen = BTreeSet::new();
    for case in lies::all(Good::packs()) {
        let small = case.pack.len() <= 4096 && case.expect != Expect::Accepted;
        let answer = OpenedPack::from_bytes(case.pack.clone(), &Limits::default()).and_then(OpenedPack::verify);
        let Some(e) = answer.err().filter(|_| small) else { continue };
        let rule = if let Error::Malformed { rule, .. } = &e { Some(*rule) } else { None };
        let number = case.name.split(' ').next().unwrap().to_string();
        if seen.insert((number, rule, e.exit_code())) {
            let path = vectors("corrupt").join(slug(&case.name));
            write_new(&path.with_extension("stitch"), &case.pack);
            let json = json!({"what": case.name, "rule": rule, "exit_code": e.exit_code()});
            write_json(&path.with_extension("json"), &json);
        }
    }
}
