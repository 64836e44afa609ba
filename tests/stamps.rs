//! The cache of digests rests on the stamp of a source, and on nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::models::{Model, Tensor};
use common::site::workers;
use common::sources::Faulty;
use stitchpack::Checkpoint;
use stitchpack::checkpoint::BaseCheck;
use stitchpack::model::digest::Digest;

/// What the base is, and how many reads that took after opening it.
fn identified(source: Faulty) -> (Option<Digest>, u64) {
    let source = Arc::new(source);
    let base = Checkpoint::from_files("base").weights("model.safetensors", source.clone()).open().unwrap();
    let opened = source.reads();
    let identity = base.identity_with(BaseCheck::Cached, &|_| true, &workers(1)).unwrap();
    (identity.digest(), source.reads() - opened)
}

#[test]
#[allow(unsafe_code)]
fn digests_are_remembered_by_stamp() {
    let cache = tempfile::tempdir().unwrap();
    // SAFETY: the only test of this program, and no other thread runs yet.
    unsafe { std::env::set_var("STITCHPACK_CACHE", cache.path()) };
    let file = |x: f32| Model::new(vec![Tensor::f32s("w", &[2], &[x, 1.0])]).file(0);
    let (digest, reads) = identified(Faulty::stamped(file(0.5), "version 1"));
    assert_eq!(reads, 1);
    assert_eq!(identified(Faulty::stamped(file(0.5), "version 1")), (digest, 0));
    let (other, reads) = identified(Faulty::stamped(file(0.25), "version 2"));
    assert_eq!(reads, 1);
    assert_ne!(other, digest);
    for _ in 0..2 {
        assert_eq!(identified(Faulty::healthy(file(0.5))), (digest, 1), "a source without a stamp is read each time");
    }
}
