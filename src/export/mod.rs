//! What a set of packs changes, written for other programs: spec/export.md.
//!
//! Everything is computed twice: once to count, so that sizes, offsets and room on the disk are known before a byte is
//! written, and once to write. In memory is what is staged of a few tensors at a time.

mod changes;
mod layout;
mod number;
mod shira;
mod sparse;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::checkpoint::ModelSource;
use crate::checkpoint::output::refuse_input;
use crate::error::{Error, Result};
use crate::merge::StitchedModel;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::numbered::{chosen, named};
use crate::parallel::Workers;

use changes::Changes;

named! {
    /// What other program the change is written for.
    #[non_exhaustive]
    pub enum Format, "export format" {
        /// Names, flat positions and new values, as inference engines take sparse checkpoint weight patches.
        WeightPatch => "weight-patch",
        /// Names, flat positions and the numbers to add.
        SafetensorsDelta => "safetensors-delta",
        /// A SHiRA adapter, as PEFT loads it.
        Shira => "shira",
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        chosen("export format", name, Format::ALL)
    }
}

/// How a change is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// For whom.
    pub format: Format,
    /// Replace an output that exists.
    pub force: bool,
    /// Threads and progress.
    pub workers: Workers,
}

impl ExportOptions {
    /// A format, and the defaults: nothing is replaced, one thread a core.
    pub fn new(format: Format) -> Self {
        ExportOptions { format, force: false, workers: Workers::default() }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// Bytes of the safetensors file.
    pub bytes: u64,
    /// Tensors of which something was written.
    pub tensors: usize,
    /// Positions that were written, those of SHiRA's padding not counted.
    pub changed: u64,
    /// Tensors that were written whole: those that the base lacks, and those whose units are not elements.
    pub whole: Vec<String>,
    /// Digest of the base, where all of it was read.
    pub base: Option<Digest>,
    /// Digest of the model that the change leads to, where all of the base was read.
    pub result: Option<Digest>,
    /// SHiRA's r.
    pub rank: Option<u64>,
}

/// Writes what a model's packs change: one safetensors file, for SHiRA a folder. `base` is what is known of the base. [EXP-1]
///
/// # Errors
/// `InvalidInput` for an output that is an input; `Refused` for one that exists, for what the format cannot hold (naming the
/// tensor), for an overlap under `refuse`, and for finite elements that would become infinite or NaN; `DigestMismatch` or
/// `Malformed` for a damaged pack; `Io`. Whatever the error, nothing is left behind.
pub fn export(model: &StitchedModel, base: &BaseIdentity, out: &Path, options: &ExportOptions) -> Result<Exported> {
    refuse_input(out, model.input_paths().iter().map(PathBuf::as_path))?;
    let changes = Changes::new(model, base, options);
    match options.format {
        Format::WeightPatch | Format::SafetensorsDelta => sparse::write(&changes, out),
        Format::Shira => shira::write(&changes, out),
    }
}
