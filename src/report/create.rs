//! What `create` and `fold` made.

use std::path::Path;

use serde::Serialize;

use crate::create::Created;
use crate::create::by_eval::{Smallest, Trial};
use crate::report::document::path_text;

/// A pack that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CreateReport {
    /// Where it was written; none for a dry run.
    pub path: Option<String>,
    /// The digest that names the file, in hex.
    pub id: String,
    /// The digest of what it decodes to, in hex.
    pub content_id: String,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Bytes of the fine-tuned model's weight files.
    pub fine_tuned_bytes: u64,
    /// `pack_bytes` ÷ `fine_tuned_bytes`.
    pub size_share: f64,
    /// Tensors with a delta in the pack.
    pub touched_tensors: usize,
    /// Elements that could have been kept.
    pub candidates: u64,
    /// How many of those differ.
    pub changed: u64,
    /// Positions kept.
    pub kept: u64,
    /// The share of the task vector's squared norm that they hold.
    pub energy_kept: f64,
    /// The pack's gain.
    pub gain: f32,
    /// Whether the pack, applied alone, gives the whole fine-tuned model bit for bit.
    pub exact: bool,
    /// Whether all that it touches is stored as exact steps.
    pub all_steps: bool,
    /// Positions of a given mask at which nothing changed.
    pub unchanged_in_mask: u64,
    /// Tensors that the pack carries whole.
    pub carried: Vec<String>,
    /// New tensors that it leaves out.
    pub skipped: Vec<String>,
    /// Tensors that only the base has.
    pub only_in_base: Vec<String>,
    /// Companion files that differ from the base's.
    pub differing_files: Vec<String>,
    /// How the size was found, with `--eval`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}

/// Quality against bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Evaluation {
    /// What the base was measured at.
    pub base: f64,
    /// What the fine-tuned model was measured at.
    pub fine_tuned: f64,
    /// The pack that was written.
    pub chosen: Trial,
    /// All candidates, by size.
    pub trials: Vec<Trial>,
}

impl CreateReport {
    /// What was made, where it was written, and how its size was found.
    pub fn of(created: &Created, path: Option<&Path>, found: Option<&Smallest>) -> Self {
        CreateReport {
            path: path.map(path_text),
            id: created.id.to_string(),
            content_id: created.content.to_string(),
            pack_bytes: created.pack_bytes,
            fine_tuned_bytes: created.fine_tuned_bytes,
            size_share: created.pack_bytes as f64 / created.fine_tuned_bytes.max(1) as f64,
            touched_tensors: created.touched,
            candidates: created.candidates,
            changed: created.changed,
            kept: created.kept,
            energy_kept: created.energy,
            gain: created.gain,
            exact: created.exact,
            all_steps: created.all_steps,
            unchanged_in_mask: created.unchanged_in_mask,
            carried: created.carried.clone(),
            skipped: created.skipped.clone(),
            only_in_base: created.only_in_base.clone(),
            differing_files: created.companions.clone(),
            evaluation: found.map(|found| Evaluation {
                base: found.base,
                fine_tuned: found.fine_tuned,
                chosen: found.chosen.clone(),
                trials: found.trials.clone(),
            }),
        }
    }
}
