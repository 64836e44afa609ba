//! The last pass: every block is encoded by some thread and written in order.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::Mutex;

use crate::codec::block::{self, Found, Frame};
use crate::codec::classes::coder::ModelPlace;
use crate::create::fit::{Fit, Fits, Group, Task};
use crate::create::localize::{Localized, cut};
use crate::create::options::CreateOptions;
use crate::create::pairs::{Pair, Pairs};
use crate::create::values::Quantizer;
use crate::error::{Error, Escaped, Result};
use crate::format::manifest::{DeltaRow, OwnDelta, TensorRow};
use crate::format::table::Table;
use crate::method::float::{Real, load_unit, with_element};
use crate::method::quantize::dequantize;
use crate::method::step;
use crate::method::stitch::{Met, OverlapRule, Part, stitch};
use crate::model::delta::{BlockDelta, Groups, StepBlock, ValueKind};
use crate::model::digest::{Digest, Role, TensorDigester};
use crate::model::identity::digest_of;
use crate::model::tensor::TensorInfo;
use crate::pack::content::{self, DeltaContent};
use crate::pack::writer::{PackWriter, row_of};

/// Everything that is known before the last pass.
pub(crate) struct Encoder<'a> {
    pub pairs: &'a Pairs<'a>,
    pub localized: &'a Localized<'a>,
    pub quantizer: &'a Quantizer,
    pub options: &'a CreateOptions,
}

/// What the manifest needs to know of the tensors.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub rows: Vec<TensorRow>,
    pub kept: u64,
    /// By row: the digest of its delta's content and of its bytes when the pack is applied alone.
    digests: Vec<(Digest, Digest)>,
    /// The rows whose tables hold the models that others share.
    models: BTreeMap<Group, u32>,
}

/// Where a delta comes from.
#[derive(Clone, Copy)]
enum Job<'a> {
    Lossy(usize, &'a Pair),
    Exact(&'a Pair),
    Carried(&'a TensorInfo),
    /// The same as an earlier pair's.
    Same(usize),
}

/// What is kept of a block.
enum Kept {
    List(BlockDelta),
    Steps(StepBlock),
}

impl Kept {
    fn found(&self) -> Found<'_> {
        match self {
            Kept::List(delta) => Found::List(delta),
            Kept::Steps(block) => Found::Steps(block),
        }
    }
}

/// What is kept of a block, the base's bytes of its units, and the fine-tuned bytes.
type Read<'a> = (Kept, Cow<'a, [u8]>, Cow<'a, [u8]>);

/// Memory that is used for one block after another: new pages for each would cost as much as a tenth of the rest.
#[derive(Default)]
struct Buffers {
    steps: StepBlock,
    leaves: Vec<u8>,
}

/// One block, encoded, with what is hashed of it.
struct Done {
    block: block::Encoded,
    kept: usize,
    pieces: Vec<[u8; 32]>,
    buffers: Buffers,
}

impl Encoder<'_> {
    /// Encodes all touched tensors, by name.
    pub fn run<W: Write + Seek>(&self, mut writer: PackWriter<W>) -> Result<(PackWriter<W>, Encoded)> {
        let mut jobs: BTreeMap<&str, Job> = BTreeMap::new();
        let total = |info: &TensorInfo| info.byte_len();
        for (i, pair) in self.pairs.all.iter().enumerate() {
            let lossy = self.quantizer.kind != ValueKind::Step && pair.info.dtype.is_float();
            let own = if lossy { Job::Lossy(i, pair) } else { Job::Exact(pair) };
            jobs.insert(&pair.info.name, pair.same_as.map_or(own, Job::Same));
        }
        jobs.extend(self.pairs.carried.iter().map(|t| (t.name.as_str(), Job::Carried(t))));
        let bytes = self.pairs.all.iter().map(|p| total(&p.info)).sum();
        let fits = self.fit(&jobs, bytes)?;
        self.options.workers.progress().stage("encoding", bytes);
        let (mut out, mut row_of) = (Encoded::default(), BTreeMap::new());
        for (i, (name, job)) in jobs.into_iter().enumerate() {
            match job {
                Job::Same(first) => self.same(first, name, &row_of, &mut out)?,
                own => self.tensor(&mut writer, own, (&fits, i), &mut out)?,
            }
            if out.rows.last().is_some_and(|row| row.name == name) {
                row_of.insert(name, out.rows.len() - 1);
            }
        }
        Ok((writer, out))
    }

    /// A row that has the same delta as an earlier one, where that has one.
    fn same(&self, first: usize, name: &str, row_of: &BTreeMap<&str, usize>, out: &mut Encoded) -> Result<()> {
        let earlier = self.pairs.all.get(first).and_then(|p| row_of.get(p.info.name.as_str()));
        let found = earlier.and_then(|i| Some((*i, out.rows.get(*i)?.clone(), *out.digests.get(*i)?)));
        if let Some((i, row, digests)) = found {
            let too_many = |_| Error::Refused("more tensors than a pack can hold".into());
            let delta = DeltaRow::SameAs(u32::try_from(i).map_err(too_many)?);
            out.rows.push(TensorRow { name: name.to_string(), delta, ..row });
            out.digests.push(digests);
        }
        Ok(())
    }

    /// Fits a coder to every tensor.
    fn fit(&self, jobs: &BTreeMap<&str, Job>, bytes: u64) -> Result<Fits> {
        self.options.workers.progress().stage("fitting", bytes);
        let (jobs, mut found): (Vec<Job>, Vec<_>) = (jobs.values().copied().collect(), Vec::new());
        self.options.workers.in_order(
            jobs.len(),
            |i| {
                let job = jobs.get(i).copied().unwrap_or(Job::Same(0));
                let Some((info, kind, _)) = self.about(job) else { return Ok(((0, 0, false, false), None)) };
                let has_base = !matches!(job, Job::Carried(_));
                let task = Task { info, kind, has_base, effort: self.options.effort };
                let fit = task.fit(|i, at| {
                    let (kept, base, _) = self.read(job, i, at, StepBlock::default())?;
                    Ok((kept.found().listed().into_owned(), base))
                })?;
                self.options.workers.progress().advance(info.byte_len());
                Ok(((info.dtype.code(), kind.code(), has_base, false), fit))
            },
            |_, fit| {
                found.push(fit);
                Ok(())
            },
        )?;
        Ok(Fits::new(found))
    }

    /// What a job's delta is of, how its values are stored, and which positions share a scale.
    fn about<'b>(&self, job: Job<'b>) -> Option<(&'b TensorInfo, ValueKind, Groups)> {
        Some(match job {
            Job::Lossy(_, pair) => (&pair.info, self.quantizer.kind, self.quantizer.groups),
            Job::Exact(pair) => (&pair.info, ValueKind::Step, Groups::Tensor),
            Job::Carried(info) => (info, ValueKind::Step, Groups::Tensor),
            Job::Same(_) => return None,
        })
    }

    fn tensor<W: Write + Seek>(
        &self,
        writer: &mut PackWriter<W>,
        job: Job,
        (fits, number): (&Fits, usize),
        out: &mut Encoded,
    ) -> Result<()> {
        let Some((info, kind, groups)) = self.about(job) else { return Ok(()) };
        let base = match job {
            Job::Lossy(_, pair) | Job::Exact(pair) => Some(pair.digest),
            _ => None,
        };
        let mut table = Table::default();
        if let Job::Lossy(pair, _) = job {
            (table.scales, table.levels) = (self.quantizer.scales(pair), self.quantizer.levels(pair));
        }
        let chosen = fits.of(number, info, kind, base.is_some());
        let mut content = DeltaContent::new(info, kind, base, &table);
        let (width, mut pieces) = (content.width(), Vec::new());
        let blocks: Vec<(u64, u64)> = cut(info.units()).collect();
        let (mut kept, mut payload_len, mut by_class) = (0, 0, false);
        let spare: Mutex<Vec<Buffers>> = Mutex::default();
        self.options.workers.in_order(
            blocks.len(),
            |i| {
                let at = blocks.get(i).copied().unwrap_or((0, 0));
                let buffers = spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
                self.block(job, info, kind, chosen.as_ref().map(|c| &c.fit), i, at, width, buffers)
            },
            |_, done: Done| {
                writer.block(&done.block)?;
                content.add(&done.buffers.leaves);
                if let Ok(mut spare) = spare.lock() {
                    spare.push(done.buffers);
                }
                pieces.extend(done.pieces);
                let row = row_of(&done.block, done.kept);
                by_class |= block::is_by_class(row.mask_codec, row.value_codec);
                kept += u64::from(row.kept);
                payload_len += row.payload_len();
                table.blocks.push(row);
                Ok(())
            },
        )?;
        if kept == 0 && !matches!(job, Job::Carried(_)) {
            return Ok(());
        }
        if let Some(chosen) = chosen.filter(|_| by_class) {
            // The first that shares a model has it in its own table, the others name its row.
            let row = out.rows.len() as u32;
            let owner = chosen.shared.map(|group| *out.models.entry(group).or_insert(row));
            let place = owner.filter(|o| *o != row).map_or(ModelPlace::Own, ModelPlace::Row);
            let lacks = || Error::Internal("a coder whose model lacks a level of its columns".into());
            table.coder = chosen.fit.coder.encode(&place).ok_or_else(lacks)?;
        }
        let table_len = writer.table(&table);
        let own = OwnDelta {
            base: base.map(|d| d.0),
            kind: kind.code(),
            groups: u8::from(groups == Groups::Row),
            kept,
            table_len,
            payload_len,
        };
        let (name, shape) = (info.name.clone(), info.shape.clone());
        out.rows.push(TensorRow { name, dtype: info.dtype.code(), shape, delta: DeltaRow::Own(own) });
        let digester = TensorDigester::new(info.byte_len());
        if pieces.is_empty() {
            pieces.push(digester.piece(0, &[]));
        }
        out.digests.push((content.finish(), digester.finish(&pieces)));
        out.kept += kept;
        Ok(())
    }

    /// Encodes block `i` of a tensor.
    #[allow(clippy::too_many_arguments)]
    fn block(
        &self,
        job: Job,
        info: &TensorInfo,
        kind: ValueKind,
        fit: Option<&Fit>,
        i: usize,
        at: (u64, u64),
        width: usize,
        mut buffers: Buffers,
    ) -> Result<Done> {
        let (start, len) = at;
        let (kept, base, result) = self.read(job, i, at, buffers.steps)?;
        let result = match (job, &kept) {
            (Job::Lossy(index, pair), Kept::List(delta)) => Cow::Owned(self.outcome(index, pair, start, &base, delta)?),
            _ => result,
        };
        let unit = info.dtype.unit_bytes() as u64;
        let digester = TensorDigester::new(info.byte_len());
        let piece = TensorDigester::PIECE;
        let pieces = result.chunks(piece as usize).zip(start * unit / piece..);
        let pieces = pieces.map(|(bytes, number)| digester.piece(number, bytes)).collect();
        let mut leaves = buffers.leaves;
        match &kept {
            Kept::List(delta) => leaves = content::leaves(start, delta, width),
            Kept::Steps(steps) => content::leaves_of_steps(start, steps, &mut leaves),
        }
        let found = kept.found();
        let rows = fit.map_or(Vec::new(), |fit| fit.rows(info, kind, at, found, &base));
        let frame = Frame { info, kind, start, len: len as u32, coder: fit.map(|f| &f.coder), base: &base };
        let block = block::encode(&frame, found, &rows, self.options.effort);
        self.options.workers.progress().advance(len * unit);
        let n = found.kept();
        buffers = match kept {
            Kept::Steps(steps) => Buffers { steps, leaves },
            Kept::List(_) => Buffers { leaves, ..Buffers::default() },
        };
        Ok(Done { block, kept: n, pieces, buffers })
    }

    /// What is kept of a block, the base's bytes of its units, and, but for lossy deltas, the fine-tuned bytes. `steps` is a
    /// buffer.
    fn read(&self, job: Job, i: usize, (start, len): (u64, u64), mut steps: StepBlock) -> Result<Read<'_>> {
        Ok(match job {
            Job::Lossy(index, pair) => {
                let block = self.localized.blocks_of_pair(index).start + i;
                let kept = self.localized.kept(self.pairs, block)?;
                let delta = self.quantizer.encode(index, &pair.info, start, kept)?;
                (Kept::List(delta), self.pairs.base_units(pair, start, len)?, Cow::default())
            }
            Job::Exact(pair) => {
                let (base, tuned) =
                    (self.pairs.base_units(pair, start, len)?, self.pairs.tuned_units(pair, start, len)?);
                let dtype = pair.info.dtype;
                let kept = if dtype.unit_bytes() == 2 {
                    step::short_differences(dtype, &base, &tuned, &mut steps);
                    Kept::Steps(steps)
                } else {
                    Kept::List(step::differences(dtype, &base, &tuned))
                };
                (kept, base, tuned)
            }
            Job::Carried(info) => {
                let bytes = self.pairs.carried_units(info, start, len)?;
                let codes =
                    bytes.chunks_exact(info.dtype.unit_bytes()).map(|b| step::step(info.dtype, 0, load_unit(b)));
                let delta = BlockDelta { positions: (0..len as u32).collect(), codes: codes.collect() };
                (Kept::List(delta), Cow::default(), bytes)
            }
            Job::Same(_) => (Kept::List(BlockDelta::default()), Cow::default(), Cow::default()),
        })
    }

    /// The bytes of a block when a lossy pack is applied alone.
    fn outcome(&self, index: usize, pair: &Pair, start: u64, base: &[u8], delta: &BlockDelta) -> Result<Vec<u8>> {
        let mut run = base.to_vec();
        let mut met = Met::default();
        with_element!(pair.info.dtype, E => {
            let deltas = self.numbers::<<E as crate::method::float::Element>::Real>(index, &pair.info, start, delta);
            let part = Part { positions: &delta.positions, deltas: &deltas, bits: None, weight: 1.0 };
            stitch::<E>(&mut run, &[part], OverlapRule::Average, 1.0, &mut met);
        }, ());
        if met.nonfinite > 0 {
            let (name, n) = (Escaped(&pair.info.name), met.nonfinite);
            return Err(Error::Refused(format!(
                "tensor \"{name}\": {n} elements of a block would become infinite or NaN with gain {}; use a smaller --rescale or --exclude it",
                self.quantizer.gain
            )));
        }
        Ok(run)
    }

    /// d of each kept position at weight 1.
    fn numbers<R: Real>(&self, index: usize, info: &TensorInfo, start: u64, delta: &BlockDelta) -> Vec<R> {
        let levels = self.quantizer.levels(index).unwrap_or_default();
        let gain = R::from_f32(self.quantizer.gain);
        let units = delta.positions.iter().zip(&delta.codes);
        units
            .map(|(p, code)| {
                let scale = self.quantizer.scale_at(index, info, start + u64::from(*p));
                gain.mul(dequantize::<R>(self.quantizer.kind, *code, scale, &levels))
            })
            .collect()
    }
}

impl Encoded {
    /// The content id of the pack. [CID-1]
    pub fn content_id(&self, base: Digest, gain: f32, files: &[(String, Vec<u8>)]) -> Digest {
        let rows: Vec<_> = self.rows.iter().zip(&self.digests).map(|(row, d)| (row.name.as_str(), d.0)).collect();
        let files: Vec<_> = files.iter().map(|(name, b)| (name.as_str(), Digest::of(Role::File, b))).collect();
        content::content_id(&base.0, gain, &rows, &files)
    }

    /// One digest of the touched tensors when the pack is applied alone. [RES-1]
    pub fn result(&self) -> Digest {
        let infos: Vec<_> = self.rows.iter().filter_map(|row| row.lend().info().ok()).collect();
        digest_of(infos.iter().zip(self.digests.iter().map(|d| d.1)))
    }
}
