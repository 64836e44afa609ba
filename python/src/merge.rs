//! Base and packs put together as the caller says: what `stitchpack apply` does before it writes.

use std::collections::{BTreeMap, HashSet};

use pyo3::prelude::*;
use stitchpack::checkpoint::BaseCheck;
use stitchpack::model::digest::Digest;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::{Checkpoint, MergeOptions, PackGain, Result, StitchedModel, VerifiedPack, Workers};

use crate::pack::Pack;

/// How packs are merged, as words.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Merge {
    packs: Vec<(Py<Pack>, f32)>,
    overlap: Option<String>,
    lambda_: f32,
    gain: String,
    /// One for each pack, and those of its tensors that have others.
    gains: Option<Vec<(f32, BTreeMap<String, f32>)>>,
    base_check: String,
}

/// Packs, their weights, and the options, all understood.
pub struct Parsed {
    packs: Vec<(VerifiedPack, f32)>,
    options: MergeOptions,
    check: BaseCheck,
}

impl Merge {
    /// Opens the packs and reads the words.
    ///
    /// # Errors
    /// `InvalidInput` for a word that means nothing; as the packs give them.
    pub fn parse(&self) -> Result<Parsed> {
        let options = MergeOptions {
            overlap: self.overlap.as_deref().map(str::parse).transpose()?,
            lambda: self.lambda_,
            gain: self.gain.parse()?,
            gains: self.gains.as_ref().map(|all| all.iter().cloned().map(pack_gain).collect()),
        };
        let check = self.base_check.parse()?;
        let packs = self.packs.iter().map(|(pack, weight)| Ok((pack.get().open()?.verify_as_read(), *weight)));
        Ok(Parsed { packs: packs.collect::<Result<_>>()?, options, check })
    }
}

impl Parsed {
    /// Whether there are no packs.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// The ids of the packs, in the order in which they are named.
    pub fn ids(&self) -> Vec<Digest> {
        self.packs.iter().map(|(pack, _)| pack.id()).collect()
    }

    /// What is known of the base: as much as the packs need.
    pub fn identity(&self, base: &Checkpoint, workers: &Workers) -> Result<BaseIdentity> {
        let bases: HashSet<[u8; 32]> = self.packs.iter().map(|(p, _)| p.manifest().base).collect();
        // How packs follow each other shows only in the digest of the whole.
        let check = if bases.len() > 1 && self.check == BaseCheck::Touched { BaseCheck::Full } else { self.check };
        let touched: HashSet<String> = self.packs.iter().flat_map(|(p, _)| p.tensors()).map(|t| t.name).collect();
        base.identity_with(check, &|name| touched.contains(name), workers)
    }

    /// The packs on the base, or on each other.
    pub fn model<'a>(self, base: &'a Checkpoint, on: &BaseIdentity, workers: &Workers) -> Result<StitchedModel<'a>> {
        if self.packs.is_empty() {
            return StitchedModel::new(base, Vec::new(), &self.options);
        }
        StitchedModel::chain(base, on, self.packs, &self.options, workers)
    }
}

fn pack_gain((gain, tensors): (f32, BTreeMap<String, f32>)) -> PackGain {
    PackGain { gain, tensors }
}
