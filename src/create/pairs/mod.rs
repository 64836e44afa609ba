//! Which tensor of the fine-tuned checkpoint belongs to which of the base.

mod companions;
mod duplicates;
mod globs;
mod matching;
mod pair;

use std::borrow::Cow;

use crate::checkpoint::ModelSource;
use crate::create::options::CreateOptions;
use crate::error::{Error, Result};
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;

use globs::Chosen;
use matching::Matched;
pub(crate) use pair::Pair;

/// Tensors that both checkpoints have and that take part, by name.
pub(crate) struct Pairs<'a> {
    base: &'a dyn ModelSource,
    fine_tuned: &'a dyn ModelSource,
    all: Vec<Pair>,
    /// Tensors of the fine-tuned checkpoint that go into the pack whole.
    pub carried: Vec<TensorInfo>,
    pub skipped: Vec<String>,
    pub only_in_base: Vec<String>,
    excluded: usize,
}

impl<'a> Pairs<'a> {
    pub fn of(
        base: &'a dyn ModelSource,
        fine_tuned: &'a dyn ModelSource,
        identity: &BaseIdentity,
        options: &CreateOptions,
    ) -> Result<Self> {
        let chosen = Chosen::new(options)?;
        let mut matched = Matched::of(fine_tuned, identity, &chosen, options.cast)?;
        chosen.check_used(base, fine_tuned)?;
        if matched.is_empty() && !(options.include.is_empty() && options.exclude.is_empty()) {
            return Err(Error::InvalidInput("--include and --exclude leave no tensor".into()));
        }
        let alone = |t: &&TensorInfo| chosen.includes(&t.name) && fine_tuned.info(&t.name).is_none();
        let only_in_base: Vec<String> = base.infos().into_iter().filter(alone).map(|t| t.name.clone()).collect();
        let (carried, skipped) = matched.decide_new(base, &only_in_base, options)?;
        let Matched { pairs: mut all, excluded, .. } = matched;
        duplicates::mark(&mut all, fine_tuned, &options.workers)?;
        Ok(Pairs { base, fine_tuned, all, carried, skipped, only_in_base, excluded })
    }

    /// All pairs, by name.
    pub fn all(&self) -> &[Pair] {
        &self.all
    }

    /// Pair `i` of all.
    pub fn get(&self, i: usize) -> Result<&Pair> {
        self.all.get(i).ok_or_else(|| Error::Internal(format!("no pair {i}")))
    }

    /// Pairs that a lossy delta can be taken of: floats, each duplicate once.
    pub fn floats(&self) -> impl Iterator<Item = (usize, &Pair)> {
        self.all.iter().enumerate().filter(|(_, p)| p.info.dtype.is_float() && p.same_as.is_none())
    }

    /// n: elements of the included float tensors.
    pub fn candidates(&self) -> u64 {
        self.floats().map(|(_, p)| p.info.elements()).sum()
    }

    /// Whether every tensor of the fine-tuned checkpoint takes part as it is, and there is no other in the base.
    pub fn is_whole(&self) -> bool {
        let cast = self.all.iter().any(|p| p.cast_from.is_some());
        let in_both = self.base.infos().iter().all(|t| self.fine_tuned.info(&t.name).is_some());
        self.excluded == 0 && self.skipped.is_empty() && in_both && !cast
    }

    /// Whether globs leave tensors out.
    pub fn is_partial(&self) -> bool {
        self.excluded > 0
    }

    /// The base's bytes of units `start..start + len`.
    pub fn base_units(&self, pair: &Pair, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        self.base.units(&pair.info.name, start, len)
    }

    /// The fine-tuned bytes of units `start..start + len`, in the base's dtype.
    pub fn tuned_units(&self, pair: &Pair, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        pair.cast(self.fine_tuned.units(&pair.info.name, start, len)?)
    }

    /// The bytes of a carried tensor.
    pub fn carried_units(&self, info: &TensorInfo, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        self.fine_tuned.units(&info.name, start, len)
    }

    /// Names and bytes of the companion files that are new or differ. Files whose names a pack cannot hold are refused.
    pub fn carried_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        companions::carried(self.base, self.fine_tuned)
    }

    /// Companion files that are new or differ from the base's; none where only one side is a folder.
    pub fn differing_companions(&self) -> Result<Vec<String>> {
        companions::differing(self.base, self.fine_tuned)
    }
}
