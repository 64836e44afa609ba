//! The judge: the numbers of spec/numbers.md done slowly and obviously, one element at a time, with maps and sorting.
//!
//! Nothing of the crate computes here; only its nouns (dtypes, value kinds, overlap rules) are borrowed. If this page and
//! the crate disagree, read the spec and decide which is wrong.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::delta::ValueKind;
use stitchpack::model::dtype::Dtype;

use super::models::{FLOATS, Model, Tensor, unit_bytes};

/// Units of a block: sums are taken block by block.
const BLOCK: usize = 1 << 18;

// ---- Floats [FLT-1] [DTY-2] ----

/// Exponent bits, mantissa bits, bias, largest finite magnitude, what lies above it, and whether it is an FNUZ kind.
struct Small(u32, i32, u64, u64, bool);

fn small(dtype: Dtype) -> Small {
    match dtype {
        Dtype::F16 => Small(10, 15, 0x7bff, 0x7c00, false),
        Dtype::BF16 => Small(7, 127, 0x7f7f, 0x7f80, false),
        Dtype::F8_E4M3 => Small(3, 7, 0x7e, 0x7f, false),
        Dtype::F8_E5M2 => Small(2, 15, 0x7b, 0x7c, false),
        Dtype::F8_E4M3FNUZ => Small(3, 8, 0x7f, 0x80, true),
        Dtype::F8_E5M2FNUZ => Small(2, 16, 0x7f, 0x80, true),
        _ => panic!("{dtype} is no small float"),
    }
}

/// The number that the bits of a float stand for.
pub fn decode(dtype: Dtype, bits: u64) -> f64 {
    match dtype {
        Dtype::F64 => return f64::from_bits(bits),
        Dtype::F32 => return f64::from(f32::from_bits(bits as u32)),
        _ => {}
    }
    let Small(man_bits, bias, max, above, fnuz) = small(dtype);
    let sign_bit = 1u64 << (8 * unit_bytes(dtype) - 1);
    let sign = if bits & sign_bit == 0 { 1.0 } else { -1.0 };
    let magnitude = bits & (sign_bit - 1);
    if fnuz && bits == 0x80 {
        return f64::NAN;
    }
    if magnitude > max {
        // The IEEE kinds and E5M2 have an infinity right above the largest number, E4M3 has NaN there.
        let infinite = magnitude == above && dtype != Dtype::F8_E4M3;
        return if infinite { sign * f64::INFINITY } else { f64::NAN };
    }
    sign * number(magnitude, man_bits, bias)
}

/// (−1)^0 × 2^(e − bias) × (1 + m / 2^M), or 2^(1 − bias) × m / 2^M for e = 0; for any magnitude, also one past the end.
fn number(magnitude: u64, man_bits: u32, bias: i32) -> f64 {
    let (e, m) = ((magnitude >> man_bits) as i32, (magnitude & ((1 << man_bits) - 1)) as f64);
    let m = m / f64::from(1u32 << man_bits);
    if e == 0 { 2f64.powi(1 - bias) * m } else { 2f64.powi(e - bias) * (1.0 + m) }
}

/// All magnitudes of a small float in order, and one more as if the exponent had no upper end.
fn magnitudes(dtype: Dtype) -> &'static [f64] {
    static TABLES: OnceLock<BTreeMap<Dtype, Vec<f64>>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let one = |dtype: Dtype| {
            let Small(man_bits, bias, max, ..) = small(dtype);
            (dtype, (0..=max + 1).map(|m| number(m, man_bits, bias)).collect())
        };
        FLOATS.iter().filter(|d| !matches!(d, Dtype::F64 | Dtype::F32)).map(|d| one(*d)).collect()
    });
    &tables[&dtype]
}

/// The code nearest to a number, found by looking at the two beside it; a tie goes to the even code.
pub fn encode(dtype: Dtype, x: f64) -> u64 {
    match dtype {
        Dtype::F64 => return x.to_bits(),
        Dtype::F32 => return u64::from((x as f32).to_bits()),
        _ => {}
    }
    let Small(_, _, max, above, fnuz) = small(dtype);
    let sign = 1u64 << (8 * unit_bytes(dtype) - 1);
    if x.is_nan() {
        return match dtype {
            Dtype::F16 => 0x7e00,
            Dtype::BF16 => 0x7fc0,
            Dtype::F8_E5M2 => 0x7e,
            _ => above,
        };
    }
    let (all, a) = (magnitudes(dtype), x.abs());
    let right = all.partition_point(|m| *m < a);
    let magnitude = if right == 0 {
        0
    } else if right == all.len() {
        max + 1
    } else {
        let (to_left, to_right) = (a - all[right - 1], all[right] - a);
        let (left, right) = (right as u64 - 1, right as u64);
        match to_left.total_cmp(&to_right) {
            std::cmp::Ordering::Less => left,
            std::cmp::Ordering::Greater => right,
            std::cmp::Ordering::Equal => left + left % 2,
        }
    };
    let negative = x.is_sign_negative();
    match magnitude {
        0 if fnuz => 0,
        m if m > max && fnuz => 0x80,
        m if m > max => above | if negative { sign } else { 0 },
        m => m | if negative { sign } else { 0 },
    }
}

pub fn is_float(dtype: Dtype) -> bool {
    FLOATS.contains(&dtype)
}

// ---- Steps [STP-1] ----

/// The place of a unit's bits in the order of the numbers.
fn order(dtype: Dtype, bits: u64) -> i128 {
    let sign = 1u64 << (8 * unit_bytes(dtype) - 1);
    match bits & sign != 0 && is_float(dtype) {
        true => -1 - i128::from(bits - sign),
        false => i128::from(bits),
    }
}

/// order(to) − order(from), modulo 2^b.
pub fn step(dtype: Dtype, from: u64, to: u64) -> u64 {
    (order(dtype, to) - order(dtype, from)).rem_euclid(1 << (8 * unit_bytes(dtype))) as u64
}

/// The bits whose order is `step` after that of `from`.
pub fn apply_step(dtype: Dtype, from: u64, step: u64) -> u64 {
    let all = 1i128 << (8 * unit_bytes(dtype));
    let place = (order(dtype, from) + i128::from(step)).rem_euclid(all);
    if !is_float(dtype) || place < all / 2 {
        return place as u64;
    }
    // A place in the upper half is a negative one: −1 − m for the magnitude m.
    (-1 - (place - all)) as u64 | (all / 2) as u64
}

// ---- Task vector and localizing [TSK-1] [LOC-1] [LOC-2] [LOC-3] [LOC-4] ----

/// fine-tuned − base; 0 where the bits agree. In f32, for F64 in f64.
pub fn task_vector(base: &Tensor, tuned: &Tensor) -> Vec<f64> {
    let pairs = base.units().into_iter().zip(tuned.units());
    let one = |(b, t): (u64, u64)| match base.dtype {
        _ if b == t => 0.0,
        Dtype::F64 => decode(base.dtype, t) - decode(base.dtype, b),
        _ => f64::from(decode(base.dtype, t) as f32 - decode(base.dtype, b) as f32),
    };
    pairs.map(one).collect()
}

/// How a pack is made.
#[derive(Clone)]
pub enum How {
    Exact,
    Lossy(HowLossy),
}

#[derive(Clone)]
pub struct HowLossy {
    /// The density as a fraction.
    pub density: (u64, u64),
    pub chooser: Chooser,
    /// Each tensor for itself.
    pub by_tensor: bool,
    pub kind: ValueKind,
    /// A scale a row.
    pub by_row: bool,
    pub rescale: NaiveRescale,
}

#[derive(Clone)]
pub enum Chooser {
    Magnitude,
    Scores(Model),
    Mask(Model),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NaiveRescale {
    None,
    Energy,
    L1,
    Factor(f32),
}

/// What a pack decodes to.
#[derive(Debug, Clone, PartialEq)]
pub struct NaivePack {
    pub exact: bool,
    pub gain: f32,
    pub energy: f64,
    pub candidates: u64,
    pub deltas: BTreeMap<String, NaiveDelta>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NaiveDelta {
    pub kind: ValueKind,
    /// Position → code.
    pub kept: BTreeMap<usize, u64>,
    pub scales: Vec<f32>,
    pub levels: [f32; 16],
    /// Units that share a scale; the whole tensor where there is one scale.
    pub per_scale: usize,
}

/// Names of the candidate tensors, and for each duplicate the one whose delta it shares.
pub fn candidates(base: &Model, tuned: &Model) -> (Vec<String>, BTreeMap<String, String>) {
    let mut names: Vec<&str> = base.tensors.iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    let (mut firsts, mut same) = (Vec::<String>::new(), BTreeMap::new());
    for name in names {
        let (b, t) = (base.get(name), tuned.get(name));
        let twin = firsts.iter().find(|first| {
            let (fb, ft) = (base.get(first), tuned.get(first));
            let alike = fb.dtype == b.dtype && fb.shape == b.shape && fb.bytes == b.bytes && ft.bytes == t.bytes;
            alike && b.shape.len() >= 2 && !b.bytes.is_empty()
        });
        match twin {
            Some(first) => drop(same.insert(name.to_string(), first.clone())),
            None => firsts.push(name.to_string()),
        }
    }
    firsts.retain(|name| is_float(base.get(name).dtype));
    (firsts, same)
}

/// Kept positions of every candidate tensor. Err where a delta is no number.
pub fn localize(base: &Model, tuned: &Model, how: &HowLossy) -> Result<BTreeMap<String, Vec<usize>>, String> {
    let (names, _) = candidates(base, tuned);
    let mut kept: BTreeMap<String, Vec<usize>> = names.iter().map(|n| (n.clone(), Vec::new())).collect();
    let vectors: BTreeMap<&str, Vec<f64>> =
        names.iter().map(|n| (n.as_str(), task_vector(base.get(n), tuned.get(n)))).collect();
    if vectors.values().flatten().any(|t| !t.is_finite()) {
        return Err("a delta is infinite or NaN".into());
    }
    if let Chooser::Mask(mask) = &how.chooser {
        for tensor in &mask.tensors {
            let Some(t) = vectors.get(tensor.name.as_str()) else { continue };
            let all = tensor.bytes.iter().zip(t).enumerate();
            kept.insert(tensor.name.clone(), all.filter(|(_, (m, t))| **m != 0 && **t != 0.0).map(|x| x.0).collect());
        }
        return Ok(kept);
    }
    if how.density.0 == how.density.1 {
        return Ok(vectors.iter().map(|(n, t)| (n.to_string(), (0..t.len()).collect())).collect());
    }
    let groups: Vec<Vec<&str>> = if how.by_tensor {
        names.iter().map(|n| vec![n.as_str()]).collect()
    } else {
        vec![names.iter().map(String::as_str).collect()]
    };
    for group in groups {
        let mut all: Vec<(f64, &str, usize)> = Vec::new();
        let mut n = 0u128;
        for name in group {
            let scores = match &how.chooser {
                Chooser::Scores(file) => {
                    let s = file.get(name);
                    Some(s.units().into_iter().map(|u| decode(s.dtype, u)).collect::<Vec<_>>())
                }
                _ => None,
            };
            n += vectors[name].len() as u128;
            for (p, t) in vectors[name].iter().enumerate().filter(|(_, t)| **t != 0.0) {
                all.push((scores.as_ref().map_or(t.abs(), |s| s[p]), name, p));
            }
        }
        // Larger first, then the smaller name, then the smaller position. `partial_cmp` has −0 equal to +0.
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.as_bytes().cmp(b.1.as_bytes())).then(a.2.cmp(&b.2)));
        all.truncate((n * u128::from(how.density.0) / u128::from(how.density.1)) as usize);
        for (_, name, p) in all {
            kept.get_mut(name).unwrap().push(p);
        }
    }
    kept.values_mut().for_each(|p| p.sort_unstable());
    Ok(kept)
}

// ---- Values and gain [VAL-3] [VAL-4] [VAL-6] [GAI-1] ----

/// A sum taken block by block.
fn by_block(terms: impl Iterator<Item = (usize, f64)>) -> f64 {
    let mut blocks: BTreeMap<usize, f64> = BTreeMap::new();
    for (position, x) in terms {
        *blocks.entry(position / BLOCK).or_insert(0.0) += x;
    }
    blocks.values().fold(0.0, |sum, x| sum + x)
}

fn scale(kind: ValueKind, group: &[(usize, f64)]) -> f32 {
    if group.is_empty() {
        return 0.0;
    }
    let largest = group.iter().fold(0.0f64, |m, (_, t)| m.max(t.abs())) as f32;
    match kind {
        ValueKind::Sign => (by_block(group.iter().map(|(p, t)| (*p, t.abs()))) / group.len() as f64) as f32,
        ValueKind::Int8 => largest / 127.0,
        ValueKind::Int4 => largest / 7.0,
        _ => 0.0,
    }
}

fn code(kind: ValueKind, t: f64, scale: f32, levels: &[f32; 16]) -> u64 {
    let rounded = |most: f64| match scale == 0.0 {
        true => 0,
        false => (t / f64::from(scale)).round_ties_even().clamp(-most, most) as i64,
    };
    match kind {
        ValueKind::F32 => encode(Dtype::F32, t),
        ValueKind::F16 => encode(Dtype::F16, t),
        ValueKind::Bf16 => encode(Dtype::BF16, t),
        ValueKind::Int8 => u64::from(rounded(127.0) as u8),
        ValueKind::Int4 => (rounded(7.0) & 15) as u64,
        ValueKind::Sign => u64::from(t < 0.0),
        _ => {
            let mut best = 0;
            for (i, level) in levels.iter().enumerate() {
                if (f64::from(*level) - t).abs() < (f64::from(levels[best]) - t).abs() {
                    best = i;
                }
            }
            best as u64
        }
    }
}

impl NaiveDelta {
    fn scale_of(&self, position: usize) -> f32 {
        self.scales.get(position / self.per_scale.max(1)).copied().unwrap_or(0.0)
    }

    /// (integer part, factor): the dequantized delta is their product in the arithmetic of the tensor.
    fn factors(&self, position: usize) -> (f64, f32) {
        let (code, scale) = (self.kept[&position], self.scale_of(position));
        match self.kind {
            ValueKind::Int8 => (f64::from(code as u8 as i8), scale),
            ValueKind::Int4 => (if code > 7 { code as f64 - 16.0 } else { code as f64 }, scale),
            ValueKind::Sign => (if code == 0 { 1.0 } else { -1.0 }, scale),
            ValueKind::F32 => (decode(Dtype::F32, code), 1.0),
            ValueKind::F16 => (decode(Dtype::F16, code), 1.0),
            ValueKind::Bf16 => (decode(Dtype::BF16, code), 1.0),
            _ => (f64::from(self.levels[code as usize]), 1.0),
        }
    }
}

/// What `create` should have made. `levels` gives the codebook of a tensor, which a writer fits as it likes [VAL-5].
pub fn create(base: &Model, tuned: &Model, how: &How, levels: &dyn Fn(&str) -> [f32; 16]) -> Result<NaivePack, String> {
    let mut pack = NaivePack { exact: false, gain: 1.0, energy: 1.0, candidates: 0, deltas: BTreeMap::new() };
    let steps = |name: &str| {
        let (b, t) = (base.get(name), tuned.get(name));
        let units = b.units().into_iter().zip(t.units()).enumerate().filter(|(_, (b, t))| b != t);
        let kept: BTreeMap<usize, u64> = units.map(|(p, (from, to))| (p, step(b.dtype, from, to))).collect();
        NaiveDelta { kind: ValueKind::Step, kept, scales: vec![], levels: [0.0; 16], per_scale: 1 }
    };
    let (names, same) = candidates(base, tuned);
    pack.candidates = names.iter().map(|n| base.get(n).elements()).sum();
    let lossy = match how {
        How::Exact => {
            pack.exact = true;
            pack.deltas = base.tensors.iter().map(|t| (t.name.clone(), steps(&t.name))).collect();
            None
        }
        How::Lossy(lossy) => Some(lossy),
    };
    let (mut all, mut some, mut square, mut sum) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    if let Some(lossy) = lossy {
        let kept = localize(base, tuned, lossy)?;
        for name in &names {
            let (b, t) = (base.get(name), task_vector(base.get(name), tuned.get(name)));
            let rows = if lossy.by_row && b.shape.len() >= 2 { b.shape[0] as usize } else { 1 };
            let rows = if lossy.by_row && t.is_empty() { 0 } else { rows };
            let per_scale = t.len() / rows.max(1);
            let has_scale = matches!(lossy.kind, ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign);
            let mut groups: Vec<Vec<(usize, f64)>> = vec![Vec::new(); if has_scale { rows } else { 0 }];
            if has_scale {
                kept[name].iter().for_each(|p| groups[p / per_scale].push((*p, t[*p])));
            }
            let scales: Vec<f32> = groups.iter().map(|g| scale(lossy.kind, g)).collect();
            let book =
                if lossy.kind == ValueKind::Codebook && !kept[name].is_empty() { levels(name) } else { [0.0; 16] };
            let mut delta = NaiveDelta { kind: lossy.kind, kept: BTreeMap::new(), scales, levels: book, per_scale };
            for p in &kept[name] {
                let c = code(lossy.kind, t[*p], delta.scale_of(*p), &book);
                delta.kept.insert(*p, c);
                let (a, scale) = delta.factors(*p);
                if !a.is_finite() {
                    return Err("a delta does not fit the value kind".into());
                }
                let q = match b.dtype {
                    Dtype::F64 => a * f64::from(scale),
                    _ => f64::from(a as f32 * scale),
                };
                // Blocks of different tensors must not be mixed: the tensor's place makes them distinct.
                let place = (all.len() + 1) << 40;
                square.push((place + p, q * q));
                sum.push((place + p, q.abs()));
                some.push((place + p, t[*p] * t[*p]));
            }
            all.push((t, delta));
        }
        let vector = |f: fn(f64) -> f64| {
            let tensors = all.iter().enumerate();
            by_block(
                tensors.flat_map(|(i, (t, _))| t.iter().enumerate().map(move |(p, x)| (((i + 1) << 40) + p, f(*x)))),
            )
        };
        let (norm2, norm1) = (vector(|x| x * x), vector(f64::abs));
        pack.energy = if norm2 > 0.0 { by_block(some.into_iter()) / norm2 } else { 1.0 };
        let gain = match lossy.rescale {
            NaiveRescale::None => 1.0,
            NaiveRescale::Factor(x) => x,
            NaiveRescale::Energy => (norm2 / by_block(square.into_iter())).sqrt() as f32,
            NaiveRescale::L1 => (norm1 / by_block(sum.into_iter())) as f32,
        };
        pack.gain = if gain.is_finite() && gain > 0.0 { gain } else { 1.0 };
        for (name, (_, delta)) in names.iter().zip(all) {
            pack.deltas.insert(name.clone(), delta);
        }
        for t in base.tensors.iter().filter(|t| !is_float(t.dtype)) {
            pack.deltas.insert(t.name.clone(), steps(&t.name));
        }
        for (name, first) in same.iter().filter(|(n, _)| is_float(base.get(n).dtype)) {
            pack.deltas.insert(name.clone(), pack.deltas[first].clone());
        }
    }
    pack.deltas.retain(|_, delta| !delta.kept.is_empty());
    if !pack.exact {
        // What alone would leave the range of the dtype is refused when the pack is made.
        let alone = [Named { pack: &pack, weight: 1.0, gain: pack.gain }];
        merge(base, &alone, OverlapRule::Average, 1.0).map_err(|v| format!("{v:?}"))?;
    }
    Ok(pack)
}

// ---- Stitching [STI-1] … [STI-8] ----

/// One pack of a merge, with the gain that it is applied with.
pub struct Named<'a> {
    pub pack: &'a NaivePack,
    pub weight: f32,
    pub gain: f32,
}

/// Why there is no merged model.
#[derive(Debug, Clone, PartialEq)]
pub enum Refused {
    /// So many finite elements would become infinite or NaN, the first in this tensor (in file order).
    Overflow(u64, String),
    /// Two packs keep one position under `refuse`.
    Overlap,
    /// What can only be carried exactly would not be.
    ExactOnly,
}

macro_rules! arithmetic {
    ($name:ident, $R:ty) => {
        mod $name {
            use stitchpack::method::stitch::OverlapRule;

            /// f of the deltas of those who keep an element, in the order in which they were named.
            fn combine(rule: OverlapRule, named: &[$R], weights: &[f32]) -> $R {
                let mut d = named.to_vec();
                d.sort_by(<$R>::total_cmp);
                let add = |terms: &[$R]| terms[1..].iter().fold(terms[0], |sum, x| sum + x);
                let sum = add(&d);
                if sum.is_nan() && rule != OverlapRule::Priority {
                    return sum;
                }
                match rule {
                    OverlapRule::Average | OverlapRule::Refuse => sum / d.len() as $R,
                    OverlapRule::Sum => sum,
                    OverlapRule::Priority => named[0],
                    OverlapRule::WeightedAverage => {
                        let mut w: Vec<$R> = weights.iter().map(|w| <$R>::from(*w)).collect();
                        w.sort_by(<$R>::total_cmp);
                        let total = add(&w);
                        if total == 0.0 { sum } else { sum / total }
                    }
                    OverlapRule::Elect => {
                        let agree: Vec<$R> =
                            d.iter().copied().filter(|x| if sum < 0.0 { *x < 0.0 } else { *x > 0.0 }).collect();
                        if agree.is_empty() { 0.0 } else { add(&agree) / agree.len() as $R }
                    }
                    OverlapRule::Max => {
                        let mut best = d[0];
                        for x in &d {
                            // Of equal ones the last.
                            if x.abs() >= best.abs() {
                                best = *x;
                            }
                        }
                        best
                    }
                    other => panic!("no such rule: {other}"),
                }
            }

            /// base + λ × f, not yet rounded to the dtype. `kept` has (w, g, δ's factors) of those who keep the element.
            pub fn element(base: f64, kept: &[(f32, f32, $R)], rule: OverlapRule, lambda: f32) -> f64 {
                let d: Vec<$R> = kept.iter().map(|(w, g, delta)| (<$R>::from(*w) * <$R>::from(*g)) * delta).collect();
                let w: Vec<f32> = kept.iter().map(|k| k.0).collect();
                let f = combine(rule, &d, &w);
                (base as $R + <$R>::from(lambda) * f) as f64
            }
        }
    };
}
arithmetic!(narrow, f32);
arithmetic!(wide, f64);

/// The merged model, in the base's order.
pub fn merge(base: &Model, packs: &[Named], rule: OverlapRule, lambda: f32) -> Result<Model, Refused> {
    let in_play: Vec<&Named> = packs.iter().filter(|p| p.weight != 0.0).collect();
    let keep = |name: &str| in_play.iter().filter_map(|p| Some((*p, p.pack.deltas.get(name)?))).collect::<Vec<_>>();
    for tensor in base.tensors.iter().filter(|t| !is_float(t.dtype)) {
        let touching = keep(&tensor.name);
        if touching.len() > 1 || touching.iter().any(|(p, _)| p.weight != 1.0 || lambda != 1.0) {
            return Err(Refused::ExactOnly);
        }
    }
    let mut out = base.clone();
    let (mut overflows, mut first, mut overlap) = (0, None, false);
    for tensor in &mut out.tensors {
        let touching = keep(&tensor.name);
        let (dtype, mut units) = (tensor.dtype, tensor.units());
        for (p, unit) in units.iter_mut().enumerate().filter(|_| !touching.is_empty()) {
            let a: Vec<_> = touching.iter().filter(|(_, d)| d.kept.contains_key(&p)).collect();
            overlap |= a.len() > 1;
            let alone = match a.as_slice() {
                [] => continue,
                [(named, delta)] => delta.kind == ValueKind::Step && named.weight == 1.0 && lambda == 1.0,
                _ => false,
            };
            let stepped = |d: &NaiveDelta| apply_step(dtype, *unit, d.kept[&p]);
            if alone {
                *unit = stepped(a[0].1);
                continue;
            }
            let x = decode(dtype, *unit);
            if !x.is_finite() {
                continue;
            }
            let result = if dtype == Dtype::F64 {
                let delta = |d: &NaiveDelta| match d.kind {
                    ValueKind::Step => decode(dtype, stepped(d)) - x,
                    _ => d.factors(p).0 * f64::from(d.factors(p).1),
                };
                let kept: Vec<_> = a.iter().map(|(n, d)| (n.weight, n.gain, delta(d))).collect();
                wide::element(x, &kept, rule, lambda)
            } else {
                let delta = |d: &NaiveDelta| match d.kind {
                    ValueKind::Step => decode(dtype, stepped(d)) as f32 - x as f32,
                    _ => d.factors(p).0 as f32 * d.factors(p).1,
                };
                let kept: Vec<_> = a.iter().map(|(n, d)| (n.weight, n.gain, delta(d))).collect();
                narrow::element(x, &kept, rule, lambda)
            };
            *unit = encode(dtype, result);
            if !decode(dtype, *unit).is_finite() {
                overflows += 1;
                first.get_or_insert(tensor.name.clone());
            }
        }
        tensor.set_units(&units);
    }
    match first {
        _ if overlap && rule == OverlapRule::Refuse => Err(Refused::Overlap),
        Some(name) => Err(Refused::Overflow(overflows, name)),
        None => Ok(out),
    }
}

// ---- Digests, said again [DIG-1] [BAS-1] [CID-1] [CID-2] ----

/// A digest in a role, such as `tensor`.
pub fn digest(role: &str, bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(&format!("stitchpack 1 {role}"), bytes)
}

/// The digest of a checkpoint.
pub fn checkpoint_digest<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> [u8; 32] {
    let mut sorted: Vec<&Tensor> = tensors.collect();
    sorted.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    let mut all = Vec::new();
    for t in sorted {
        all.extend((t.name.len() as u64).to_le_bytes());
        all.extend(t.name.as_bytes());
        all.push(t.dtype.code());
        all.extend((t.shape.len() as u64).to_le_bytes());
        t.shape.iter().for_each(|d| all.extend(d.to_le_bytes()));
        all.extend(digest("tensor", &t.bytes));
    }
    digest("checkpoint", &all)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
