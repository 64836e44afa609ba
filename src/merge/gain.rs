//! What the kept deltas of a pack are amplified by in a merge.

use std::collections::BTreeMap;

use crate::error::{Error, Escaped, Result};
use crate::pack::BoundPack;

/// The gain of one pack: one for all of it, and one of its own for each tensor that is named. [GAI-2]
#[derive(Debug, Clone, PartialEq)]
pub struct PackGain {
    /// The gain where no other is named.
    pub gain: f32,
    /// Gains by the name of the tensor; a duplicate has that of the tensor whose delta it shares.
    pub tensors: BTreeMap<String, f32>,
}

impl From<f32> for PackGain {
    fn from(gain: f32) -> Self {
        PackGain { gain, tensors: BTreeMap::new() }
    }
}

impl PackGain {
    /// The gain of a tensor's delta.
    pub fn of(&self, tensor: &str) -> f32 {
        self.tensors.get(tensor).copied().unwrap_or(self.gain)
    }

    /// Refuses what is no gain, and names that nothing goes by.
    pub(super) fn check(&self, pack: &BoundPack) -> Result<()> {
        let all = self.tensors.values().chain([&self.gain]);
        if let Some(x) = all.copied().find(|x| !(x.is_finite() && *x > 0.0)) {
            return Err(Error::InvalidInput(format!("a gain is {x}, must be positive and finite")));
        }
        let held = |name: &str| pack.delta(name).is_some_and(|delta| delta.owner() == name);
        match self.tensors.keys().find(|name| !held(name)) {
            Some(name) => {
                let (name, id) = (Escaped(name), pack.id());
                Err(Error::InvalidInput(format!(
                    "there is a gain for tensor \"{name}\", of which pack {id} has no delta"
                )))
            }
            None => Ok(()),
        }
    }
}
