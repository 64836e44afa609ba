//! The fixed prefix of every pack: spec/format.md, "Header".
//!
//! A header is believed only as far as its own digest, which is the pack id and covers the manifest's digest too.

use crate::error::{Error, Result};
use crate::model::digest::{Digest, Digester, Role};

/// The first bytes of every pack: a byte that is no text, a name, and line ends that show a transfer in text mode. [HDR-1]
pub const MAGIC: [u8; 8] = *b"\x89STP\r\n\x1a\n";

/// Bytes of a header of format 1.
pub const HEADER_LEN: usize = 104;

/// Largest header of any version that this reader hashes. [HDR-3]
pub(crate) const HEADER_LEN_MAX: u32 = 4096;

/// The format version that this crate writes: (major, minor).
pub const VERSION: (u16, u16) = (1, 0);

/// A header whose digest is right and whose version this reader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The pack id: the digest of the header, and through it of the manifest.
    pub id: Digest,
    /// Minor version. A newer one adds only what an older reader may ignore.
    pub minor: u16,
    /// Feature bits that a reader may ignore. [HDR-6]
    pub compatible: u32,
    /// Bytes of the whole file. [HDR-7]
    pub file_len: u64,
    /// Bytes of the manifest as stored, at the end of the file.
    pub manifest_len: u32,
    /// Bytes of the manifest decoded; the same number where it is stored plain. [MAN-1]
    pub manifest_raw_len: u32,
    /// Digest of the manifest as stored.
    pub manifest: Digest,
}

impl Header {
    /// A header of the version that this crate writes, with its id.
    pub fn new(file_len: u64, manifest_len: u32, manifest_raw_len: u32, manifest: Digest) -> Self {
        let id = Digest([0; 32]);
        let mut header =
            Header { id, minor: VERSION.1, compatible: 0, file_len, manifest_len, manifest_raw_len, manifest };
        header.id = id_of(&header.encode());
        header
    }

    /// Exactly [`HEADER_LEN`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend(MAGIC);
        out.extend(self.id.0);
        out.extend(104u32.to_le_bytes());
        out.extend(VERSION.0.to_le_bytes());
        out.extend(self.minor.to_le_bytes());
        out.extend(0u32.to_le_bytes()); // incompatible feature bits: none exist yet [HDR-5]
        out.extend(self.compatible.to_le_bytes());
        out.extend(self.file_len.to_le_bytes());
        out.extend(self.manifest_len.to_le_bytes());
        out.extend(self.manifest_raw_len.to_le_bytes());
        out.extend(self.manifest.0);
        out
    }

    /// How many bytes the header of any version has, from the first 44 bytes of a file. [HDR-1] [HDR-3]
    ///
    /// # Errors
    /// `Malformed` for what is no pack, saying what it looks like.
    pub fn len_of(start: &[u8], file_len: u64) -> Result<usize> {
        let mut fields = Fields(start);
        let magic = fields.take::<8>().ok();
        if magic != Some(MAGIC) {
            return Err(Error::malformed("HDR-1", "header", not_a_pack(start, file_len)));
        }
        let (Ok(_id), Ok(len)) = (fields.take::<32>(), fields.u32()) else {
            return Err(too_short(file_len));
        };
        if !(104..=HEADER_LEN_MAX).contains(&len) {
            let detail = format!("header length is {len}, must be from 104 to {HEADER_LEN_MAX}");
            return Err(Error::malformed("HDR-3", "header, byte offset 40", detail));
        }
        if u64::from(len) > file_len {
            return Err(too_short(file_len));
        }
        Ok(len as usize)
    }

    /// The length of the whole file that the header at the start of a stream declares; none where it is no header that this reader
    /// would accept.
    pub(crate) fn declared_len(start: &[u8]) -> Option<u64> {
        let header = start.get(..HEADER_LEN)?;
        let declared = u64::from_le_bytes(header.get(56..64)?.try_into().ok()?);
        Some(Self::decode(header, declared).ok()?.file_len)
    }

    /// Reads a header from all of `bytes`: its digest first, then the version, then the rest.
    ///
    /// # Errors
    /// `DigestMismatch` for a changed byte, `Unsupported` for a newer version or feature: the file may be perfectly good and
    /// we too old. `Malformed` for a field out of range.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self> {
        if bytes.len() != Self::len_of(bytes, file_len)? {
            return Err(too_short(file_len));
        }
        let mut fields = Fields(bytes);
        fields.take::<8>()?;
        let id = Digest(fields.take()?);
        let found = id_of(bytes);
        // [HDR-2]
        if found != id {
            return Err(Error::DigestMismatch { place: "header".into(), expected: id.0, found: found.0 });
        }
        let len = fields.u32()?;
        let (major, minor) = (fields.u16()?, fields.u16()?);
        if major == 0 {
            return Err(Error::malformed("HDR-4", "header, byte offset 44", "major version is 0, which never existed"));
        }
        if major > VERSION.0 {
            let what = "format version".to_string();
            return Err(Error::Unsupported { what, found: major.into(), known: VERSION.0.into() });
        }
        let incompatible = fields.u32()?;
        if incompatible != 0 {
            let bit = incompatible.trailing_zeros();
            return Err(Error::Unsupported { what: "feature bit".into(), found: bit.into(), known: 0 });
        }
        if len as usize != HEADER_LEN {
            let detail = format!("header length is {len}, must be {HEADER_LEN} in version 1");
            return Err(Error::malformed("HDR-3", "header, byte offset 40", detail));
        }
        let compatible = fields.u32()?;
        let declared = fields.u64()?;
        if declared != file_len {
            let detail = format!("says the file has {declared} bytes, but it has {file_len}");
            return Err(Error::malformed("HDR-7", "header, byte offset 56", detail));
        }
        let (manifest_len, manifest_raw_len) = (fields.u32()?, fields.u32()?);
        let manifest = Digest(fields.take()?);
        let header = Header { id, minor, compatible, file_len, manifest_len, manifest_raw_len, manifest };
        header.check_manifest_len()?;
        Ok(header)
    }

    /// The manifest ends the file, and starts after the header. [HDR-8]
    fn check_manifest_len(&self) -> Result<()> {
        let room = self.file_len.saturating_sub(HEADER_LEN as u64);
        if self.manifest_len == 0 || u64::from(self.manifest_len) > room || self.manifest_raw_len < self.manifest_len {
            let detail = format!(
                "manifest has {} stored and {} decoded bytes; the file has room for {room}, and decoding never shrinks",
                self.manifest_len, self.manifest_raw_len
            );
            return Err(Error::malformed("HDR-8", "header, byte offset 64", detail));
        }
        Ok(())
    }
}

/// The digest of a header without its id: the pack id. [HDR-2]
fn id_of(header: &[u8]) -> Digest {
    let (magic, rest) = header.split_at_checked(8).unwrap_or((header, &[]));
    Digester::new(Role::Header).with(magic).with(rest.get(32..).unwrap_or(&[])).finish()
}

fn too_short(file_len: u64) -> Error {
    Error::malformed("HDR-3", "header", format!("file has {file_len} bytes, too few for its header; it was cut short"))
}

/// What a file that is no pack looks like, and what to do with it.
fn not_a_pack(start: &[u8], file_len: u64) -> String {
    let looks: [(&[u8], &str); 8] = [
        (b"\x89STP\n", "a stitch pack that was transferred in text mode, which damages it: transfer it as binary"),
        (b"\x89STP\r\r", "a stitch pack that was transferred in text mode, which damages it: transfer it as binary"),
        (b"GGUF", "a GGUF model; stitchpack reads safetensors"),
        (b"PK\x03\x04", "a ZIP archive or a PyTorch file; convert the model to safetensors"),
        (b"\x80\x02", "a pickle; stitchpack never opens those, convert the model to safetensors"),
        (b"\x80\x04", "a pickle; stitchpack never opens those, convert the model to safetensors"),
        (b"\x1f\x8b", "a gzip file; unpack it first"),
        (b"{", "a JSON file"),
    ];
    let safetensors = start.get(8) == Some(&b'{');
    let look = looks.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, look)| *look);
    if file_len == 0 {
        "not a stitch pack: the file is empty".into()
    } else if safetensors {
        "not a stitch pack but a safetensors file; make a pack from it with `stitchpack create`".into()
    } else if let Some(look) = look {
        format!("not a stitch pack; it looks like {look}")
    } else {
        let hex: String = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
        format!("not a stitch pack: it starts with {hex}, must start with 895354500d0a1a0a")
    }
}

/// Little-endian fields, one after another.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (field, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| Error::malformed("HDR-3", "header", "ends within a field"))?;
        self.0 = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
