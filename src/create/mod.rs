//! Journey one: base and fine-tuned model → pack.
//!
//! The task vector is never held: each stage reads both checkpoints block by block, as often as it needs to, and what it
//! keeps between blocks is a few numbers a block. spec/numbers.md has the arithmetic.

mod budget;
pub mod by_eval;
mod encode;
mod fit;
mod learn;
mod learned;
mod lesson;
mod localize;
mod options;
mod pairs;
mod receiver;
mod values;
pub mod words;

use std::io::BufWriter;
use std::path::Path;

use crate::checkpoint::ModelSource;
use crate::checkpoint::output::{OutputFile, refuse_input};
use crate::error::{Error, Result};
use crate::format::header::Header;
use crate::format::manifest::{Manifest, Origin};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::origin::{LocalizerName, RescaleName};
use crate::pack::writer::PackWriter;

pub use crate::method::learn::gradient::{Batch, Gradient, Parameter};
pub use budget::{Budget, Size};
pub use learn::{LearnOptions, learn};
pub use learned::Learned;
pub use options::{CreateOptions, Effort, Localizer, Lossy, Method, NewTensors, Rescale, Scope};

use encode::Encoder;
use localize::Localized;
pub(crate) use localize::cut;
pub(crate) use pairs::{Pair, Pairs};
use values::Quantizer;

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
    let options = &prepared.resolve(options)?;
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
    Prepared::of(base, fine_tuned, options)?.resolve(options)
}

/// Does everything but keep the pack: what [`create`] would report, and how large the pack would be.
///
/// # Errors
/// As [`create`].
pub fn create_dry(base: &dyn ModelSource, fine_tuned: &dyn ModelSource, options: &CreateOptions) -> Result<Created> {
    let prepared = Prepared::of(base, fine_tuned, options)?;
    let options = &prepared.resolve(options)?;
    write(&prepared, Counting::default(), Path::new("-"), options).map(|(_, created)| created)
}

/// Two checkpoints, matched: what every attempt at a pack starts from.
struct Prepared<'a> {
    base: &'a dyn ModelSource,
    fine_tuned: &'a dyn ModelSource,
    identity: BaseIdentity,
    pairs: Pairs<'a>,
}

impl<'a> Prepared<'a> {
    fn of(base: &'a dyn ModelSource, fine_tuned: &'a dyn ModelSource, options: &CreateOptions) -> Result<Self> {
        options.check()?;
        let identity = base.identity_of(options.base_check, &|_| true, &options.workers)?;
        let pairs = Pairs::of(base, fine_tuned, &identity, options)?;
        Ok(Prepared { base, fine_tuned, identity, pairs })
    }

    /// Options that say how the pack is made, where they said only how large it may be.
    fn resolve(&self, options: &CreateOptions) -> Result<CreateOptions> {
        match &options.method {
            Method::Sized(budget) => budget::resolve(self, budget, options),
            Method::Exact | Method::Lossy(_) => Ok(options.clone()),
        }
    }
}

fn write<W: std::io::Write + std::io::Seek>(
    prepared: &Prepared,
    out: W,
    path: &Path,
    options: &CreateOptions,
) -> Result<(W, Created)> {
    let Prepared { base, fine_tuned, identity, pairs } = prepared;
    let localized = Localized::of(pairs, options)?;
    let quantizer = Quantizer::fit(pairs, &localized, options)?;
    let writer = PackWriter::new(out, path.to_owned())?;
    let encoder = Encoder { pairs, localized: &localized, quantizer: &quantizer, options };
    let (writer, encoded) = encoder.run(writer)?;
    fine_tuned.unchanged()?;
    base.unchanged()?;
    let base_digest = identity.digest().ok_or_else(|| Error::Internal("a base without a digest".into()))?;
    let files = if options.carry_files { pairs.carried_files()? } else { Vec::new() };
    let content = encoded.content_id(base_digest, quantizer.gain, &files);
    let result = encoded.result();
    let (touched, kept) = (encoded.rows.len(), encoded.kept);
    let manifest = Manifest {
        tool: concat!("stitchpack ", env!("CARGO_PKG_VERSION")).into(),
        base: base_digest.0,
        content: content.0,
        result: options.record_result.then_some(result.0),
        all_steps: matches!(options.method, Method::Exact),
        exact: matches!(options.method, Method::Exact) && pairs.is_whole(),
        gain: quantizer.gain,
        block_log2: options::BLOCK_LOG2,
        origin: origin(pairs, &localized, options),
        notes: options.notes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        tensors: encoded.rows.iter().collect(),
        payloads: Vec::new(),
        tables: Vec::new(),
        files: Vec::new(),
    };
    let (out, header) = writer.finish(manifest, &files)?;
    Ok((out, report(&encoder, *fine_tuned, &header, content, (touched, kept))?))
}

fn origin(pairs: &Pairs, localized: &Localized, options: &CreateOptions) -> Origin {
    let (localizer, scope, density, rescale) = match &options.method {
        _ if options.folded => (LocalizerName::Folded, "", (0, 0), RescaleName::None),
        Method::Exact | Method::Sized(_) => (LocalizerName::Exact, "", (0, 0), RescaleName::None),
        Method::Lossy(l) => {
            let (localizer, density) = match &l.localizer {
                Localizer::Magnitude => (LocalizerName::Magnitude, l.density.fraction()),
                Localizer::Scores(_) => (LocalizerName::Scores, l.density.fraction()),
                Localizer::Mask(_) => (LocalizerName::Mask, (0, 0)),
                Localizer::Learned(_) => (LocalizerName::Learned, l.density.fraction()),
            };
            let scope = if localizer == LocalizerName::Mask { "" } else { l.scope.name() };
            (localizer, scope, density, l.rescale().name())
        }
    };
    Origin {
        localizer: localizer.name().into(),
        scope: scope.into(),
        density,
        candidates: pairs.candidates(),
        rescale: rescale.name().into(),
        energy: localized.energy(),
        include: options.include.clone(),
        exclude: options.exclude.clone(),
    }
}

fn report(
    encoder: &Encoder,
    fine_tuned: &dyn ModelSource,
    header: &Header,
    content: Digest,
    (touched, kept): (usize, u64),
) -> Result<Created> {
    let Encoder { pairs, localized, quantizer, options } = encoder;
    let all_steps = matches!(options.method, Method::Exact);
    Ok(Created {
        id: header.id,
        content,
        pack_bytes: header.file_len,
        fine_tuned_bytes: fine_tuned.weight_bytes()?,
        touched,
        candidates: pairs.candidates(),
        changed: if all_steps { kept } else { localized.changed },
        kept,
        energy: localized.energy(),
        gain: quantizer.gain,
        exact: all_steps && pairs.is_whole(),
        all_steps,
        unchanged_in_mask: localized.unchanged_in_mask,
        carried: pairs.carried.iter().map(|t| t.name.clone()).collect(),
        skipped: pairs.skipped.clone(),
        only_in_base: pairs.only_in_base.clone(),
        companions: pairs.differing_companions()?,
    })
}

/// Counts what is written and where, and keeps nothing.
#[derive(Default)]
struct Counting {
    at: u64,
}

impl std::io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Counting {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        if let std::io::SeekFrom::Start(at) = to {
            self.at = at;
        }
        Ok(self.at)
    }
}
