//! Base + packs → model, from files to a file, beside plain copies of the base: 67 MB of bf16.
//!
//! Timed: opening the packs, checking their digests as they are read, binding, decoding, stitching, the digest of the result,
//! writing and syncing the file. Left out: the digest of the base (`base_digest`, which a cache remembers between runs of
//! the command), and cold caches. `copy_and_sync` does as much for the disk as `apply` does, `copy` less.

mod common;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::{Moved, checkpoint, map, pack, path};
use divan::counter::BytesCount;
use stitchpack::create::{Lossy, Method};
use stitchpack::{ApplyOptions, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};

const TENSORS: usize = 8;
const SHAPE: [usize; 2] = [2048, 2048];
const BYTES: usize = TENSORS * SHAPE[0] * SHAPE[1] * 2;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));

/// Four packs at density 1 %, a sign for each kept weight.
static PACKS: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let make = |seed| {
        let fine_tuned = checkpoint("far.safetensors", TENSORS, SHAPE, Moved::Far(seed));
        pack(&format!("{seed}.stitch"), &BASE, &fine_tuned, Method::Lossy(Lossy::default()))
    };
    (2..6).map(make).collect()
});

/// An exact pack of an update that changed about 3 % of the weights.
static EXACT: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let fine_tuned = checkpoint("rl.safetensors", TENSORS, SHAPE, Moved::Little(2));
    vec![pack("exact.stitch", &BASE, &fine_tuned, Method::Exact)]
});

fn main() {
    common::main();
}

#[divan::bench(args = [0, 1, 4], sample_count = 9, sample_size = 1)]
fn packs(bencher: divan::Bencher, n: usize) {
    apply(bencher, &PACKS[..n]);
}

#[divan::bench(sample_count = 9, sample_size = 1)]
fn exact_update(bencher: divan::Bencher) {
    apply(bencher, &EXACT);
}

#[divan::bench(sample_count = 9, sample_size = 1)]
fn base_digest(bencher: divan::Bencher) {
    let base = map(&BASE);
    bencher.counter(BytesCount::new(BYTES)).bench(|| base.identity(&Workers::default()).expect("the base is there"));
}

#[divan::bench(sample_count = 9, sample_size = 1)]
fn copy(bencher: divan::Bencher) {
    let (base, out) = (&*BASE, path("copy.safetensors"));
    bencher.with_inputs(|| remove(&out)).counter(BytesCount::new(BYTES)).bench_values(|()| {
        std::fs::copy(base, &out).expect("the folder takes files");
    });
}

#[divan::bench(sample_count = 9, sample_size = 1)]
fn copy_and_sync(bencher: divan::Bencher) {
    let (base, out) = (&*BASE, path("copy.safetensors"));
    bencher.with_inputs(|| remove(&out)).counter(BytesCount::new(BYTES)).bench_values(|()| {
        std::fs::copy(base, &out).expect("the folder takes files");
        std::fs::File::open(&out).and_then(|file| file.sync_all()).expect("the disk takes it");
    });
}

fn apply(bencher: divan::Bencher, packs: &[PathBuf]) {
    let (base, out) = (map(&BASE), path("stitched.safetensors"));
    let identity = base.identity(&Workers::default()).expect("the base is there");
    bencher.with_inputs(|| remove(&out)).counter(BytesCount::new(BYTES)).bench_values(|()| {
        let open = |path: &PathBuf| OpenedPack::open(path)?.verify_as_read().bind(&identity);
        let layer = |path: &PathBuf| Layer { pack: open(path).expect("the pack is whole"), weight: 1.0 };
        let layers = packs.iter().map(layer).collect();
        let model = StitchedModel::new(&base, layers, &MergeOptions::default()).expect("they go together");
        stitchpack::apply(&model, &identity, &out, &ApplyOptions::default()).expect("the folder takes files")
    });
}

/// Makes way, outside the time that is taken.
fn remove(out: &Path) {
    drop(std::fs::remove_file(out));
}
