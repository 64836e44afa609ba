//! A stitched model as an inference engine loads it, beside memcpy of the base: 268 MB of bf16 in 8 tensors of 33.5 MB, packs of
//! signs made with the effort `fast`, all cores.
//!
//! Timed: decoding, patching, and copying the base's bytes from its mapping into memory that is used again. Left out: opening and
//! binding (`open`), the base's digest, and the first touch of the target. `memcpy` is one thread's, which is all that memory gives
//! on many machines. `range` reads 128 KiB at random places, each of which decodes the one or two blocks that it lies in.

mod common;

use std::path::PathBuf;
use std::sync::LazyLock;

use common::{Moved, checkpoint, map};
use divan::counter::BytesCount;
use stitchpack::create::{Effort, Lossy, Method};
use stitchpack::model::tensor::TensorInfo;
use stitchpack::{Checkpoint, CreateOptions, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};

const TENSORS: usize = 8;
const SHAPE: [usize; 2] = [4096, 4096];
const TENSOR_BYTES: usize = SHAPE[0] * SHAPE[1] * 2;
const BYTES: usize = TENSORS * TENSOR_BYTES;
const RANGE: usize = 128 << 10;

static BASE_PATH: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static BASE: LazyLock<Checkpoint> = LazyLock::new(|| map(&BASE_PATH));

fn main() {
    common::main();
}

/// A pack of the fine-tune of a seed, on the base.
fn layer(density: &str, seed: u64) -> Layer {
    let fine_tuned = checkpoint("far.safetensors", TENSORS, SHAPE, Moved::Far(seed));
    let method = Method::Lossy(Lossy { density: density.parse().expect("it is one"), ..Lossy::default() });
    let options = CreateOptions { method, effort: Effort::Fast, force: true, ..CreateOptions::default() };
    let out = common::path(&format!("{seed}-{density}.stitch"));
    stitchpack::create(&*BASE, &map(&fine_tuned), &out, &options).expect("the pair makes a pack");
    let identity = BASE.identity(&Workers::default()).expect("the base is there");
    let pack =
        OpenedPack::open(&out).expect("it was written").verify_as_read().bind(&identity).expect("it is its base");
    Layer { pack, weight: 1.0 }
}

fn model(layers: Vec<Layer>) -> StitchedModel<'static> {
    StitchedModel::new(&*BASE, layers, &MergeOptions::default()).expect("they go together")
}

fn infos() -> Vec<TensorInfo> {
    BASE.tensors().cloned().collect()
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn memcpy(bencher: divan::Bencher) {
    let (infos, mut memory) = (infos(), vec![1u8; BYTES]);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        for (info, out) in infos.iter().zip(memory.chunks_mut(TENSOR_BYTES)) {
            out.copy_from_slice(&BASE.bytes(&info.name, 0..TENSOR_BYTES as u64).expect("the base is there"));
        }
        divan::black_box(&memory);
    });
}

#[divan::bench(args = ["0.01", "0.05", "0.2"], sample_count = 9, sample_size = 1)]
fn all(bencher: divan::Bencher, density: &str) {
    fill(bencher, &model(vec![layer(density, 2)]));
}

#[divan::bench(args = [2, 8], sample_count = 9, sample_size = 1)]
fn all_of_packs(bencher: divan::Bencher, packs: u64) {
    fill(bencher, &model((2..2 + packs).map(|seed| layer("0.01", seed)).collect()));
}

fn fill(bencher: divan::Bencher, model: &StitchedModel) {
    let (infos, mut memory) = (infos(), vec![1u8; BYTES]);
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let targets = infos.iter().map(|info| info.name.as_str()).zip(memory.chunks_mut(TENSOR_BYTES));
        model.fill(targets, &Workers::default()).expect("the packs are whole");
    });
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn memcpy_of_one_tensor(bencher: divan::Bencher) {
    let (info, mut memory) = (infos().remove(0), vec![1u8; TENSOR_BYTES]);
    bencher.counter(BytesCount::new(TENSOR_BYTES)).bench_local(|| {
        memory.copy_from_slice(&BASE.bytes(&info.name, 0..TENSOR_BYTES as u64).expect("the base is there"));
        divan::black_box(&memory);
    });
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn one_tensor(bencher: divan::Bencher) {
    let (info, mut memory, model) = (infos().remove(0), vec![1u8; TENSOR_BYTES], model(vec![layer("0.01", 2)]));
    bencher.counter(BytesCount::new(TENSOR_BYTES)).bench_local(|| {
        model.read_into(&info.name, 0..TENSOR_BYTES as u64, &mut memory).expect("the pack is whole");
    });
}

#[divan::bench(sample_count = 200, sample_size = 1)]
fn range(bencher: divan::Bencher) {
    let (infos, mut memory, model) = (infos(), vec![1u8; RANGE], model(vec![layer("0.01", 2)]));
    let mut place = 0u64;
    bencher.counter(BytesCount::new(RANGE)).bench_local(|| {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (info, start) = (&infos[(place >> 32) as usize % TENSORS], (place >> 20) % (TENSOR_BYTES - RANGE) as u64);
        model.read_into(&info.name, start..start + RANGE as u64, &mut memory).expect("the pack is whole");
    });
}
