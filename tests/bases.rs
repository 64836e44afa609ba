//! Bases wherever their bytes are: checkpoints of named sources, and models of a caller's own.
#![allow(clippy::unwrap_used)]

mod common;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::models::{Model, Tensor};
use common::site::{Site, merge, options, workers};
use common::sources::{Fault, Faulty};
use stitchpack::checkpoint::{BaseCheck, ModelSource};
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::export::Format;
use stitchpack::io::{ReadAt, ReadErrorKind};
use stitchpack::merge::OpenOptions;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::dtype::Dtype;
use stitchpack::model::source::TensorSource;
use stitchpack::model::tensor::TensorInfo;
use stitchpack::{
    ApplyOptions, Checkpoint, DeferredModel, Error, ExportOptions, Layer, Live, OpenedPack, Result, StitchedModel,
};

/// Tensors in the order of their names, of which every third unit of some moves.
fn model(by: u64) -> Model {
    let tensor = |name: &str, n: u64, by: u64| {
        let units: Vec<u64> =
            (0..n).map(|i| 0x3f00 + i * 37 % 0x1f0 + if i.is_multiple_of(3) { by } else { 0 }).collect();
        Tensor::of_units(name, Dtype::BF16, &[n], &units)
    };
    Model::new(vec![tensor("a", 300_000, by), tensor("b", 5, 0), tensor("c", 270_000, 0), tensor("d", 9, by)])
}

/// A folder of shards with files beside them, a pack for it that carries a tensor and a file.
fn site() -> Site {
    let site = Site::sharded(&model(0), 2);
    fs::write(site.base_path.join("config.json"), "{}").unwrap();
    fs::write(site.base_path.join("tokenizer.json"), vec![7; 3 << 20]).unwrap();
    let tuned = site.path("tuned");
    let mut own = model(1);
    own.tensors.push(Tensor::f32s("e", &[2], &[1.0, 2.0]));
    own.write_folder(&tuned, 3);
    fs::write(tuned.join("config.json"), "{\"new\": true}").unwrap();
    fs::write(tuned.join("tokenizer.json"), vec![7; 3 << 20]).unwrap();
    let how = CreateOptions { new_tensors: NewTensors::Carry, carry_files: true, ..options(Method::Exact) };
    stitchpack::create(&site.base, &Checkpoint::open(&tuned).unwrap(), &site.pack_path("a"), &how).unwrap();
    site
}

/// The base of a site from sources of memory, which are given to see what was asked of them.
fn from_memory(site: &Site) -> (Checkpoint, Vec<Arc<Faulty>>) {
    let (mut files, mut sources) = (Checkpoint::from_files("https://host/base"), Vec::new());
    for (name, bytes) in folder(&site.base_path) {
        if name.ends_with(".index.json") {
            files = files.index(name, bytes);
        } else if name.ends_with(".safetensors") {
            let source = Arc::new(Faulty::healthy(bytes));
            sources.push(source.clone());
            files = files.weights(name, source);
        } else {
            files = files.companion(name, Arc::new(bytes));
        }
    }
    (files.open().unwrap(), sources)
}

fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(path).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn apply(site: &Site, base: &dyn ModelSource, out: &str) -> Result<PathBuf> {
    let pack = OpenedPack::open(site.pack_path("a")).unwrap().verify_as_read();
    let how = OpenOptions { base_check: BaseCheck::Full, workers: workers(2), ..OpenOptions::default() };
    let options = ApplyOptions { workers: workers(2), ..ApplyOptions::default() };
    DeferredModel::new(base, vec![(pack, 1.0)], None, &how)?.apply(&site.path(out), &options)?;
    Ok(site.path(out))
}

#[test]
fn a_checkpoint_of_sources_is_the_one_on_disk() {
    let site = site();
    let (base, sources) = from_memory(&site);
    assert!(base.tensors().eq(site.base.tensors()));
    assert_eq!(base.file_bytes(), site.base.file_bytes());
    assert_eq!(base.identity(&workers(1)).unwrap(), site.identity);
    for out in ["out", "out.safetensors"] {
        let expected = apply(&site, &site.base, &format!("disk-{out}")).unwrap();
        let found = apply(&site, &base, out).unwrap();
        if found.is_dir() {
            assert!(folder(&found) == folder(&expected));
            assert!(folder(&found).contains_key("tokenizer.json") && folder(&found).contains_key("stitch.json"));
        } else {
            assert!(fs::read(found).unwrap() == fs::read(expected).unwrap());
        }
    }
    for source in sources {
        assert!(source.reads() > 0);
        assert_eq!(source.unannounced(), []);
    }
}

#[test]
fn a_base_that_fails_leaves_nothing() {
    let site = site();
    let names = site.names();
    for shard in 0..2 {
        for n in 0..3 {
            for kind in [ReadErrorKind::Transient, ReadErrorKind::Changed, ReadErrorKind::Cancelled] {
                let (base, sources) = from_memory(&site);
                sources[shard].arm(Fault::From(n, kind));
                // A shard has as many runs at least, but the second file's last ones are read whole.
                let Err(error) = apply(&site, &base, "out") else {
                    assert!(sources[shard].reads() <= n, "read {n} failed");
                    fs::remove_dir_all(site.path("out")).unwrap();
                    continue;
                };
                assert_eq!(error.read_failure(), Some(kind), "{error}");
                assert_eq!(site.names(), names);
            }
        }
    }
    let (base, sources) = from_memory(&site);
    sources[0].arm(Fault::Flips(0));
    let error = apply(&site, &base, "out").unwrap_err();
    assert!(matches!(error.root(), Error::BaseMismatch(_)), "{error}");
    assert_eq!(site.names(), names);
}

#[test]
fn names_that_no_folder_has_are_refused() {
    let weights = || -> Arc<dyn ReadAt> { Arc::new(Model::new(vec![Tensor::f32s("w", &[1], &[0.5])]).file(0)) };
    let other = || -> Arc<dyn ReadAt> { Arc::new(Model::new(vec![Tensor::f32s("v", &[1], &[0.5])]).file(0)) };
    let text = || -> Arc<dyn ReadAt> { Arc::new(b"{}".to_vec()) };
    let new = || Checkpoint::from_files("base");
    let good = || new().weights("model.safetensors", weights());
    good().companion("config.json", text()).open().unwrap();
    let refused = [
        good().companion("../config.json", text()),
        good().companion("/etc/passwd", text()),
        good().companion("a\0b", text()),
        good().companion("", text()),
        good().companion("config.json", text()).companion("config.json", text()),
        good().companion("model.safetensors", text()),
        good().companion("other.safetensors", text()),
        good().companion("stitch.json", text()),
        good().companion(".hidden", text()),
        new().weights("a/b.safetensors", weights()),
    ];
    for files in refused {
        assert!(matches!(files.open().unwrap_err().root(), Error::InvalidInput(_)));
    }
    let index = |map: &str| format!("{{\"weight_map\": {map}}}").into_bytes();
    let two = || new().weights("a.safetensors", weights()).weights("b.safetensors", other());
    let name = "model.safetensors.index.json";
    two().index(name, index(r#"{"w": "a.safetensors", "v": "b.safetensors"}"#)).open().unwrap();
    for (files, rule) in [
        (two(), "CKP-3"),
        (new(), "CKP-3"),
        (two().index(name, index(r#"{"v": "a.safetensors", "w": "b.safetensors"}"#)), "CKP-4"),
        (two().index(name, index(r#"{"w": "../a.safetensors"}"#)), "CKP-4"),
        (two().index(name, b"{".to_vec()), "CKP-4"),
        (new().weights("a.safetensors", text()), "CKP-1"),
    ] {
        let error = files.open().unwrap_err();
        assert!(matches!(error.root(), Error::Malformed { rule: found, .. } if *found == rule), "{rule}: {error}");
    }
    let more = two().index(name, index(r#"{"w": "a.safetensors"}"#)).open().unwrap_err();
    assert!(matches!(more.root(), Error::InvalidInput(_)));
}

/// What a caller has to write at least.
struct Own(Vec<(TensorInfo, Vec<u8>)>);

impl Own {
    fn of(model: &Model) -> Self {
        let info = |t: &Tensor| TensorInfo { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
        Own(model.tensors.iter().map(|t| (info(t), t.bytes.clone())).collect())
    }
}

impl TensorSource for Own {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let (info, bytes) = self.0.iter().find(|(info, _)| info.name == name).unwrap();
        let unit = info.dtype.unit_bytes();
        Ok(Cow::Borrowed(&bytes[start as usize * unit..(start + len) as usize * unit]))
    }
}

impl ModelSource for Own {
    fn infos(&self) -> Vec<&TensorInfo> {
        self.0.iter().map(|(info, _)| info).collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.infos().into_iter().find(|info| info.name == name)
    }
}

#[test]
fn every_journey_takes_a_model_of_the_callers_own() {
    let (site, tuned) = (Site::new(&model(0)), model(1));
    let own = Own::of(&model(0));
    let made = stitchpack::create(&own, &Own::of(&tuned), &site.pack_path("own"), &options(Method::Exact)).unwrap();
    let from_disk = site.create("disk", &tuned, &options(Method::Exact)).unwrap();
    assert_eq!(made.id, from_disk.id);
    let diff = |base: &dyn ModelSource, tuned: &dyn ModelSource| {
        let found = stitchpack::report::diff::diff(base, tuned, options(Method::Exact)).unwrap();
        format!("{found:?}")
    };
    assert_eq!(diff(&own, &Own::of(&tuned)), diff(&site.base, &site.checkpoint("tuned", &tuned)));

    let identity = (&own as &dyn ModelSource).identity_of(BaseCheck::Cached, &|_| true, &workers(1)).unwrap();
    assert_eq!(identity, site.identity);
    let pack = || OpenedPack::open(site.pack_path("own")).unwrap().verify().unwrap().bind(&identity).unwrap();
    let stitched = || {
        let layers = vec![Layer { pack: pack(), weight: 1.0 }];
        StitchedModel::new(&own, layers, &merge(OverlapRule::Average, 1.0)).unwrap()
    };
    let apply = ApplyOptions { workers: workers(2), check: true, ..ApplyOptions::default() };
    let applied = stitchpack::apply(&stitched(), &identity, &site.path("out.safetensors"), &apply).unwrap();
    assert_eq!(Model::read(&fs::read(site.path("out.safetensors")).unwrap()), tuned);
    let locked = stitchpack::lock(&stitched(), &identity, &apply).unwrap();
    assert_eq!(locked.recipe, applied.recipe);

    let mut memory: Vec<Vec<u8>> = own.0.iter().map(|(_, bytes)| vec![0; bytes.len()]).collect();
    let names = own.0.iter().map(|(info, _)| info.name.as_str());
    let mut live = Live::new(&own, names.zip(memory.iter_mut().map(|m| &mut m[..])), &workers(2)).unwrap();
    let staged = live.stage(&stitched(), &workers(2)).unwrap();
    live.commit(staged).unwrap();
    assert!(tuned.tensors.iter().all(|t| live.tensor(&t.name) == Some(&t.bytes[..])));
    let how = ExportOptions { workers: workers(2), ..ExportOptions::new(Format::WeightPatch) };
    let exported = stitchpack::export(&stitched(), &identity, &site.path("out.sparse"), &how).unwrap();
    assert_eq!(exported.changed, from_disk.kept);

    // A model that packs make is a base as well.
    let below = stitched();
    assert!(
        (&below as &dyn ModelSource).identity_of(BaseCheck::Full, &|_| true, &workers(1)).unwrap().digest().is_some()
    );
    let on_it = StitchedModel::new(&below, Vec::new(), &merge(OverlapRule::Average, 1.0)).unwrap();
    assert!(tuned.tensors.iter().all(|t| *on_it.bytes(&t.name).unwrap() == *t.bytes));
}
