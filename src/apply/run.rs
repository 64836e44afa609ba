//! Every run of every tensor: stitched or copied, written, hashed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::apply::{Applied, ApplyOptions};
use crate::checkpoint::plan::Plan;
use crate::error::{Error, Result};
use crate::files::copy_range;
use crate::method::stitch::Met;
use crate::model::digest::{Digest, TensorDigester};
use crate::model::identity::{BaseIdentity, digest_of};
use crate::model::tensor::TensorInfo;
use crate::recipe::{Recipe, RecipePack};
use crate::stitched::{Scratch, StitchedModel, Stitchers, nonfinite_refused};

/// Units of a work item: whole pieces of a digest for every dtype.
const RUN: u64 = 1 << 18;

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
}

/// Computes every tensor, writes it to its file where there is one, and digests the result.
pub(super) fn run(
    model: &StitchedModel,
    base: &BaseIdentity,
    plan: &Plan,
    files: &[&File],
    options: &ApplyOptions,
) -> Result<Applied> {
    let workers = &options.workers;
    let targets = targets(model, base, plan);
    let items = items(&targets, files.is_empty());
    workers.progress().stage("stitching", items.iter().map(|i| item_bytes(&targets, i)).sum());
    for (planned, file) in plan.files.iter().zip(files) {
        file.write_all_at(&planned.head, 0).map_err(|e| Error::io(Path::new(&planned.name), e))?;
    }
    let stitchers = Stitchers::new(model);
    let done = workers.for_each(items.len(), Worker::new, |worker, i| {
        let Some((item, target)) = items.get(i).and_then(|item| Some((item, targets.get(item.tensor)?))) else {
            return Ok(());
        };
        let unit = target.info.dtype.unit_bytes() as u64;
        if target.touched {
            let reader = stitchers.get(&target.info.name)?;
            let Worker { out, scratch, .. } = worker;
            let mut met = Met::default();
            out.resize((item.len * unit) as usize, 0);
            reader.stitcher().run(item.start, out, scratch, &mut met)?;
            if met.nonfinite > 0 {
                worker.nonfinite.push((item.tensor, met.nonfinite));
            }
            worker.finish(target, item, None, files, plan)?;
        } else if target.known.is_none() || !copied(model, target, item, files) {
            let bytes = model.base().bytes(&target.info.name, item.start * unit..(item.start + item.len) * unit)?;
            worker.finish(target, item, Some(&bytes), files, plan)?;
        }
        workers.progress().advance(item.len * unit);
        Ok(())
    })?;
    model.base().check_unchanged()?;
    refuse_nonfinite(&targets, &done)?;
    let result = result_digest(&targets, done);
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

/// Copies a run of an untouched tensor from file to file, where it is of the base's bytes and nobody has to hash it.
fn copied(model: &StitchedModel, target: &Target, item: &Item, files: &[&File]) -> bool {
    let unit = target.info.dtype.unit_bytes() as u64;
    let (start, len) = (item.start * unit, item.len * unit);
    let from = model.base().place(&target.info.name);
    from.zip(files.get(target.file))
        .is_some_and(|((file, offset), to)| copy_range((file, offset + start), (to, target.offset + start), len))
}

fn targets<'a>(model: &StitchedModel, base: &BaseIdentity, plan: &'a Plan) -> Vec<Target<'a>> {
    let mut targets = Vec::new();
    for (file, planned) in plan.files.iter().enumerate() {
        for (info, offset) in &planned.tensors {
            let touched = model.touches(&info.name);
            let known = if touched { None } else { base.tensor(&info.name).and_then(|(_, digest)| digest) };
            targets.push(Target { info, file, offset: *offset, touched, known });
        }
    }
    targets
}

/// Runs of all tensors in file order. Where nothing is written, tensors whose digest is known are left out.
fn items(targets: &[Target], dry: bool) -> Vec<Item> {
    let mut items = Vec::new();
    for (tensor, target) in targets.iter().enumerate().filter(|(_, t)| !(dry && t.known.is_some())) {
        let units = target.info.units();
        items.extend((0..units.div_ceil(RUN)).map(|i| Item { tensor, start: i * RUN, len: RUN.min(units - i * RUN) }));
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
    /// By tensor and piece: what the digest of the result is made of.
    pieces: Vec<((usize, u64), [u8; 32])>,
}

impl Worker {
    fn new() -> Self {
        Worker { out: Vec::new(), scratch: Scratch::once(), nonfinite: Vec::new(), pieces: Vec::new() }
    }

    /// Writes a run and hashes it: `bytes`, or what was stitched.
    fn finish(
        &mut self,
        target: &Target,
        item: &Item,
        bytes: Option<&[u8]>,
        files: &[&File],
        plan: &Plan,
    ) -> Result<()> {
        let bytes = bytes.unwrap_or(&self.out);
        let start = item.start * target.info.dtype.unit_bytes() as u64;
        if let Some(file) = files.get(target.file) {
            let path = plan.files.get(target.file).map_or("", |f| f.name.as_str());
            file.write_all_at(bytes, target.offset + start).map_err(|e| Error::io(Path::new(path), e))?;
        }
        if target.known.is_none() {
            let digester = TensorDigester::new(target.info.byte_len());
            let numbers = start / TensorDigester::PIECE..;
            for (number, piece) in numbers.zip(bytes.chunks(TensorDigester::PIECE as usize)) {
                self.pieces.push(((item.tensor, number), digester.piece(number, piece)));
            }
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
fn result_digest(targets: &[Target], done: Vec<Worker>) -> Vec<Digest> {
    let mut pieces: Vec<_> = done.into_iter().flat_map(|w| w.pieces).collect();
    pieces.sort_unstable_by_key(|(key, _)| *key);
    let mut pieces = pieces.into_iter().map(|(_, value)| value);
    let digest = |target: &Target| {
        target.known.unwrap_or_else(|| {
            let digester = TensorDigester::new(target.info.byte_len());
            let mut own: Vec<_> = match target.info.byte_len() {
                0 => vec![digester.piece(0, &[])],
                _ => Vec::new(),
            };
            own.extend(pieces.by_ref().take(digester.pieces() as usize - own.len()));
            digester.finish(&own)
        })
    };
    targets.iter().map(digest).collect()
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
            file: layer.pack.path().and_then(Path::file_name).map_or("-".into(), |n| n.to_string_lossy().into_owned()),
            id: layer.pack.id().to_string(),
            weight: layer.weight,
            gain: gain.gain,
            tensor_gains: gain.tensors.clone(),
        })
        .collect()
}
