//! Packs wherever their bytes are: the same model from every source, and of a source that fails an error that says so.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::models::{Model, Tensor};
use common::site::{Site, merge, options, workers};
use common::sources::{Fault, Faulty};
use stitchpack::create::Method;
use stitchpack::io::{LocalFile, ReadAt, ReadErrorKind};
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::dtype::Dtype;
use stitchpack::{Error, Layer, Limits, OpenedPack, Result, StitchedModel};

const KINDS: [ReadErrorKind; 5] = [
    ReadErrorKind::Permanent,
    ReadErrorKind::Transient,
    ReadErrorKind::Changed,
    ReadErrorKind::Truncated,
    ReadErrorKind::Cancelled,
];

/// Three tensors of several blocks, of which every third unit moves: a pack of many sections.
fn model(by: u64) -> Model {
    let tensor = |name: &str, n: u64| {
        let units: Vec<u64> = (0..n)
            .map(|i| 0x3f00 + i * 37 % 0x1f0 + if i.is_multiple_of(3) { by * (1 + i * i % 5) } else { 0 })
            .collect();
        Tensor::of_units(name, Dtype::BF16, &[n], &units)
    };
    Model::new(vec![tensor("a", 600_000), tensor("b", 5), tensor("c", 300_000)])
}

fn site() -> (Site, Vec<u8>) {
    let site = Site::new(&model(0));
    site.create("a", &model(1), &options(Method::Exact)).unwrap();
    let bytes = site.pack_bytes("a");
    (site, bytes)
}

/// Opens a pack, puts it on the base and reads every tensor.
fn read_all(site: &Site, source: Arc<dyn ReadAt>, verify: bool) -> Result<Vec<Vec<u8>>> {
    let opened = OpenedPack::from_source(source, &Limits::default())?;
    let pack = if verify { opened.verify()? } else { opened.verify_as_read() }.bind(&site.identity)?;
    let layers = vec![Layer { pack, weight: 1.0 }];
    fill(&StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0))?, 1)
}

fn fill(model: &StitchedModel, threads: usize) -> Result<Vec<Vec<u8>>> {
    let mut memory: Vec<Vec<u8>> = model.tensors().map(|t| vec![0; t.byte_len() as usize]).collect();
    let names: Vec<String> = model.tensors().map(|t| t.name.clone()).collect();
    let targets = names.iter().map(String::as_str).zip(memory.iter_mut().map(|m| &mut m[..]));
    model.fill(targets, &workers(threads))?;
    Ok(memory)
}

fn expected() -> Vec<Vec<u8>> {
    model(1).tensors.iter().map(|t| t.bytes.clone()).collect()
}

#[test]
#[allow(unsafe_code)]
fn a_pack_is_the_same_from_every_source() {
    let (site, bytes) = site();
    let path = site.pack_path("a");
    let shared: Arc<[u8]> = bytes.clone().into();
    // SAFETY: nothing else knows the file.
    let mapped = unsafe { LocalFile::map(&path) }.unwrap();
    assert!(mapped.mapped().is_some());
    let sources: [Arc<dyn ReadAt>; 5] = [
        Arc::new(bytes.clone()),
        Arc::new(shared),
        Arc::new(LocalFile::open(&path).unwrap()),
        Arc::new(mapped),
        Arc::new(Faulty::healthy(bytes)),
    ];
    for source in sources {
        for verify in [true, false] {
            assert!(read_all(&site, source.clone(), verify).unwrap() == expected(), "{:?}", source.name());
        }
    }
}

#[test]
fn what_is_read_was_announced() {
    let (site, bytes) = site();
    for verify in [true, false] {
        let source = Arc::new(Faulty::healthy(bytes.clone()));
        read_all(&site, source.clone(), verify).unwrap();
        assert_eq!(source.unannounced(), []);
    }
}

#[test]
fn an_error_says_what_the_source_said() {
    let (site, bytes) = site();
    for verify in [true, false] {
        let healthy = Arc::new(Faulty::healthy(bytes.clone()));
        read_all(&site, healthy.clone(), verify).unwrap();
        for n in 0..healthy.reads() {
            for kind in KINDS {
                let source = Faulty::new(bytes.clone(), bytes.len() as u64, Fault::From(n, kind));
                let error = read_all(&site, Arc::new(source), verify).unwrap_err();
                assert_eq!(error.read_failure(), Some(kind), "read {n}: {error}");
                assert_eq!(error.is_retryable(), kind == ReadErrorKind::Transient);
                match kind {
                    ReadErrorKind::Cancelled => assert!(matches!(error, Error::Interrupted)),
                    _ => assert_eq!(error.to_string(), "https://host/a.stitch: fails on purpose"),
                }
            }
        }
    }
}

#[test]
fn a_model_is_read_again_after_a_read_that_failed() {
    let (site, bytes) = site();
    let source = Arc::new(Faulty::healthy(bytes));
    let pack = OpenedPack::from_source(source.clone(), &Limits::default()).unwrap().verify_as_read();
    let layers = vec![Layer { pack: pack.bind(&site.identity).unwrap(), weight: 1.0 }];
    let model = StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0)).unwrap();
    for n in 0..4 {
        source.arm(Fault::At(n, ReadErrorKind::Transient));
        if let Err(error) = fill(&model, 1) {
            assert!(error.is_retryable());
        }
        assert!(fill(&model, 1).unwrap() == expected());
    }
}

#[test]
fn changed_bytes_never_come_through() {
    let (site, bytes) = site();
    let healthy = Arc::new(Faulty::healthy(bytes.clone()));
    read_all(&site, healthy.clone(), false).unwrap();
    for n in 0..healthy.reads() {
        let source = Faulty::new(bytes.clone(), bytes.len() as u64, Fault::Flips(n));
        let error = read_all(&site, Arc::new(source), false).unwrap_err();
        assert!(matches!(error.root(), Error::DigestMismatch { .. } | Error::Malformed { .. }), "read {n}: {error}");
    }
}

#[test]
fn a_source_that_ends_early_is_an_error() {
    let (site, bytes) = site();
    let all = bytes.len() as u64;
    for left in [0, 1, 103, 104, 105, all / 2, all - 1] {
        let cut = bytes[..left as usize].to_vec();
        // It says what it has, or what it should have.
        for size in [left, all] {
            let error = read_all(&site, Arc::new(Faulty::new(cut.clone(), size, Fault::None)), false).unwrap_err();
            let truncated = error.read_failure() == Some(ReadErrorKind::Truncated);
            assert!(truncated || matches!(error.root(), Error::Malformed { .. }), "{left} of {size}: {error}");
        }
    }
    let longer = [bytes, vec![0]].concat();
    assert!(read_all(&site, Arc::new(Faulty::healthy(longer)), false).is_err());
}

#[test]
fn reads_are_in_flight_together() {
    let (site, bytes) = site();
    let source = Arc::new(Faulty::healthy(bytes));
    let pack = OpenedPack::from_source(source.clone(), &Limits::default()).unwrap().verify_as_read();
    let layers = vec![Layer { pack: pack.bind(&site.identity).unwrap(), weight: 1.0 }];
    let model = StitchedModel::new(&site.base, layers, &merge(OverlapRule::Average, 1.0)).unwrap();
    source.arm(Fault::Meets(0));
    assert!(fill(&model, 3).unwrap() == expected());
}
