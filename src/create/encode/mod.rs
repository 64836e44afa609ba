//! The last pass: every block is encoded by some thread and written in order.

mod outcome;
mod source;
mod tensor;

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use crate::codec::classes::coder::ModelPlace;
use crate::create::fit::{Chosen, Fit, Fits, Group, Task};
use crate::create::options::CreateOptions;
use crate::error::{Error, Result};
use crate::format::manifest::{DeltaRow, OwnDelta, TensorRow};
use crate::model::delta::{Groups, StepBlock, ValueKind};
use crate::model::digest::{Digest, Role};
use crate::model::identity::digest_of;
use crate::pack::content;
use crate::pack::writer::PackWriter;

pub(crate) use source::Inputs;
use source::Source;
use tensor::TensorEncoder;

/// Everything that is known before the last pass.
pub(crate) struct Encoder<'a> {
    pub inputs: Inputs<'a>,
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

/// A row of the pack, if anything is kept of it.
#[derive(Clone, Copy)]
enum Row<'a> {
    Own(Source<'a>),
    /// The same as this pair's, an earlier one.
    Same(usize),
}

impl<'a> Encoder<'a> {
    /// Encodes all touched tensors, by name.
    pub fn run<W: Write + Seek>(&self, mut writer: PackWriter<W>) -> Result<(PackWriter<W>, Encoded)> {
        let rows = self.rows();
        let bytes = self.inputs.pairs.all().iter().map(|p| p.info.byte_len()).sum();
        let fits = self.fit(&rows, bytes)?;
        self.options.workers.progress().stage("encoding", bytes);
        let (mut out, mut row_of) = (Encoded::default(), BTreeMap::new());
        for (i, (name, row)) in rows.into_iter().enumerate() {
            match row {
                Row::Same(first) => self.same(first, name, &row_of, &mut out)?,
                Row::Own(source) => {
                    let kind = self.inputs.kind(source);
                    let chosen = fits.of(i, source.info(), kind, source.base().is_some());
                    self.tensor(&mut writer, source, chosen, &mut out)?;
                }
            }
            if out.rows.last().is_some_and(|row| row.name == name) {
                row_of.insert(name, out.rows.len() - 1);
            }
        }
        Ok((writer, out))
    }

    /// What may become a row, by name.
    fn rows(&self) -> BTreeMap<&'a str, Row<'a>> {
        let pairs = self.inputs.pairs;
        let of_pair = |(i, pair)| {
            let pair: &'a crate::create::pairs::Pair = pair;
            let lossy = self.inputs.quantizer.kind != ValueKind::Step && pair.info.dtype.is_float();
            let own = Row::Own(if lossy { Source::Lossy(i, pair) } else { Source::Exact(pair) });
            (pair.info.name.as_str(), pair.same_as.map_or(own, Row::Same))
        };
        let carried = pairs.carried.iter().map(|t| (t.name.as_str(), Row::Own(Source::Carried(t))));
        pairs.all().iter().enumerate().map(of_pair).chain(carried).collect()
    }

    /// A row that has the same delta as an earlier one, where that has one.
    fn same(&self, first: usize, name: &str, row_of: &BTreeMap<&str, usize>, out: &mut Encoded) -> Result<()> {
        let earlier = &self.inputs.pairs.get(first)?.info.name;
        let Some(i) = row_of.get(earlier.as_str()) else { return Ok(()) };
        let lacks = || Error::Internal(format!("no row {i}"));
        let row = out.rows.get(*i).cloned().ok_or_else(lacks)?;
        let digests = *out.digests.get(*i).ok_or_else(lacks)?;
        let too_many = |_| Error::Refused("more tensors than a pack can hold".into());
        let delta = DeltaRow::SameAs(u32::try_from(*i).map_err(too_many)?);
        out.rows.push(TensorRow { name: name.to_string(), delta, ..row });
        out.digests.push(digests);
        Ok(())
    }

    /// Fits a coder to every tensor.
    fn fit(&self, rows: &BTreeMap<&str, Row>, bytes: u64) -> Result<Fits> {
        self.options.workers.progress().stage("fitting", bytes);
        let (rows, mut found): (Vec<Row>, Vec<_>) = (rows.values().copied().collect(), Vec::new());
        self.options.workers.in_order(
            rows.len(),
            |i| match rows.get(i) {
                Some(Row::Own(source)) => self.fit_one(*source),
                Some(Row::Same(_)) => Ok(None),
                None => Err(Error::Internal(format!("no row {i}"))),
            },
            |_, fit| {
                found.push(fit);
                Ok(())
            },
        )?;
        Ok(Fits::new(found))
    }

    fn fit_one(&self, source: Source) -> Result<Option<(Group, Fit)>> {
        let (info, kind, has_base) = (source.info(), self.inputs.kind(source), source.base().is_some());
        let task = Task { info, kind, has_base, effort: self.options.effort };
        let fit = task.fit(|i, at| {
            let loaded = self.inputs.read(source, i, at, StepBlock::default())?;
            Ok((loaded.units.found().listed().into_owned(), loaded.base))
        })?;
        self.options.workers.progress().advance(info.byte_len());
        Ok(fit.map(|fit| ((info.dtype.code(), kind.code(), has_base, false), fit)))
    }

    fn tensor<W: Write + Seek>(
        &self,
        writer: &mut PackWriter<W>,
        source: Source,
        chosen: Option<Chosen>,
        out: &mut Encoded,
    ) -> Result<()> {
        let (fit, workers) = (chosen.as_ref().map(|c| &c.fit), &self.options.workers);
        let encoder = TensorEncoder { inputs: self.inputs, source, fit, effort: self.options.effort, workers };
        let mut done = encoder.run(|block| writer.block(block))?;
        if done.kept == 0 && !matches!(source, Source::Carried(_)) {
            return Ok(());
        }
        if let Some(chosen) = chosen.filter(|_| done.by_class) {
            done.table.coder = out.coder(&chosen)?;
        }
        let info = source.info();
        let own = OwnDelta {
            base: source.base().map(|d| d.0),
            kind: self.inputs.kind(source).code(),
            groups: u8::from(self.inputs.groups(source) == Groups::Row),
            kept: done.kept,
            table_len: writer.table(&done.table),
            payload_len: done.payload_len,
        };
        let (name, shape) = (info.name.clone(), info.shape.clone());
        out.rows.push(TensorRow { name, dtype: info.dtype.code(), shape, delta: DeltaRow::Own(own) });
        out.digests.push(done.digests(info));
        out.kept += done.kept;
        Ok(())
    }
}

impl Encoded {
    /// The coder of the next row: the first that shares a model has it in its own table, the others name its row.
    fn coder(&mut self, chosen: &Chosen) -> Result<Vec<u8>> {
        let row = self.rows.len() as u32;
        let owner = chosen.shared.map(|group| *self.models.entry(group).or_insert(row));
        let place = owner.filter(|o| *o != row).map_or(ModelPlace::Own, ModelPlace::Row);
        let lacks = || Error::Internal("a coder whose model lacks a level of its columns".into());
        chosen.fit.coder.encode(&place).ok_or_else(lacks)
    }

    /// The content id of the pack. [CID-1]
    pub fn content_id(&self, base: Digest, gain: f32, files: &[(String, Vec<u8>)]) -> Digest {
        let rows: Vec<_> = self.rows.iter().zip(&self.digests).map(|(row, d)| (row.name.as_str(), d.0)).collect();
        let files: Vec<_> = files.iter().map(|(name, b)| (name.as_str(), Digest::of(Role::File, b))).collect();
        content::content_id(&base.0, gain, &rows, &files)
    }

    /// One digest of the touched tensors when the pack is applied alone. [RES-1]
    pub fn result(&self) -> Result<Digest> {
        let infos = self.rows.iter().map(|row| row.lend().info()).collect::<Result<Vec<_>>>()?;
        Ok(digest_of(infos.iter().zip(self.digests.iter().map(|d| d.1))))
    }
}
