//! The part that names tensors: spec/format.md, "Manifest". The one door to bincode.
//!
//! The bytes are written out in the spec field by field; bincode with fixed-width little-endian integers happens to write
//! them so.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::model::delta::{Groups, ValueKind};
use crate::model::digest::Digest;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Most decoded bytes for each stored one, of the manifest and of every section that is a zstd frame: memory has to be
/// earned. [MAN-6] [SEC-2]
pub const MOST_PER_BYTE: u64 = 256;

/// What a pack is and what is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The program that wrote the pack, and its version.
    pub tool: String,
    /// Digest of the whole checkpoint that the pack is bound to. [BAS-1]
    pub base: [u8; 32],
    /// Digest of what the pack decodes to. [CID-1]
    pub content: [u8; 32],
    /// Digest of the touched tensors when the pack is applied alone, where it is recorded. [RES-1]
    pub result: Option<[u8; 32]>,
    /// Whether every delta is of steps, so that the touched tensors come out bit for bit.
    pub exact: bool,
    /// Whether applying the pack alone gives the fine-tuned checkpoint: all its tensors, no others, bit for bit. [MAN-7]
    pub complete: bool,
    /// The factor g of every delta; positive and finite.
    pub gain: f32,
    /// log2 of the units in a block, from 10 to 20.
    pub block_log2: u8,
    /// How the pack was made; for people, no reader depends on it.
    pub origin: Origin,
    /// What the maker wrote on it: keys ascending, each once.
    pub notes: Vec<(String, String)>,
    /// The touched tensors, by name in byte order.
    pub tensors: Vec<TensorRow>,
    /// The sections of block payloads, in the order of the file.
    pub payloads: Vec<SectionRow>,
    /// The sections of tables, after those.
    pub tables: Vec<SectionRow>,
    /// Companion files that are carried along, each a section after those; by name in byte order.
    pub files: Vec<FileRow>,
}

/// A companion file of the fine-tuned folder, such as a tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRow {
    /// Its name: a plain file name, never a path. [FIL-1]
    pub name: String,
    /// Where its bytes are.
    pub section: SectionRow,
}

/// How a pack was made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Origin {
    /// `exact`, `magnitude`, `scores` or `mask`.
    pub localizer: String,
    /// `global` or `tensor`; empty where there was nothing to choose.
    pub scope: String,
    /// The density that was asked for, as a fraction; 0/0 where none was.
    pub density: (u64, u64),
    /// n: elements that could have been kept.
    pub candidates: u64,
    /// `none`, `energy`, `l1` or `factor`.
    pub rescale: String,
    /// The share of the task vector's squared norm that the kept elements hold, before quantizing.
    pub energy: f64,
    /// Globs that tensors had to match.
    pub include: Vec<String>,
    /// Globs that tensors had not to match.
    pub exclude: Vec<String>,
}

/// One touched tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRow {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its dtype's code. [DTY-1]
    pub dtype: u8,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Where its delta is.
    pub delta: DeltaRow,
}

/// The delta of a touched tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeltaRow {
    /// A delta of its own.
    Own(OwnDelta),
    /// The same base bytes and the same delta as an earlier row, which has one of its own. [TEN-5]
    SameAs(u32),
}

/// A delta with bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDelta {
    /// Digest of the base's bytes of this tensor; none where the tensor is carried whole. [TEN-6]
    pub base: Option<[u8; 32]>,
    /// Code of the value kind. [VAL-1]
    pub kind: u8,
    /// 0: one scale for the tensor; 1: one a row.
    pub groups: u8,
    /// Units kept.
    pub kept: u64,
    /// Bytes of its table.
    pub table_len: u64,
    /// Bytes of its blocks.
    pub payload_len: u64,
}

/// One section: a byte range with a digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionRow {
    /// Bytes as stored.
    pub len: u64,
    /// Bytes decoded; the same number where it is stored plain.
    pub raw_len: u64,
    /// Digest of the bytes as stored.
    pub digest: [u8; 32],
}

impl TensorRow {
    /// Name, dtype and shape. [DTY-1]
    pub fn info(&self) -> Result<TensorInfo> {
        let dtype = Dtype::from_code(self.dtype).ok_or_else(|| Error::Unsupported {
            what: "dtype code".into(),
            found: self.dtype.into(),
            known: 22,
        })?;
        Ok(TensorInfo { name: self.name.clone(), dtype, shape: self.shape.clone() })
    }
}

impl OwnDelta {
    /// The value kind. [VAL-1]
    pub fn kind(&self) -> Result<ValueKind> {
        ValueKind::from_code(self.kind).ok_or_else(|| Error::Unsupported {
            what: "value kind".into(),
            found: self.kind.into(),
            known: ValueKind::newest().into(),
        })
    }

    /// Which positions share a scale. [TEN-7]
    pub fn groups(&self) -> Result<Groups> {
        match self.groups {
            0 => Ok(Groups::Tensor),
            1 => Ok(Groups::Row),
            found => Err(Error::Unsupported { what: "scale grouping".into(), found: found.into(), known: 1 }),
        }
    }
}

impl Manifest {
    /// The bytes of the manifest, before any compression.
    pub fn encode(&self) -> Result<Vec<u8>> {
        bincode::serde::encode_to_vec(self, config()).map_err(|e| Error::Internal(format!("manifest: {e}")))
    }

    /// Reads a manifest from all of `raw`, and checks that it is the only encoding of what it says. [MAN-2]
    pub fn decode(raw: &[u8], limits: &Limits) -> Result<Self> {
        let bad = |detail: String| Error::malformed("MAN-2", "manifest", detail);
        let (manifest, used) = decode_bounded(raw).map_err(|e| bad(format!("cannot be read: {e}")))?;
        if used != raw.len() {
            return Err(bad(format!("ends after {used} bytes, but {} are there", raw.len())));
        }
        manifest.check(limits)?;
        if manifest.encode()? != raw {
            return Err(bad("is not in its one encoding".into()));
        }
        Ok(manifest)
    }

    /// Everything that can be judged without the sections.
    pub(crate) fn check(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of tensors", self.tensors.len() as u64, limits.tensors)?;
        if !(self.gain.is_finite() && self.gain > 0.0) {
            let detail =
                format!("gain is {} (bits {:#010x}), must be positive and finite", self.gain, self.gain.to_bits());
            return Err(Error::malformed("MAN-3", "manifest", detail));
        }
        if (self.exact && self.gain != 1.0) || (self.complete && !self.exact) {
            let detail = format!(
                "exact is {}, complete is {} and the gain {}; an exact pack has gain 1, and only an exact one is complete",
                self.exact, self.complete, self.gain
            );
            return Err(Error::malformed("MAN-7", "manifest", detail));
        }
        if !(10..=20).contains(&self.block_log2) {
            let detail = format!("block size is 2^{}, must be from 2^10 to 2^20", self.block_log2);
            return Err(Error::malformed("MAN-4", "manifest", detail));
        }
        self.check_notes(limits)?;
        self.check_tensors(limits)?;
        self.check_sections(limits)
    }

    fn check_notes(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of notes", self.notes.len() as u64, limits.notes)?;
        let bytes = self
            .notes
            .iter()
            .fold(0u64, |sum, (k, v)| sum.saturating_add(k.len() as u64).saturating_add(v.len() as u64));
        Limits::check("size of the notes in bytes", bytes, limits.notes_bytes)?;
        let pairs = self.notes.iter().zip(self.notes.iter().skip(1));
        if let Some((_, b)) = pairs.into_iter().find(|(a, b)| a.0 >= b.0) {
            let detail = format!("note \"{}\" is not after the one before it", crate::error::Escaped(&b.0));
            return Err(Error::malformed("MAN-5", "manifest", detail));
        }
        Ok(())
    }

    fn check_tensors(&self, limits: &Limits) -> Result<()> {
        let mut previous: Option<&TensorRow> = None;
        for (i, row) in self.tensors.iter().enumerate() {
            let info = row.info()?;
            info.check(limits)?;
            let place = || format!("tensor \"{}\"", crate::error::Escaped(&row.name));
            if previous.is_some_and(|p| p.name >= row.name) {
                let detail = format!("row {i} is not after the row before it, in byte order of names");
                return Err(Error::malformed("TEN-4", place(), detail));
            }
            previous = Some(row);
            match &row.delta {
                DeltaRow::Own(own) => {
                    check_own(own, &info, self.exact, self.block_log2).map_err(|e| e.within(&place()))?
                }
                DeltaRow::SameAs(earlier) => self.check_same(i, *earlier).map_err(|e| e.within(&place()))?,
            }
        }
        Ok(())
    }

    /// A row that borrows another's delta. [TEN-5]
    fn check_same(&self, i: usize, earlier: u32) -> Result<()> {
        let (row, other) = (self.tensors.get(i), self.tensors.get(earlier as usize));
        let fits = (earlier as usize) < i
            && row
                .zip(other)
                .is_some_and(|(a, b)| a.dtype == b.dtype && a.shape == b.shape && matches!(b.delta, DeltaRow::Own(_)));
        if fits {
            return Ok(());
        }
        let detail =
            format!("is the same as row {earlier}, which must be an earlier row of its own with its dtype and shape");
        Err(Error::malformed("TEN-5", "delta", detail))
    }

    /// Section lengths add up to what the tensors say. [SEC-1]
    fn check_sections(&self, limits: &Limits) -> Result<()> {
        let own = || self.tensors.iter().filter_map(|t| if let DeltaRow::Own(o) = &t.delta { Some(o) } else { None });
        check_rows("payload", &self.payloads, own().map(|o| o.payload_len), false, limits)?;
        check_rows("table", &self.tables, own().map(|o| o.table_len), true, limits)?;
        self.check_files(limits)
    }

    /// Names of carried files are joined to a path, so they must not lead anywhere else. [FIL-1]
    fn check_files(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of carried files", self.files.len() as u64, limits.files)?;
        let mut previous = "";
        for file in &self.files {
            let place = || format!("file \"{}\"", crate::error::Escaped(&file.name));
            if !is_plain_name(&file.name) || file.name.as_str() <= previous {
                let detail = "is not a plain file name, or not after the one before it";
                return Err(Error::malformed("FIL-1", place(), detail));
            }
            previous = &file.name;
            Limits::check("section size in bytes", file.section.raw_len, limits.section_bytes)?;
            check_ratio(&file.section).map_err(|e| e.within(&place()))?;
        }
        let total = self.files.iter().fold(0u64, |sum, f| sum.saturating_add(f.section.raw_len));
        Limits::check("size of carried files in bytes", total, limits.files_bytes)
    }
}

fn check_own(own: &OwnDelta, info: &TensorInfo, exact: bool, block_log2: u8) -> Result<()> {
    let bad = |rule, detail: String| Err(Error::malformed(rule, "delta", detail));
    let (kind, groups) = (own.kind()?, own.groups()?);
    let carried = own.base.is_none();
    if own.kept > info.units() || (carried && own.kept != info.units()) || (!carried && own.kept == 0) {
        return bad("TEN-8", format!("keeps {} of {} units", own.kept, info.units()));
    }
    if kind != ValueKind::Step && (exact || carried || !info.dtype.is_float()) {
        return bad("TEN-9", format!("has {kind} values, but only steps can be exact, carried or on {}", info.dtype));
    }
    if groups == Groups::Row && !kind.has_scale() {
        return bad("TEN-7", format!("has a scale a row, but {kind} values have no scale"));
    }
    let expected = super::table::table_len(info, kind, groups, block_log2);
    if own.table_len != expected {
        return bad("TAB-1", format!("table has {} bytes, must have {expected}", own.table_len));
    }
    Ok(())
}

/// Decoding never shrinks, and memory has to be earned. [SEC-2]
fn check_ratio(row: &SectionRow) -> Result<()> {
    if row.len <= row.raw_len && row.raw_len <= row.len.saturating_mul(MOST_PER_BYTE) {
        return Ok(());
    }
    let detail = format!(
        "has {} stored and {} decoded bytes, must have from one to {MOST_PER_BYTE} decoded for each",
        row.len, row.raw_len
    );
    Err(Error::malformed("SEC-2", "length", detail))
}

fn check_rows(
    what: &str,
    rows: &[SectionRow],
    parts: impl Iterator<Item = u64>,
    packed: bool,
    limits: &Limits,
) -> Result<()> {
    let mut parts = parts;
    let sections = rows.iter().try_fold(0u64, |sum, row| sum.checked_add(row.raw_len));
    let tensors = parts.try_fold(0u64, u64::checked_add);
    if sections.is_none() || sections != tensors {
        let detail = format!("sections have {sections:?} bytes, the tensors need {tensors:?}");
        return Err(Error::malformed("SEC-1", format!("{what} sections"), detail));
    }
    for (i, row) in rows.iter().enumerate() {
        Limits::check("section size in bytes", row.raw_len, limits.section_bytes)?;
        if row.len == 0 || (!packed && row.len != row.raw_len) {
            let detail = format!("has {} stored and {} decoded bytes", row.len, row.raw_len);
            return Err(Error::malformed("SEC-2", format!("{what} section {i}"), detail));
        }
        check_ratio(row).map_err(|e| e.within(&format!("{what} section {i}")))?;
    }
    Ok(())
}

/// Endings of files that hold weights or code, which a pack must not bring in beside its deltas.
const RESERVED: [&str; 14] = [
    ".safetensors",
    ".index.json",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".pkl",
    ".npz",
    ".tflite",
    ".py",
];

/// Letters, digits, `.`, `_` and `-`, at most 255, not beginning with a dot; and nothing that is weights, code or ours.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let reserved = name == "stitch.json" || RESERVED.iter().any(|ending| name.ends_with(ending));
    plain && !reserved && !name.is_empty() && name.len() <= 255 && !name.starts_with('.')
}

/// The digest fields of a row as a digest.
pub(crate) fn digest(bytes: &[u8; 32]) -> Digest {
    Digest(*bytes)
}

fn config() -> bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Fixint> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding()
}

/// bincode reserves what a length claims before it looks for the bytes, up to a limit that is a type parameter: the smallest
/// one is taken that a manifest of this size can need. In memory a row is at most four times its bytes.
fn decode_bounded(raw: &[u8]) -> std::result::Result<(Manifest, usize), bincode::error::DecodeError> {
    use bincode::serde::decode_from_slice as decode;
    match raw.len().saturating_mul(4) {
        0..=0x1_0000 => decode(raw, config().with_limit::<0x1_0000>()),
        0x1_0001..=0x10_0000 => decode(raw, config().with_limit::<0x10_0000>()),
        0x10_0001..=0x100_0000 => decode(raw, config().with_limit::<0x100_0000>()),
        0x100_0001..=0x1000_0000 => decode(raw, config().with_limit::<0x1000_0000>()),
        _ => decode(raw, config().with_limit::<0x4000_0000>()),
    }
}
