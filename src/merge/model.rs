//! Base and packs as one model, stitched a block at a time. spec/numbers.md, "Stitching".

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::checkpoint::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::limits::Limits;
use crate::merge::gain::PackGain;
use crate::merge::options::{GainChoice, MergeOptions};
use crate::merge::tensor::{LayerDelta, TensorStitcher};
use crate::method::stitch::OverlapRule;
use crate::model::tensor::TensorInfo;
use crate::pack::BoundPack;

/// One pack of a merge.
#[derive(Debug)]
pub struct Layer {
    /// The pack.
    pub pack: BoundPack,
    /// Its weight; at 0 it is not in play.
    pub weight: f32,
}

/// The base of a model: the caller's, or the model's own.
#[derive(Debug, Clone)]
pub(super) enum Held<'a> {
    Borrowed(&'a dyn ModelSource),
    Owned(Arc<dyn ModelSource>),
}

/// A base with packs on it. Nothing is decoded before it is asked for.
#[derive(Debug)]
pub struct StitchedModel<'a> {
    pub(super) base: Held<'a>,
    /// What the packs lie on, where that is not the base itself. [STI-10]
    pub(super) below: Option<Box<StitchedModel<'a>>>,
    pub(super) layers: Vec<Layer>,
    pub(super) gains: Vec<PackGain>,
    pub(super) rule: OverlapRule,
    pub(super) lambda: f32,
    /// Tensors that the base lacks or has in another shape, and the layer that carries each.
    pub(super) carried: BTreeMap<String, (TensorInfo, usize)>,
}

impl<'a> StitchedModel<'a> {
    /// Puts packs, in the order in which they were named, on the base that they are bound to.
    ///
    /// # Errors
    /// `InvalidInput` for a weight or λ that is no number and for the same pack twice; `Refused` for exact and lossy packs
    /// without a rule said, and for what can only be carried exactly but would not be; `LimitExceeded` for too many packs.
    pub fn new(base: &'a dyn ModelSource, layers: Vec<Layer>, options: &MergeOptions) -> Result<Self> {
        Self::build(Held::Borrowed(base), None, layers, options)
    }

    /// Puts packs on the model that the packs so far make: the next link of a chain. They are bound to this model's identity,
    /// not to the base's. [STI-10]
    ///
    /// # Errors
    /// As [`StitchedModel::new`].
    pub fn then(self, layers: Vec<Layer>, options: &MergeOptions) -> Result<Self> {
        Self::build(self.base.clone(), Some(Box::new(self)), layers, options)
    }

    pub(super) fn build(
        base: Held<'a>,
        below: Option<Box<Self>>,
        layers: Vec<Layer>,
        options: &MergeOptions,
    ) -> Result<Self> {
        Limits::check("number of packs", layers.len() as u64, Limits::default().packs)?;
        check_numbers(&layers, options)?;
        let gains = gains_of(&layers, options)?;
        // [STI-9]
        let in_play = || layers.iter().filter(|l| l.weight != 0.0);
        let exact = in_play().filter(|l| l.pack.manifest().all_steps).count();
        if options.overlap.is_none() && exact > 0 && exact < in_play().count() {
            let why = "an average would halve one by the other nearly everywhere; say --overlap RULE if that is meant";
            return Err(Error::Refused(format!("exact and lossy packs are named together: {why}")));
        }
        let carried = carried_by(&layers);
        let rule = options.overlap.unwrap_or_default();
        let model = StitchedModel { base, below, layers, gains, rule, lambda: options.lambda, carried };
        model.check_exact_only()?;
        Ok(model)
    }

    /// The model that the packs lie on, where that is not the base itself.
    pub fn below(&self) -> Option<&StitchedModel<'a>> {
        self.below.as_deref()
    }

    /// Whether this is more than a chain of packs, one a link, each as it was made.
    pub fn is_merge(&self) -> bool {
        let alone = |m: &&StitchedModel| matches!(m.layers(), [only] if only.weight == 1.0) && m.lambda == 1.0;
        !self.levels().iter().all(alone)
    }

    /// This model and those below it, from the base up.
    pub(crate) fn levels(&self) -> Vec<&StitchedModel<'a>> {
        let mut levels = self.below().map_or(Vec::new(), StitchedModel::levels);
        levels.push(self);
        levels
    }

    /// The packs of this link, in the order in which they were named.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The gain that each pack of this link is applied with.
    pub fn gains(&self) -> &[PackGain] {
        &self.gains
    }

    /// Applies the packs of this link with other gains, one for each in the order in which they were named.
    ///
    /// # Errors
    /// `InvalidInput` for another number of them, for a gain that is no positive number, and for a tensor that is not in the pack.
    pub fn set_gains(&mut self, gains: Vec<PackGain>) -> Result<()> {
        check_gains(&self.layers, &gains)?;
        self.gains = gains;
        Ok(())
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
        let ground: Vec<&TensorInfo> = match self.below() {
            Some(below) => below.tensors().collect(),
            None => self.base().infos(),
        };
        let own = ground.into_iter().filter(|t| !self.carried.contains_key(&t.name));
        let mut all: Vec<&TensorInfo> = own.chain(self.carried.values().map(|(info, _)| info)).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all.into_iter()
    }

    /// Dtype and shape of one tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let ground = || match self.below() {
            Some(below) => below.tensor(name),
            None => self.base().info(name),
        };
        self.carried.get(name).map(|(info, _)| info).or_else(ground)
    }

    /// Whether any pack in play touches a tensor, here or below.
    pub fn touches(&self, name: &str) -> bool {
        self.touches_here(name) || self.below().is_some_and(|below| below.touches(name))
    }

    /// Whether any pack in play of this link touches a tensor.
    pub(crate) fn touches_here(&self, name: &str) -> bool {
        self.in_play().any(|(_, l)| l.pack.delta(name).is_some())
    }

    /// Tensors that the base lacks or has in another shape.
    pub(crate) fn carried(&self) -> BTreeMap<String, TensorInfo> {
        let mut all = self.below().map_or(BTreeMap::new(), StitchedModel::carried);
        all.extend(self.carried.iter().map(|(name, (info, _))| (name.clone(), info.clone())));
        all
    }

    /// The base.
    pub fn base(&self) -> &dyn ModelSource {
        match &self.base {
            Held::Borrowed(base) => *base,
            Held::Owned(base) => &**base,
        }
    }

    pub(super) fn in_play(&self) -> impl Iterator<Item = (usize, &Layer)> {
        self.layers.iter().enumerate().filter(|(_, l)| l.weight != 0.0)
    }

    /// What has to be carried exactly: one pack only, at weight 1 and λ 1. [STI-5]
    fn check_exact_only(&self) -> Result<()> {
        let layers: Vec<&Layer> = self.in_play().map(|(_, layer)| layer).collect();
        for (i, layer) in layers.iter().enumerate() {
            for delta in layer.pack.exact_only() {
                let name = delta.name();
                if layer.weight != 1.0 || self.lambda != 1.0 {
                    return Err(Error::Refused(format!(
                        "tensor \"{}\" ({}) can only be carried exactly, but weight or lambda is not 1",
                        Escaped(name),
                        delta.dtype()
                    )));
                }
                if layers.iter().enumerate().any(|(j, other)| j != i && other.pack.delta(name).is_some()) {
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
                let own = self.gains.get(i).filter(|_| delta.has_gain());
                let gain = own.map_or(1.0, |own| own.of(delta.owner()));
                deltas.push(LayerDelta { number: i, blocks: delta.blocks()?, weight: layer.weight, gain });
            }
        }
        let carried = self.carried.contains_key(name);
        let below = match self.below() {
            Some(below) if !carried && below.touches(name) => Some(Box::new(below.stitcher(name)?)),
            _ => None,
        };
        Ok(TensorStitcher { model: self, below, info, deltas, carried })
    }
}

/// The error for finite elements, `count` of them and the first in a tensor, that would become infinite or NaN. [STI-7]
pub(crate) fn nonfinite_refused(count: u64, tensor: &str) -> Error {
    Error::Refused(format!(
        "{count} finite elements would become infinite or NaN, the first in tensor \"{}\"; use smaller weights, lambda or --gain",
        Escaped(tensor)
    ))
}

fn gains_of(layers: &[Layer], options: &MergeOptions) -> Result<Vec<PackGain>> {
    if let Some(gains) = &options.gains {
        check_gains(layers, gains)?;
        return Ok(gains.clone());
    }
    let gain = |layer: &Layer| match options.gain {
        _ if layer.pack.manifest().all_steps => 1.0,
        GainChoice::Stored => layer.pack.manifest().gain,
        GainChoice::None => 1.0,
        GainChoice::Factor(x) => x,
    };
    Ok(layers.iter().map(|layer| gain(layer).into()).collect())
}

fn check_gains(layers: &[Layer], gains: &[PackGain]) -> Result<()> {
    let (found, expected) = (gains.len(), layers.len());
    if found != expected {
        return Err(Error::InvalidInput(format!("{found} gains for {expected} packs; give one for each")));
    }
    layers.iter().zip(gains).try_for_each(|(layer, gain)| gain.check(&layer.pack))
}

/// Weights and λ are numbers, and no pack is named twice. [STI-8]
fn check_numbers(layers: &[Layer], options: &MergeOptions) -> Result<()> {
    let mut ids = HashSet::new();
    for layer in layers {
        if !layer.weight.is_finite() {
            return Err(Error::InvalidInput(format!("weight {} is not a finite number", layer.weight)));
        }
        if !ids.insert(layer.pack.id()) {
            let path = layer.pack.name().map_or("".into(), |p| p.to_string_lossy().into_owned());
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
    let all = in_play.flat_map(|(i, l)| l.pack.exact_only().filter(|d| d.is_carried()).map(move |d| (i, d)));
    all.map(|(i, d)| (d.name().to_string(), (d.info(), i))).collect()
}
