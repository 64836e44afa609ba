//! Journey one: base and fine-tuned model → pack.
//!
//! The task vector is never held: each stage reads both checkpoints block by block, as often as it needs to, and what it
//! keeps between blocks is a few numbers a block. spec/numbers.md has the arithmetic.

mod assemble;
mod budget;
pub mod by_eval;
mod created;
mod encode;
mod fit;
mod learn;
mod localize;
mod options;
mod pairs;
mod prepared;
mod spans;
mod values;
pub mod words;

use std::io::BufWriter;
use std::path::Path;

use crate::checkpoint::ModelSource;
use crate::checkpoint::output::{OutputFile, refuse_input};
use crate::error::{Error, Result};

pub use crate::method::learn::gradient::{Batch, Gradient, Parameter};
pub use created::Created;
pub use learn::learned::Learned;
pub use learn::{LearnOptions, learn};
pub use options::{Budget, CreateOptions, Effort, Localizer, Lossy, Method, NewTensors, Rescale, Scope, Size};

use assemble::{Counting, write};
pub(crate) use pairs::{Pair, Pairs};
use prepared::Prepared;
pub(crate) use spans::cut;

/// Makes a pack of the difference between two checkpoints and writes it to `out`.
///
/// # Errors
/// `InvalidInput` for options that contradict each other, a glob that matches nothing, or an output that is an input;
/// `Refused` for an output that exists, checkpoints that differ in more than values, and deltas that are no numbers;
/// `Io` and `Malformed` as the checkpoints give them.
pub fn create(
    base: &dyn ModelSource,
    fine_tuned: &dyn ModelSource,
    out: &Path,
    options: &CreateOptions,
) -> Result<Created> {
    let inputs: Vec<_> = [base.input_paths(), fine_tuned.input_paths(), options.input_paths()].concat();
    refuse_input(out, inputs.iter().map(|p| p.as_path()))?;
    let output = OutputFile::create(out, options.force)?;
    let prepared = Prepared::of(base, fine_tuned, options)?;
    let options = &budget::resolve(&prepared, options)?;
    let created = {
        let writer = BufWriter::new(output.file());
        let (writer, created) = write(&prepared, writer, out, options)?;
        writer.into_inner().map_err(|e| Error::io(out, e.into_error()))?;
        created
    };
    output.commit()?;
    Ok(created)
}

/// Options that say how the pack is made, for options that may say only how large it may be: with them [`create`] makes the
/// same pack.
///
/// # Errors
/// As [`create`].
pub fn resolve(base: &dyn ModelSource, fine_tuned: &dyn ModelSource, options: &CreateOptions) -> Result<CreateOptions> {
    budget::resolve(&Prepared::of(base, fine_tuned, options)?, options)
}

/// Does everything but keep the pack: what [`create`] would report, and how large the pack would be.
///
/// # Errors
/// As [`create`].
pub fn create_dry(base: &dyn ModelSource, fine_tuned: &dyn ModelSource, options: &CreateOptions) -> Result<Created> {
    let prepared = Prepared::of(base, fine_tuned, options)?;
    let options = &budget::resolve(&prepared, options)?;
    write(&prepared, Counting::default(), Path::new("-"), options).map(|(_, created)| created)
}
