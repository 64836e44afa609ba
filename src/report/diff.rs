//! What changed between a base and a fine-tuned checkpoint, before anything is packed.

use serde::Serialize;

use crate::checkpoint::{BaseCheck, ModelSource};
use crate::create::{CreateOptions, NewTensors, Pair, Pairs, cut};
use crate::error::Result;
use crate::method::float::{load_unit, with_element};
use crate::method::localize::keys;

/// Densities at which the kept energy is told.
pub const DENSITIES: [f64; 9] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5];

/// What changed.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Diff {
    /// Tensors on both sides, by name.
    pub tensors: Vec<TensorDiff>,
    /// Tensors that only the fine-tuned checkpoint has, or has in another shape.
    pub only_in_fine_tuned: Vec<String>,
    /// Tensors that only the base has.
    pub only_in_base: Vec<String>,
    /// Companion files that differ.
    pub companions: Vec<String>,
    /// Elements of the float tensors (tied duplicates once).
    pub elements: u64,
    /// How many of them differ.
    pub changed: u64,
    /// 2-norm of the task vector.
    pub norm: f64,
    /// 2-norm of the base's float tensors.
    pub base_norm: f64,
    /// For each density, the share of the task vector's squared norm that the largest elements hold.
    pub energy: Vec<(f64, f64)>,
}

/// What changed in one tensor.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct TensorDiff {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its units.
    pub units: u64,
    /// Units whose bits differ.
    pub changed: u64,
    /// 2-norm of the task vector; 0 for what is no float.
    pub norm: f64,
    /// 2-norm of the base; 0 for what is no float.
    pub base_norm: f64,
    /// Largest |fine-tuned − base|.
    pub max: f64,
    /// The earlier tensor with the same bytes on both sides.
    pub same_as: Option<String>,
}

/// Magnitudes counted by the high bits of their f32: how many, and their squared sum.
type Bins = Vec<(u64, f64)>;

/// Compares two checkpoints. `options` says which tensors take part and whether dtypes may differ.
///
/// # Errors
/// As [`create`](crate::create()), but tensors on one side only are listed, not refused.
pub fn diff(base: &dyn ModelSource, fine_tuned: &dyn ModelSource, options: CreateOptions) -> Result<Diff> {
    let options = CreateOptions { new_tensors: NewTensors::Skip, ..options };
    let identity = base.identity_of(BaseCheck::Full, &|_| true, &options.workers)?;
    let pairs = Pairs::of(base, fine_tuned, &identity, &options)?;
    options.workers.progress().stage("comparing", pairs.all().iter().map(|p| p.info.byte_len()).sum());
    let (mut out, mut bins) = (Diff::default(), vec![(0u64, 0f64); 1 << 16]);
    for pair in pairs.all() {
        let mut t = one(&pairs, pair, &options, &mut bins)?;
        t.same_as = pair.same_as.and_then(|i| pairs.all().get(i)).map(|p| p.info.name.clone());
        if pair.info.dtype.is_float() && pair.same_as.is_none() {
            out.elements += t.units;
            out.changed += t.changed;
            out.norm += t.norm * t.norm;
            out.base_norm += t.base_norm * t.base_norm;
        }
        out.tensors.push(t);
    }
    (out.norm, out.base_norm) = (out.norm.sqrt(), out.base_norm.sqrt());
    out.energy = DENSITIES.iter().map(|d| (*d, energy_at(&bins, d * out.elements as f64))).collect();
    out.companions = pairs.differing_companions()?;
    (out.only_in_fine_tuned, out.only_in_base) = (pairs.skipped, pairs.only_in_base);
    Ok(out)
}

/// What one block adds.
#[derive(Default)]
struct Sums {
    changed: u64,
    square: f64,
    base_square: f64,
    max: f64,
    found: Vec<f64>,
}

fn one(pairs: &Pairs, pair: &Pair, options: &CreateOptions, bins: &mut Bins) -> Result<TensorDiff> {
    let info = &pair.info;
    let mut t = TensorDiff {
        name: info.name.clone(),
        dtype: info.dtype.name().into(),
        units: info.units(),
        ..TensorDiff::default()
    };
    let blocks: Vec<(u64, u64)> = cut(info.units()).collect();
    let work = |i: usize| {
        let (start, len) = blocks.get(i).copied().unwrap_or_default();
        let (base, tuned) = (pairs.base_units(pair, start, len)?, pairs.tuned_units(pair, start, len)?);
        options.workers.progress().advance(base.len() as u64);
        Ok(sums(info.dtype, &base, &tuned))
    };
    let duplicate = pair.same_as.is_some();
    options.workers.in_order(blocks.len(), work, |_, s| {
        t.changed += s.changed;
        t.norm += s.square;
        t.base_norm += s.base_square;
        t.max = t.max.max(s.max);
        for x in s.found.iter().filter(|_| !duplicate) {
            if let Some(bin) = bins.get_mut(((*x as f32).to_bits() >> 15) as usize) {
                bin.0 += 1;
                bin.1 += x * x;
            }
        }
        Ok(())
    })?;
    (t.norm, t.base_norm) = (t.norm.sqrt(), t.base_norm.sqrt());
    Ok(t)
}

fn sums(dtype: crate::model::dtype::Dtype, base: &[u8], tuned: &[u8]) -> Sums {
    let mut s = Sums::default();
    let unit = dtype.unit_bytes();
    s.changed = base.chunks_exact(unit).zip(tuned.chunks_exact(unit)).filter(|(b, t)| b != t).count() as u64;
    let mut deltas = Vec::new();
    keys::task_vector(dtype, base, tuned, &mut deltas);
    s.found = deltas.into_iter().filter(|d| *d != 0.0 && d.is_finite()).map(f64::abs).collect();
    s.square = s.found.iter().map(|d| d * d).sum();
    s.max = s.found.iter().copied().fold(0.0, f64::max);
    with_element!(dtype, E => {
        use crate::method::float::{Element, Real};
        let numbers = base.chunks_exact(unit).map(|b| E::decode(load_unit(b)).to_f64());
        s.base_square = numbers.filter(|x| x.is_finite()).map(|x| x * x).sum();
    }, ());
    s
}

/// The share of energy that the `k` largest hold, from the bins: the last bin in part.
fn energy_at(bins: &Bins, k: f64) -> f64 {
    let total: f64 = bins.iter().map(|b| b.1).sum();
    let (mut left, mut energy) = (k, 0.0);
    for (count, square) in bins.iter().rev().filter(|b| b.0 > 0) {
        let part = (left / *count as f64).min(1.0);
        energy += square * part;
        left -= *count as f64;
        if left <= 0.0 {
            break;
        }
    }
    if total > 0.0 { (energy / total).min(1.0) } else { 1.0 }
}
