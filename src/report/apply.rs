//! What `apply` and `lock` made.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::apply::Applied;
use crate::checkpoint::BaseCheck;
use crate::error::{Error, Result};
use crate::report::document::path_text;

/// A model that was written, or a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ApplyReport {
    /// The model, or the recipe.
    pub path: String,
    /// Bytes of the model's weight files.
    pub bytes: u64,
    /// Tensors that some pack in play touches.
    pub touched_tensors: usize,
    /// How much of the base was read: `full`, `cached` or `touched`.
    pub base_check: &'static str,
    /// Whether the result was compared with one that was recorded or expected.
    pub result_checked: bool,
    /// What the model is made of, as `stitch.json` has it.
    pub recipe: Value,
}

impl ApplyReport {
    /// What was made, where, and how much of the base was read for it.
    ///
    /// # Errors
    /// `Internal` for a recipe that is no JSON.
    pub fn of(applied: &Applied, path: &Path, check: BaseCheck) -> Result<Self> {
        // Numbers as in the file: f32, not widened to f64.
        let recipe = serde_json::from_slice(&applied.recipe.to_json()?);
        Ok(ApplyReport {
            path: path_text(path),
            bytes: applied.bytes,
            touched_tensors: applied.touched,
            base_check: check.name(),
            result_checked: applied.checked,
            recipe: recipe.map_err(|e| Error::Internal(format!("recipe: {e}")))?,
        })
    }
}
