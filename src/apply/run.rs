//! Every run of every tensor: stitched or copied, written, hashed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::apply::base::Base;
use crate::apply::{Applied, ApplyOptions};
use crate::checkpoint::plan::Plan;
use crate::checkpoint::{ModelSource, digests};
use crate::error::{Error, Result};
use crate::files::{begin_sync, copy_range};
use crate::merge::recipe::{Recipe, RecipePack};
use crate::merge::{Scratch, StitchedModel, Stitchers, TensorStitcher, nonfinite_refused};
use crate::method::stitch::Met;
use crate::model::digest::Digest;
use crate::model::identity::digest_of;
use crate::model::pieces::Pieces;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// log2 of the units of a work item, at least: whole pieces of a digest for every dtype.
const RUN_LOG2: u8 = 18;

/// Tensors that the base lacks or has in another shape, by name.
type Carried = BTreeMap<String, TensorInfo>;

/// One run of units of one tensor.
struct Item {
    tensor: usize,
    start: u64,
    len: u64,
}

/// A tensor of the output.
struct Target<'a> {
    info: &'a TensorInfo,
    file: usize,
    offset: u64,
    touched: bool,
    /// Its digest, where the base's is still right and known.
    known: Option<Digest>,
    /// Whether the digest of the base's tensor is taken here.
    wanted: bool,
}

/// Computes every tensor, writes it to its file where there is one, and digests the result, and of the base what was not digested
/// before.
pub(super) fn run(
    model: &StitchedModel,
    base: Base,
    plan: &Plan,
    files: &[&File],
    options: &ApplyOptions,
) -> Result<Applied> {
    let workers = &options.workers;
    let carried = model.carried();
    let targets = targets(model, base, plan, &carried);
    let items = items(&targets, run_log2(model), files.is_empty());
    let replaced = replaced(base, &carried, workers)?;
    workers.progress().stage("stitching", items.iter().map(|i| item_bytes(&targets, i)).sum());
    for (planned, file) in plan.files.iter().zip(files) {
        file.write_all_at(&planned.head, 0).map_err(|e| Error::io(Path::new(&planned.name), e))?;
    }
    model.will_need(&needed(&targets, model, files));
    let stitchers = Stitchers::new(model);
    let work = |worker: &mut Worker, i: usize| {
        let Some((item, target)) = items.get(i).and_then(|item| Some((item, targets.get(item.tensor)?))) else {
            return Ok(());
        };
        if target.touched {
            worker.stitch(stitchers.get(&target.info.name)?.stitcher(), target, item)?;
            worker.finish(target, item, files, plan)?;
        } else if target.known.is_none() || !copied(model, target, item, files) {
            worker.read(model, target, item)?;
            worker.finish(target, item, files, plan)?;
        }
        workers.progress().advance(item_bytes(&targets, item));
        Ok(())
    };
    let mut done = workers.for_each(items.len(), Worker::new, work).map_err(|e| base.blame(model, e, workers))?;
    let result = result_digests(&targets, &mut done);
    let mut of_base = base_digests(&targets, &mut done, &result);
    of_base.extend(replaced);
    let base = base.settle(model, &of_base)?;
    refuse_nonfinite(&targets, &done)?;
    let checked = compare(model, &targets, &result, options)?;
    let result_digest = digest_all(&targets, &result);
    // A check that did not read all of the base believes the packs, which agree on it; without packs the result is the base.
    let bound = model
        .levels()
        .first()
        .and_then(|m| m.layers().first())
        .map_or(result_digest, |l| Digest(l.pack.manifest().base));
    let base_digest = base.digest().unwrap_or(bound);
    let recipe = Recipe::new(base_digest, recipe_packs(model), model.rule().name(), model.lambda(), result_digest);
    Ok(Applied { recipe, bytes: plan.len(), touched: targets.iter().filter(|t| t.touched).count(), checked })
}

/// Whole blocks of every pack, so that none is decoded twice.
fn run_log2(model: &StitchedModel) -> u8 {
    let levels = model.levels();
    let blocks = levels.iter().flat_map(|m| m.layers()).map(|layer| layer.pack.manifest().block_log2);
    blocks.max().unwrap_or(RUN_LOG2).max(RUN_LOG2)
}

/// Digests of the base's tensors that are wanted and that carried ones replace: nothing else reads them.
fn replaced<'b>(base: Base<'b>, carried: &Carried, workers: &Workers) -> Result<BTreeMap<&'b str, Digest>> {
    let Base::Unread { identity, .. } = base else { return Ok(BTreeMap::new()) };
    let infos: Vec<&TensorInfo> = identity.wanted().filter(|info| carried.contains_key(&info.name)).collect();
    if infos.is_empty() { Ok(BTreeMap::new()) } else { digests(identity.base(), &infos, workers) }
}

/// Copies a run of an untouched tensor from file to file, where it is of the base's bytes and nobody has to hash it.
fn copied(model: &StitchedModel, target: &Target, item: &Item, files: &[&File]) -> bool {
    let unit = target.info.dtype.unit_bytes() as u64;
    let (start, len) = (item.start * unit, item.len * unit);
    let from = model.base().place(&target.info.name);
    let Some(((file, offset), to)) = from.zip(files.get(target.file)) else { return false };
    let copied = copy_range((file, offset + start), (to, target.offset + start), len);
    if copied {
        begin_sync(to, target.offset + start, len);
    }
    copied
}

/// Tensors of which bytes are read, in the order of the files.
fn needed<'a>(targets: &[Target<'a>], model: &StitchedModel, files: &[&File]) -> Vec<&'a str> {
    let read =
        |t: &&Target| t.touched || t.known.is_none() || !files.is_empty() && model.base().place(&t.info.name).is_none();
    targets.iter().filter(read).map(|t| t.info.name.as_str()).collect()
}

fn targets<'a>(model: &StitchedModel, base: Base, plan: &'a Plan, carried: &Carried) -> Vec<Target<'a>> {
    let mut targets = Vec::new();
    for (file, planned) in plan.files.iter().enumerate() {
        for (info, offset) in &planned.tensors {
            let touched = model.touches(&info.name);
            let known = if touched { None } else { base.digest(&info.name) };
            let wanted = base.wants(&info.name) && !carried.contains_key(&info.name);
            targets.push(Target { info, file, offset: *offset, touched, known, wanted });
        }
    }
    targets
}

/// Runs of all tensors in file order. Where nothing is written, tensors whose digest is known are left out.
fn items(targets: &[Target], run_log2: u8, dry: bool) -> Vec<Item> {
    let run = 1 << run_log2;
    let mut items = Vec::new();
    for (tensor, target) in targets.iter().enumerate().filter(|(_, t)| !(dry && t.known.is_some())) {
        let units = target.info.units();
        items.extend((0..units.div_ceil(run)).map(|i| Item { tensor, start: i * run, len: run.min(units - i * run) }));
    }
    items
}

fn item_bytes(targets: &[Target], item: &Item) -> u64 {
    targets.get(item.tensor).map_or(0, |t| item.len * t.info.dtype.unit_bytes() as u64)
}

/// What one thread holds.
struct Worker {
    out: Vec<u8>,
    scratch: Scratch,
    /// By tensor: elements that would become infinite or NaN.
    nonfinite: Vec<(usize, u64)>,
    /// What the digests of the result are made of, and those of the base where packs touch it.
    result: Pieces,
    base: Pieces,
}

impl Worker {
    fn new() -> Self {
        Worker {
            out: Vec::new(),
            scratch: Scratch::once(),
            nonfinite: Vec::new(),
            result: Pieces::default(),
            base: Pieces::default(),
        }
    }

    /// Fills the buffer with a run of the result; the base's bytes are digested on the way where that is wanted.
    fn stitch(&mut self, stitcher: &TensorStitcher, target: &Target, item: &Item) -> Result<()> {
        let Worker { out, scratch, base, .. } = self;
        let (unit, mut met) = (target.info.dtype.unit_bytes() as u64, Met::default());
        out.resize((item.len * unit) as usize, 0);
        stitcher.ground(item.start, out, scratch, &mut met)?;
        if target.wanted {
            base.add(item.tensor, target.info, item.start * unit, out);
        }
        stitcher.stitch(item.start, out, scratch, &mut met)?;
        if met.nonfinite > 0 {
            self.nonfinite.push((item.tensor, met.nonfinite));
        }
        Ok(())
    }

    /// Fills the buffer with a run of the base.
    fn read(&mut self, model: &StitchedModel, target: &Target, item: &Item) -> Result<()> {
        let unit = target.info.dtype.unit_bytes() as u64;
        self.out.resize((item.len * unit) as usize, 0);
        model.base().copy_units(&target.info.name, item.start, &mut self.out, true)
    }

    /// Writes the run in the buffer, and digests it.
    fn finish(&mut self, target: &Target, item: &Item, files: &[&File], plan: &Plan) -> Result<()> {
        let start = item.start * target.info.dtype.unit_bytes() as u64;
        if let Some(file) = files.get(target.file) {
            let path = plan.files.get(target.file).map_or("", |f| f.name.as_str());
            file.write_all_at(&self.out, target.offset + start).map_err(|e| Error::io(Path::new(path), e))?;
            begin_sync(file, target.offset + start, self.out.len() as u64);
        }
        if target.known.is_none() {
            self.result.add(item.tensor, target.info, start, &self.out);
        }
        Ok(())
    }
}

fn refuse_nonfinite(targets: &[Target], done: &[Worker]) -> Result<()> {
    let all = || done.iter().flat_map(|w| &w.nonfinite);
    let Some(first) = all().map(|(tensor, _)| *tensor).min() else { return Ok(()) };
    let count: u64 = all().map(|(_, n)| n).sum();
    let name = targets.get(first).map_or("", |t| t.info.name.as_str());
    Err(nonfinite_refused(count, name))
}

/// The digest of every tensor of the result, by target.
fn result_digests(targets: &[Target], done: &mut [Worker]) -> Vec<Digest> {
    let unknown = || targets.iter().enumerate().filter(|(_, t)| t.known.is_none()).map(|(i, t)| (i, t.info));
    let found = Pieces::join(done.iter_mut().map(|w| std::mem::take(&mut w.result)), unknown());
    let mut found = found.into_iter();
    targets.iter().map(|t| t.known.or_else(|| found.next()).unwrap_or(Digest([0; 32]))).collect()
}

/// The wanted digests of the base. What no pack touches is the same in the result, and is digested once.
fn base_digests<'a>(targets: &[Target<'a>], done: &mut [Worker], result: &[Digest]) -> BTreeMap<&'a str, Digest> {
    let touched = || targets.iter().enumerate().filter(|(_, t)| t.wanted && t.touched);
    let gathered = done.iter_mut().map(|w| std::mem::take(&mut w.base));
    let found = Pieces::join(gathered, touched().map(|(i, t)| (i, t.info)));
    let same = targets.iter().zip(result).filter(|(t, _)| t.wanted && !t.touched);
    let of_touched = touched().zip(found).map(|((_, t), digest)| (t.info.name.as_str(), digest));
    of_touched.chain(same.map(|(t, digest)| (t.info.name.as_str(), *digest))).collect()
}

/// One digest over the whole result.
fn digest_all(targets: &[Target], digests: &[Digest]) -> Digest {
    let sorted: BTreeMap<&str, (&TensorInfo, Digest)> =
        targets.iter().zip(digests).map(|(t, d)| (t.info.name.as_str(), (t.info, *d))).collect();
    digest_of(sorted.into_values())
}

/// Compares the result with what was recorded. [RES-1]
fn compare(model: &StitchedModel, targets: &[Target], digests: &[Digest], options: &ApplyOptions) -> Result<bool> {
    let differs = |expected: Digest, found: Digest| {
        let place = "result".to_string();
        Err(Error::DigestMismatch { place, expected: expected.0, found: found.0 })
    };
    if let Some(expected) = options.expect {
        let found = digest_all(targets, digests);
        if found != expected {
            return differs(expected, found);
        }
    }
    if !options.check {
        return Ok(options.expect.is_some());
    }
    let recorded = match model.layers() {
        [only] if only.weight == 1.0 && model.lambda() == 1.0 => {
            let manifest = only.pack.manifest();
            manifest.result.filter(|_| model.gains() == [manifest.gain.into()])
        }
        _ => None,
    };
    let Some(expected) = recorded.map(Digest) else {
        let why = "only one pack, alone, with weight, lambda and gain as it was made, has a recorded result";
        return Err(Error::InvalidInput(format!("--check has nothing to compare with: {why}; use a recipe instead")));
    };
    let touched: BTreeMap<&str, (&TensorInfo, Digest)> = targets
        .iter()
        .zip(digests)
        .filter(|(t, _)| model.touches_here(&t.info.name))
        .map(|(t, d)| (t.info.name.as_str(), (t.info, *d)))
        .collect();
    let found = digest_of(touched.into_values());
    if found == expected { Ok(true) } else { differs(expected, found) }
}

fn recipe_packs(model: &StitchedModel) -> Vec<RecipePack> {
    let levels = model.levels();
    let layers = levels.iter().flat_map(|m| m.layers().iter().zip(m.gains()));
    layers
        .map(|(layer, gain)| RecipePack {
            file: layer.pack.name().and_then(Path::file_name).map_or("-".into(), |n| n.to_string_lossy().into_owned()),
            id: layer.pack.id().to_string(),
            weight: layer.weight,
            gain: gain.gain,
            tensor_gains: gain.tensors.clone(),
        })
        .collect()
}
