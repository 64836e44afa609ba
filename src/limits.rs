//! What a reader may spend on bytes that it does not trust.

/// Caps on what a file may ask for. [LIM-1] The defaults are safe; raising one is the caller's decision.
///
/// Every allocation that a file can cause is bounded by one of these and by the bytes at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Decoded bytes of a pack's manifest.
    pub manifest_bytes: u64,
    /// Bytes of a safetensors header (the format itself stops at 100,000,000).
    pub header_bytes: u64,
    /// Tensors of a checkpoint or a pack.
    pub tensors: u64,
    /// Bytes of a tensor's name.
    pub name_bytes: u64,
    /// Dimensions of a tensor.
    pub rank: u64,
    /// Elements of a tensor.
    pub elements: u64,
    /// Stored and decoded bytes of one section.
    pub section_bytes: u64,
    /// Entries of a pack's notes.
    pub notes: u64,
    /// Bytes of a pack's notes, keys and values together.
    pub notes_bytes: u64,
    /// Companion files that a pack carries.
    pub files: u64,
    /// Bytes of the companion files that a pack carries, together.
    pub files_bytes: u64,
    /// Packs in one merge.
    pub packs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            manifest_bytes: 128 << 20,
            header_bytes: 100_000_000,
            tensors: 1 << 18,
            name_bytes: 512,
            rank: 8,
            elements: 1 << 40,
            section_bytes: 64 << 20,
            notes: 1024,
            notes_bytes: 1 << 20,
            files: 1024,
            files_bytes: 256 << 20,
            packs: 4096,
        }
    }
}

impl Limits {
    pub(crate) fn check(limit: &'static str, asked: u64, allowed: u64) -> crate::Result<()> {
        if asked > allowed {
            return Err(crate::Error::LimitExceeded { limit, asked, allowed });
        }
        Ok(())
    }
}
