//! The main job: fine-tunes become packs, packs are verified, bound and stitched.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use stitchpack::create::{Batch, LearnOptions, Lossy, Method, Parameter};
use stitchpack::{ApplyOptions, Checkpoint, CreateOptions, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};

use crate::few::Few;

/// Share of the weights that a pack keeps; the other choices are the defaults.
pub const DENSITY: &str = "5%";

/// Bytes of what would be shipped for one task.
pub struct Sizes {
    /// The fine-tuned model itself.
    pub model: u64,
    /// A pack with a sign for each kept weight and a scale for each tensor.
    pub pack: u64,
    /// A pack that gives the model back bit for bit.
    pub exact: u64,
}

/// Where the pack of a task is.
pub fn path(folder: &Path, task: &str) -> PathBuf {
    folder.join("packs").join(format!("{task}.stitch"))
}

/// Makes both packs of one task.
pub fn make(folder: &Path, task: &str) -> Result<Sizes, Box<dyn Error>> {
    fs::create_dir_all(folder.join("packs"))?;
    let base = Checkpoint::open(folder.join("base"))?;
    let fine_tuned = Checkpoint::open(folder.join(task))?;
    let pack = create(&base, &fine_tuned, &path(folder, task), lossy()?)?;
    let exact = create(&base, &fine_tuned, &path(folder, &exact(task)), Method::Exact)?;
    Ok(Sizes { model: fine_tuned.file_bytes(), pack, exact })
}

/// Makes a pack as small as the lossy one, with positions and gains learned from a few rows.
pub fn learn(folder: &Path, task: &str, few: &Few) -> Result<(), Box<dyn Error>> {
    let base = Checkpoint::open(folder.join("base"))?;
    let fine_tuned = Checkpoint::open(folder.join(task))?;
    let options = CreateOptions { method: lossy()?, force: true, ..CreateOptions::default() };
    let mut gradient = |batch: Batch, parameters: &mut [Parameter<'_>]| few.evaluate(batch, parameters);
    let options = stitchpack::create::learn(&base, &fine_tuned, &mut gradient, &options, &LearnOptions::default())?;
    stitchpack::create(&base, &fine_tuned, &path(folder, &learned(task)), &options)?;
    Ok(())
}

/// What is kept of a fine-tune.
fn lossy() -> stitchpack::Result<Method> {
    Ok(Method::Lossy(Lossy { density: DENSITY.parse()?, ..Lossy::default() }))
}

/// Writes one pack and gives its size.
fn create(base: &Checkpoint, fine_tuned: &Checkpoint, out: &Path, method: Method) -> stitchpack::Result<u64> {
    let options = CreateOptions { method, force: true, ..CreateOptions::default() };
    Ok(stitchpack::create(base, fine_tuned, out, &options)?.pack_bytes)
}

/// Stitches the packs of `tasks` onto the base by the default rule, `average`,
/// and writes the model to a folder, whose path it gives.
pub fn stitch(folder: &Path, tasks: &[&str]) -> Result<PathBuf, Box<dyn Error>> {
    let base = Checkpoint::open(folder.join("base"))?;
    let identity = base.identity(&Workers::default())?;
    let mut layers = Vec::new();
    for task in tasks {
        // Three states: parsed, every digest checked, matched to this very base.
        // Only a bound pack has deltas to give.
        let pack = OpenedPack::open(path(folder, task))?.verify()?.bind(&identity)?;
        layers.push(Layer { pack, weight: 1.0 });
    }
    let model = StitchedModel::new(&base, layers, &MergeOptions::default())?;
    let out = folder.join("stitched").join(tasks.join("+"));
    fs::create_dir_all(folder.join("stitched"))?;
    let options = ApplyOptions { force: true, ..ApplyOptions::default() };
    stitchpack::apply(&model, &identity, &out, &options)?;
    Ok(out)
}

/// Fails unless the exact pack of a task gives back the file that it was made from.
pub fn check_exact(folder: &Path, task: &str) -> Result<(), Box<dyn Error>> {
    let weights = |folder: PathBuf| fs::read(folder.join("model.safetensors"));
    if weights(stitch(folder, &[&exact(task)])?)? != weights(folder.join(task))? {
        return Err(format!("the exact pack of {task} does not give back the fine-tuned file").into());
    }
    Ok(())
}

/// What the learned pack of a task is called.
pub fn learned(task: &str) -> String {
    format!("{task}.learned")
}

/// What the exact pack of a task is called.
fn exact(task: &str) -> String {
    format!("{task}.exact")
}
