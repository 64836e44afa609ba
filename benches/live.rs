//! Tensors in memory from one pack to another: 1.0 GB of bf16, packs that change 1 % or 0.1 % of the weights at random.
//!
//! `commit`: from one staged set to another of the same density, so that the positions of both are written. `stage`: opening and
//! binding left out; digests checked, decoded and stitched by all threads, from a mapped base in the page cache. `memcpy` is the
//! whole model from one warm buffer to another, by one thread as a commit is. Left out: making the tensors.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use common::{Moved, checkpoint, map, pack, scattered};
use divan::counter::BytesCount;
use stitchpack::create::Method;
use stitchpack::live::Staged;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::{Checkpoint, Layer, Live, MergeOptions, OpenedPack, StitchedModel, Workers};

const TENSORS: usize = 15;
const SHAPE: [usize; 2] = [8192, 4096];
const TENSOR_BYTES: usize = SHAPE[0] * SHAPE[1] * 2;
const BYTES: usize = TENSORS * TENSOR_BYTES;

static BASE_PATH: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static BASE: LazyLock<Checkpoint> = LazyLock::new(|| map(&BASE_PATH));
static IDENTITY: LazyLock<BaseIdentity> =
    LazyLock::new(|| BASE.identity(&Workers::default()).expect("the base is there"));

/// Two exact packs each of updates that changed 1 % and 0.1 % of the weights.
static ONE_PERCENT: LazyLock<[PathBuf; 2]> = LazyLock::new(|| [update(100, 2), update(100, 3)]);
static ONE_PER_MILLE: LazyLock<[PathBuf; 2]> = LazyLock::new(|| [update(1000, 4), update(1000, 5)]);

fn main() {
    common::main();
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn commit_1_percent(bencher: divan::Bencher) {
    commit(bencher, &ONE_PERCENT);
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn commit_0_1_percent(bencher: divan::Bencher) {
    commit(bencher, &ONE_PER_MILLE);
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn stage_1_percent(bencher: divan::Bencher) {
    stage(bencher, &ONE_PERCENT[0]);
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn stage_0_1_percent(bencher: divan::Bencher) {
    stage(bencher, &ONE_PER_MILLE[0]);
}

#[divan::bench(sample_count = 15, sample_size = 1)]
fn memcpy(bencher: divan::Bencher) {
    let from = vec![1u8; BYTES];
    let mut to = vec![2u8; BYTES];
    bencher
        .counter(BytesCount::new(BYTES))
        .bench_local(|| divan::black_box(&mut to).copy_from_slice(divan::black_box(&from)));
}

fn commit(bencher: divan::Bencher, packs: &[PathBuf; 2]) {
    let mut bytes = vec![0u8; BYTES];
    let mut live = live(&mut bytes);
    let [a, b] = packs.each_ref().map(|pack| Arc::new(staged(&live, &model(pack))));
    live.commit(b.clone()).expect("it was staged here");
    let mut turn = [a, b].into_iter().cycle();
    bencher.counter(BytesCount::new(BYTES)).bench_local(|| {
        let next = turn.next().expect("a cycle has no end");
        live.commit(next).expect("it was staged here")
    });
}

fn stage(bencher: divan::Bencher, pack: &Path) {
    let mut bytes = vec![0u8; BYTES];
    let live = live(&mut bytes);
    bencher
        .with_inputs(|| model(pack))
        .counter(BytesCount::new(BYTES))
        .bench_local_values(|model| staged(&live, &model));
}

fn staged<'a>(live: &Live<'a>, model: &StitchedModel<'a>) -> Staged<'a> {
    live.stage(model, &Workers::default()).expect("the packs are whole")
}

fn live(bytes: &mut [u8]) -> Live<'_> {
    let names = BASE.tensors().map(|t| t.name.as_str());
    Live::new(&*BASE, names.zip(bytes.chunks_mut(TENSOR_BYTES)), &Workers::default()).expect("they are the base's")
}

fn model(pack: &Path) -> StitchedModel<'static> {
    let pack = OpenedPack::open(pack).and_then(|p| p.verify_as_read().bind(&IDENTITY)).expect("the pack is whole");
    StitchedModel::new(&*BASE, vec![Layer { pack, weight: 1.0 }], &MergeOptions::default()).expect("it stands alone")
}

fn update(every: u64, seed: u64) -> PathBuf {
    let fine_tuned = scattered("tuned.safetensors", &BASE_PATH, every, seed);
    let made = pack(&format!("{seed}.stitch"), &BASE_PATH, &fine_tuned, Method::Exact);
    std::fs::remove_file(fine_tuned).expect("it was just written");
    made
}
