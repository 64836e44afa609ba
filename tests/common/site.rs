//! A folder with a base and packs in it, and the journeys through the public API.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stitchpack::create::{CreateOptions, Localizer, Lossy, Method, Rescale, Scope};
use stitchpack::method::density::Density;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::{BlockDelta, Groups, ValueKind};
use stitchpack::model::identity::BaseIdentity;
use stitchpack::pack::bound::TensorDelta;
use stitchpack::{
    Applied, ApplyOptions, BoundPack, Checkpoint, Created, GainChoice, Layer, MergeOptions, OpenedPack, Quiet, Result,
    StitchedModel, Workers,
};
use tempfile::TempDir;

use super::models::Model;
use super::naive::{Chooser, How, NaiveRescale};

/// A folder of its own that goes away with the value.
pub struct Site {
    dir: TempDir,
    pub base_path: PathBuf,
    pub base: Checkpoint,
    pub identity: BaseIdentity,
}

pub fn workers(threads: usize) -> Workers {
    Workers::new(threads, Arc::new(Quiet))
}

/// Default options with one thread.
pub fn options(method: Method) -> CreateOptions {
    CreateOptions { method, workers: workers(1), ..CreateOptions::default() }
}

impl Site {
    pub fn new(base: &Model) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base_path = dir.path().join("base.safetensors");
        base.write(&base_path);
        Self::over(dir, base_path)
    }

    /// With the base as a folder of shards of `each` tensors.
    pub fn sharded(base: &Model, each: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base_path = dir.path().join("base");
        base.write_folder(&base_path, each);
        Self::over(dir, base_path)
    }

    fn over(dir: TempDir, base_path: PathBuf) -> Self {
        let base = Checkpoint::open(&base_path).unwrap();
        let identity = base.identity(&workers(1)).unwrap();
        Site { dir, base_path, base, identity }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a checkpoint beside the base and opens it.
    pub fn checkpoint(&self, name: &str, model: &Model) -> Checkpoint {
        let path = self.path(&format!("{name}.safetensors"));
        model.write(&path);
        Checkpoint::open(path).unwrap()
    }

    /// Makes the pack `NAME.stitch`.
    pub fn create(&self, name: &str, tuned: &Model, options: &CreateOptions) -> Result<Created> {
        let tuned = self.checkpoint(&format!("{name}-tuned"), tuned);
        stitchpack::create(&self.base, &tuned, &self.pack_path(name), options)
    }

    /// Makes a pack as the judge's options say.
    pub fn create_as(&self, name: &str, tuned: &Model, how: &How) -> Result<Created> {
        self.create(name, tuned, &self.options_of(name, how))
    }

    pub fn options_of(&self, name: &str, how: &How) -> CreateOptions {
        let How::Lossy(lossy) = how else { return options(Method::Exact) };
        let localizer = match &lossy.chooser {
            Chooser::Magnitude => Localizer::Magnitude,
            Chooser::Scores(model) => Localizer::Scores(self.checkpoint(&format!("{name}-scores"), model).into()),
            Chooser::Mask(model) => Localizer::Mask(self.checkpoint(&format!("{name}-mask"), model).into()),
        };
        options(Method::Lossy(Lossy {
            density: Density::new(lossy.density.0, lossy.density.1).unwrap(),
            localizer,
            scope: if lossy.by_tensor { Scope::Tensor } else { Scope::Global },
            values: lossy.kind,
            groups: if lossy.by_row { Groups::Row } else { Groups::Tensor },
            rescale: Some(match lossy.rescale {
                NaiveRescale::None => Rescale::None,
                NaiveRescale::Energy => Rescale::Energy,
                NaiveRescale::L1 => Rescale::L1,
                NaiveRescale::Factor(x) => Rescale::Factor(x),
            }),
        }))
    }

    pub fn pack_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.stitch"))
    }

    pub fn pack_bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.pack_path(name)).unwrap()
    }

    /// Opens, verifies and binds a pack.
    pub fn bind(&self, name: &str) -> Result<BoundPack> {
        OpenedPack::open(self.pack_path(name))?.verify()?.bind(&self.identity)
    }

    pub fn layers(&self, packs: &[(&str, f32)]) -> Vec<Layer> {
        packs.iter().map(|(name, weight)| Layer { pack: self.bind(name).unwrap(), weight: *weight }).collect()
    }

    /// Merges packs into `out`.
    pub fn apply(&self, packs: &[(&str, f32)], merge: &MergeOptions, out: &str, threads: usize) -> Result<Applied> {
        let model = StitchedModel::new(&self.base, self.layers(packs), merge)?;
        let options = ApplyOptions { workers: workers(threads), ..ApplyOptions::default() };
        stitchpack::apply(&model, &self.identity, &self.path(out), &options)
    }

    /// Merges packs into one file and gives its bytes; the file is removed again.
    pub fn apply_file(&self, packs: &[(&str, f32)], merge: &MergeOptions) -> Result<Vec<u8>> {
        self.apply(packs, merge, "out.safetensors", 1)?;
        let bytes = std::fs::read(self.path("out.safetensors")).unwrap();
        std::fs::remove_file(self.path("out.safetensors")).unwrap();
        Ok(bytes)
    }

    /// Names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn merge(overlap: OverlapRule, lambda: f32) -> MergeOptions {
    MergeOptions { overlap: Some(overlap), lambda, gain: GainChoice::Stored, gains: None }
}

/// A sparse pack of signs at a density.
pub fn sparse(density: &str, kind: ValueKind) -> Method {
    let density = density.parse().unwrap();
    let rescale = Some(Rescale::default_for(kind));
    Method::Lossy(Lossy { density, values: kind, rescale, ..Lossy::default() })
}

/// Position → code of a tensor's delta.
pub fn kept(delta: &TensorDelta, base: &Checkpoint) -> BTreeMap<usize, u64> {
    let (blocks, mut block, mut out) = (delta.blocks().unwrap(), BlockDelta::default(), BTreeMap::new());
    for i in 0..blocks.len() {
        blocks.decode(i, Some(base), &mut block).unwrap();
        let start = blocks.start_of(i) as usize;
        out.extend(block.positions.iter().map(|p| start + *p as usize).zip(block.codes.iter().copied()));
    }
    out
}
