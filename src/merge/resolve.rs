//! What a recipe names, found again: its base, its packs by their ids, its rule. spec/format.md, "Recipe".

use std::path::Path;

use crate::error::{Error, Escaped, Result};
use crate::merge::gain::PackGain;
use crate::merge::options::{GainChoice, MergeOptions};
use crate::merge::recipe::{Recipe, RecipePack};
use crate::pack::{OpenedPack, VerifiedPack};

/// A pack at hand, and the weight that was said of it.
pub type AtHand = (VerifiedPack, Option<f32>);

impl Recipe {
    /// How its packs are merged, with the gain of each.
    ///
    /// # Errors
    /// `InvalidInput` for a rule that does not exist, which no recipe has that was parsed.
    pub fn merge_options(&self) -> Result<MergeOptions> {
        let gain = |p: &RecipePack| PackGain { gain: p.gain, tensors: p.tensor_gains.clone() };
        let gains = Some(self.packs.iter().map(gain).collect());
        Ok(MergeOptions { overlap: Some(self.overlap.parse()?), lambda: self.lambda, gain: GainChoice::Stored, gains })
    }

    /// Its packs in its order, each with its weight: those at hand by their ids, the others by the recorded file name in the
    /// first of these folders that has them.
    ///
    /// # Errors
    /// `InvalidInput` for a pack with another weight than the recipe's and for one that is at hand twice; `Refused` for a pack that the recipe lacks, and for one
    /// of the recipe's that is nowhere; `Malformed` for a gain for a tensor that its pack does not have;
    /// as [`OpenedPack::open`] for a file of the recorded name that is no pack.
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
            check_gains(pack, &own)?;
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
}

/// A gain is for a tensor that its pack has. [REC-2]
fn check_gains(named: &RecipePack, pack: &VerifiedPack) -> Result<()> {
    match named.tensor_gains.keys().find(|name| !pack.touches(name)) {
        Some(name) => {
            let detail = format!("a gain for tensor \"{}\", which pack {} does not have", Escaped(name), named.id);
            Err(Error::malformed("REC-2", "recipe", detail))
        }
        None => Ok(()),
    }
}

fn name(pack: &VerifiedPack) -> String {
    pack.name().map_or("a pack".into(), |path| Escaped(&path.to_string_lossy()).to_string())
}

fn look_for(pack: &RecipePack, folders: &[&Path]) -> Result<VerifiedPack> {
    // Only the last part: a recipe does not say where to look.
    let file = Path::new(&pack.file).file_name().unwrap_or_default();
    let mut other = None;
    for path in folders.iter().map(|folder| folder.join(file)).filter(|path| path.is_file()) {
        match OpenedPack::open(&path) {
            Ok(opened) if opened.id().to_string() == pack.id => return Ok(opened.verify_as_read()),
            Ok(opened) => {
                let path = Escaped(&path.to_string_lossy()).to_string();
                let why = format!("{path} is pack {}, the recipe's is {}; name its file", opened.id(), pack.id);
                other.get_or_insert(Error::Refused(why));
            }
            Err(e) => drop(other.get_or_insert(e)),
        }
    }
    Err(other.unwrap_or_else(|| {
        let file = Escaped(&pack.file);
        Error::Refused(format!("pack {} ({file}) of the recipe is not at hand; name its file", pack.id))
    }))
}
