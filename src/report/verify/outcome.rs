//! A model against what packs make.

use std::collections::HashSet;

use crate::apply::{ApplyOptions, lock};
use crate::checkpoint::{BaseCheck, Checkpoint};
use crate::error::{Error, Escaped, Result};
use crate::merge::{MergeOptions, StitchedModel};
use crate::model::identity::digest_of;
use crate::pack::VerifiedPack;
use crate::parallel::Workers;
use crate::report::verify::base::Ground;

/// Compares a model with what packs make of a base.
pub(super) fn computed(ground: &Ground, model: &Checkpoint, packs: Vec<VerifiedPack>, workers: &Workers) -> Result<()> {
    let packs = packs.into_iter().map(|pack| (pack, 1.0)).collect();
    let made = StitchedModel::chain(ground.base, &ground.identity, packs, &MergeOptions::default(), workers)?;
    let expect = model.identity(workers)?.digest();
    let options = ApplyOptions { expect, workers: workers.clone(), ..ApplyOptions::default() };
    lock(&made, &ground.identity, &options).map(|_| ())
}

/// Compares a model with the outcome that a pack recorded.
pub(super) fn recorded(pack: &VerifiedPack, model: &Checkpoint, workers: &Workers) -> Result<()> {
    let Some(expected) = pack.manifest().result else {
        return Err(Error::InvalidInput("the pack has no recorded result; --base computes it".into()));
    };
    let touched: HashSet<String> = pack.tensors().map(|t| t.name).collect();
    let identity = model.identity_with(BaseCheck::Touched, &|name| touched.contains(name), workers)?;
    if let Some(missing) = touched.iter().filter(|n| identity.tensor(n).is_none()).min() {
        return Err(Error::Refused(format!("the model lacks a tensor of the pack: \"{}\"", Escaped(missing))));
    }
    let rows = identity.tensors().filter(|(info, _)| touched.contains(&info.name));
    let rows: Vec<_> = rows.filter_map(|(info, digest)| Some((info, digest?))).collect();
    let found = digest_of(rows.into_iter());
    if found.0 != expected {
        return Err(Error::DigestMismatch { place: "result".into(), expected, found: found.0 });
    }
    Ok(())
}
