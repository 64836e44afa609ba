//! A pack while it is being learned: a mask, what a receiver of it would get, and the gains so far.

use crate::create::learn::learned::Learned;
use crate::create::learn::preview::Preview;
use crate::error::{Error, Escaped, Result};
use crate::method::learn::gains::Gains;

/// One mask, and its gains.
pub(super) struct Candidate {
    learned: Learned,
    pub preview: Preview,
    pub gains: Gains,
}

impl Candidate {
    /// Begins with one gain for all of so many tensors.
    pub fn new(learned: Learned, preview: Preview, gain: f64, tensors: usize) -> Self {
        Candidate { learned, preview, gains: Gains::new(vec![gain; tensors], vec![0; tensors]) }
    }

    /// What was learned about tensors of these names.
    pub fn finish<'a>(self, names: impl Iterator<Item = &'a str>) -> Result<Learned> {
        let Candidate { mut learned, gains, .. } = self;
        for (name, gain) in names.zip(gains.all()) {
            let lacks = || Error::Internal(format!("nothing was learned about {}", Escaped(name)));
            learned.tensors.get_mut(name).ok_or_else(lacks)?.gain = gain;
        }
        Ok(learned)
    }
}
