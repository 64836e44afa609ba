//! What every state of trust holds: the parsed parts of a pack and the way to its sections.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec::block::{self, Frame, Stored};
use crate::codec::classes::coder::Coder;
use crate::codec::classes::model::Model;
use crate::error::{Error, Result};
use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::{self, DeltaRow, Manifest, SectionRow};
use crate::format::rows::Row;
use crate::format::table::{BlockRow, Table, table_len};
use crate::io::{ReadAt, announce, joined, read_vec};
use crate::limits::Limits;
use crate::model::delta::{Groups, ValueKind};
use crate::model::digest::{Digest, Role};
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::sections::{Sections, check_digest};
use crate::pack::stored;

/// A pack's parts.
#[derive(Debug)]
pub(crate) struct Body {
    source: Arc<dyn ReadAt>,
    pub header: Header,
    pub manifest: Manifest,
    /// By row: where its table and its blocks begin, in the streams of all tables and of all blocks. [SEC-5]
    starts: Vec<(u64, u64)>,
    /// Rows that can only be carried exactly: of tensors that are no floats, or that the base lacks.
    exact_only: Vec<usize>,
    payloads: Sections,
    tables: Sections,
    files: Sections,
    /// The models that were used last, by row: many small tensors share one.
    models: Mutex<Vec<(u32, Arc<Model>)>>,
}

/// Models kept at hand.
const MODELS_KEPT: usize = 16;

/// A delta of its own, with everything that its row says in the types of the model.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its row in the manifest.
    pub row: usize,
    pub info: TensorInfo,
    pub kind: ValueKind,
    pub groups: Groups,
    /// None for a tensor that is carried whole.
    pub base: Option<Digest>,
    pub kept: u64,
    table_start: u64,
    table_len: u64,
    payload_start: u64,
    pub payload_len: u64,
}

impl Body {
    /// Reads and checks the header and the manifest.
    pub fn open(source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Self> {
        let name = source.name().map(Path::to_owned);
        Self::read(source, limits).map_err(|e| match name {
            Some(name) => e.in_file(&name),
            None => e,
        })
    }

    fn read(source: Arc<dyn ReadAt>, limits: &Limits) -> Result<Self> {
        let file_len = source.size();
        let announced = announce_ends(&*source);
        let header = read_header(&*source, file_len)?;
        Limits::check("stored manifest size in bytes", header.manifest_len.into(), limits.manifest_bytes)?;
        let manifest_start = file_len.saturating_sub(header.manifest_len.into());
        if manifest_start < announced {
            announce(&*source, manifest_start..announced);
        }
        let bytes = read_vec(&*source, manifest_start, header.manifest_len as usize)?;
        check_digest(Role::Manifest, "manifest", &bytes, header.manifest)?;
        let manifest = stored::decode(&bytes, header.manifest_raw_len, limits)?;
        let payloads = Sections::new("payload", &manifest.payloads, HEADER_LEN as u64);
        let tables = Sections::new("table", &manifest.tables, payloads.file_end);
        let file_rows: Vec<SectionRow> = manifest.files.iter().map(|f| f.section.clone()).collect();
        let files = Sections::new("file", &file_rows, tables.file_end);
        if files.file_end != manifest_start {
            let detail = format!("sections end at byte {}, the manifest starts at {manifest_start}", files.file_end);
            return Err(Error::malformed("SEC-3", "sections", detail));
        }
        let starts = starts_of(&manifest);
        let exact_only = exact_only(&manifest);
        Ok(Body { source, header, manifest, starts, exact_only, payloads, tables, files, models: Mutex::default() })
    }

    /// Where the bytes come from.
    pub fn source(&self) -> &dyn ReadAt {
        &*self.source
    }

    /// Adds the pack's name to an error.
    pub fn locate<T>(&self, result: Result<T>) -> Result<T> {
        match self.source.name() {
            Some(name) => result.map_err(|e| e.in_file(name)),
            None => result,
        }
    }

    /// The delta of a row, its own or another row's, with everything that is known of it.
    pub fn own_of_row(&self, row: usize) -> Option<Own> {
        let (row, own) = self.manifest.tensors.own(row)?;
        let (table_start, payload_start) = *self.starts.get(row)?;
        Some(Own {
            row,
            // What a manifest says here was checked when it was read.
            info: self.manifest.tensors.get(row)?.info().ok()?,
            kind: own.kind().ok()?,
            groups: own.groups().ok()?,
            base: own.base.as_ref().map(manifest::digest),
            kept: own.kept,
            table_start,
            table_len: own.table_len,
            payload_start,
            payload_len: own.payload_len,
        })
    }

    /// Rows that can only be carried exactly.
    pub fn exact_only(&self) -> &[usize] {
        &self.exact_only
    }

    /// The deltas of their own, in the order of their rows.
    pub fn owns(&self) -> impl Iterator<Item = Own> {
        let is_own = |row: &usize| self.manifest.tensors.own(*row).is_some_and(|(own, _)| own == *row);
        (0..self.manifest.tensors.len()).filter(is_own).filter_map(|row| self.own_of_row(row))
    }

    /// Reads the table of a delta.
    pub fn table(&self, own: &Own) -> Result<Table> {
        let bytes = self.tables.range(&*self.source, own.table_start, own.table_len);
        let table = bytes.and_then(|part| {
            let log2 = self.manifest.block_log2;
            Table::decode(part.bytes()?, &own.info, own.kind, own.groups, log2, own.kept, own.payload_len)
        });
        self.locate(table.map_err(|e| e.within(&place(own))))
    }

    /// How the units of a delta fall into classes, where its table says so.
    pub fn coder(&self, own: &Own, table: &Table) -> Result<Option<Coder>> {
        if table.coder.is_empty() {
            return Ok(None);
        }
        let coder = Coder::decode(&table.coder, &own.info, |row| self.model(own, row)).and_then(|coder| {
            if !table.blocks.iter().any(|row| block::is_by_class(row.mask_codec, row.value_codec)) {
                return Err(Error::malformed("CLS-1", "coder", "is used by no block"));
            }
            if coder.uses_base && own.base.is_none() {
                let detail = "uses the base, but the tensor is carried whole";
                return Err(Error::malformed("CLS-1", "coder", detail));
            }
            Ok(Some(coder))
        });
        self.locate(coder.map_err(|e| e.within(&place(own))))
    }

    /// The model in the table of an earlier row. [CLS-2]
    fn model(&self, own: &Own, row: u32) -> Result<Arc<Model>> {
        let bad = || {
            Error::malformed("CLS-2", "coder", format!("has the model of row {row}, which is no earlier row with one"))
        };
        // Checked before the cache is asked: what it holds depends on what was read before, and an answer must not.
        let other =
            self.own_of_row(row as usize).filter(|o| o.row == row as usize && o.row < own.row).ok_or_else(bad)?;
        let lock = || self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, model)) = lock().iter().find(|(r, _)| *r == row) {
            return Ok(model.clone());
        }
        let part = self.tables.range(&*self.source, other.table_start, other.table_len)?;
        let columns = table_len(&other.info, other.kind, other.groups, self.manifest.block_log2);
        let coder = usize::try_from(columns).ok().and_then(|n| part.bytes().ok()?.get(n..)).unwrap_or_default();
        let model = Coder::own_model(coder)?.map(|(model, _)| Arc::new(model)).ok_or_else(bad)?;
        let mut models = lock();
        if models.len() >= MODELS_KEPT {
            models.remove(0);
        }
        models.push((row, model.clone()));
        Ok(model)
    }

    /// Units of block `i` of a delta.
    pub fn block_len(&self, own: &Own, i: u64) -> u32 {
        let log2 = u32::from(self.manifest.block_log2);
        let start = i.checked_shl(log2).unwrap_or(u64::MAX);
        let len = own.info.units().saturating_sub(start).min(1u64.checked_shl(log2).unwrap_or(0));
        u32::try_from(len).unwrap_or(0)
    }

    /// Decodes a block that keeps something with `decode`; `at` says which, and where it starts in the payload.
    pub fn block(
        &self,
        own: &Own,
        at: &BlockAt,
        base: Option<&dyn TensorSource>,
        decode: impl FnOnce(&Frame, &Stored) -> Result<()>,
    ) -> Result<()> {
        let decoded = self.decode_block(own, at, base, decode);
        self.locate(decoded.map_err(|e| e.within(&format!("{} block {}", place(own), at.number))))
    }

    fn decode_block(
        &self,
        own: &Own,
        at: &BlockAt,
        base: Option<&dyn TensorSource>,
        decode: impl FnOnce(&Frame, &Stored) -> Result<()>,
    ) -> Result<()> {
        let row = at.row;
        let offset = own.payload_start.saturating_add(at.payload_start);
        let part = self.payloads.range(&*self.source, offset, row.payload_len())?;
        let (mask, values) = part.bytes()?.split_at_checked(row.mask_len as usize).unwrap_or((&[], &[]));
        let start = at.number.checked_shl(self.manifest.block_log2.into()).unwrap_or(u64::MAX);
        let len = self.block_len(own, at.number);
        let base = match base {
            _ if !block::needs_base(row.mask_codec, row.value_codec, at.coder) => Default::default(),
            Some(base) => base.units(&own.info.name, start, len.into())?,
            None => {
                let what = "is coded by what the base has, so it cannot be decoded without; name the base (--base)";
                return Err(Error::InvalidInput(format!("{} {what}", place(own))));
            }
        };
        let frame = Frame { info: &own.info, kind: own.kind, start, len, coder: at.coder, base: &base };
        let (mask_codec, value_codec, kept) = (row.mask_codec, row.value_codec, row.kept);
        let stored = Stored { mask_codec, value_codec, kept, mask, values, zero_steps: own.base.is_none() };
        decode(&frame, &stored)
    }

    /// Announces what reading deltas will need: their tables first, then their blocks.
    pub fn will_need(&self, deltas: &[Own]) {
        let tables = deltas.iter().map(|own| self.tables.place_of(own.table_start, own.table_len));
        let payloads = deltas.iter().map(|own| self.payloads.place_of(own.payload_start, own.payload_len));
        self.source.will_need(&joined(tables.chain(payloads)));
    }

    /// Checks the digest of every section.
    pub fn check_sections(&self) -> Result<()> {
        let end = self.source.size().saturating_sub(self.header.manifest_len.into());
        announce(&*self.source, HEADER_LEN as u64..end);
        let mut all = [&self.payloads, &self.tables, &self.files].into_iter();
        self.locate(all.try_for_each(|sections| sections.check_all(&*self.source)))
    }

    /// The bytes of carried file `i`.
    pub fn file(&self, i: usize) -> Result<Vec<u8>> {
        self.locate(self.files.read(&*self.source, i))
    }
}

/// Announces what is read to open a pack, as far as its length tells: the header, and the end of the file, where the manifest is;
/// from where on. A manifest has 32 bytes and little more for each 64 KiB of sections, and some tens for each tensor.
fn announce_ends(source: &dyn ReadAt) -> u64 {
    let all = source.size();
    let end = all.saturating_sub((all / 1024).saturating_add(64 << 10));
    source.will_need(&joined([0..all.min(HEADER_LEN as u64), end..all].into_iter()));
    end
}

fn read_header(source: &dyn ReadAt, file_len: u64) -> Result<Header> {
    let mut bytes = read_vec(source, 0, usize::try_from(file_len).unwrap_or(HEADER_LEN).min(HEADER_LEN))?;
    let len = Header::len_of(&bytes, file_len)?;
    // Headers of later minor versions are longer.
    if len > bytes.len() {
        bytes = read_vec(source, 0, len)?;
    }
    Header::decode(bytes.get(..len).unwrap_or_default(), file_len)
}

/// Looked for once: packs of many tensors are asked for them more than once.
fn exact_only(manifest: &Manifest) -> Vec<usize> {
    let is_float = |row: Row| row.dtype().is_ok_and(|dtype| dtype.is_float());
    let rows = manifest.tensors.with_own();
    rows.enumerate().filter(|(_, (row, own))| own.base.is_none() || !is_float(*row)).map(|(i, _)| i).collect()
}

fn starts_of(manifest: &Manifest) -> Vec<(u64, u64)> {
    let mut next = (0u64, 0u64);
    let start = |delta: &DeltaRow| {
        let start = next;
        if let DeltaRow::Own(own) = delta {
            next = (start.0.saturating_add(own.table_len), start.1.saturating_add(own.payload_len));
        }
        start
    };
    manifest.tensors.iter().map(|row| row.delta).map(start).collect()
}

fn place(own: &Own) -> String {
    format!("tensor \"{}\"", crate::error::Escaped(&own.info.name))
}

/// A block of a delta: which, what its table says, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockAt<'a> {
    pub number: u64,
    pub row: &'a BlockRow,
    pub payload_start: u64,
    pub coder: Option<&'a Coder>,
}
