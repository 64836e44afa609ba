//! Every fuzz target over its kept corpus, on stable: seeds that reach deep, and each input that ever broke something.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

fn replay(target: &str, extra: &str, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("fuzz/seeds").join(target), root.join("fuzz/artifacts").join(target), root.join(extra)];
    let mut n = 0;
    let mut stack: Vec<_> = folders.into_iter().filter(|f| f.is_dir()).collect();
    while let Some(folder) = stack.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if folder.starts_with(root.join("fuzz")) || path.extension().is_some_and(|e| e == "stitch") {
                run(&fs::read(&path).unwrap());
                n += 1;
            }
        }
    }
    assert!(n > 0, "{target} has no corpus");
}

#[test]
fn open_holds_over_its_corpus() {
    replay("open", "spec/vectors", stitchpack::fuzz::open);
}

#[test]
fn manifest_holds_over_its_corpus() {
    replay("manifest", "-", stitchpack::fuzz::manifest);
}

#[test]
fn mask_holds_over_its_corpus() {
    replay("mask", "-", stitchpack::fuzz::mask);
}

#[test]
fn values_hold_over_their_corpus() {
    replay("values", "-", stitchpack::fuzz::values);
}

#[test]
fn classes_hold_over_their_corpus() {
    replay("classes", "-", stitchpack::fuzz::classes);
}

#[test]
fn checkpoint_holds_over_its_corpus() {
    replay("checkpoint", "-", stitchpack::fuzz::checkpoint);
}

#[test]
fn apply_holds_over_its_corpus() {
    replay("apply", "-", common::case::from_bytes);
}

#[test]
fn adapter_holds_over_its_corpus() {
    replay("adapter", "-", common::adapters::from_bytes);
}

#[test]
fn a_sealed_pack_opens_again() {
    // The sealer is what makes the open target reach the parsers; if it stopped working the target would try nothing.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/open");
    for entry in fs::read_dir(root).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let limits = stitchpack::Limits::default();
        let sealed = stitchpack::fuzz::seal(&bytes, &limits).expect("seeds are stored with a plain manifest");
        stitchpack::OpenedPack::from_bytes(sealed, &limits).unwrap();
    }
}
