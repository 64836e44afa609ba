//! What a person may choose when a pack is made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::checkpoint::{BaseCheck, Checkpoint};
pub use crate::codec::block::Effort;
use crate::create::budget::Budget;
use crate::create::learned::Learned;
use crate::error::{Error, Result};
use crate::method::density::Density;
use crate::model::delta::{Groups, ValueKind};
use crate::model::origin::RescaleName;
pub(crate) use crate::model::tensor::BLOCK_LOG2;
use crate::parallel::Workers;

/// How [`create`](crate::create()) makes a pack.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Exact or lossy, and how.
    pub method: Method,
    /// Globs; when there are any, only tensors that match one take part.
    pub include: Vec<String>,
    /// Globs; tensors that match one do not take part.
    pub exclude: Vec<String>,
    /// Round fine-tuned values to the base's dtype where the dtypes differ.
    pub cast: bool,
    /// What to do with tensors that only the fine-tuned checkpoint has, or has in another shape.
    pub new_tensors: NewTensors,
    /// Take companion files that differ from the base's (tokenizer, chat template …) into the pack.
    pub carry_files: bool,
    /// What to write on the pack.
    pub notes: BTreeMap<String, String>,
    /// Replace an output that exists.
    pub force: bool,
    /// Record the digest of the touched tensors when the pack is applied alone.
    pub record_result: bool,
    /// What is packed is a merge of packs, no fine-tune: the pack says so, since a merge of merges is not the merge of all.
    pub folded: bool,
    /// How hard the encoder tries.
    pub effort: Effort,
    /// Whether the base's digests may come from the cache.
    pub base_check: BaseCheck,
    /// Threads and progress.
    pub workers: Workers,
}

impl Default for CreateOptions {
    fn default() -> Self {
        CreateOptions {
            method: Method::Sized(Budget::default()),
            include: Vec::new(),
            exclude: Vec::new(),
            cast: false,
            new_tensors: NewTensors::default(),
            carry_files: false,
            notes: BTreeMap::new(),
            force: false,
            record_result: true,
            folded: false,
            effort: Effort::default(),
            base_check: BaseCheck::Full,
            workers: Workers::default(),
        }
    }
}

impl CreateOptions {
    pub(crate) fn check(&self) -> Result<()> {
        if self.base_check == BaseCheck::Touched {
            return Err(Error::InvalidInput("create reads all of the base: use full or cached".into()));
        }
        let lossy = match &self.method {
            Method::Exact => return Ok(()),
            Method::Lossy(lossy) | Method::Sized(Budget { lossy, .. }) => lossy,
        };
        if lossy.values == ValueKind::Step {
            return Err(Error::InvalidInput("steps are what an exact pack has; choose another value kind".into()));
        }
        if lossy.groups == Groups::Row && !lossy.values.has_scale() {
            return Err(Error::InvalidInput(format!("{} values have no scale to group by row", lossy.values)));
        }
        if lossy.rescale == Some(Rescale::Learned) && !lossy.localizer.is_learned() {
            return Err(Error::InvalidInput("only what was learned has a learned gain; choose another rescale".into()));
        }
        match lossy.rescale {
            Some(Rescale::Factor(x)) if !(x.is_finite() && x > 0.0) => {
                Err(Error::InvalidInput(format!("rescale factor {x} is not a positive number")))
            }
            _ => Ok(()),
        }
    }

    /// Score and mask files, which an output must not replace.
    pub(crate) fn input_paths(&self) -> Vec<PathBuf> {
        let lossy = match &self.method {
            Method::Exact => return Vec::new(),
            Method::Lossy(lossy) | Method::Sized(Budget { lossy, .. }) => lossy,
        };
        match lossy {
            Lossy { localizer: Localizer::Scores(file) | Localizer::Mask(file), .. } => file.own_paths(),
            _ => Vec::new(),
        }
    }
}

impl FromStr for Effort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "fast" => Ok(Effort::Fast),
            "default" => Ok(Effort::Default),
            "small" => Ok(Effort::Small),
            _ => Err(Error::InvalidInput(format!("effort \"{text}\" is not fast, default or small"))),
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

/// Exact or lossy.
#[derive(Debug, Clone)]
pub enum Method {
    /// Steps for every unit that differs, in every dtype.
    Exact,
    /// A mask, and quantized deltas for the kept positions.
    Lossy(Lossy),
    /// Whatever makes the best model for so many bytes: the exact pack where that fits, a lossy one elsewhere.
    Sized(Budget),
}

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
            density: "0.01".parse().unwrap_or(Density::ALL),
            localizer: Localizer::Magnitude,
            scope: Scope::default(),
            values: ValueKind::Sign,
            groups: Groups::Tensor,
            rescale: None,
        }
    }
}

impl Lossy {
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

/// What happens to tensors that only the fine-tuned checkpoint has, or has in another shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NewTensors {
    /// An error that lists them.
    #[default]
    Refuse,
    /// They go into the pack whole.
    Carry,
    /// They are left out.
    Skip,
}

impl FromStr for NewTensors {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "refuse" => Ok(NewTensors::Refuse),
            "carry" => Ok(NewTensors::Carry),
            "skip" => Ok(NewTensors::Skip),
            _ => Err(Error::InvalidInput(format!("new tensors \"{text}\" is not refuse, carry or skip"))),
        }
    }
}
