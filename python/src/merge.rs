//! Base and packs put together as the caller says: what `stitchpack apply` does before it writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use stitchpack::checkpoint::{BaseCheck, ModelSource};
use stitchpack::merge::OpenOptions;
use stitchpack::model::digest::Digest;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::{Checkpoint, MergeOptions, PackGain, Recipe, Result, StitchedModel, VerifiedPack, Workers};

use crate::pack::Pack;

/// How packs are merged, as words.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Merge {
    /// Each with the weight that was said.
    packs: Vec<(Py<Pack>, Option<f32>)>,
    recipe: Option<Written>,
    overlap: Option<String>,
    lambda_: f32,
    gain: String,
    /// One for each pack, and those of its tensors that have others.
    gains: Option<Vec<(f32, BTreeMap<String, f32>)>>,
    base_check: String,
}

/// A recipe as JSON text, and the file that it was read from.
#[derive(FromPyObject)]
struct Written(String, Option<PathBuf>);

/// What is put together, and how.
pub struct Found {
    /// Each with its weight.
    pub packs: Vec<(VerifiedPack, f32)>,
    pub options: OpenOptions,
    /// The recipe that is followed, and its file.
    pub recipe: Option<(Recipe, Option<PathBuf>)>,
}

impl Merge {
    /// Whether there are no packs.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.recipe.is_none()
    }

    /// The ids of the packs, in the order in which they are named.
    ///
    /// # Errors
    /// As the packs give them.
    pub fn ids(&self) -> Result<Vec<Digest>> {
        self.packs.iter().map(|(pack, _)| Ok(pack.get().open()?.id())).collect()
    }

    /// Puts the packs on a base, or on each other; gives what is known of the base besides.
    ///
    /// # Errors
    /// As [`Merge::find`] and [`StitchedModel::from_packs`], and, with a recipe, as [`Recipe::check_base`].
    pub fn onto(&self, base: &Arc<Checkpoint>, workers: &Workers) -> Result<(StitchedModel<'static>, BaseIdentity)> {
        let Found { packs, options, recipe } = self.find(workers)?;
        let (model, identity) = StitchedModel::from_packs(base.clone() as Arc<dyn ModelSource>, packs, &options)?;
        recipe.map_or(Ok(()), |(recipe, _)| recipe.check_base(&identity))?;
        Ok((model, identity))
    }

    /// Opens the packs, or finds those of the recipe, and reads the words.
    ///
    /// # Errors
    /// `InvalidInput` for a word that means nothing; as the packs give them; with a recipe, as [`Recipe::find_packs`].
    pub fn find(&self, workers: &Workers) -> Result<Found> {
        let at_hand = self.packs.iter().map(|(pack, weight)| Ok((pack.get().open()?.verify_as_read(), *weight)));
        let at_hand = at_hand.collect::<Result<Vec<_>>>()?;
        let base_check: BaseCheck = self.base_check.parse()?;
        let Some(Written(json, file)) = &self.recipe else {
            let merge = MergeOptions {
                overlap: self.overlap.as_deref().map(str::parse).transpose()?,
                lambda: self.lambda_,
                gain: self.gain.parse()?,
                gains: self.gains.as_ref().map(|all| all.iter().cloned().map(pack_gain).collect()),
            };
            let packs = at_hand.into_iter().map(|(pack, weight)| (pack, weight.unwrap_or(1.0))).collect();
            let options = OpenOptions { merge, base_check, workers: workers.clone() };
            return Ok(Found { packs, options, recipe: None });
        };
        let recipe = Recipe::parse(json.as_bytes())?;
        let beside = file.as_deref().and_then(Path::parent);
        let folders: Vec<&Path> = beside.into_iter().chain([Path::new("")]).collect();
        let packs = recipe.find_packs(at_hand, &folders)?;
        // A recipe is a promise about the whole model.
        let base_check = if base_check == BaseCheck::Touched { BaseCheck::Full } else { base_check };
        let options = OpenOptions { merge: recipe.merge_options()?, base_check, workers: workers.clone() };
        Ok(Found { packs, options, recipe: Some((recipe, file.clone())) })
    }
}

fn pack_gain((gain, tensors): (f32, BTreeMap<String, f32>)) -> PackGain {
    PackGain { gain, tensors }
}
