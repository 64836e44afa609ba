//! Plan-free writing: sections stream out as they come, the manifest follows them, the header is filled in last.

use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::codec::block::Encoded;
use crate::error::{Error, Result};
use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::{FileRow, Manifest, SectionRow};
use crate::format::table::{BlockRow, Table};
use crate::limits::Limits;
use crate::model::digest::{Digest, Role};
use crate::pack::stored;

/// A section ends at the first block or table that brings it to this many bytes: small enough that one tensor costs little
/// to fetch and check, large enough that digests weigh nothing.
const SECTION_BYTES: usize = 64 << 10;

/// The row that a table keeps for an encoded block.
pub(crate) fn row_of(block: &Encoded, kept: usize) -> BlockRow {
    let fit = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    BlockRow {
        mask_codec: block.mask_codec,
        value_codec: block.value_codec,
        kept: fit(kept),
        mask_len: fit(block.mask.len()),
        values_len: fit(block.values.len()),
    }
}

/// Writes a pack to anything that can seek.
pub(crate) struct PackWriter<W> {
    out: W,
    path: PathBuf,
    payload: Vec<u8>,
    payloads: Vec<SectionRow>,
    tables: Vec<Vec<u8>>,
    written: u64,
}

impl<W: Write + Seek> PackWriter<W> {
    /// Starts a pack; `path` is for errors only.
    pub fn new(mut out: W, path: PathBuf) -> Result<Self> {
        out.write_all(&[0; HEADER_LEN]).map_err(|e| Error::io(&path, e))?;
        let written = HEADER_LEN as u64;
        Ok(PackWriter { out, path, payload: Vec::new(), payloads: Vec::new(), tables: Vec::new(), written })
    }

    /// Adds the next block of the current tensor.
    pub fn block(&mut self, block: &Encoded) -> Result<()> {
        self.payload.extend(&block.mask);
        self.payload.extend(&block.values);
        if self.payload.len() >= SECTION_BYTES { self.end_payload() } else { Ok(()) }
    }

    /// Adds the table of a tensor whose blocks have all been added; gives its length.
    pub fn table(&mut self, table: &Table) -> u64 {
        let bytes = table.encode();
        let len = bytes.len() as u64;
        match self.tables.last_mut() {
            // A tensor without units has no table, and no section is empty.
            _ if bytes.is_empty() => {}
            Some(last) if last.len() < SECTION_BYTES => last.extend(bytes),
            _ => self.tables.push(bytes),
        }
        len
    }

    fn end_payload(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.payload);
        if !bytes.is_empty() {
            let row = self.section(&bytes, bytes.len())?;
            self.payloads.push(row);
        }
        Ok(())
    }

    fn section(&mut self, stored: &[u8], raw_len: usize) -> Result<SectionRow> {
        self.out.write_all(stored).map_err(|e| Error::io(&self.path, e))?;
        self.written = self.written.saturating_add(stored.len() as u64);
        let digest = Digest::of(Role::Section, stored).0;
        Ok(SectionRow { len: stored.len() as u64, raw_len: raw_len as u64, digest })
    }

    /// Writes what is left: the last payload section, the tables, carried files, the manifest with its lists of sections filled in, and the
    /// header. Gives the output back and the pack id.
    pub fn finish(mut self, mut manifest: Manifest, files: &[(String, Vec<u8>)]) -> Result<(W, Header)> {
        self.end_payload()?;
        manifest.payloads = std::mem::take(&mut self.payloads);
        for raw in std::mem::take(&mut self.tables) {
            let frame = stored::frame(&raw);
            let row = self.section(frame.as_deref().unwrap_or(&raw), raw.len())?;
            manifest.tables.push(row);
        }
        for (name, bytes) in files {
            let frame = stored::frame(bytes);
            let section = self.section(frame.as_deref().unwrap_or(bytes), bytes.len())?;
            manifest.files.push(FileRow { name: name.clone(), section });
        }
        // What no reader would accept is not written.
        let limits = Limits::default();
        manifest.check(&limits)?;
        let (stored, raw_len) = stored::encode(&manifest)?;
        Limits::check("manifest size in bytes", raw_len as u64, limits.manifest_bytes)?;
        self.out.write_all(&stored).map_err(|e| Error::io(&self.path, e))?;
        let file_len = self.written.saturating_add(stored.len() as u64);
        let too_large = |_| Error::Refused("the manifest would be larger than 4 GiB".into());
        let lens = (u32::try_from(stored.len()).map_err(too_large)?, u32::try_from(raw_len).map_err(too_large)?);
        let header = Header::new(file_len, lens.0, lens.1, Digest::of(Role::Manifest, &stored));
        self.out.seek(SeekFrom::Start(0)).map_err(|e| Error::io(&self.path, e))?;
        self.out.write_all(&header.encode()).map_err(|e| Error::io(&self.path, e))?;
        Ok((self.out, header))
    }
}
