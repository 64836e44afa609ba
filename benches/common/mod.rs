//! Seeded checkpoints for the benches, in a temporary folder that is removed at the end.
#![allow(dead_code, reason = "each bench uses a part")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use stitchpack::create::Method;
use stitchpack::{Checkpoint, CreateOptions};

/// Where this run keeps its files.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Runs the benches of a file with a folder to work in.
pub fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    FOLDER.get_or_init(|| folder.path().to_owned());
    divan::main();
}

/// A path in the folder of this run.
pub fn path(name: &str) -> PathBuf {
    FOLDER.get().expect("main made it").join(name)
}

/// Opens a checkpoint as the command line does.
pub fn map(path: &Path) -> Checkpoint {
    #[expect(unsafe_code, reason = "the benches map their files as the command line does")]
    // SAFETY: the files are this run's own, and are written before they are mapped.
    let checkpoint = unsafe { Checkpoint::map(path) };
    checkpoint.expect("the benches wrote it")
}

/// How far a fine-tune is from its base.
#[derive(Clone, Copy)]
pub enum Moved {
    /// Not at all: the base itself.
    Nowhere,
    /// As a step of low learning rate: about 3 % of the bf16 weights change, nearly all by one step.
    Little(u64),
    /// As a whole fine-tune: about half of the bf16 weights change, a few of them by far.
    Far(u64),
}

/// Writes a bf16 checkpoint of `tensors` tensors of `shape` and gives its path. Equal arguments give equal files.
pub fn checkpoint(name: &str, tensors: usize, shape: [usize; 2], moved: Moved) -> PathBuf {
    let mut base = Rng(1);
    let mut tune = Rng(match moved {
        Moved::Nowhere => 0,
        Moved::Little(seed) | Moved::Far(seed) => seed,
    });
    let mut weight = || {
        let weight = bf16::from_f32(base.normal() * 0.02).to_f32();
        let delta = match moved {
            Moved::Nowhere => 0.0,
            Moved::Little(_) => tune.normal() * 3e-6,
            Moved::Far(_) => tune.normal().powi(3) * 1e-4,
        };
        bf16::from_f32(weight + delta).to_le_bytes()
    };
    let data: Vec<Vec<u8>> = (0..tensors).map(|_| (0..shape[0] * shape[1]).flat_map(|_| weight()).collect()).collect();
    let views = data.iter().enumerate().map(|(i, bytes)| {
        let view = TensorView::new(Dtype::BF16, shape.to_vec(), bytes).expect("the bytes fill the shape");
        (format!("layers.{i:05}.weight"), view)
    });
    let path = path(name);
    safetensors::serialize_to_file(views, None, &path).expect("the folder takes files");
    path
}

/// Writes `base` again with one of `every` bf16 weights, chosen at random, changed in its lowest bit, and gives the path.
pub fn scattered(name: &str, base: &Path, every: u64, seed: u64) -> PathBuf {
    let mut bytes = std::fs::read(base).expect("the benches wrote it");
    let (len, _) = bytes.split_first_chunk::<8>().expect("it has a header");
    let data = 8 + u64::from_le_bytes(*len) as usize;
    let mut choose = Rng(seed);
    for weight in bytes[data..].chunks_exact_mut(2) {
        weight[0] ^= u8::from(choose.next().is_multiple_of(every));
    }
    let path = path(name);
    std::fs::write(&path, bytes).expect("the folder takes files");
    path
}

/// Makes a pack and gives its path.
pub fn pack(name: &str, base: &Path, fine_tuned: &Path, method: Method) -> PathBuf {
    let out = path(name);
    let options = CreateOptions { method, force: true, ..CreateOptions::default() };
    stitchpack::create(&map(base), &map(fine_tuned), &out, &options).expect("the pair makes a pack");
    out
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Nearly normal, with variance 1: the sum of four uniform numbers.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: f32 = (0..4).map(|i| ((bits >> (16 * i)) & 0xFFFF) as f32 / 65536.0).sum();
        (sum - 2.0) * 3.0f32.sqrt()
    }
}
