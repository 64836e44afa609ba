//! The smallest pack that a measure says is good enough: it is one of those that were tried, it remembers how it was chosen, and
//! whatever goes wrong leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Random;
use common::models::{Model, Tensor};
use common::site::{Site, options};
use stitchpack::create::by_eval::smallest;
use stitchpack::create::{Budget, Method, Size};
use stitchpack::{Checkpoint, CreateOptions, Error, OpenedPack};

/// A base of zeros and a fine-tune whose deltas differ in size, so that more bytes keep more of it.
fn pair() -> (Model, Model) {
    let mut random = Random(5);
    let n = 60_000;
    let tuned: Vec<f32> = (0..n).map(|_| (random.below(2001) as f32 / 1000.0 - 1.0).powi(5)).collect();
    let of = |values: &[f32]| Model::new(vec![Tensor::f32s("w", &[300, 200], values)]);
    (of(&vec![0.0; n as usize]), of(&tuned))
}

/// How near a model is to the fine-tune: 0 is there, less is farther.
fn nearness(path: &Path, tuned: &Model) -> f64 {
    let found = Model::read(&std::fs::read(path).unwrap());
    let f32s = |m: &Model| -> Vec<f64> {
        m.get("w").bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
    };
    -f32s(&found).iter().zip(f32s(tuned)).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

fn sized() -> CreateOptions {
    options(Method::Sized(Budget { size: Size::Bytes(3000), ..Budget::default() }))
}

#[test]
fn the_smallest_of_those_that_keep_enough_is_written_with_its_evidence() {
    let (base, tuned) = pair();
    let site = Site::new(&base);
    let fine_tuned = site.checkpoint("tuned", &tuned);
    for (share, name) in [(0.3, "little"), (0.7, "more"), (1.0, "all")] {
        let (out, mut asked) = (site.pack_path(name), 0);
        let mut evaluate = |path: &Path| {
            asked += 1;
            Ok(nearness(path, &tuned))
        };
        let found = smallest(&site.base, &fine_tuned, &out, &sized(), share, &mut evaluate).unwrap();
        assert_eq!(asked, found.trials.len() + 2);
        assert_eq!(found.fine_tuned, 0.0);
        let enough: Vec<_> = found.trials.iter().filter(|t| t.kept >= share).collect();
        assert_eq!(enough[0], &found.chosen, "{share}");
        assert!(found.trials.is_sorted_by_key(|t| t.pack_bytes) && found.trials.len() > 2);
        assert!(found.trials.iter().any(|t| t.kept < share), "nothing smaller was tried");

        let pack = OpenedPack::open(&out).unwrap().verify().unwrap();
        let note = |key: &str| pack.manifest().notes.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        assert_eq!(note("eval.base"), Some(found.base.to_string()));
        assert_eq!(note("eval.pack"), Some(found.chosen.score.to_string()));
        assert_eq!(found.created.exact, share == 1.0);

        // What was written is what was measured.
        site.apply(&[(name, 1.0)], &Default::default(), "applied.safetensors", 1).unwrap();
        assert_eq!(nearness(&site.path("applied.safetensors"), &tuned), found.chosen.score);
        std::fs::remove_file(site.path("applied.safetensors")).unwrap();
    }
    let left: Vec<String> = site.names().into_iter().filter(|n| n.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_cannot_be_measured_leaves_nothing() {
    let (base, tuned) = pair();
    let site = Site::new(&base);
    let fine_tuned = site.checkpoint("tuned", &tuned);
    let before = site.names();
    let run = |fine_tuned: &Checkpoint, options: &CreateOptions, share: f64, score: &dyn Fn(usize) -> f64| {
        let mut asked = 0;
        let mut evaluate = |_: &Path| {
            asked += 1;
            Ok(score(asked))
        };
        smallest(&site.base, fine_tuned, &site.pack_path("p"), options, share, &mut evaluate).unwrap_err()
    };
    assert!(matches!(run(&fine_tuned, &sized(), 0.9, &|_| 1.0), Error::Refused(_)), "no gain");
    assert!(matches!(run(&fine_tuned, &sized(), 0.9, &|_| f64::NAN), Error::Refused(_)));
    assert!(matches!(
        run(&fine_tuned, &sized(), 0.9, &|n| if n < 3 { n as f64 } else { f64::INFINITY }),
        Error::Refused(_)
    ));
    for share in [0.0, -1.0, 1.01, f64::NAN] {
        assert!(matches!(run(&fine_tuned, &sized(), share, &|n| n as f64), Error::InvalidInput(_)));
    }
    assert!(matches!(run(&fine_tuned, &options(Method::Exact), 0.9, &|n| n as f64), Error::InvalidInput(_)));
    let fails = smallest(&site.base, &fine_tuned, &site.pack_path("p"), &sized(), 0.9, &mut |_| {
        Err(Error::InvalidInput("cannot".into()))
    });
    assert!(matches!(fails, Err(Error::InvalidInput(_))));
    assert_eq!(site.names(), before);
}
