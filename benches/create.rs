//! Base and fine-tuned model → pack, from files to a file: 67 MB of bf16 a side.
//!
//! Timed: opening and mapping both, the base's digests, localizing, quantizing, encoding, writing and syncing the pack. Left
//! out: cold caches (every file was just written). `copy_and_sync` and `memcpy` are what the machine does with the bytes of the base alone.

mod common;

use std::path::PathBuf;
use std::sync::LazyLock;

use common::{Moved, checkpoint, map, path};
use divan::counter::BytesCount;
use stitchpack::CreateOptions;
use stitchpack::create::{Lossy, Method};

const TENSORS: usize = 8;
const SHAPE: [usize; 2] = [2048, 2048];
const BYTES: usize = TENSORS * SHAPE[0] * SHAPE[1] * 2;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static LITTLE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("rl.safetensors", TENSORS, SHAPE, Moved::Little(2)));
static FAR: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("far.safetensors", TENSORS, SHAPE, Moved::Far(3)));

fn main() {
    common::main();
}

/// The default pack: 1 % of the weights, a sign each.
#[divan::bench(sample_count = 7, sample_size = 1)]
fn sign_1_percent(bencher: divan::Bencher) {
    create(bencher, &FAR, || Method::Lossy(Lossy::default()));
}

/// An exact pack of an update that changed about 3 % of the weights.
#[divan::bench(sample_count = 7, sample_size = 1)]
fn exact_update(bencher: divan::Bencher) {
    create(bencher, &LITTLE, || Method::Exact);
}

/// An exact pack of a whole fine-tune, which changed about half of the weights.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn exact_fine_tune(bencher: divan::Bencher) {
    create(bencher, &FAR, || Method::Exact);
}

/// The base's file, copied by the system and synced.
#[divan::bench(sample_count = 7, sample_size = 1)]
fn copy_and_sync(bencher: divan::Bencher) {
    let (base, out) = (&*BASE, path("copy.safetensors"));
    bencher.with_inputs(|| drop(std::fs::remove_file(&out))).counter(BytesCount::new(BYTES)).bench_values(|()| {
        std::fs::copy(base, &out).expect("the folder takes files");
        std::fs::File::open(&out).and_then(|file| file.sync_all()).expect("the disk takes it");
    });
}

/// The base's bytes, from one warm buffer to another.
#[divan::bench(sample_count = 7, sample_size = 1)]
fn memcpy(bencher: divan::Bencher) {
    let from = std::fs::read(&*BASE).expect("it was just written");
    let mut to = from.clone();
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| divan::black_box(&mut to).copy_from_slice(divan::black_box(&from)));
}

fn create(bencher: divan::Bencher, fine_tuned: &LazyLock<PathBuf>, method: fn() -> Method) {
    let (base, fine_tuned, out) = (&**BASE, &***fine_tuned, path("bench.stitch"));
    bencher.counter(BytesCount::new(BYTES)).bench(|| {
        let options = CreateOptions { method: method(), force: true, ..CreateOptions::default() };
        stitchpack::create(&map(base), &map(fine_tuned), &out, &options).expect("the pair makes a pack")
    });
}
