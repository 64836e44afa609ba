//! The last pass: every block is encoded by some thread and written in order.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

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
use crate::model::delta::{BlockDelta, Groups, ValueKind};
use crate::model::digest::{Digest, Role, TensorDigester};
use crate::model::identity::digest_of;
use crate::model::tensor::TensorInfo;
use crate::pack::content::{self, DeltaContent};
use crate::pack::writer::{EncodedBlock, PackWriter, encode_block};

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

/// One block, encoded, with what is hashed of it.
struct Done {
    block: EncodedBlock,
    leaves: Vec<u8>,
    pieces: Vec<[u8; 32]>,
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
        self.options.workers.progress().stage("encoding", bytes);
        let (mut out, mut row_of) = (Encoded::default(), BTreeMap::new());
        for (name, job) in jobs {
            match job {
                Job::Same(first) => self.same(first, name, &row_of, &mut out)?,
                own => self.tensor(&mut writer, own, &mut out)?,
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

    fn tensor<W: Write + Seek>(&self, writer: &mut PackWriter<W>, job: Job, out: &mut Encoded) -> Result<()> {
        let (info, base) = match job {
            Job::Lossy(_, pair) | Job::Exact(pair) => (&pair.info, Some(pair.digest)),
            Job::Carried(info) => (info, None),
            Job::Same(_) => return Ok(()),
        };
        let (kind, groups) = match job {
            Job::Lossy(..) => (self.quantizer.kind, self.quantizer.groups),
            _ => (ValueKind::Step, Groups::Tensor),
        };
        let mut table = Table::default();
        if let Job::Lossy(pair, _) = job {
            (table.scales, table.levels) = (self.quantizer.scales(pair), self.quantizer.levels(pair));
        }
        let mut content = DeltaContent::new(info, kind, base, &table);
        let (width, mut pieces) = (content.width(), Vec::new());
        let blocks: Vec<(u64, u64)> = cut(info.units()).collect();
        let (mut kept, mut payload_len) = (0, 0);
        self.options.workers.in_order(
            blocks.len(),
            |i| {
                let (start, len) = blocks.get(i).copied().unwrap_or((0, 0));
                self.block(job, info, kind, i, (start, len), width)
            },
            |_, done: Done| {
                writer.block(&done.block.bytes)?;
                content.add(&done.leaves);
                pieces.extend(done.pieces);
                kept += u64::from(done.block.row.kept);
                payload_len += done.block.row.payload_len();
                table.blocks.push(done.block.row);
                Ok(())
            },
        )?;
        if kept == 0 && !matches!(job, Job::Carried(_)) {
            return Ok(());
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
    fn block(
        &self,
        job: Job,
        info: &TensorInfo,
        kind: ValueKind,
        i: usize,
        at: (u64, u64),
        width: usize,
    ) -> Result<Done> {
        let (start, len) = at;
        let (delta, result) = match job {
            Job::Lossy(index, pair) => self.lossy(index, pair, i, at)?,
            Job::Exact(pair) => self.exact(pair, at)?,
            Job::Carried(info) => {
                let bytes = self.pairs.carried_units(info, start, len)?;
                let codes =
                    bytes.chunks_exact(info.dtype.unit_bytes()).map(|b| step::step(info.dtype, 0, load_unit(b)));
                (BlockDelta { positions: (0..len as u32).collect(), codes: codes.collect() }, bytes.into_owned())
            }
            Job::Same(_) => Default::default(),
        };
        let unit = info.dtype.unit_bytes() as u64;
        let digester = TensorDigester::new(info.byte_len());
        let piece = TensorDigester::PIECE;
        let pieces = result.chunks(piece as usize).zip(start * unit / piece..);
        let pieces = pieces.map(|(bytes, number)| digester.piece(number, bytes)).collect();
        let leaves = content::leaves(start, &delta, width);
        let block = encode_block(kind, info.dtype, len as u32, &delta);
        self.options.workers.progress().advance(len * unit);
        Ok(Done { block, leaves, pieces })
    }

    /// Steps of the units that differ, and the fine-tuned bytes.
    fn exact(&self, pair: &Pair, (start, len): (u64, u64)) -> Result<(BlockDelta, Vec<u8>)> {
        let (base, tuned) = (self.pairs.base_units(pair, start, len)?, self.pairs.tuned_units(pair, start, len)?);
        let mut delta = BlockDelta::default();
        if base != tuned {
            let unit = pair.info.dtype.unit_bytes();
            for (p, (b, t)) in (0u32..).zip(base.chunks_exact(unit).zip(tuned.chunks_exact(unit))) {
                if b != t {
                    delta.positions.push(p);
                    delta.codes.push(step::step(pair.info.dtype, load_unit(b), load_unit(t)));
                }
            }
        }
        Ok((delta, tuned.into_owned()))
    }

    /// Codes of what is kept, and the bytes of the block when the pack is applied alone.
    fn lossy(&self, index: usize, pair: &Pair, i: usize, (start, len): (u64, u64)) -> Result<(BlockDelta, Vec<u8>)> {
        let block = self.localized.blocks_of_pair(index).start + i;
        let kept = self.localized.kept(self.pairs, block)?;
        let delta = self.quantizer.encode(index, &pair.info, start, kept)?;
        let mut run = self.pairs.base_units(pair, start, len)?.into_owned();
        let mut met = Met::default();
        with_element!(pair.info.dtype, E => {
            let deltas = self.numbers::<<E as crate::method::float::Element>::Real>(index, &pair.info, start, &delta);
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
        Ok((delta, run))
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
        let infos: Vec<_> = self.rows.iter().filter_map(|row| row.info().ok()).collect();
        digest_of(infos.iter().zip(self.digests.iter().map(|d| d.1)))
    }
}
