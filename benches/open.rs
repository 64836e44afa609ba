//! Opening and verifying a pack of 10,000 small tensors, every one of them touched.
//!
//! Timed: reading the pack from a warm file, and what each state of trust asks for (spec/guarantees.md, "States of trust").
//! Left out: the digest of the base. Real models have a few hundred to a few thousand tensors.

mod common;

use std::path::PathBuf;
use std::sync::LazyLock;

use common::{Moved, checkpoint, map, pack};
use divan::counter::{BytesCount, ItemsCount};
use stitchpack::create::Method;
use stitchpack::{OpenedPack, Workers};

const TENSORS: usize = 10_000;
const SHAPE: [usize; 2] = [16, 32];
const BYTES: usize = TENSORS * SHAPE[0] * SHAPE[1] * 2;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static PACK: LazyLock<PathBuf> = LazyLock::new(|| {
    let fine_tuned = checkpoint("rl.safetensors", TENSORS, SHAPE, Moved::Little(2));
    pack("exact.stitch", &BASE, &fine_tuned, Method::Exact)
});

fn main() {
    common::main();
}

/// Header and manifest.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn open(bencher: divan::Bencher) {
    let pack = &*PACK;
    bencher
        .counter(BytesCount::new(BYTES))
        .counter(ItemsCount::new(TENSORS))
        .bench(|| OpenedPack::open(pack).expect("the pack is whole"));
}

/// Every digest, and everything decoded.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_and_verify(bencher: divan::Bencher) {
    let pack = &*PACK;
    let verify = || OpenedPack::open(pack).and_then(OpenedPack::verify).expect("the pack is whole");
    bencher.counter(BytesCount::new(BYTES)).counter(ItemsCount::new(TENSORS)).bench(verify);
}

/// What loading a model asks for before the first tensor.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn open_and_bind(bencher: divan::Bencher) {
    let pack = &*PACK;
    let identity = map(&BASE).identity(&Workers::default()).expect("the base is there");
    let bind = || OpenedPack::open(pack)?.verify_as_read().bind(&identity);
    bencher
        .counter(BytesCount::new(BYTES))
        .counter(ItemsCount::new(TENSORS))
        .bench(|| bind().expect("the pack is this base's"));
}
