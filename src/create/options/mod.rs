//! What a person may choose when a pack is made.

pub(crate) mod budget;
pub(crate) mod lossy;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use crate::checkpoint::BaseCheck;
pub use crate::codec::block::Effort;
use crate::error::{Error, Result};
use crate::parallel::Workers;

pub use budget::{Budget, Size};
pub use lossy::{Localizer, Lossy, Rescale, Scope};

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
        self.method.lossy().map_or(Ok(()), Lossy::check)
    }

    /// Score and mask files, which an output must not replace.
    pub(crate) fn input_paths(&self) -> Vec<PathBuf> {
        match self.method.lossy().map(|lossy| &lossy.localizer) {
            Some(Localizer::Scores(file) | Localizer::Mask(file)) => file.own_paths(),
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

impl Method {
    /// How a lossy pack is made, where this may make one.
    fn lossy(&self) -> Option<&Lossy> {
        match self {
            Method::Exact => None,
            Method::Lossy(lossy) | Method::Sized(Budget { lossy, .. }) => Some(lossy),
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
