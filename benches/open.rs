//! Opening and verifying a pack of 10,000 small tensors, every one of them touched; and a base of 100,000 with 8 packs on it.
//!
//! Timed: reading the pack from a warm file, and what each state of trust asks for (spec/guarantees.md, "States of trust").
//! Left out: the digest of the base. Real models have a few hundred to a few thousand tensors.

mod common;

use std::path::PathBuf;
use std::sync::LazyLock;

use common::{Moved, checkpoint, map, pack, scattered};
use divan::counter::{BytesCount, ItemsCount};
use stitchpack::create::Method;
use stitchpack::merge::OpenOptions;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::{MergeOptions, OpenedPack, StitchedModel, Workers};

const TENSORS: usize = 10_000;
const SHAPE: [usize; 2] = [16, 32];
const BYTES: usize = TENSORS * SHAPE[0] * SHAPE[1] * 2;

static BASE: LazyLock<PathBuf> = LazyLock::new(|| checkpoint("base.safetensors", TENSORS, SHAPE, Moved::Nowhere));
static PACK: LazyLock<PathBuf> = LazyLock::new(|| {
    let fine_tuned = checkpoint("rl.safetensors", TENSORS, SHAPE, Moved::Little(2));
    pack("exact.stitch", &BASE, &fine_tuned, Method::Exact)
});

/// A base of many tensors, and packs that touch all of them.
static MANY: LazyLock<(PathBuf, Vec<PathBuf>)> = LazyLock::new(|| {
    let base = checkpoint("many.safetensors", 100_000, [8, 8], Moved::Nowhere);
    let update = |seed| {
        let fine_tuned = scattered("many-tuned.safetensors", &base, 20, seed);
        pack(&format!("many-{seed}.stitch"), &base, &fine_tuned, Method::Exact)
    };
    let packs = (0..8).map(update).collect();
    (base, packs)
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

/// From files to a model that can be asked for tensors: the base mapped, its digests from the cache, eight packs bound.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn model_of_8_packs(bencher: divan::Bencher) {
    let (base, packs) = &*MANY;
    let merge = MergeOptions { overlap: Some(OverlapRule::Sum), ..MergeOptions::default() };
    let options = OpenOptions { merge, ..OpenOptions::default() };
    let open = || StitchedModel::open(map(base), packs.iter().map(|p| (p, 1.0)), &options);
    // What is in the cache is believed from two seconds after the file was written.
    std::thread::sleep(std::time::Duration::from_secs(3));
    open().expect("the packs are this base's");
    bencher.counter(ItemsCount::new(100_000usize)).bench_local(|| open().expect("the packs are this base's"));
}
