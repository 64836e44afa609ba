//! Packs of which some lie on the result of others. spec/numbers.md, "Chains".

use crate::checkpoint::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::merge::model::{Held, Layer, StitchedModel};
use crate::merge::options::MergeOptions;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::pack::{VerifiedPack, verified};
use crate::parallel::Workers;

/// A pack, its weight, and its place among those named.
struct Named {
    pack: VerifiedPack,
    weight: f32,
    place: usize,
}

impl<'a> StitchedModel<'a> {
    /// Puts each pack on what it was made for: the base, or the result of packs that were put on it before. Packs for the same
    /// base are merged, in the order in which they are named; their result is computed only where further packs need it.
    /// `options` hold for every link. [STI-10]
    ///
    /// # Errors
    /// `BaseMismatch` for a pack that fits neither; otherwise as [`StitchedModel::new`], and what computing a link gives.
    pub fn chain(
        base: &'a dyn ModelSource,
        identity: &BaseIdentity,
        packs: Vec<(VerifiedPack, f32)>,
        options: &MergeOptions,
        workers: &Workers,
    ) -> Result<Self> {
        Self::chain_on(Held::Borrowed(base), identity, packs, options, workers)
    }

    pub(super) fn chain_on(
        base: Held<'a>,
        identity: &BaseIdentity,
        packs: Vec<(VerifiedPack, f32)>,
        options: &MergeOptions,
        workers: &Workers,
    ) -> Result<Self> {
        let named = packs.into_iter().enumerate();
        let mut rest: Vec<Named> = named.map(|(place, (pack, weight))| Named { pack, weight, place }).collect();
        let first = rest.first().map(|n| n.pack.manifest().base);
        if rest.iter().all(|n| Some(n.pack.manifest().base) == first) {
            let (layers, options) = link(rest, identity, options, workers)?;
            return Self::build(base, None, layers, &options);
        }
        let mut model: Option<StitchedModel<'a>> = None;
        let mut here = identity.clone();
        while !rest.is_empty() {
            let on_this = |n: &Named| here.digest() == Some(Digest(n.pack.manifest().base));
            let (fitting, others): (Vec<Named>, Vec<Named>) = rest.into_iter().partition(on_this);
            if fitting.is_empty() {
                return Err(fits_nowhere(others, identity));
            }
            let (layers, options) = link(fitting, &here, options, workers)?;
            let next = match model {
                None => Self::build(base.clone(), None, layers, &options)?,
                Some(below) => below.then(layers, &options)?,
            };
            if !others.is_empty() {
                here = next.identity(identity, workers)?;
            }
            (model, rest) = (Some(next), others);
        }
        model.ok_or_else(|| Error::Internal("a chain without packs".into()))
    }
}

/// Packs of one link, bound, and the options with the gains that are theirs.
fn link(
    packs: Vec<Named>,
    on: &BaseIdentity,
    options: &MergeOptions,
    workers: &Workers,
) -> Result<(Vec<Layer>, MergeOptions)> {
    let mut options = options.clone();
    if let Some(gains) = &mut options.gains {
        *gains = packs.iter().filter_map(|n| gains.get(n.place).cloned()).collect();
    }
    let (packs, weights): (Vec<_>, Vec<_>) = packs.into_iter().map(|n| (n.pack, n.weight)).unzip();
    let bound = verified::bind_all(packs, on, workers)?;
    Ok((bound.into_iter().zip(weights).map(|(pack, weight)| Layer { pack, weight }).collect(), options))
}

/// What is wrong with packs that fit neither the base nor the result of those before them.
fn fits_nowhere(packs: Vec<Named>, base: &BaseIdentity) -> Error {
    let Some(first) = packs.into_iter().next() else { return Error::Internal("no pack is left".into()) };
    let file = first.pack.name().map_or("a pack".into(), |p| Escaped(&p.to_string_lossy()).to_string());
    match first.pack.bind(base).err() {
        Some(e) => followed_by_none(e),
        None => Error::InvalidInput(format!(
            "{file} and other packs have different bases: how they follow each other shows only where all of the base is read"
        )),
    }
}

fn followed_by_none(e: Error) -> Error {
    match e {
        Error::BaseMismatch(mut why) => {
            why.diagnosis.push_str("; nor was it made after the other packs named here, with their weights");
            Error::BaseMismatch(why)
        }
        Error::InFile { path, source } => Error::InFile { path, source: Box::new(followed_by_none(*source)) },
        other => other,
    }
}
