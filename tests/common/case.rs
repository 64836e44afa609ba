//! Random cases of the whole way, from a base to merges of packs, each held against the judge. For the property tests and
//! for the fuzz target `apply`.

use std::collections::BTreeSet;

use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;
use stitchpack::{GainChoice, MergeOptions};

use super::Random;
use super::interesting::{FACTORS, LENGTHS};
use super::models::{Change, FLOATS, Fill, Model, Tensor, base_tensor, tuned_tensor};
use super::naive::{self, Chooser, How, HowLossy, NaivePack, NaiveRescale, Named, Refused};
use super::site::{Site, kept};

/// Every kind but steps.
pub const KINDS: [ValueKind; ValueKind::ALL.len() - 1] = [
    ValueKind::F32,
    ValueKind::F16,
    ValueKind::Bf16,
    ValueKind::Int8,
    ValueKind::Int4,
    ValueKind::Sign,
    ValueKind::Codebook,
];

/// Names whose order by bytes is not the order that people expect.
pub const NAMES: [&str; 10] = ["a", "a.b", "a-b", "B", "ä", "a/../x", "lm_head.weight", "z", "Z9", "a.b.c"];

pub fn rules() -> Vec<OverlapRule> {
    OverlapRule::ALL.to_vec()
}

/// A shape of about `n` elements that the dtype allows.
pub fn shape(dtype: Dtype, n: u64, random: &mut Random) -> Vec<u64> {
    let n = match dtype.bits() {
        4 => n.next_multiple_of(2),
        6 => n.next_multiple_of(4),
        _ => n,
    };
    match random.below(7) {
        0 if dtype.bits() >= 8 => vec![],
        1 => vec![0],
        2 => vec![0, 4],
        3 if n % 2 == 0 => vec![n / 2, 2],
        4 if n % 3 == 0 => vec![3, n / 3],
        5 if n % 4 == 0 => vec![2, 1, n / 2],
        _ => vec![n],
    }
}

/// A base with tensors of several dtypes and, now and then, tied ones.
pub fn random_base(tensors: usize, only_floats: bool, fill: Fill, random: &mut Random) -> Model {
    let all: Vec<Dtype> = Dtype::ALL.to_vec();
    let mut names = NAMES.to_vec();
    let mut model = Model::default();
    for _ in 0..tensors {
        let name = names.remove(random.below(names.len() as u64) as usize);
        let dtype = if only_floats || !random.once_in(3) { *random.pick(&FLOATS) } else { *random.pick(&all) };
        let n = LENGTHS[random.below(12) as usize];
        let twin = model.tensors.last().filter(|t| t.shape.len() >= 2).cloned();
        match twin {
            Some(t) if random.once_in(2) => model.tensors.push(Tensor { name: name.into(), ..t }),
            _ => {
                let shape = shape(dtype, n, random);
                model.tensors.push(base_tensor(name, dtype, &shape, fill, random));
            }
        }
    }
    model
}

/// A fine-tuned model; tensors that are alike in the base are made alike again in half of the cases.
pub fn random_tuned(base: &Model, change: Change, random: &mut Random) -> Model {
    let mut tuned = Model::default();
    for t in &base.tensors {
        let twin = base.tensors.iter().position(|o| o.bytes == t.bytes && o.shape == t.shape && o.dtype == t.dtype);
        match twin.and_then(|i| tuned.tensors.get(i)) {
            Some(first) if random.once_in(2) => {
                let bytes = first.bytes.clone();
                tuned.tensors.push(Tensor { bytes, ..t.clone() });
            }
            _ => tuned.tensors.push(tuned_tensor(t, change, random)),
        }
    }
    tuned
}

/// Scores with many ties, both zeros and infinities, of one float dtype.
pub fn random_scores(base: &Model, tuned: &Model, random: &mut Random) -> Model {
    let dtype = *random.pick(&[Dtype::F32, Dtype::F32, Dtype::F16, Dtype::F64]);
    let values = [0.0, -0.0, 1.0, 1.0, 2.0, -3.0, f64::INFINITY, f64::NEG_INFINITY, 0.5];
    let one = |name: &String| {
        let t = base.get(name);
        let units: Vec<u64> = (0..t.elements()).map(|_| naive::encode(dtype, *random.pick(&values))).collect();
        Tensor::of_units(name, dtype, &t.shape, &units)
    };
    Model::new(naive::candidates(base, tuned).0.iter().map(one).collect())
}

/// A mask in which some tensors are missing.
pub fn random_mask(base: &Model, tuned: &Model, random: &mut Random) -> Model {
    let mut out = Model::default();
    for name in naive::candidates(base, tuned).0 {
        if !random.once_in(4) {
            let t = base.get(&name);
            let dtype = *random.pick(&[Dtype::BOOL, Dtype::U8]);
            let top = if dtype == Dtype::BOOL { 2 } else { 3 };
            let units: Vec<u64> = (0..t.elements()).map(|_| random.below(top)).collect();
            out.tensors.push(Tensor::of_units(&name, dtype, &t.shape, &units));
        }
    }
    out
}

pub fn random_how(base: &Model, tuned: &Model, random: &mut Random) -> How {
    if random.once_in(4) {
        return How::Exact;
    }
    let kind = *random.pick(&KINDS);
    let has_scale = matches!(kind, ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign);
    How::Lossy(HowLossy {
        density: *random.pick(&[(0, 1), (1, 100), (1, 10), (29, 100), (1, 3), (1, 2), (99, 100), (1, 1), (3, 3)]),
        chooser: match random.below(5) {
            0 => Chooser::Scores(random_scores(base, tuned, random)),
            1 => Chooser::Mask(random_mask(base, tuned, random)),
            _ => Chooser::Magnitude,
        },
        by_tensor: random.once_in(2),
        kind,
        by_row: has_scale && random.once_in(2),
        rescale: *random.pick(&[
            NaiveRescale::None,
            NaiveRescale::Energy,
            NaiveRescale::L1,
            NaiveRescale::Factor(1.7),
            NaiveRescale::Energy,
        ]),
    })
}

/// Makes a pack through the public API and by the judge, compares what is in it, and gives the judge's. None where both
/// refuse.
pub fn make(site: &Site, name: &str, base: &Model, tuned: &Model, how: &How) -> Option<NaivePack> {
    let made = site.create_as(name, tuned, how);
    let bound = made.as_ref().ok().map(|_| site.bind(name).unwrap());
    let levels = |tensor: &str| match bound.as_ref().and_then(|b| b.delta(tensor)) {
        Some(delta) => delta.blocks().unwrap().levels(),
        None => [0.0; 16],
    };
    let expected = naive::create(base, tuned, how, &levels);
    let (created, bound) = match (made, bound) {
        (Ok(created), Some(bound)) => (created, bound),
        (Err(e), _) => {
            assert_eq!(e.exit_code(), 6, "{e}");
            // Without a pack the judge has no codebook to see the overflow with.
            let book = matches!(how, How::Lossy(l) if l.kind == ValueKind::Codebook);
            assert!(expected.is_err() || (book && e.to_string().contains("infinite or NaN")), "{e}, but it is fine");
            return None;
        }
        _ => unreachable!(),
    };
    let expected = expected.unwrap_or_else(|e| panic!("{name} was made, but must be refused: {e}"));
    let manifest = bound.manifest();
    assert_eq!(manifest.gain.to_bits(), expected.gain.to_bits(), "gain {} {}", manifest.gain, expected.gain);
    assert_eq!(manifest.all_steps, expected.exact);
    if !expected.exact {
        assert_eq!(manifest.origin.energy.to_bits(), expected.energy.to_bits(), "energy");
    }
    assert_eq!(created.candidates, expected.candidates, "n");
    let touched: Vec<&str> = bound.deltas().map(|d| d.name()).collect();
    assert_eq!(touched, expected.deltas.keys().map(String::as_str).collect::<Vec<_>>(), "touched tensors");
    for delta in bound.deltas() {
        let (mine, blocks) = (&expected.deltas[delta.name()], delta.blocks().unwrap());
        assert_eq!(delta.kind(), mine.kind);
        assert_eq!(kept(&delta, &site.base), mine.kept, "positions and codes of {}", delta.name());
        for (group, scale) in mine.scales.iter().enumerate() {
            let found = blocks.scale_at((group * mine.per_scale) as u64);
            assert_eq!(found.to_bits(), scale.to_bits(), "scale {group} of {}: {found} {scale}", delta.name());
        }
        let mask = delta.mask(Some(&site.base)).unwrap();
        assert_eq!(mask.positions().collect::<BTreeSet<_>>(), mine.kept.keys().copied().collect());
    }
    Some(expected)
}

/// Applies and compares with the judge: the same bytes, or the same refusal.
pub fn check_merge(
    site: &Site,
    base: &Model,
    packs: &[(&str, &NaivePack, f32)],
    rule: OverlapRule,
    lambda: f32,
    gain: GainChoice,
) {
    let named: Vec<Named> = packs
        .iter()
        .map(|(_, pack, weight)| {
            let gain = match gain {
                _ if pack.exact => 1.0,
                GainChoice::None => 1.0,
                GainChoice::Factor(x) => x,
                _ => pack.gain,
            };
            Named { pack, weight: *weight, gain }
        })
        .collect();
    let names: Vec<(&str, f32)> = packs.iter().map(|(name, _, weight)| (*name, *weight)).collect();
    let options = MergeOptions { overlap: Some(rule), lambda, gain, gains: None };
    let what = || format!("{names:?} {rule} lambda {lambda} {gain:?}");
    let found = site.apply_file(&names, &options);
    match (naive::merge(base, &named, rule, lambda), found) {
        (Ok(model), Ok(bytes)) => {
            let read = Model::read(&bytes);
            for (t, f) in model.tensors.iter().zip(&read.tensors) {
                let differ: Vec<_> =
                    t.units().into_iter().zip(f.units()).enumerate().filter(|(_, (a, b))| a != b).collect();
                let b = base.get(&t.name).units();
                let shown: Vec<_> = differ
                    .iter()
                    .take(3)
                    .map(|(p, (a, f))| format!("{p}: base {:#x} judge {a:#x} found {f:#x}", b[*p]))
                    .collect();
                assert!(differ.is_empty(), "{} {} {shown:?} {}", t.name, t.dtype, what());
            }
            assert!(bytes == model.file(3), "the file differs outside of its tensors: {}", what());
        }
        (Err(refused), Err(e)) => {
            assert_eq!(e.exit_code(), 6, "{e}");
            let text = e.to_string();
            let parts = match &refused {
                Refused::Overflow(count, name) => vec![format!("{count} finite"), format!("\"{name}\"")],
                Refused::Overlap => vec!["overlap at position".into()],
                Refused::ExactOnly => vec!["can only be carried exactly".into()],
            };
            assert!(parts.iter().all(|p| text.contains(p)), "must name {parts:?}: {text}");
            assert!(!site.path("out.safetensors").exists(), "something was left behind: {}", what());
        }
        (Ok(_), Err(e)) => panic!("refused, but it is fine: {e}; {}", what()),
        (Err(refused), Ok(_)) => panic!("accepted, but must be refused: {refused:?}; {}", what()),
    }
}

/// A base, packs on it of all kinds, and merges of them, all from one seed.
pub fn packs_and_merges(seed: u64, tensors: usize, packs: usize, only_floats: bool, odd: bool) {
    let mut random = Random(seed);
    let base = random_base(tensors, only_floats, if odd { Fill::Odd } else { Fill::Ordinary }, &mut random);
    let site = Site::new(&base);
    let (mut made, mut ids) = (Vec::new(), BTreeSet::new());
    for i in 0..packs {
        let change = if random.once_in(2) { Change::Some } else { Change::Most };
        let tuned = random_tuned(&base, change, &mut random);
        let how = random_how(&base, &tuned, &mut random);
        let name = format!("p{i}");
        let pack = make(&site, &name, &base, &tuned, &how);
        if let Some(pack) = pack.filter(|_| ids.insert(site.bind(&name).unwrap().id())) {
            made.push((name, pack));
        }
    }
    for _ in 0..4 {
        let rule = *random.pick(&rules());
        let unit = random.once_in(2);
        let factor = |random: &mut Random| if unit && !random.once_in(4) { 1.0 } else { *random.pick(&FACTORS) };
        let lambda = factor(&mut random);
        let gain = *random.pick(&[GainChoice::Stored, GainChoice::None, GainChoice::Factor(0.6)]);
        let mut merge: Vec<(&str, &NaivePack, f32)> =
            made.iter().map(|(name, pack)| (name.as_str(), pack, factor(&mut random))).collect();
        let turn = random.below(merge.len().max(1) as u64) as usize;
        merge.rotate_left(turn);
        check_merge(&site, &base, &merge, rule, lambda, gain);
    }
}

/// One case from the bytes of a fuzzer: a seed, then how many tensors and packs, and which.
pub fn from_bytes(data: &[u8]) {
    if let Some(([seed @ .., tensors, packs, flags], _)) = data.split_first_chunk::<11>() {
        let seed = u64::from_le_bytes(*seed);
        let (tensors, packs) = (usize::from(tensors % 4) + 1, usize::from(packs % 4) + 1);
        packs_and_merges(seed, tensors, packs, flags & 1 == 1, flags & 2 == 2);
    }
}
