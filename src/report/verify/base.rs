//! Packs against a base, or against what packs before them make of it.

use crate::checkpoint::{BaseCheck, Checkpoint};
use crate::error::Result;
use crate::merge::{Layer, MergeOptions, StitchedModel, check_of};
use crate::model::identity::BaseIdentity;
use crate::model::source::TensorSource;
use crate::pack::VerifiedPack;
use crate::parallel::Workers;
use crate::report::verify::Open;

/// A base, and what is known of it.
pub(super) struct Ground<'a> {
    pub base: &'a Checkpoint,
    pub identity: BaseIdentity,
    /// How much was read, which may be more than was asked for.
    pub check: BaseCheck,
}

impl<'a> Ground<'a> {
    /// Reads a base as far as packs need it, and checks each pack against it or against what packs before it make of it: whether it
    /// is the pack's, and what is decoded only with it. What is wrong takes the pack's place.
    pub fn check(
        base: &'a Checkpoint,
        check: BaseCheck,
        found: &mut [Result<VerifiedPack>],
        open: &Open,
        workers: &Workers,
    ) -> Result<Self> {
        let (check, _) = check_of(found.iter().flatten(), check);
        let touched = |name: &str| found.iter().flatten().any(|pack| pack.touches(name));
        let identity = base.identity_with(check, &touched, workers)?;
        let (mut below, mut here): (Option<StitchedModel>, _) = (None, identity.clone());
        let mut rest: Vec<usize> = (0..found.len()).filter(|i| good(found, *i).is_some()).collect();
        loop {
            let is_here = |i: &usize| good(found, *i).is_some_and(|pack| pack.check_base(&here).is_ok());
            let (fitting, others): (Vec<usize>, Vec<usize>) = rest.into_iter().partition(is_here);
            let ground: &dyn TensorSource = below.as_ref().map_or(base, |model| model);
            fitting.iter().for_each(|i| put_error(found, *i, |pack| decode(pack, ground)));
            rest = others;
            if fitting.is_empty() || rest.is_empty() {
                break;
            }
            let Ok(next) = link(base, below.take(), &here, &fitting, open) else { break };
            here = next.identity(&identity, workers)?;
            below = Some(next);
        }
        // What is left fits nowhere, and is told how it differs from the base.
        rest.into_iter().for_each(|i| put_error(found, i, |pack| pack.check_base(&identity)));
        Ok(Ground { base, identity, check })
    }
}

fn good(found: &[Result<VerifiedPack>], i: usize) -> Option<&VerifiedPack> {
    found.get(i).and_then(|pack| pack.as_ref().ok())
}

/// Puts what is wrong with a pack in its place.
fn put_error(found: &mut [Result<VerifiedPack>], i: usize, check: impl Fn(&VerifiedPack) -> Result<()>) {
    if let (Some(e), Some(slot)) = (good(found, i).and_then(|pack| check(pack).err()), found.get_mut(i)) {
        *slot = Err(e);
    }
}

/// Decodes what is decoded only with what the pack lies on.
fn decode(pack: &VerifiedPack, ground: &dyn TensorSource) -> Result<()> {
    if pack.needs_base()? {
        pack.check_content(Some(ground))?;
    }
    Ok(())
}

/// Puts packs, which are opened once more, on what they lie on.
fn link<'b>(
    base: &'b Checkpoint,
    below: Option<StitchedModel<'b>>,
    here: &BaseIdentity,
    packs: &[usize],
    open: &Open,
) -> Result<StitchedModel<'b>> {
    let layer = |i: &usize| Ok(Layer { pack: open(*i)?.verify_as_read().bind(here)?, weight: 1.0 });
    let layers = packs.iter().map(layer).collect::<Result<Vec<_>>>()?;
    match below {
        Some(below) => below.then(layers, &MergeOptions::default()),
        None => StitchedModel::new(base, layers, &MergeOptions::default()),
    }
}
