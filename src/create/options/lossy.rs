//! How a lossy pack is made.

use std::str::FromStr;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::create::learn::learned::Learned;
use crate::error::{Error, Result};
use crate::method::density::Density;
use crate::model::delta::{Groups, ValueKind};
use crate::model::origin::RescaleName;

/// How a lossy pack is made.
#[derive(Debug, Clone)]
pub struct Lossy {
    /// The share of elements to keep; a given mask overrides it.
    pub density: Density,
    /// What chooses the positions.
    pub localizer: Localizer,
    /// Among which elements the top k is taken.
    pub scope: Scope,
    /// How kept deltas are stored.
    pub values: ValueKind,
    /// Which positions share a scale.
    pub groups: Groups,
    /// What the pack's gain makes up for; none said means [`Rescale::Learned`] where the mask was learned, else
    /// [`Rescale::default_for`] the value kind.
    pub rescale: Option<Rescale>,
}

impl Default for Lossy {
    /// Density 1 %, magnitude, global, signs with a scale a tensor, energy.
    fn default() -> Self {
        Lossy {
            density: Density::ONE_PERCENT,
            localizer: Localizer::Magnitude,
            scope: Scope::default(),
            values: ValueKind::Sign,
            groups: Groups::Tensor,
            rescale: None,
        }
    }
}

impl Lossy {
    /// Refuses choices that contradict each other.
    pub(super) fn check(&self) -> Result<()> {
        if self.values == ValueKind::Step {
            return Err(Error::InvalidInput("steps are what an exact pack has; choose another value kind".into()));
        }
        if self.groups == Groups::Row && !self.values.has_scale() {
            return Err(Error::InvalidInput(format!("{} values have no scale to group by row", self.values)));
        }
        match self.rescale {
            Some(Rescale::Learned) if !self.localizer.is_learned() => {
                Err(Error::InvalidInput("only what was learned has a learned gain; choose another rescale".into()))
            }
            Some(Rescale::Factor(x)) if !(x.is_finite() && x > 0.0) => {
                Err(Error::InvalidInput(format!("rescale factor {x} is not a positive number")))
            }
            _ => Ok(()),
        }
    }

    /// The rescale rule in force.
    pub fn rescale(&self) -> Rescale {
        let otherwise = if self.localizer.is_learned() { Rescale::Learned } else { Rescale::default_for(self.values) };
        self.rescale.unwrap_or(otherwise)
    }
}

/// What chooses the positions.
#[derive(Debug, Clone)]
pub enum Localizer {
    /// The largest |fine-tuned − base| (the paper's dataless variant).
    Magnitude,
    /// The largest scores: a checkpoint with the names and shapes of the base's float tensors.
    Scores(Arc<Checkpoint>),
    /// A mask as given: BOOL or U8 tensors by name; what is not 0 is kept, a tensor that is not there keeps nothing.
    Mask(Arc<Checkpoint>),
    /// The largest scores of those that [`learn`](crate::create::learn()) found for these checkpoints.
    Learned(Arc<Learned>),
}

impl Localizer {
    pub(crate) fn is_learned(&self) -> bool {
        matches!(self, Localizer::Learned(_))
    }
}

/// Among which elements the top k is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All included float tensors together (the paper's).
    #[default]
    Global,
    /// Each tensor for itself.
    Tensor,
}

impl Scope {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Global => "global",
            Scope::Tensor => "tensor",
        }
    }
}

impl FromStr for Groups {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tensor" => Ok(Groups::Tensor),
            "row" => Ok(Groups::Row),
            _ => Err(Error::InvalidInput(format!("groups \"{text}\" is not tensor or row"))),
        }
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "global" => Ok(Scope::Global),
            "tensor" => Ok(Scope::Tensor),
            _ => Err(Error::InvalidInput(format!("scope \"{text}\" is not known; use global or tensor"))),
        }
    }
}

/// What the gain of a pack makes up for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rescale {
    /// Nothing: gain 1.
    None,
    /// The kept part gets the 2-norm of the task vector.
    Energy,
    /// The kept part gets the 1-norm of the task vector.
    L1,
    /// The geometric mean of both: what keeps most of what fine-tuning gained (spec/rationale.md).
    Balanced,
    /// A factor as given.
    Factor(f32),
    /// The loss that the mask was learned with: a gain a tensor, of which the pack's is the mean.
    Learned,
}

impl Rescale {
    /// Its name in a manifest.
    pub fn name(self) -> RescaleName {
        match self {
            Rescale::None => RescaleName::None,
            Rescale::Energy => RescaleName::Energy,
            Rescale::L1 => RescaleName::L1,
            Rescale::Balanced => RescaleName::Balanced,
            Rescale::Factor(_) => RescaleName::Factor,
            Rescale::Learned => RescaleName::Learned,
        }
    }

    /// What a value kind is rescaled by when nothing is said: float kinds store the delta itself and are left alone, the
    /// quantized kinds get the task vector's norm.
    pub fn default_for(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Step | ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16 => Rescale::None,
            ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign | ValueKind::Codebook => Rescale::Energy,
        }
    }
}

impl FromStr for Rescale {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || {
            Error::InvalidInput(format!("rescale \"{text}\" is not none, energy, l1, balanced or a positive number"))
        };
        match text {
            "none" => Ok(Rescale::None),
            "energy" => Ok(Rescale::Energy),
            "l1" => Ok(Rescale::L1),
            "balanced" => Ok(Rescale::Balanced),
            number => match number.parse::<f32>() {
                Ok(x) if x.is_finite() && x > 0.0 => Ok(Rescale::Factor(x)),
                _ => Err(bad()),
            },
        }
    }
}
