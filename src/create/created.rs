//! What making a pack came to.

use crate::model::digest::Digest;

/// What was made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Created {
    /// The digest that names the file.
    pub id: Digest,
    /// The digest of what it decodes to.
    pub content: Digest,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// Bytes of the fine-tuned checkpoint's weight files; of an adapter those of its base's.
    pub fine_tuned_bytes: u64,
    /// Tensors with a delta in the pack.
    pub touched: usize,
    /// n: elements of the included float tensors.
    pub candidates: u64,
    /// How many of those differ (exact: units of all tensors that differ).
    pub changed: u64,
    /// k: positions kept.
    pub kept: u64,
    /// The share of the task vector's squared norm that the kept elements hold.
    pub energy: f64,
    /// The pack's gain.
    pub gain: f32,
    /// Whether the pack, applied alone, gives the whole fine-tuned checkpoint bit for bit.
    pub exact: bool,
    /// Whether all that it touches is stored as exact steps.
    pub all_steps: bool,
    /// Positions of a given mask at which nothing changed.
    pub unchanged_in_mask: u64,
    /// Tensors that only the fine-tuned checkpoint has, or has in another shape, and that the pack carries.
    pub carried: Vec<String>,
    /// Such tensors that the pack leaves out.
    pub skipped: Vec<String>,
    /// Tensors that only the base has; they stay as they are.
    pub only_in_base: Vec<String>,
    /// Companion files that differ from the base's; the pack holds them if that was asked for.
    pub companions: Vec<String>,
}
