//! What a recipe names, found again: its base, its packs by their ids, its rule. spec/format.md, "Recipe".

use std::path::Path;

use crate::error::{BaseMismatch, Error, Escaped, Result};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::pack::{OpenedPack, VerifiedPack};
use crate::recipe::{Recipe, RecipePack};
use crate::stitched::{GainChoice, MergeOptions};

/// A pack at hand, and the weight that was said of it.
pub type AtHand = (VerifiedPack, Option<f32>);

impl Recipe {
    /// How its packs are merged, with the gain of each.
    ///
    /// # Errors
    /// `InvalidInput` for a rule that does not exist, which no recipe has that was parsed.
    pub fn merge_options(&self) -> Result<MergeOptions> {
        let gains = Some(self.packs.iter().map(|p| p.gain).collect());
        Ok(MergeOptions { overlap: Some(self.overlap.parse()?), lambda: self.lambda, gain: GainChoice::Auto, gains })
    }

    /// Its packs in its order, each with its weight: those at hand by their ids, the others by the recorded file name in the
    /// first of these folders that has them.
    ///
    /// # Errors
    /// `InvalidInput` for a pack with another weight than the recipe's and for one that is at hand twice; `Refused` for a pack that the recipe lacks, and for one
    /// of the recipe's that is nowhere.
    pub fn find_packs(&self, at_hand: Vec<AtHand>, folders: &[&Path]) -> Result<Vec<(VerifiedPack, f32)>> {
        let mut rest = at_hand;
        let mut found = Vec::with_capacity(self.packs.len());
        for pack in &self.packs {
            let place = rest.iter().position(|(own, _)| own.id().to_string() == pack.id);
            let own = match place.map(|i| rest.remove(i)) {
                Some((own, Some(weight))) if weight != pack.weight => {
                    let detail = format!("{}: weight {weight}, but the recipe has {}", name(&own), pack.weight);
                    return Err(Error::InvalidInput(detail));
                }
                Some((own, _)) => own,
                None => look_for(pack, folders)?,
            };
            found.push((own, pack.weight));
        }
        match rest.first() {
            None => Ok(found),
            Some((other, _)) if self.packs.iter().any(|p| p.id == other.id().to_string()) => {
                Err(Error::InvalidInput(format!("pack {} ({}) is named twice", other.id(), name(other))))
            }
            Some((other, _)) => {
                Err(Error::Refused(format!("{}: pack {} is not in the recipe", name(other), other.id())))
            }
        }
    }

    /// Whether a base is the recipe's. All of it must have been read.
    ///
    /// # Errors
    /// `BaseMismatch` where it is not.
    pub fn check_base(&self, base: &BaseIdentity) -> Result<()> {
        let (expected, found) = (self.base_digest(), base.digest());
        if expected.is_some() && expected == found {
            return Ok(());
        }
        Err(Error::BaseMismatch(Box::new(BaseMismatch {
            diagnosis: "the recipe names another base".into(),
            advice: "get the base that the recipe was made with".into(),
            tensors: Vec::new(),
            differing: 0,
            touched: 0,
            expected: expected.unwrap_or(Digest([0; 32])).0,
            found: found.map(|d| d.0),
        })))
    }
}

fn name(pack: &VerifiedPack) -> String {
    pack.path().map_or("a pack".into(), |path| Escaped(&path.to_string_lossy()).to_string())
}

fn look_for(pack: &RecipePack, folders: &[&Path]) -> Result<VerifiedPack> {
    // Only the last part: a recipe does not say where to look.
    let file = Path::new(&pack.file).file_name().unwrap_or_default();
    let places = folders.iter().map(|folder| folder.join(file)).filter(|path| path.is_file());
    let mut opened = places.filter_map(|path| OpenedPack::open(path).ok());
    let found = opened.find(|opened| opened.id().to_string() == pack.id);
    found.map(OpenedPack::verify_as_read).ok_or_else(|| {
        let file = Escaped(&pack.file);
        Error::Refused(format!("pack {} ({file}) of the recipe is not at hand; name its file", pack.id))
    })
}
