//! How packs are merged.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::merge::gain::PackGain;
use crate::method::stitch::OverlapRule;

/// Which gain a lossy pack is applied with. Exact packs have none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum GainChoice {
    /// The gain in the pack, alone and together: what measurement found best (spec/rationale.md, "The gain of a merge"). The words
    /// `stored` and `auto` both mean it.
    #[default]
    Stored,
    /// 1.
    None,
    /// The same for every pack.
    Factor(f32),
}

impl FromStr for GainChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "stored" | "auto" => Ok(GainChoice::Stored),
            "none" => Ok(GainChoice::None),
            number => match number.parse::<f32>() {
                Ok(x) if x.is_finite() && x > 0.0 => Ok(GainChoice::Factor(x)),
                _ => {
                    Err(Error::InvalidInput(format!("gain \"{text}\" is not auto, stored, none or a positive number")))
                }
            },
        }
    }
}

/// How packs are merged.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeOptions {
    /// What happens where packs keep the same position; none said means [`OverlapRule::Average`], which exact and lossy packs
    /// together do not accept unsaid.
    pub overlap: Option<OverlapRule>,
    /// λ, the factor of the whole.
    pub lambda: f32,
    /// Which gains are used.
    pub gain: GainChoice,
    /// Gains for each pack in the order in which they are named, as a recipe has them; then `gain` is not asked.
    pub gains: Option<Vec<PackGain>>,
}

impl Default for MergeOptions {
    fn default() -> Self {
        MergeOptions { overlap: None, lambda: 1.0, gain: GainChoice::Stored, gains: None }
    }
}
