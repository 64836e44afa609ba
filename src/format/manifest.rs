//! The part that names tensors: spec/format.md, "Manifest". The one door to bincode.
//!
//! The bytes are written out in the spec field by field; bincode with fixed-width little-endian integers happens to write
//! them so.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::rows::Rows;
use crate::limits::Limits;
use crate::model::delta::{Groups, ValueKind};
use crate::model::digest::Digest;

/// Most decoded bytes for each stored one, of the manifest and of every section that is a zstd frame: memory has to be
/// earned. [MAN-6] [SEC-2]
pub const MOST_PER_BYTE: u64 = 256;

/// What a pack is and what is in it. `T` is how the touched tensors are held: [`Rows`], or a list of [`TensorRow`], which takes
/// more memory and can be changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest<T = Rows> {
    /// The program that wrote the pack, and its version.
    pub tool: String,
    /// Digest of the whole checkpoint that the pack is bound to. [BAS-1]
    pub base: [u8; 32],
    /// Digest of what the pack decodes to. [CID-1]
    pub content: [u8; 32],
    /// Digest of the touched tensors when the pack is applied alone, where it is recorded. [RES-1]
    pub result: Option<[u8; 32]>,
    /// Whether every delta is of steps: what the pack touches comes out as it was when the pack was made, bit for bit. [MAN-7]
    pub all_steps: bool,
    /// Whether the pack, applied alone, gives the whole fine-tuned checkpoint bit for bit. [MAN-7]
    pub exact: bool,
    /// The factor g of every delta; positive and finite.
    pub gain: f32,
    /// log2 of the units in a block, from 10 to 20.
    pub block_log2: u8,
    /// How the pack was made; for people, no reader depends on it.
    pub origin: Origin,
    /// What the maker wrote on it: keys ascending, each once.
    pub notes: Vec<(String, String)>,
    /// The touched tensors, by name in byte order.
    pub tensors: T,
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
    /// The name of a [`LocalizerName`](crate::model::origin::LocalizerName).
    pub localizer: String,
    /// `global` or `tensor`; empty where there was nothing to choose.
    pub scope: String,
    /// The density that was asked for, as a fraction; 0/0 where none was.
    pub density: (u64, u64),
    /// n: elements that could have been kept.
    pub candidates: u64,
    /// The name of a [`RescaleName`](crate::model::origin::RescaleName).
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
    #[serde(with = "by_words::option")]
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
    #[serde(with = "by_words")]
    pub digest: [u8; 32],
}

impl OwnDelta {
    /// The value kind. [VAL-1]
    pub fn kind(&self) -> Result<ValueKind> {
        ValueKind::known(self.kind)
    }

    /// Which positions share a scale. [TEN-7]
    pub fn groups(&self) -> Result<Groups> {
        match self.groups {
            0 => Ok(Groups::Tensor),
            1 => Ok(Groups::Row),
            found => Err(Error::unsupported("scale grouping", found, 1)),
        }
    }
}

impl<T: Serialize> Manifest<T> {
    /// The bytes of the manifest, before any compression.
    pub fn encode(&self) -> Result<Vec<u8>> {
        bincode::serde::encode_to_vec(self, config()).map_err(|e| Error::Internal(format!("manifest: {e}")))
    }
}

impl Manifest {
    /// Reads a manifest from all of `raw`, which is then the only encoding of what it says: every field has one width, no byte
    /// of it is passed over, and a flag or a tag other than those there are is refused. [MAN-2]
    ///
    /// # Errors
    /// `Malformed` for what is no manifest, or breaks a rule for what it says; `Unsupported` or `LimitExceeded` as it says.
    pub fn decode(raw: &[u8], limits: &Limits) -> Result<Self> {
        let bad = |detail: String| Error::malformed("MAN-2", "manifest", detail);
        let (manifest, used) = decode_bounded(raw).map_err(|e| bad(format!("cannot be read: {e}")))?;
        if used != raw.len() {
            return Err(bad(format!("ends after {used} bytes, but {} are there", raw.len())));
        }
        manifest.check(limits)?;
        Ok(manifest)
    }
}

/// Digests in four numbers: the same bytes, an eighth of the calls, of which a pack of many tensors has millions.
mod by_words {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    fn words(digest: &[u8; 32]) -> [u64; 4] {
        let mut out = [0; 4];
        for (word, bytes) in out.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        out
    }

    fn digest(words: [u64; 4]) -> [u8; 32] {
        let mut out = [0; 32];
        for (bytes, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        out
    }

    pub fn serialize<S: Serializer>(value: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        words(value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        <[u64; 4]>::deserialize(deserializer).map(digest)
    }

    pub mod option {
        use super::{Deserialize, Deserializer, Serialize, Serializer, digest, words};

        pub fn serialize<S: Serializer>(value: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
            value.as_ref().map(words).serialize(serializer)
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
            Ok(Option::<[u64; 4]>::deserialize(deserializer)?.map(digest))
        }
    }
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
