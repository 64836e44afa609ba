//! What `export` wrote.

use std::path::Path;

use serde::Serialize;

use crate::export::{Exported, Format};
use crate::report::document::path_text;

/// A change that was written for another program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// The file or folder.
    pub path: String,
    /// `weight-patch`, `safetensors-delta` or `shira`.
    pub format: &'static str,
    /// Bytes of the safetensors file.
    pub bytes: u64,
    /// Tensors of which something was written.
    pub tensors: usize,
    /// Positions that were written.
    pub changed: u64,
    /// Tensors that were written whole.
    pub whole: Vec<String>,
    /// SHiRA's r.
    pub rank: Option<u64>,
    /// Digest of the base, in hex, where all of it was read.
    pub base: Option<String>,
    /// Digest of the model that the change leads to, in hex, where all of the base was read.
    pub result: Option<String>,
}

impl ExportReport {
    /// What was written, where, and for whom.
    pub fn of(exported: &Exported, path: &Path, format: Format) -> Self {
        ExportReport {
            path: path_text(path),
            format: format.name(),
            bytes: exported.bytes,
            tensors: exported.tensors,
            changed: exported.changed,
            whole: exported.whole.clone(),
            rank: exported.rank,
            base: exported.base.map(|digest| digest.to_string()),
            result: exported.result.map(|digest| digest.to_string()),
        }
    }
}
