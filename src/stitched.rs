//! Base and packs as one model, stitched a block at a time. spec/numbers.md, "Stitching".

use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;
use crate::method::float::{Element, Real, load_unit, store_unit, with_element};
use crate::method::quantize::dequantize;
use crate::method::step::apply_step;
use crate::method::stitch::{Met, OverlapRule, Part, stitch};
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::tensor::TensorInfo;
use crate::pack::BoundPack;
use crate::pack::bound::DeltaBlocks;

/// Which gain a lossy pack is applied with. Exact packs have none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum GainChoice {
    /// What measurement found best: the stored gain, alone and together (spec/rationale.md, "The gain of a merge").
    #[default]
    Auto,
    /// The gain in the pack.
    Stored,
    /// 1.
    None,
    /// The same for every pack.
    Factor(f32),
}

impl FromStr for GainChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(GainChoice::Auto),
            "stored" => Ok(GainChoice::Stored),
            "none" => Ok(GainChoice::None),
            number => match number.parse::<f32>() {
                Ok(x) if x.is_finite() && x > 0.0 => Ok(GainChoice::Factor(x)),
                _ => {
                    Err(Error::InvalidInput(format!("gain \"{text}\" is not auto, stored, none or a positive number")))
                }
            },
        }
    }
}

/// How packs are merged.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeOptions {
    /// What happens where packs keep the same position; none said means [`OverlapRule::Average`], which exact and lossy packs
    /// together do not accept unsaid.
    pub overlap: Option<OverlapRule>,
    /// λ, the factor of the whole.
    pub lambda: f32,
    /// Which gains are used.
    pub gain: GainChoice,
    /// A gain for each pack in the order in which they are named, as a recipe has them; then `gain` is not asked.
    pub gains: Option<Vec<f32>>,
}

impl Default for MergeOptions {
    fn default() -> Self {
        MergeOptions { overlap: None, lambda: 1.0, gain: GainChoice::Auto, gains: None }
    }
}

/// One pack of a merge.
#[derive(Debug)]
pub struct Layer {
    /// The pack.
    pub pack: BoundPack,
    /// Its weight; at 0 it is not in play.
    pub weight: f32,
}

/// A base with packs on it. Nothing is decoded before it is asked for.
#[derive(Debug)]
pub struct StitchedModel<'a> {
    base: &'a Checkpoint,
    layers: Vec<Layer>,
    gains: Vec<f32>,
    rule: OverlapRule,
    lambda: f32,
    /// Tensors that the base lacks or has in another shape, and the layer that carries each.
    carried: BTreeMap<String, (TensorInfo, usize)>,
}

impl<'a> StitchedModel<'a> {
    /// Puts packs, in the order in which they were named, on the base that they are bound to.
    ///
    /// # Errors
    /// `InvalidInput` for a weight or λ that is no number and for the same pack twice; `Refused` for exact and lossy packs
    /// without a rule said, and for what can only be carried exactly but would not be; `LimitExceeded` for too many packs.
    pub fn new(base: &'a Checkpoint, layers: Vec<Layer>, options: &MergeOptions) -> Result<Self> {
        Limits::check("number of packs", layers.len() as u64, Limits::default().packs)?;
        check_numbers(&layers, options)?;
        let gains = gains_of(&layers, options)?;
        // [STI-9]
        let in_play = || layers.iter().filter(|l| l.weight != 0.0);
        let exact = in_play().filter(|l| l.pack.manifest().exact).count();
        if options.overlap.is_none() && exact > 0 && exact < in_play().count() {
            let why = "an average would halve one by the other nearly everywhere; say --overlap RULE if that is meant";
            return Err(Error::Refused(format!("exact and lossy packs are named together: {why}")));
        }
        let carried = carried_by(&layers);
        let rule = options.overlap.unwrap_or_default();
        let model = StitchedModel { base, layers, gains, rule, lambda: options.lambda, carried };
        model.check_exact_only()?;
        Ok(model)
    }

    /// The packs, in the order in which they were named.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The gain that each pack is applied with.
    pub fn gains(&self) -> &[f32] {
        &self.gains
    }

    /// The overlap rule.
    pub fn rule(&self) -> OverlapRule {
        self.rule
    }

    /// λ.
    pub fn lambda(&self) -> f32 {
        self.lambda
    }

    /// All tensors of the model, by name.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        let own = self.base.tensors().filter(|t| !self.carried.contains_key(&t.name));
        let mut all: Vec<&TensorInfo> = own.chain(self.carried.values().map(|(info, _)| info)).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }

    /// Dtype and shape of one tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.carried.get(name).map(|(info, _)| info).or_else(|| self.base.tensor(name))
    }

    /// Whether any pack in play touches a tensor.
    pub fn touches(&self, name: &str) -> bool {
        self.in_play().any(|(_, l)| l.pack.delta(name).is_some())
    }

    pub(crate) fn carried(&self) -> BTreeMap<String, TensorInfo> {
        self.carried.iter().map(|(name, (info, _))| (name.clone(), info.clone())).collect()
    }

    pub(crate) fn base(&self) -> &'a Checkpoint {
        self.base
    }

    fn in_play(&self) -> impl Iterator<Item = (usize, &Layer)> {
        self.layers.iter().enumerate().filter(|(_, l)| l.weight != 0.0)
    }

    /// What has to be carried exactly: one pack only, at weight 1 and λ 1. [STI-5]
    fn check_exact_only(&self) -> Result<()> {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut exact_only: HashSet<&str> = HashSet::new();
        for (_, layer) in self.in_play() {
            for delta in layer.pack.deltas() {
                let name = delta.name();
                let shared = !seen.insert(name);
                if delta.is_carried() || !delta.info().dtype.is_float() {
                    exact_only.insert(name);
                    if layer.weight != 1.0 || self.lambda != 1.0 {
                        return Err(Error::Refused(format!(
                            "tensor \"{}\" ({}) can only be carried exactly, but weight or lambda is not 1",
                            Escaped(name),
                            delta.info().dtype
                        )));
                    }
                }
                if shared && exact_only.contains(name) {
                    return Err(Error::Refused(format!(
                        "tensor \"{}\" can only be carried exactly, but two packs change it",
                        Escaped(name)
                    )));
                }
            }
        }
        Ok(())
    }

    /// Reads the tables of a tensor's deltas, after which its blocks can be stitched in any order, from any thread.
    pub(crate) fn stitcher(&self, name: &str) -> Result<TensorStitcher<'_>> {
        let info = self
            .tensor(name)
            .ok_or_else(|| Error::InvalidInput(format!("the model has no tensor \"{}\"", Escaped(name))))?;
        let mut deltas = Vec::new();
        for (i, layer) in self.in_play() {
            if let Some(delta) = layer.pack.delta(name) {
                // Steps lead to given bits, which no gain can amplify. [GAI-2]
                let stored = if delta.kind() == ValueKind::Step { None } else { self.gains.get(i).copied() };
                let gain = stored.unwrap_or(1.0);
                deltas.push(LayerDelta { blocks: delta.blocks()?, weight: layer.weight, gain });
            }
        }
        let carried = self.carried.contains_key(name);
        Ok(TensorStitcher { model: self, info, deltas, carried })
    }
}

fn gains_of(layers: &[Layer], options: &MergeOptions) -> Result<Vec<f32>> {
    if let Some(gains) = &options.gains {
        let legal = gains.len() == layers.len() && gains.iter().all(|g| g.is_finite() && *g > 0.0);
        let bad = || Error::InvalidInput(format!("gains {gains:?} are not one positive number for each pack"));
        return if legal { Ok(gains.clone()) } else { Err(bad()) };
    }
    let gain = |layer: &Layer| match options.gain {
        _ if layer.pack.manifest().exact => 1.0,
        GainChoice::Auto | GainChoice::Stored => layer.pack.manifest().gain,
        GainChoice::None => 1.0,
        GainChoice::Factor(x) => x,
    };
    Ok(layers.iter().map(gain).collect())
}

/// Weights and λ are numbers, and no pack is named twice. [STI-8]
fn check_numbers(layers: &[Layer], options: &MergeOptions) -> Result<()> {
    let mut ids = HashSet::new();
    for layer in layers {
        if !layer.weight.is_finite() {
            return Err(Error::InvalidInput(format!("weight {} is not a finite number", layer.weight)));
        }
        if !ids.insert(layer.pack.id()) {
            let path = layer.pack.path().map_or("".into(), |p| p.to_string_lossy().into_owned());
            return Err(Error::InvalidInput(format!("pack {} ({}) is named twice", layer.pack.id(), Escaped(&path))));
        }
    }
    if !options.lambda.is_finite() {
        return Err(Error::InvalidInput(format!("lambda {} is not a finite number", options.lambda)));
    }
    match options.gain {
        GainChoice::Factor(x) if !(x.is_finite() && x > 0.0) => {
            Err(Error::InvalidInput(format!("gain {x} is not a positive number")))
        }
        _ => Ok(()),
    }
}

fn carried_by(layers: &[Layer]) -> BTreeMap<String, (TensorInfo, usize)> {
    let in_play = layers.iter().enumerate().filter(|(_, l)| l.weight != 0.0);
    let all = in_play.flat_map(|(i, l)| l.pack.deltas().filter(|d| d.is_carried()).map(move |d| (i, d)));
    all.map(|(i, d)| {
        let info = TensorInfo { name: d.name().into(), ..d.info().clone() };
        (d.name().to_string(), (info, i))
    })
    .collect()
}

#[derive(Debug)]
struct LayerDelta<'a> {
    blocks: DeltaBlocks<'a>,
    weight: f32,
    gain: f32,
}

/// One tensor of a stitched model, ready to be computed.
#[derive(Debug)]
pub(crate) struct TensorStitcher<'a> {
    model: &'a StitchedModel<'a>,
    info: &'a TensorInfo,
    deltas: Vec<LayerDelta<'a>>,
    carried: bool,
}

/// Buffers that are used again from block to block.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    block: BlockDelta,
    layers: Vec<LayerRun>,
}

/// What one layer brings to a run: positions from its start, codes, the unit each belongs to, and numbers once decoded.
#[derive(Debug, Default)]
struct LayerRun {
    delta: BlockDelta,
    narrow: Vec<f32>,
    wide: Vec<f64>,
}

/// Real numbers kept in the buffer of their width.
trait Buffered: Real {
    fn of(run: &LayerRun) -> &[Self];
    fn of_mut(run: &mut LayerRun) -> &mut Vec<Self>;
}

impl Buffered for f32 {
    fn of(run: &LayerRun) -> &[f32] {
        &run.narrow
    }
    fn of_mut(run: &mut LayerRun) -> &mut Vec<f32> {
        &mut run.narrow
    }
}

impl Buffered for f64 {
    fn of(run: &LayerRun) -> &[f64] {
        &run.wide
    }
    fn of_mut(run: &mut LayerRun) -> &mut Vec<f64> {
        &mut run.wide
    }
}

impl TensorStitcher<'_> {
    /// The bytes of units `start..start + len` of the merged tensor.
    pub fn run(&self, start: u64, len: u64, out: &mut Vec<u8>, scratch: &mut Scratch, met: &mut Met) -> Result<()> {
        let unit = self.info.dtype.unit_bytes();
        out.clear();
        if self.carried {
            out.resize(len as usize * unit, 0);
        } else {
            out.extend_from_slice(
                &self.model.base.bytes(&self.info.name, start * unit as u64..(start + len) * unit as u64)?,
            );
        }
        scratch.layers.resize_with(self.deltas.len(), LayerRun::default);
        for (layer, run) in self.deltas.iter().zip(&mut scratch.layers) {
            layer.blocks.range(start, len, &mut scratch.block, &mut run.delta)?;
        }
        let dtype = self.info.dtype;
        let mut mine = Met::default();
        if self.carried || !dtype.is_float() {
            self.step_units(out, scratch);
        } else {
            with_element!(dtype, E => self.stitch_run::<E>(start, out, scratch, &mut mine), ());
        }
        if let (Some(position), OverlapRule::Refuse) = (mine.overlap, self.model.rule) {
            return Err(Error::Refused(format!(
                "tensor \"{}\": packs overlap at position {}, which the rule refuse forbids",
                Escaped(&self.info.name),
                start + position
            )));
        }
        met.nonfinite += mine.nonfinite;
        met.overlap = met.overlap.or(mine.overlap);
        Ok(())
    }

    /// Units that only steps can change; at most one layer has any.
    fn step_units(&self, out: &mut [u8], scratch: &Scratch) {
        let unit = self.info.dtype.unit_bytes();
        for run in &scratch.layers {
            for (p, code) in run.delta.positions.iter().zip(&run.delta.codes) {
                if let Some(bytes) = out.get_mut(*p as usize * unit..(*p as usize + 1) * unit) {
                    store_unit(bytes, apply_step(self.info.dtype, load_unit(bytes), *code));
                }
            }
        }
    }

    fn stitch_run<E: Element<Real: Buffered>>(&self, start: u64, out: &mut [u8], scratch: &mut Scratch, met: &mut Met) {
        for (layer, run) in self.deltas.iter().zip(&mut scratch.layers) {
            if layer.blocks.kind() == ValueKind::Step {
                layer.derive::<E>(self.info, out, run);
            } else {
                layer.dequantize::<E::Real>(start, run);
            }
        }
        let parts: Vec<Part<E::Real>> = self
            .deltas
            .iter()
            .zip(&scratch.layers)
            .map(|(layer, run)| Part {
                positions: &run.delta.positions,
                deltas: Buffered::of(run),
                bits: (layer.is_step() && layer.weight == 1.0 && layer.gain == 1.0 && self.model.lambda == 1.0)
                    .then_some(&run.delta.codes),
                weight: layer.weight,
            })
            .collect();
        stitch::<E>(out, &parts, self.model.rule, self.model.lambda, met);
    }
}

impl LayerDelta<'_> {
    fn is_step(&self) -> bool {
        self.blocks.kind() == ValueKind::Step
    }

    /// d = (w × g) × (code × scale). [STI-1]
    fn dequantize<R: Buffered>(&self, start: u64, run: &mut LayerRun) {
        let factor = R::from_f32(self.weight).mul(R::from_f32(self.gain));
        let (kind, levels) = (self.blocks.kind(), self.blocks.levels());
        let mut numbers = std::mem::take(R::of_mut(run));
        numbers.clear();
        let units = run.delta.positions.iter().zip(&run.delta.codes);
        match self.blocks.only_scale() {
            Some(scale) => {
                numbers.extend(units.map(|(_, code)| factor.mul(dequantize::<R>(kind, *code, scale, &levels))));
            }
            None => numbers.extend(units.map(|(p, code)| {
                let scale = self.blocks.scale_at(start + u64::from(*p));
                factor.mul(dequantize::<R>(kind, *code, scale, &levels))
            })),
        }
        *R::of_mut(run) = numbers;
    }

    /// Turns steps into the fine-tuned bits, and d = (w × g) × (fine-tuned − base). [STI-6]
    fn derive<E: Element<Real: Buffered>>(&self, info: &TensorInfo, base: &[u8], run: &mut LayerRun) {
        let factor = E::Real::from_f32(self.weight).mul(E::Real::from_f32(self.gain));
        let mut numbers = std::mem::take(E::Real::of_mut(run));
        numbers.clear();
        for (p, code) in run.delta.positions.iter().zip(&mut run.delta.codes) {
            let at = *p as usize * E::BYTES;
            let bits = load_unit(base.get(at..at + E::BYTES).unwrap_or(&[]));
            *code = apply_step(info.dtype, bits, *code);
            numbers.push(factor.mul(E::decode(*code).sub(E::decode(bits))));
        }
        *E::Real::of_mut(run) = numbers;
    }
}
