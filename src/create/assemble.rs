//! All passes, and the pack around what they give.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::checkpoint::ModelSource;
use crate::create::created::Created;
use crate::create::encode::{Encoder, Inputs};
use crate::create::localize::Localized;
use crate::create::options::{CreateOptions, Localizer, Method};
use crate::create::pairs::Pairs;
use crate::create::prepared::Prepared;
use crate::create::values::Quantizer;
use crate::error::{Error, Result};
use crate::format::header::Header;
use crate::format::manifest::{Manifest, Origin};
use crate::model::digest::Digest;
use crate::model::origin::{LocalizerName, RescaleName};
use crate::model::tensor::BLOCK_LOG2;
use crate::pack::writer::PackWriter;

/// Makes the pack that options without a budget ask for. `path` is for errors only.
pub(crate) fn write<W: Write + Seek>(
    prepared: &Prepared,
    out: W,
    path: &Path,
    options: &CreateOptions,
) -> Result<(W, Created)> {
    let Prepared { base, fine_tuned, identity, pairs } = prepared;
    let localized = Localized::of(pairs, options)?;
    let quantizer = Quantizer::fit(pairs, &localized, options)?;
    let writer = PackWriter::new(out, path.to_owned())?;
    let inputs = Inputs { pairs, localized: &localized, quantizer: &quantizer };
    let encoder = Encoder { inputs, options };
    let (writer, encoded) = encoder.run(writer)?;
    fine_tuned.unchanged()?;
    base.unchanged()?;
    let base_digest = identity.digest().ok_or_else(|| Error::Internal("a base without a digest".into()))?;
    let files = if options.carry_files { pairs.carried_files()? } else { Vec::new() };
    let content = encoded.content_id(base_digest, quantizer.gain, &files);
    let result = encoded.result()?;
    let (touched, kept) = (encoded.rows.len(), encoded.kept);
    let manifest = Manifest {
        tool: concat!("stitchpack ", env!("CARGO_PKG_VERSION")).into(),
        base: base_digest.0,
        content: content.0,
        result: options.record_result.then_some(result.0),
        all_steps: matches!(options.method, Method::Exact),
        exact: matches!(options.method, Method::Exact) && pairs.is_whole(),
        gain: quantizer.gain,
        block_log2: BLOCK_LOG2,
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
    let Encoder { inputs: Inputs { pairs, localized, quantizer }, options } = encoder;
    let all_steps = matches!(options.method, Method::Exact);
    Ok(Created {
        id: header.id,
        content,
        pack_bytes: header.file_len,
        fine_tuned_bytes: fine_tuned.weight_bytes()?,
        touched,
        candidates: pairs.candidates(),
        changed: if all_steps { kept } else { localized.seen.changed },
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
pub(crate) struct Counting {
    at: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Seek for Counting {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        if let SeekFrom::Start(at) = to {
            self.at = at;
        }
        Ok(self.at)
    }
}
