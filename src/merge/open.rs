//! From files to a model in one step.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{BaseCheck, ModelSource};
use crate::error::Result;
use crate::merge::model::{Held, StitchedModel};
use crate::merge::options::MergeOptions;
use crate::model::identity::BaseIdentity;
use crate::pack::VerifiedPack;
use crate::parallel::Workers;

/// How a model is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// How packs are merged.
    pub merge: MergeOptions,
    /// How much of the base is read to know it.
    pub base_check: BaseCheck,
    /// Threads and progress.
    pub workers: Workers,
}

impl StitchedModel<'static> {
    /// Opens packs, each with its weight, and puts each on what it was made for, as [`StitchedModel::chain`] does. The model owns
    /// its base: a [`Checkpoint`](crate::Checkpoint), or any other model. Of the packs, headers and manifests are read and
    /// checked; every other byte is checked when it is first needed.
    ///
    /// Gives the base's digests besides, as far as `base_check` had them taken: what [`apply`](crate::apply()) asks for.
    ///
    /// # Errors
    /// As [`VerifiedPack::open_all`], [`Checkpoint::identity_with`](crate::Checkpoint::identity_with) and [`StitchedModel::chain`].
    pub fn open<P: AsRef<Path>>(
        base: impl Into<Arc<dyn ModelSource>>,
        packs: impl IntoIterator<Item = (P, f32)>,
        options: &OpenOptions,
    ) -> Result<(Self, BaseIdentity)> {
        let named: Vec<(P, f32)> = packs.into_iter().collect();
        let paths: Vec<&Path> = named.iter().map(|(path, _)| path.as_ref()).collect();
        let packs: Vec<_> = VerifiedPack::open_all(&paths, &options.workers)?;
        let packs = packs.into_iter().zip(named).map(|(pack, (_, weight))| (pack, weight)).collect();
        Self::from_packs(base, packs, options)
    }

    /// The same for packs that are open.
    ///
    /// # Errors
    /// As [`Checkpoint::identity_with`](crate::Checkpoint::identity_with) and [`StitchedModel::chain`].
    pub fn from_packs(
        base: impl Into<Arc<dyn ModelSource>>,
        packs: Vec<(VerifiedPack, f32)>,
        options: &OpenOptions,
    ) -> Result<(Self, BaseIdentity)> {
        let base = base.into();
        let (check, _) = check_of(packs.iter().map(|(pack, _)| pack), options.base_check);
        let touched = |name: &str| packs.iter().any(|(pack, _)| pack.touches(name));
        let identity = base.identity_of(check, &touched, &options.workers)?;
        let model = Self::chain_on(Held::Owned(base), &identity, packs, &options.merge, &options.workers)?;
        Ok((model, identity))
    }
}

/// The check that packs need, and whether some of them lie on the result of others, which shows only in the digest of the
/// whole.
pub fn check_of<'p>(packs: impl IntoIterator<Item = &'p VerifiedPack>, check: BaseCheck) -> (BaseCheck, bool) {
    let mut bases = packs.into_iter().map(|pack| pack.manifest().base);
    let first = bases.next();
    let chained = bases.any(|other| Some(other) != first);
    match check {
        BaseCheck::Touched if chained => (BaseCheck::Full, chained),
        check => (check, chained),
    }
}
