//! What is known of the base while a model is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::checkpoint::UnreadIdentity;
use crate::error::{Error, Result};
use crate::merge::StitchedModel;
use crate::merge::recipe::Recipe;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::parallel::Workers;

/// A base that was proven to be the packs' own, or one whose digests are taken while it is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base<'b> {
    Proven(&'b BaseIdentity),
    Unread { identity: &'b UnreadIdentity<'b>, recipe: Option<&'b Recipe> },
}

impl<'b> Base<'b> {
    /// The digest of a tensor, where it is known before the tensor is read.
    pub fn digest(self, name: &str) -> Option<Digest> {
        match self {
            Base::Proven(identity) => identity.tensor(name).and_then(|(_, digest)| digest),
            Base::Unread { identity, .. } => identity.remembered(name),
        }
    }

    /// Whether a tensor's digest has to be taken when it is read.
    pub fn wants(self, name: &str) -> bool {
        matches!(self, Base::Unread { identity, .. } if identity.wants(name))
    }

    /// Ends the reading: `digests` are those that were wanted. Before this nothing of the result may be used. [BAS-2]
    ///
    /// # Errors
    /// `BaseMismatch` where the base is not that of the recipe and of every pack; `Io` where it was changed meanwhile.
    pub fn settle(self, model: &StitchedModel, digests: &BTreeMap<&str, Digest>) -> Result<Cow<'b, BaseIdentity>> {
        match self {
            Base::Proven(identity) => {
                model.base().unchanged()?;
                Ok(Cow::Borrowed(identity))
            }
            Base::Unread { identity, recipe } => {
                let found = identity.settle(digests)?;
                compare(model, &found, recipe)?;
                Ok(Cow::Owned(found))
            }
        }
    }

    /// What stopped the stitching: a base that was not proven is read first, since the wrong one explains anything but
    /// what the system or the caller did.
    pub fn blame(self, model: &StitchedModel, e: Error, workers: &Workers) -> Error {
        match self {
            Base::Unread { identity, recipe } if !matches!(e, Error::Io { .. } | Error::Interrupted) => {
                let compared = identity.read(workers).and_then(|found| compare(model, &found, recipe));
                compared.err().unwrap_or(e)
            }
            _ => e,
        }
    }
}

fn compare(model: &StitchedModel, found: &BaseIdentity, recipe: Option<&Recipe>) -> Result<()> {
    recipe.map_or(Ok(()), |recipe| recipe.check_base(found))?;
    model.layers().iter().try_for_each(|layer| layer.pack.check_base(found))
}
