//! Base + packs → memory that is used again, beside memcpy of the base: 67 MB of bf16 in 8 tensors, one thread.
//!
//! Timed: decoding, patching, and copying the base's bytes. Left out: opening and binding (`open`), the base's digest, and page
//! faults of the target, which is touched before. `memcpy` copies the same bytes of the mapped base into the same memory.

mod common;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use common::{Moved, checkpoint, map};
use divan::counter::BytesCount;
use stitchpack::create::{Effort, Lossy, Method};
use stitchpack::merge::Buffers;
use stitchpack::{Checkpoint, CreateOptions, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};

const TENSORS: usize = 8;
const SHAPE: [usize; 2] = [2048, 2048];
const BYTES: usize = TENSORS * SHAPE[0] * SHAPE[1] * 2;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static FAR: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("far.safetensors", TENSORS, SHAPE, Moved::Far(2)));
static LITTLE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("rl.safetensors", TENSORS, SHAPE, Moved::Little(2)));

const EFFORTS: [&str; 3] = ["fast", "default", "small"];

fn main() {
    common::main();
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn memcpy(bencher: divan::Bencher) {
    let base = map(&BASE);
    let mut out = vec![1u8; BYTES];
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let mut at = 0;
        for info in base.tensors() {
            let len = info.byte_len() as usize;
            out[at..at + len].copy_from_slice(&base.bytes(&info.name, 0..len as u64).expect("the base is there"));
            at += len;
        }
        divan::black_box(&out);
    });
}

#[divan::bench(args = EFFORTS, sample_count = 9, sample_size = 1)]
fn sign_1_percent(bencher: divan::Bencher, effort: &str) {
    read(bencher, &FAR, lossy("0.01"), effort);
}

#[divan::bench(args = EFFORTS, sample_count = 9, sample_size = 1)]
fn sign_5_percent(bencher: divan::Bencher, effort: &str) {
    read(bencher, &FAR, lossy("0.05"), effort);
}

#[divan::bench(args = EFFORTS, sample_count = 9, sample_size = 1)]
fn sign_20_percent(bencher: divan::Bencher, effort: &str) {
    read(bencher, &FAR, lossy("0.2"), effort);
}

#[divan::bench(args = EFFORTS, sample_count = 9, sample_size = 1)]
fn exact_3_percent(bencher: divan::Bencher, effort: &str) {
    read(bencher, &LITTLE, Method::Exact, effort);
}

#[divan::bench(args = EFFORTS, sample_count = 9, sample_size = 1)]
fn exact_dense(bencher: divan::Bencher, effort: &str) {
    read(bencher, &FAR, Method::Exact, effort);
}

/// The default of `create`, on the update that changes 3 %: how fast it is made.
#[divan::bench(args = EFFORTS, sample_count = 5, sample_size = 1)]
fn make_exact_3_percent(bencher: divan::Bencher, effort: &str) {
    make(bencher, &LITTLE, effort);
}

/// The same of a fine-tune that changes about half.
#[divan::bench(args = EFFORTS, sample_count = 5, sample_size = 1)]
fn make_exact_dense(bencher: divan::Bencher, effort: &str) {
    make(bencher, &FAR, effort);
}

fn make(bencher: divan::Bencher, tuned: &Path, effort: &str) {
    let (base, tuned) = (map(&BASE), map(tuned));
    let options =
        CreateOptions { workers: one(), effort: effort.parse().expect("it is one"), ..CreateOptions::default() };
    let options = CreateOptions { method: Method::Exact, ..options };
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| stitchpack::create_dry(&base, &tuned, &options));
}

fn lossy(density: &str) -> Method {
    Method::Lossy(Lossy { density: density.parse().expect("it is one"), ..Lossy::default() })
}

fn one() -> Workers {
    Workers::new(1, std::sync::Arc::new(stitchpack::Quiet))
}

fn read(bencher: divan::Bencher, tuned: &Path, method: Method, effort: &str) {
    let base = map(&BASE);
    let identity = base.identity(&Workers::default()).expect("the base is there");
    let out = common::path("p.stitch");
    let effort: Effort = effort.parse().expect("it is one");
    let options = CreateOptions { method, effort, force: true, ..CreateOptions::default() };
    stitchpack::create(&base, &map(tuned), &out, &options).expect("the pair makes a pack");
    let pack =
        OpenedPack::open(&out).expect("it was written").verify_as_read().bind(&identity).expect("it is its base");
    let layers = vec![Layer { pack, weight: 1.0 }];
    let model = StitchedModel::new(&base, layers, &MergeOptions::default()).expect("one pack fits");
    let mut buffers = Buffers::default();
    let mut target = vec![1u8; BYTES];
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| all(&base, &model, &mut target, &mut buffers));
}

fn all(base: &Checkpoint, model: &StitchedModel, target: &mut [u8], buffers: &mut Buffers) {
    let mut rest = target;
    for info in base.tensors() {
        let (now, later) = rest.split_at_mut(info.byte_len() as usize);
        let reader = model.reader(&info.name).expect("the model has it");
        reader.read_into(0, now, buffers).expect("the pack is whole");
        rest = later;
    }
}
