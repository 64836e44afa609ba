//! Packs that lie: a valid pack taken apart, changed in one named way, and put together again with every length and digest
//! recomputed, so that only a check of structure can refuse it. Cases are numbered as in the project's list of bad input: H
//! header, M manifest, T tensors, K masks, V values, E what is coded by class, C compression, X digests.
//!
//! The reader and the writer here are written from spec/format.md and share only the manifest's structs with the crate.

use stitchpack::format::header::Header;
use stitchpack::format::manifest::{self, DeltaRow, FileRow, OwnDelta, SectionRow, TensorRow};
use stitchpack::limits::Limits;
use stitchpack::model::codec::{MaskCodec, ValueCodec};
use stitchpack::model::delta::ValueKind;
use stitchpack::model::digest::Digest;
use stitchpack::model::dtype::Dtype;
use stitchpack::{Error, OpenedPack};

use super::models::{Model, Tensor, unit_bytes};
use super::site::{Site, options, sparse};
use super::{Random, classes, naive};

/// What a reader must answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// Exit 3, naming one of these rules.
    Malformed(&'static [&'static str]),
    /// Exit 4.
    Digest,
    /// Exit 6, above a limit.
    Limit,
    /// Exit 8.
    Unsupported,
    /// It is a legal pack after all.
    Accepted,
}

/// One lie.
#[derive(Clone)]
pub struct Case {
    /// Number of the case, and what is wrong, in words that make a file name.
    pub name: String,
    pub pack: Vec<u8>,
    pub expect: Expect,
}

impl Case {
    fn new(name: impl Into<String>, pack: Vec<u8>, expect: Expect) -> Self {
        Case { name: name.into(), pack, expect }
    }

    /// None where the answer is the right one.
    pub fn judge(&self) -> Option<String> {
        let answer = OpenedPack::from_bytes(self.pack.clone(), &Limits::default()).and_then(OpenedPack::verify);
        let right = match (&self.expect, &answer) {
            (Expect::Accepted, Ok(_)) => true,
            (Expect::Malformed(rules), Err(Error::Malformed { rule, .. })) => rules.contains(rule),
            (Expect::Digest, Err(Error::DigestMismatch { .. })) => true,
            (Expect::Limit, Err(Error::LimitExceeded { .. })) => true,
            (Expect::Unsupported, Err(Error::Unsupported { .. })) => true,
            _ => false,
        };
        let said = match answer {
            Ok(_) => "accepted it".to_string(),
            Err(e) => format!("{e} (exit {})", e.exit_code()),
        };
        (!right).then(|| format!("{}: must be {:?}, but: {said}", self.name, self.expect))
    }
}

const ZST: Expect = Expect::Malformed(&["ZST-1"]);

// ---- Taking apart ----

/// A manifest in which everything can be changed.
pub type Manifest = manifest::Manifest<Vec<TensorRow>>;

/// A pack as spec/format.md describes it, everything decoded that has a decoded form.
#[derive(Debug, Clone)]
pub struct Parts {
    pub manifest: Manifest,
    /// One for each own delta, in the order of their rows.
    pub owns: Vec<OwnParts>,
    /// Carried files: name, stored bytes, decoded length.
    pub files: Vec<(String, Vec<u8>, u64)>,
    /// The table section as stored, instead of the plain one.
    pub tables: Option<Vec<u8>>,
    /// What some coders need to be decoded.
    pub base: Model,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnParts {
    pub blocks: Vec<BlockParts>,
    /// Scales and levels.
    pub floats: Vec<f32>,
    /// How units fall into classes; empty where nothing is coded by class.
    pub coder: Vec<u8>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct BlockParts {
    pub mask_codec: u8,
    pub value_codec: u8,
    pub kept: u32,
    pub mask: Vec<u8>,
    pub codes: Vec<u8>,
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (head, tail) = bytes.split_at(n);
    *bytes = tail;
    head
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Stored bytes to decoded ones.
pub fn plain(stored: &[u8], raw_len: u64) -> Vec<u8> {
    if stored.len() as u64 == raw_len {
        stored.to_vec()
    } else {
        zstd::bulk::decompress(stored, raw_len as usize).unwrap()
    }
}

pub fn own_rows(manifest: &Manifest) -> impl Iterator<Item = &OwnDelta> {
    manifest.tensors.iter().filter_map(|row| if let DeltaRow::Own(own) = &row.delta { Some(own) } else { None })
}

pub fn own_rows_mut(manifest: &mut Manifest) -> impl Iterator<Item = &mut OwnDelta> {
    manifest.tensors.iter_mut().filter_map(|row| if let DeltaRow::Own(own) = &mut row.delta { Some(own) } else { None })
}

/// Units of a row's tensor.
pub fn units(manifest: &Manifest, row: usize) -> u64 {
    let row = &manifest.tensors[row];
    let dtype = Dtype::from_code(row.dtype).unwrap();
    row.shape.iter().product::<u64>() * u64::from(dtype.bits()) / 8 / unit_bytes(dtype) as u64
}

/// Scales and levels of a row. [TEN-7]
fn float_count(manifest: &Manifest, row: usize, own: &OwnDelta) -> usize {
    let kind = ValueKind::from_code(own.kind).unwrap();
    match &manifest.tensors[row].shape[..] {
        _ if kind == ValueKind::Codebook => 16,
        _ if !kind.has_scale() => 0,
        [_, _, ..] if own.groups == 1 && units(manifest, row) == 0 => 0,
        [rows, _, ..] if own.groups == 1 => *rows as usize,
        _ => 1,
    }
}

/// The manifest with rows of its own.
fn changeable(read: manifest::Manifest) -> Manifest {
    Manifest {
        tensors: read.tensors.iter().map(|row| row.to_owned()).collect(),
        tool: read.tool,
        base: read.base,
        content: read.content,
        result: read.result,
        all_steps: read.all_steps,
        exact: read.exact,
        gain: read.gain,
        block_log2: read.block_log2,
        origin: read.origin,
        notes: read.notes,
        payloads: read.payloads,
        tables: read.tables,
        files: read.files,
    }
}

impl Parts {
    pub fn of(pack: &[u8]) -> Self {
        let (len, raw_len) = (u32_at(pack, 64) as usize, u32_at(pack, 68));
        let raw = plain(&pack[pack.len() - len..], raw_len.into());
        let manifest = changeable(manifest::Manifest::decode(&raw, &Limits::default()).unwrap());
        let mut rest = &pack[104..];
        let payload: Vec<u8> =
            manifest.payloads.iter().flat_map(|s| take(&mut rest, s.len as usize).to_vec()).collect();
        let tables: Vec<u8> =
            manifest.tables.iter().flat_map(|s| plain(take(&mut rest, s.len as usize), s.raw_len)).collect();
        let files = manifest
            .files
            .iter()
            .map(|f| (f.name.clone(), take(&mut rest, f.section.len as usize).to_vec(), f.section.raw_len));
        let files = files.collect();
        assert_eq!(rest.len(), len, "the manifest follows the sections");
        let (mut payload, mut tables, mut owns) = (&payload[..], &tables[..], Vec::new());
        for (row, tensor) in manifest.tensors.iter().enumerate() {
            let DeltaRow::Own(own) = &tensor.delta else { continue };
            let n = units(&manifest, row).div_ceil(1 << manifest.block_log2) as usize;
            let table = take(&mut tables, own.table_len as usize);
            let mut parts = OwnParts::default();
            for i in 0..n {
                let number = |column: usize| u32_at(table, 2 * n + column * 4 * n + 4 * i);
                let mask = take(&mut payload, number(1) as usize).to_vec();
                let codes = take(&mut payload, number(2) as usize).to_vec();
                let (mask_codec, value_codec, kept) = (table[i], table[n + i], number(0));
                parts.blocks.push(BlockParts { mask_codec, value_codec, kept, mask, codes });
            }
            let (floats, coder) = table[14 * n..].split_at(4 * float_count(&manifest, row, own));
            parts.floats = floats.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
            parts.coder = coder.to_vec();
            owns.push(parts);
        }
        Parts { manifest, owns, files, tables: None, base: Model::default() }
    }

    /// The plain table of one own delta.
    fn table(own: &OwnParts) -> Vec<u8> {
        let column = |f: fn(&BlockParts) -> Vec<u8>| own.blocks.iter().flat_map(f).collect::<Vec<u8>>();
        let mut out = column(|b| vec![b.mask_codec]);
        out.extend(column(|b| vec![b.value_codec]));
        out.extend(column(|b| b.kept.to_le_bytes().to_vec()));
        out.extend(column(|b| (b.mask.len() as u32).to_le_bytes().to_vec()));
        out.extend(column(|b| (b.codes.len() as u32).to_le_bytes().to_vec()));
        out.extend(own.floats.iter().flat_map(|x| x.to_le_bytes()));
        out.extend(&own.coder);
        out
    }

    /// All sections, and the manifest with their lengths and digests.
    pub fn fill(&self) -> (Vec<u8>, Manifest) {
        let mut manifest = self.manifest.clone();
        let (mut payload, mut tables) = (Vec::new(), Vec::new());
        for (own, row) in self.owns.iter().zip(own_rows_mut(&mut manifest)) {
            let bytes: Vec<u8> = own.blocks.iter().flat_map(|b| [b.mask.as_slice(), &b.codes].concat()).collect();
            let table = Self::table(own);
            (row.payload_len, row.table_len) = (bytes.len() as u64, table.len() as u64);
            payload.extend(bytes);
            tables.extend(table);
        }
        let row = |stored: &[u8], raw_len: u64| {
            vec![SectionRow { len: stored.len() as u64, raw_len, digest: naive::digest("section", stored) }]
        };
        let raw_len = tables.len() as u64;
        let tables = self.tables.clone().unwrap_or(tables);
        manifest.payloads = if payload.is_empty() { vec![] } else { row(&payload, payload.len() as u64) };
        manifest.tables = if tables.is_empty() { vec![] } else { row(&tables, raw_len) };
        let mut body = [payload, tables].concat();
        manifest.files.clear();
        for (name, stored, raw_len) in &self.files {
            manifest.files.push(FileRow { name: name.clone(), section: row(stored, *raw_len).remove(0) });
            body.extend(stored);
        }
        (body, manifest)
    }

    /// The pack, with whatever content id its manifest has.
    pub fn seal(&self) -> Vec<u8> {
        let (body, manifest) = self.fill();
        seal(&body, &manifest.encode().unwrap())
    }

    /// The pack with the content id that it has by CID-1, as far as all of it can be decoded.
    pub fn seal_with_content(&mut self) -> Vec<u8> {
        self.manifest.content = self.content_id();
        self.seal()
    }

    /// [CID-1] [CID-2] by the book.
    pub fn content_id(&self) -> [u8; 32] {
        let mut deltas: Vec<[u8; 32]> = Vec::new();
        let mut owns = self.owns.iter();
        for (i, row) in self.manifest.tensors.iter().enumerate() {
            let own = match &row.delta {
                DeltaRow::Own(own) => own,
                DeltaRow::SameAs(earlier) => {
                    deltas.push(deltas[*earlier as usize]);
                    continue;
                }
            };
            let (parts, kind) = (owns.next().unwrap(), ValueKind::from_code(own.kind).unwrap());
            let dtype = Dtype::from_code(row.dtype).unwrap();
            let mut all = vec![row.dtype, own.kind, u8::from(own.base.is_some())];
            all.extend(own.base.unwrap_or([0; 32]));
            all.extend((row.shape.len() as u64).to_le_bytes());
            row.shape.iter().for_each(|d| all.extend(d.to_le_bytes()));
            let levels = if kind == ValueKind::Codebook { 16 } else { 0 };
            all.extend(((parts.floats.len() - levels) as u64).to_le_bytes());
            parts.floats.iter().for_each(|x| all.extend(x.to_le_bytes()));
            let width = match kind {
                ValueKind::Step => unit_bytes(dtype),
                ValueKind::F32 => 4,
                ValueKind::F16 | ValueKind::Bf16 => 2,
                _ => 1,
            };
            let kept = self.kept_of(i, parts, kind, dtype);
            for run in kept.chunk_by(|a, b| a.0 / 1024 == b.0 / 1024) {
                all.extend((run[0].0 / 1024).to_le_bytes());
                all.extend((run.len() as u16).to_le_bytes());
                if run.len() > 64 {
                    let positions: Vec<u64> = run.iter().map(|(p, _)| p % 1024).collect();
                    all.extend(bitmap(&positions, 1024));
                } else {
                    run.iter().for_each(|(p, _)| all.extend(((p % 1024) as u16).to_le_bytes()));
                }
                run.iter().for_each(|(_, code)| all.extend(&code.to_le_bytes()[..width]));
            }
            deltas.push(naive::digest("delta", &all));
        }
        let mut all = [&self.manifest.base[..], &self.manifest.gain.to_le_bytes()].concat();
        let name = |all: &mut Vec<u8>, name: &str, digest: [u8; 32]| {
            all.extend((name.len() as u64).to_le_bytes());
            all.extend(name.as_bytes());
            all.extend(digest);
        };
        all.extend((deltas.len() as u64).to_le_bytes());
        self.manifest.tensors.iter().zip(&deltas).for_each(|(row, d)| name(&mut all, &row.name, *d));
        all.extend((self.files.len() as u64).to_le_bytes());
        for (file, stored, raw_len) in &self.files {
            name(&mut all, file, naive::digest("file", &plain(stored, *raw_len)));
        }
        naive::digest("content", &all)
    }

    /// (unit, code) of a delta, ascending.
    pub fn kept_of(&self, row: usize, own: &OwnParts, kind: ValueKind, dtype: Dtype) -> Vec<(u64, u64)> {
        let size = 1u64 << self.manifest.block_log2;
        let units = units(&self.manifest, row);
        let mut out = Vec::new();
        for (i, b) in own.blocks.iter().enumerate() {
            let start = i as u64 * size;
            let n = size.min(units - start);
            let (positions, codes) = match (b.mask_codec, b.value_codec) {
                (6 | 7, _) | (_, 2) => self.by_class(row, own, b, (start, n), kind),
                _ => (unmask(b, n), unpack(b, kind, dtype)),
            };
            out.extend(positions.iter().map(|p| start + p).zip(codes));
        }
        out
    }

    /// The model that a coder names or has.
    fn model(&self, coder: &[u8]) -> classes::Model {
        let Some(row) = classes::shared_row(coder) else { return classes::model_of(coder) };
        let is_own = |row: &&TensorRow| matches!(row.delta, DeltaRow::Own(_));
        let own = self.manifest.tensors[..row as usize].iter().filter(is_own).count();
        classes::model_of(&self.owns[own].coder)
    }

    fn by_class(
        &self,
        row: usize,
        own: &OwnParts,
        b: &BlockParts,
        (start, len): (u64, u64),
        kind: ValueKind,
    ) -> (Vec<u64>, Vec<u64>) {
        let (name, shape) = (&self.manifest.tensors[row].name, &self.manifest.tensors[row].shape);
        let dtype = Dtype::from_code(self.manifest.tensors[row].dtype).unwrap();
        let (coder, model) = (&own.coder[..], &self.model(&own.coder));
        let base = self.base.tensors.iter().find(|t| t.name == *name).map_or(&[][..], |t| &t.bytes);
        let block = classes::Block { dtype, shape, coder, model, base, start, len };
        if b.mask_codec == 7 {
            return block.steps(&b.mask, &b.codes);
        }
        let (mut positions, classes) = block.mask((b.mask_codec == 6).then_some(&b.mask[..]));
        if b.mask_codec != 6 {
            positions = unmask(b, len);
        }
        let codes = match b.value_codec {
            2 => block.codes(kind, &positions, &classes, &b.codes),
            _ => unpack(b, kind, dtype),
        };
        (positions, codes)
    }
}

/// Digests and the header for a body and the decoded manifest, which is stored plain.
pub fn seal(body: &[u8], raw_manifest: &[u8]) -> Vec<u8> {
    seal_stored(body, raw_manifest, raw_manifest.len() as u32)
}

/// The same for a manifest as stored.
pub fn seal_stored(body: &[u8], stored: &[u8], raw_len: u32) -> Vec<u8> {
    let file_len = 104 + body.len() as u64 + stored.len() as u64;
    let manifest = Digest(naive::digest("manifest", stored));
    let header = Header::new(file_len, stored.len() as u32, raw_len, manifest).encode();
    [header.as_slice(), body, stored].concat()
}

/// Gives a changed header (of the length that it says) its id.
pub fn reseal_header(pack: &mut [u8]) {
    let len = (u32_at(pack, 40) as usize).clamp(44, pack.len());
    let id = naive::digest("header", &[&pack[..8], &pack[40..len]].concat());
    pack[8..40].copy_from_slice(&id);
}

// ---- Masks and codes, from the spec ----

/// [MSK-4]
pub fn bitmap(positions: &[u64], n: u64) -> Vec<u8> {
    let mut out = vec![0u8; n.div_ceil(8) as usize];
    positions.iter().for_each(|p| out[(p / 8) as usize] |= 1 << (p % 8));
    out
}

/// [MSK-5]
pub fn gaps(positions: &[u64]) -> Vec<u8> {
    let (mut out, mut next) = (Vec::new(), 0);
    for p in positions {
        let gap = p - next;
        out.extend(std::iter::repeat_n(255u8, (gap / 255) as usize));
        out.push((gap % 255) as u8);
        next = p + 1;
    }
    out
}

/// [MSK-6]
pub fn rice(positions: &[u64], low_bits: u8) -> Vec<u8> {
    let (mut lows, mut highs, mut next) = (Vec::new(), Vec::new(), 0);
    for p in positions {
        let gap = p - next;
        lows.extend((0..low_bits).map(|bit| gap >> bit & 1 == 1));
        highs.extend(std::iter::repeat_n(false, (gap >> low_bits) as usize));
        highs.push(true);
        next = p + 1;
    }
    let byte = |bits: &[bool]| bits.iter().rev().fold(0u8, |byte, bit| byte << 1 | u8::from(*bit));
    [vec![low_bits], lows.chunks(8).map(byte).collect(), highs.chunks(8).map(byte).collect()].concat()
}

fn unrice(bytes: &[u8], kept: u32) -> Vec<u64> {
    let bits = |bytes: &[u8]| bytes.iter().flat_map(|b| (0..8).map(move |i| u64::from(b >> i & 1))).collect::<Vec<_>>();
    let (low_bits, all) = (bytes[0] as usize, bits(&bytes[1..]));
    let mut at = (kept as usize * low_bits).div_ceil(8) * 8;
    let mut next = 0;
    (0..kept as usize)
        .map(|i| {
            let low: u64 = (0..low_bits).map(|bit| all[i * low_bits + bit] << bit).sum();
            let high = all[at..].iter().take_while(|bit| **bit == 0).count();
            at += high + 1;
            let position = next + ((high as u64) << low_bits) + low;
            next = position + 1;
            position
        })
        .collect()
}

fn unmask(b: &BlockParts, n: u64) -> Vec<u64> {
    let bytes = match b.mask_codec {
        0 => return vec![],
        1 => return (0..n).collect(),
        2 | 3 => b.mask.clone(),
        8 => return unrice(&b.mask, b.kept),
        _ => zstd::bulk::decompress(&b.mask, 1 << 21).unwrap(),
    };
    if b.mask_codec.is_multiple_of(2) {
        return (0..n).filter(|p| bytes[(p / 8) as usize] >> (p % 8) & 1 == 1).collect();
    }
    let (mut out, mut at) = (Vec::new(), 0);
    for byte in bytes {
        at += u64::from(byte);
        if byte < 255 {
            out.push(at);
            at += 1;
        }
    }
    out
}

fn bits(kind: ValueKind, dtype: Dtype) -> usize {
    match kind {
        ValueKind::Step => 8 * unit_bytes(dtype),
        ValueKind::F32 => 32,
        ValueKind::F16 | ValueKind::Bf16 => 16,
        ValueKind::Int8 => 8,
        ValueKind::Sign => 1,
        _ => 4,
    }
}

/// Packed codes.
pub fn pack(codes: &[u64], kind: ValueKind, dtype: Dtype) -> Vec<u8> {
    let bits = bits(kind, dtype);
    if bits < 8 {
        let each = 8 / bits;
        return codes.chunks(each).map(|c| c.iter().rev().fold(0u8, |byte, code| byte << bits | *code as u8)).collect();
    }
    let fold = |code: u64| {
        let (signed, half) = (code as i128, 1i128 << (bits - 1));
        let signed = if signed >= half { signed - 2 * half } else { signed };
        (if signed >= 0 { 2 * signed } else { -2 * signed - 1 }) as u64
    };
    let folded: Vec<u64> = codes.iter().map(|c| if kind == ValueKind::Step { fold(*c) } else { *c }).collect();
    (0..bits / 8).flat_map(|plane| folded.iter().map(move |c| (c >> (8 * plane)) as u8)).collect()
}

fn unpack(b: &BlockParts, kind: ValueKind, dtype: Dtype) -> Vec<u64> {
    let (bits, k) = (bits(kind, dtype), b.kept as usize);
    let bytes = if b.value_codec == 0 { b.codes.clone() } else { zstd::bulk::decompress(&b.codes, 8 << 20).unwrap() };
    if bits < 8 {
        let code = |i: usize| u64::from(bytes[i * bits / 8] >> (i * bits % 8)) & ((1 << bits) - 1);
        return (0..k).map(code).collect();
    }
    let unfold = |folded: u64| {
        let folded = i128::from(folded);
        let signed = if folded % 2 == 0 { folded / 2 } else { -(folded + 1) / 2 };
        signed.rem_euclid(1 << bits) as u64
    };
    let code = |i: usize| (0..bits / 8).fold(0u64, |c, plane| c | u64::from(bytes[plane * k + i]) << (8 * plane));
    (0..k).map(|i| if kind == ValueKind::Step { unfold(code(i)) } else { code(i) }).collect()
}

// ---- Zstd frames by hand: RFC 8878 ----

/// A frame of `n` zeros, in blocks of one repeated byte; `n` at least 1.
#[derive(Clone)]
pub struct Frame {
    pub content_size: Option<u64>,
    pub window: Option<u8>,
    pub dictionary: Option<u32>,
    pub reserved_bit: bool,
    pub block_type: u8,
    pub checksum: Option<u32>,
    pub decoded: u64,
}

impl Frame {
    pub fn zeros(n: u64) -> Self {
        let (window, dictionary, checksum) = (None, None, None);
        Frame { content_size: Some(n), window, dictionary, reserved_bit: false, block_type: 1, checksum, decoded: n }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0x28, 0xb5, 0x2f, 0xfd];
        let single = self.window.is_none() && self.content_size.is_some();
        let mut descriptor = if self.content_size.is_some() { 3 << 6 } else { 0 };
        descriptor |= u8::from(single) << 5 | u8::from(self.reserved_bit) << 3 | u8::from(self.checksum.is_some()) << 2;
        descriptor |= if self.dictionary.is_some() { 3 } else { 0 };
        out.push(descriptor);
        if !single {
            out.push(self.window.unwrap_or(0x50)); // 1 MiB
        }
        out.extend(self.dictionary.iter().flat_map(|d| d.to_le_bytes()));
        out.extend(self.content_size.iter().flat_map(|n| n.to_le_bytes()));
        let mut left = self.decoded;
        while left > 0 {
            let size = left.min(128 << 10);
            left -= size;
            let header = u64::from(left == 0) | u64::from(self.block_type) << 1 | size << 3;
            out.extend(&header.to_le_bytes()[..3]);
            out.push(0);
        }
        out.extend(self.checksum.iter().flat_map(|c| c.to_le_bytes()));
        out
    }
}

/// Frames that claim to be `n` zeros and break ZST-1, each in one way. C-02 … C-10
fn bad_frames(n: u64) -> Vec<(&'static str, Vec<u8>)> {
    let good = Frame::zeros(n);
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 0x55];
    let bytes = good.bytes();
    let mut all = vec![
        ("C-02 content size absent", Frame { content_size: None, ..good.clone() }.bytes()),
        ("C-02 content size one more", Frame { content_size: Some(n + 1), ..good.clone() }.bytes()),
        ("C-02 content size one less", Frame { content_size: Some(n - 1), ..good.clone() }.bytes()),
        ("C-02 content size zero", Frame { content_size: Some(0), ..good.clone() }.bytes()),
        ("C-02 content size unknown marker", Frame { content_size: Some(u64::MAX), ..good.clone() }.bytes()),
        ("C-02 content size error marker", Frame { content_size: Some(u64::MAX - 1), ..good.clone() }.bytes()),
        ("C-02 decodes to one less", Frame { decoded: n - 1, ..good.clone() }.bytes()),
        ("C-02 decodes to one more", Frame { decoded: n + 1, ..good.clone() }.bytes()),
        ("C-04 window of 3.75 TB", Frame { window: Some(0xff), ..good.clone() }.bytes()),
        ("C-05 names a dictionary", Frame { dictionary: Some(77), ..good.clone() }.bytes()),
        ("C-06 skippable frame before", [&skippable[..], &bytes].concat()),
        ("C-06 skippable frame after", [&bytes[..], &skippable].concat()),
        ("C-06 skippable frame alone", skippable.to_vec()),
        ("C-07 two frames", [&bytes[..], &bytes].concat()),
        ("C-07 trailing zero", [&bytes[..], &[0]].concat()),
        ("C-09 checksum wrong", Frame { checksum: Some(0x1234_5678), ..good.clone() }.bytes()),
        ("C-10 reserved block type", Frame { block_type: 3, ..good.clone() }.bytes()),
        ("C-10 reserved bit", Frame { reserved_bit: true, ..good.clone() }.bytes()),
        ("C-11 wrong magic", [&[0x27u8][..], &bytes[1..]].concat()),
        ("C-11 all zeros", vec![0; bytes.len()]),
    ];
    // C-08 cut at every byte.
    all.extend((1..bytes.len()).map(|len| ("C-08 cut short", bytes[..len].to_vec())));
    all
}

// ---- The packs that are lied with ----

/// Valid packs, each with a trait that lies need.
pub struct Good {
    /// Signs on two tied F32 tensors [4, 300] `a` and `b`, and steps on U8 `z` [600]; one block each.
    pub sign: Vec<u8>,
    /// Steps on F32 `a` [40], BOOL `f` [9], I64 `i` [5]; and carried `n` F16 [3].
    pub exact: Vec<u8>,
    /// Codebook on BF16 `w` [700], with two notes.
    pub codebook: Vec<u8>,
    /// int8 with a scale a row on F32 `w` [10, 33].
    pub int8: Vec<u8>,
    pub int4: Vec<u8>,
    pub f32: Vec<u8>,
    pub f16: Vec<u8>,
    pub bf16: Vec<u8>,
    /// int8 by class on F32 `a`, `b` and `c` [48, 128], which share a model; rows and columns differ.
    pub classed: Vec<u8>,
    /// Steps by class, and by what the base has, on BF16 `a` and `b` [48, 128].
    pub by_base: Vec<u8>,
    /// The same where most units move: the mask stands in the codes.
    pub dense: Vec<u8>,
    /// Nothing is touched.
    pub empty: Vec<u8>,
}

/// A number that grows with `i` and is nowhere alike.
fn wave(i: u64) -> f32 {
    ((i * 7919 % 1009) as f32 - 504.0) / 64.0
}

pub fn f32_tensor(name: &str, shape: &[u64], f: impl FnMut(u64) -> f32) -> Tensor {
    let n = shape.iter().product();
    Tensor::f32s(name, shape, &(0..n).map(f).collect::<Vec<_>>())
}

impl Good {
    /// The packs, made once.
    pub fn packs() -> &'static Self {
        static PACKS: std::sync::OnceLock<Good> = std::sync::OnceLock::new();
        PACKS.get_or_init(|| Good {
            sign: Self::sign(),
            exact: Self::exact(),
            codebook: Self::codebook(),
            int8: Self::lossy(ValueKind::Int8, true),
            int4: Self::lossy(ValueKind::Int4, false),
            f32: Self::lossy(ValueKind::F32, false),
            f16: Self::lossy(ValueKind::F16, false),
            bf16: Self::lossy(ValueKind::Bf16, false),
            classed: Self::made(Self::classed_models(), sparse("0.2", ValueKind::Int8)),
            by_base: Self::made(Self::by_base_models(), stitchpack::create::Method::Exact),
            dense: Self::made(Self::dense_models(), stitchpack::create::Method::Exact),
            empty: Self::empty(),
        })
    }

    pub fn sign_models() -> (Model, Model) {
        let tied = |name: &str| f32_tensor(name, &[4, 300], wave);
        let tuned = |name: &str| f32_tensor(name, &[4, 300], |i| wave(i) + wave(i * i + 3) / 100.0);
        let bytes = |d: u64| {
            Tensor::of_units(
                "z",
                Dtype::U8,
                &[600],
                &(0..600).map(|i| (i * i + d * u64::from(i % 7 == 0)) % 256).collect::<Vec<_>>(),
            )
        };
        (Model::new(vec![tied("a"), tied("b"), bytes(0)]), Model::new(vec![tuned("a"), tuned("b"), bytes(9)]))
    }

    fn sign() -> Vec<u8> {
        let (base, tuned) = Self::sign_models();
        let site = Site::new(&base);
        site.create("p", &tuned, &options(sparse("0.1", ValueKind::Sign))).unwrap();
        site.pack_bytes("p")
    }

    pub fn exact_models() -> (Model, Model) {
        let a = f32_tensor("a", &[40], wave);
        let f = Tensor::of_units("f", Dtype::BOOL, &[9], &[0, 1, 0, 1, 0, 1, 0, 1, 0]);
        let i = Tensor::of_units("i", Dtype::I64, &[5], &[1, 2, 3, 4, u64::MAX]);
        let base = Model::new(vec![a.clone(), f, i]);
        let tuned = Model::new(vec![
            f32_tensor("a", &[40], |i| if i % 3 == 0 { wave(i).next_up() } else { wave(i) }),
            Tensor::of_units("f", Dtype::BOOL, &[9], &[1, 0, 1, 0, 1, 0, 1, 0, 1]),
            Tensor::of_units("i", Dtype::I64, &[5], &[1, 2, 0, 4, 0]),
            Tensor::of_units("n", Dtype::F16, &[3], &[0x3c00, 0, 0x7e01]),
        ]);
        (base, tuned)
    }

    fn exact() -> Vec<u8> {
        let (base, tuned) = Self::exact_models();
        let site = Site::new(&base);
        let mut options = options(stitchpack::create::Method::Exact);
        options.new_tensors = stitchpack::create::NewTensors::Carry;
        site.create("p", &tuned, &options).unwrap();
        site.pack_bytes("p")
    }

    pub fn codebook_models() -> (Model, Model) {
        let tensor = |d: f32| {
            let units: Vec<u64> =
                (0..700).map(|i| naive::encode(Dtype::BF16, f64::from(wave(i) + d * wave(i * 3 + 1)))).collect();
            Model::new(vec![Tensor::of_units("w", Dtype::BF16, &[700], &units)])
        };
        (tensor(0.0), tensor(0.25))
    }

    fn codebook() -> Vec<u8> {
        let (base, tuned) = Self::codebook_models();
        let site = Site::new(&base);
        let mut options = options(sparse("0.2", ValueKind::Codebook));
        options.notes = [("licence", "MIT"), ("task", "tests \u{1b}[31m of \u{202e} text")]
            .into_iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        site.create("p", &tuned, &options).unwrap();
        site.pack_bytes("p")
    }

    fn lossy(kind: ValueKind, by_row: bool) -> Vec<u8> {
        let base = Model::new(vec![f32_tensor("w", &[10, 33], wave)]);
        let tuned = Model::new(vec![f32_tensor("w", &[10, 33], |i| wave(i) + wave(i * 5 + 1) / 50.0)]);
        let site = Site::new(&base);
        let mut method = sparse("0.3", kind);
        if let stitchpack::create::Method::Lossy(lossy) = &mut method {
            lossy.groups =
                if by_row { stitchpack::model::delta::Groups::Row } else { stitchpack::model::delta::Groups::Tensor };
        }
        site.create("p", &tuned, &options(method)).unwrap();
        site.pack_bytes("p")
    }

    pub fn classed_models() -> (Model, Model) {
        let loud = |i: u64| [0.1f32, 1.0, 0.3, 2.0, 0.02][(i * i % 5) as usize];
        let tensor = |name: &str, seed: u64, by: f32| {
            let mut random = Random(seed);
            f32_tensor(name, &[48, 128], move |i| {
                let noise = (random.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
                wave(i) + by * noise * loud(i / 128) * loud(i % 128 * 3)
            })
        };
        let all = |by: f32| Model::new(vec![tensor("a", 1, by), tensor("b", 2, by), tensor("c", 3, by)]);
        (all(0.0), all(0.25))
    }

    /// Weights of all sizes that an optimizer moved by about the same.
    pub fn by_base_models() -> (Model, Model) {
        let tensor = |name: &str, seed: u64, by: f64| {
            let mut random = Random(seed);
            let units: Vec<u64> = (0..48 * 128)
                .map(|_| {
                    let size = 2f64.powi(-(random.below(12) as i32)) * (1.0 + random.below(100) as f64 / 100.0);
                    let moves = [-1.0, 1.0].get(random.below(16) as usize).copied().unwrap_or(0.0);
                    naive::encode(Dtype::BF16, size + by * moves)
                })
                .collect();
            Tensor::of_units(name, Dtype::BF16, &[48, 128], &units)
        };
        let all = |by: f64| Model::new(vec![tensor("a", 1, by), tensor("b", 2, by)]);
        (all(0.0), all(0.001))
    }

    /// Most units move, small ones by more steps, but for two rows that do not move at all.
    pub fn dense_models() -> (Model, Model) {
        let side = |moved: bool| {
            let mut random = Random(5);
            let unit = |i: u64| {
                let exponent = random.below(9);
                let size = 2f64.powi(-(exponent as i32)) * (1.0 + random.below(100) as f64 / 100.0);
                let step = random.below(2 + exponent * exponent);
                let unit = naive::encode(Dtype::BF16, size);
                if moved && !(2..4).contains(&(i / 128)) { unit + step } else { unit }
            };
            let units: Vec<u64> = (0..24 * 128).map(unit).collect();
            Model::new(vec![Tensor::of_units("w", Dtype::BF16, &[24, 128], &units)])
        };
        (side(false), side(true))
    }

    fn made((base, tuned): (Model, Model), method: stitchpack::create::Method) -> Vec<u8> {
        let site = Site::new(&base);
        site.create("p", &tuned, &options(method)).unwrap();
        site.pack_bytes("p")
    }

    fn empty() -> Vec<u8> {
        let base = Model::new(vec![f32_tensor("w", &[3], wave)]);
        let site = Site::new(&base);
        site.create("p", &base, &options(stitchpack::create::Method::Exact)).unwrap();
        site.pack_bytes("p")
    }
}

/// The lie is told before lengths and digests are computed.
fn before(pack: &[u8], lie: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::of(pack);
    lie(&mut parts);
    parts.seal()
}

/// The same, and the content id is right, so that the pack is refused for its structure or not at all.
fn consistent(pack: &[u8], lie: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::of(pack);
    lie(&mut parts);
    parts.seal_with_content()
}

/// The lie is told in the manifest, after lengths and digests of sections were computed.
fn after(pack: &[u8], lie: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let (body, mut manifest) = Parts::of(pack).fill();
    lie(&mut manifest);
    seal(&body, &manifest.encode().unwrap())
}

/// The lie is told in the encoded manifest.
fn raw(pack: &[u8], lie: impl FnOnce(&mut Vec<u8>, &Manifest)) -> Vec<u8> {
    let (body, manifest) = Parts::of(pack).fill();
    let mut bytes = manifest.encode().unwrap();
    lie(&mut bytes, &manifest);
    seal(&body, &bytes)
}

/// The lie is told in the header, which gets its id again.
fn header(pack: &[u8], lie: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = pack.to_vec();
    lie(&mut bytes);
    reseal_header(&mut bytes);
    bytes
}

fn own(manifest: &mut Manifest, i: usize) -> &mut OwnDelta {
    own_rows_mut(manifest).nth(i).unwrap()
}

/// Offset of the byte of `all_steps` in an encoded manifest; `exact`, `gain` and `block_log2` follow it.
fn exact_at(m: &Manifest) -> usize {
    8 + m.tool.len() + 32 + 32 + if m.result.is_some() { 33 } else { 1 }
}

/// Every case of every family.
pub fn all(good: &Good) -> Vec<Case> {
    let families = [h_cases, m_cases, t_cases, k_cases, v_cases, e_cases, c_cases, x_cases];
    families.iter().flat_map(|cases| cases(good)).collect()
}

/// The container's header. H-01 and H-02 (files shorter than a header) are truncations: tests/corruption.rs has them all.
pub fn h_cases(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Digest, Malformed, Unsupported};
    let p = &good.sign;
    let len = p.len() as u64;
    let put = |at: usize, bytes: &[u8]| header(p, |h| h[at..at + bytes.len()].copy_from_slice(bytes));
    let mut cases = vec![
        Case::new("H-01 empty file", vec![], Malformed(&["HDR-1"])),
        Case::new("H-03 wrong magic", put(0, b"STITCHPK"), Malformed(&["HDR-1"])),
        Case::new("H-05 magic with LF for CRLF", [b"\x89STP\n\x1a\n", &p[8..]].concat(), Malformed(&["HDR-1"])),
        Case::new("H-05 magic with CRCRLF", [b"\x89STP\r\r\n\x1a", &p[8..]].concat(), Malformed(&["HDR-1"])),
        Case::new("H-06 major version 0", put(44, &[0, 0]), Malformed(&["HDR-4"])),
        Case::new("H-07 major version 2", put(44, &[2, 0]), Unsupported),
        Case::new("H-07 major version 65535", put(44, &[255, 255]), Unsupported),
        Case::new("H-08 minor version 1", put(46, &[1, 0]), Accepted),
        Case::new("H-08 minor version 65535", put(46, &[255, 255]), Accepted),
        // [HDR-6]
        Case::new("H-10 unknown compatible bits", put(52, &[255, 255, 255, 255]), Accepted),
        Case::new("H-12 header length 103", put(40, &103u32.to_le_bytes()), Malformed(&["HDR-3"])),
        Case::new("H-12 header length 0", put(40, &[0; 4]), Malformed(&["HDR-3"])),
        Case::new("H-12 header length 105", put(40, &105u32.to_le_bytes()), Malformed(&["HDR-3"])),
        Case::new("H-12 header length 4097", put(40, &4097u32.to_le_bytes()), Malformed(&["HDR-3"])),
        Case::new("H-12 header length 4 GiB", put(40, &[255; 4]), Malformed(&["HDR-3"])),
        Case::new("H-14 one trailing byte", [&p[..], &[0]].concat(), Malformed(&["HDR-7"])),
        Case::new("H-14 64 trailing zeros", [&p[..], &[0; 64]].concat(), Malformed(&["HDR-7"])),
        Case::new("H-15 manifest length 0", put(64, &[0; 4]), Malformed(&["HDR-8"])),
        Case::new("H-15 manifest length 1", put(64, &[1, 0, 0, 0]), Digest),
        Case::new("H-15 manifest length 4 GiB", put(64, &[255; 8]), Malformed(&["HDR-8"])),
        Case::new(
            "H-16 manifest one byte too long",
            put(64, &[((len - 103) as u32).to_le_bytes(); 2].concat()),
            Malformed(&["HDR-8"]),
        ),
        Case::new(
            "H-16 manifest over all sections",
            put(64, &[((len - 104) as u32).to_le_bytes(); 2].concat()),
            Digest,
        ),
        Case::new("H-17 decoded manifest shorter than stored", put(68, &[1, 0, 0, 0]), Malformed(&["HDR-8"])),
        Case::new("H-18 big-endian version", put(44, &[0, 1]), Unsupported),
    ];
    for (what, bytes) in [
        ("a safetensors file", &b"\x40\0\0\0\0\0\0\0{\"a\":{}}"[..]),
        ("a GGUF file", b"GGUF\x03\0\0\0\0\0\0\0"),
        ("a ZIP file", b"PK\x03\x04\x14\0\0\0\0\0"),
        ("a pickle", b"\x80\x04\x95\0\0\0\0\0\0\0"),
        ("a gzip file", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("a JSON file", b"{\"hello\": 1}"),
    ] {
        cases.push(Case::new(format!("H-04 {what}"), bytes.to_vec(), Malformed(&["HDR-1"])));
    }
    for bit in 0..32u32 {
        // [HDR-5]
        let name = format!("H-09 unknown incompatible bit {bit}");
        cases.push(Case::new(name, put(48, &(1u32 << bit).to_le_bytes()), Unsupported));
    }
    for declared in [len - 1, len + 1, 0, 1 << 63, u64::MAX] {
        let name = format!("H-13 declared length {declared}");
        cases.push(Case::new(name, put(56, &declared.to_le_bytes()), Malformed(&["HDR-7"])));
    }
    // A newer version with a longer header is newer, not malformed; but no version has one above 4,096 bytes. [HDR-3]
    for (len, expect) in [(200u32, Unsupported), (4096, Unsupported), (4097, Malformed(&["HDR-3"]))] {
        let mut longer = [&p[..], &[7; 5000]].concat();
        longer[40..44].copy_from_slice(&len.to_le_bytes());
        longer[44..46].copy_from_slice(&[2, 0]);
        reseal_header(&mut longer);
        cases.push(Case::new(format!("H-07 major version 2 with a header of {len} bytes"), longer, expect));
    }
    cases
}

pub fn m_cases(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Digest, Limit, Malformed};
    const MAN2: Expect = Malformed(&["MAN-2"]);
    let (p, c) = (&good.sign, &good.codebook);
    let mut cases = vec![
        Case::new("M-01 invalid UTF-8 in tool", raw(p, |b, _| b[8] = 0xff), MAN2),
        Case::new("M-01 surrogate in tool", raw(p, |b, _| b[8..11].copy_from_slice(&[0xed, 0xa0, 0x80])), MAN2),
        Case::new("M-02 note twice", after(c, |m| m.notes[1].0 = m.notes[0].0.clone()), Malformed(&["MAN-5"])),
        Case::new("M-03 notes out of order", after(c, |m| m.notes.reverse()), Malformed(&["MAN-5"])),
        Case::new("M-04 one byte after the manifest", raw(p, |b, _| b.push(0)), MAN2),
        Case::new("M-04 one byte before the manifest", raw(p, |b, _| b.insert(0, 0)), MAN2),
        Case::new("M-06 last byte missing", raw(p, |b, _| b.truncate(b.len() - 1)), MAN2),
        Case::new("M-06 first half missing", raw(p, |b, _| drop(b.drain(..b.len() / 2))), MAN2),
        Case::new("M-07 exact is 2", raw(p, |b, m| b[exact_at(m)] = 2), MAN2),
        Case::new("M-07 exact is 255", raw(p, |b, m| b[exact_at(m) + 1] = 255), MAN2),
        Case::new("M-07 option tag 2", raw(p, |b, m| b[exact_at(m) - 33] = 2), MAN2),
        Case::new(
            "M-07 delta tag 2",
            raw(p, |b, m| {
                // name, dtype, shape of the first tensor come before its tag.
                let at = find(b, &[&1u64.to_le_bytes()[..], b"a"].concat()) + 9 + 1 + 8 + 16;
                assert_eq!(b[at..at + 4], [0; 4], "{}", m.tensors.len());
                b[at] = 2;
            }),
            MAN2,
        ),
        Case::new("M-11 NUL in tool", after(p, |m| m.tool = "\0".into()), Accepted),
        Case::new("M-12 1,024 notes", after(p, |m| m.notes = notes(1024, 4)), Accepted),
        // [LIM-1]
        Case::new("M-12 1,025 notes", after(p, |m| m.notes = notes(1025, 4)), Limit),
        Case::new("M-12 notes of 1 MiB", after(p, |m| m.notes = notes(1, 1 << 20)), Accepted),
        Case::new("M-12 notes of 1 MiB and a byte", after(p, |m| m.notes = notes(1, (1 << 20) + 1)), Limit),
        Case::new(
            "M-13 title with escapes",
            after(p, |m| m.notes = vec![("\u{1b}[2J".into(), "\u{202e}".into())]),
            Accepted,
        ),
        Case::new("M-14 no payload section", after(p, |m| m.payloads.clear()), Malformed(&["SEC-1"])),
        Case::new(
            "M-14 payload section twice",
            after(p, |m| m.payloads.push(m.payloads[0].clone())),
            Malformed(&["SEC-1"]),
        ),
        Case::new("M-14 no table section", after(p, |m| m.tables.clear()), Malformed(&["SEC-1"])),
        Case::new(
            "M-14 sections of other sorts swapped",
            after(p, |m| std::mem::swap(&mut m.payloads, &mut m.tables)),
            Malformed(&["SEC-1"]),
        ),
        Case::new("M-19 hole before the manifest", hole(p), Malformed(&["SEC-3"])),
        Case::new(
            "M-19 section reaches into the manifest",
            after(p, |m| {
                m.files.push(FileRow { name: "x".into(), section: SectionRow { len: 1, raw_len: 1, digest: [0; 32] } });
            }),
            Malformed(&["SEC-3"]),
        ),
        Case::new(
            "M-19 payload section longer, table shorter",
            after(p, |m| {
                m.payloads[0].len += 1;
                m.payloads[0].raw_len += 1;
                own(m, 0).payload_len += 1;
                m.tables[0].len -= 1;
            }),
            Digest,
        ),
        Case::new(
            "M-19 empty payload section",
            after(p, |m| {
                m.payloads.insert(0, SectionRow { len: 0, raw_len: 0, digest: naive::digest("section", b"") });
            }),
            Malformed(&["SEC-2"]),
        ),
        Case::new(
            "M-19 empty table section",
            after(p, |m| {
                m.tables.push(SectionRow { len: 0, raw_len: 0, digest: naive::digest("section", b"") });
            }),
            Malformed(&["SEC-2"]),
        ),
        Case::new("M-19 payload section as a frame", after(p, |m| m.payloads[0].len -= 1), Malformed(&["SEC-2"])),
        Case::new("M-19 block in two sections", split(p, true), Malformed(&["SEC-4"])),
        Case::new("M-19 table in two sections", split(p, false), Malformed(&["SEC-4"])),
        Case::new("M-20 tool of 1 MiB", after(p, |m| m.tool = "x".repeat(1 << 20)), Accepted),
        Case::new("M-21 exact pack with a gain", after(&good.exact, |m| m.gain = 2.0), Malformed(&["MAN-7"])),
        Case::new("M-21 lossy pack that is exact", after(p, |m| m.exact = true), Malformed(&["MAN-7"])),
        Case::new("M-22 wrong content id", after(p, |m| m.content[0] ^= 1), Malformed(&["CID-1"])),
        Case::new("M-22 other gain", after(p, |m| m.gain *= 2.0), Malformed(&["CID-1"])),
        Case::new("M-22 other base", after(p, |m| m.base[31] ^= 1), Malformed(&["CID-1"])),
        Case::new("M-22 empty pack with another base", after(&good.empty, |m| m.base[31] ^= 1), Malformed(&["CID-1"])),
        Case::new("T-01 no tensors", good.empty.clone(), Accepted),
    ];
    for bits in [0u32, 0x8000_0000, 0xbf80_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000] {
        let lie = after(p, |m| m.gain = f32::from_bits(bits));
        cases.push(Case::new(format!("M-08 gain with bits {bits:08x}"), lie, Malformed(&["MAN-3"])));
    }
    for log2 in [0u8, 9, 21, 64, 255] {
        let lie = after(p, |m| m.block_log2 = log2);
        cases.push(Case::new(format!("M-08 blocks of 2^{log2}"), lie, Malformed(&["MAN-4"])));
    }
    // Lengths of text and lists that nothing stands behind. T-02
    for claim in [u64::MAX, 1 << 63, 1 << 40, 1 << 30, (1 << 30) - 4096, 1 << 27, 1 << 20, 1 << 16] {
        for (what, at) in [("tool", 0usize), ("localizer", 1), ("tensors", 2), ("shape", 3), ("payloads", 4)] {
            let lie = raw(p, |b, m| {
                let at = match at {
                    0 => 0,
                    1 => exact_at(m) + 2 + 4 + 1,
                    2 => find(b, &[&1u64.to_le_bytes()[..], b"a"].concat()) - 8,
                    3 => find(b, &[&1u64.to_le_bytes()[..], b"a"].concat()) + 10,
                    _ => b.len() - 8 - 8 - m.tables.len() * 48 - m.payloads.len() * 48 - 8,
                };
                b[at..at + 8].copy_from_slice(&claim.to_le_bytes());
            });
            cases.push(Case::new(format!("T-02 {what} claims {claim}"), lie, MAN2));
        }
    }
    // Carried files.
    let with_files = |names: &[&str]| {
        let mut parts = Parts::of(&good.empty);
        parts.files = names.iter().map(|n| (n.to_string(), b"{}".to_vec(), 2)).collect();
        parts.seal_with_content()
    };
    let long = "x".repeat(256);
    for name in [
        "",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        "C:\\x",
        ".hidden",
        "a\0b",
        "a b",
        "tokenizer\u{e9}.json",
        "a\nb",
        &long,
        "model.safetensors",
        "model.safetensors.index.json",
        "stitch.json",
        "x.bin",
        "x.pt",
        "x.pth",
        "x.ckpt",
        "x.gguf",
        "x.h5",
        "x.msgpack",
        "x.onnx",
        "x.pkl",
        "x.npz",
        "x.tflite",
        "modeling_x.py",
    ] {
        let short: String = name.chars().take(30).filter(|c| !c.is_control() && !"/\\:".contains(*c)).collect();
        cases.push(Case::new(format!("M-23 file name \"{short}\""), with_files(&[name]), Malformed(&["FIL-1"])));
    }
    let many: Vec<String> = (0..1025).map(|i| format!("f{i:04}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    cases.extend([
        Case::new("M-23 good file names", with_files(&["a-b_C.1", "chat_template.jinja", &long[1..]]), Accepted),
        Case::new("M-23 file twice", with_files(&["a", "a"]), Malformed(&["FIL-1"])),
        Case::new("M-23 files out of order", with_files(&["b", "a"]), Malformed(&["FIL-1"])),
        Case::new("M-23 1,024 files", with_files(&many[1..]), Accepted),
        Case::new("M-23 1,025 files", with_files(&many), Limit),
    ]);
    cases
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|w| w == needle).unwrap()
}

fn notes(n: usize, bytes: usize) -> Vec<(String, String)> {
    (0..n).map(|i| (format!("{i:04}"), "v".repeat(bytes - 4))).collect()
}

/// A byte between the sections and the manifest that belongs to nothing. [SEC-3]
fn hole(pack: &[u8]) -> Vec<u8> {
    let (mut body, manifest) = Parts::of(pack).fill();
    body.push(0);
    seal(&body, &manifest.encode().unwrap())
}

/// Cuts the first block or the first table in two sections. [SEC-4]
fn split(pack: &[u8], payload: bool) -> Vec<u8> {
    let (body, mut manifest) = Parts::of(pack).fill();
    let start = if payload { 0 } else { manifest.payloads[0].len as usize };
    let rows = if payload { &mut manifest.payloads } else { &mut manifest.tables };
    let all = &body[start..start + rows[0].len as usize];
    let part = |bytes: &[u8]| {
        let len = bytes.len() as u64;
        SectionRow { len, raw_len: len, digest: naive::digest("section", bytes) }
    };
    *rows = vec![part(&all[..5]), part(&all[5..])];
    seal(&body, &manifest.encode().unwrap())
}

pub fn t_cases(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Limit, Malformed, Unsupported};
    let (p, e) = (&good.sign, &good.exact);
    let named = |name: &str| after(&good.int4, |m| m.tensors[0].name = name.into());
    // Content ids hold names and shapes, so a legal name of another kind needs a right one.
    let renamed = |name: &str| consistent(&good.int4, |m| m.manifest.tensors[0].name = name.into());
    let shaped = |shape: &[u64]| after(&good.int4, |m| m.tensors[0].shape = shape.to_vec());
    let typed = |code: u8| after(&good.int4, |m| m.tensors[0].dtype = code);
    let mut cases = vec![
        Case::new("T-03 a row too many", after(p, |m| m.tensors.push(m.tensors[2].clone())), Malformed(&["TEN-4"])),
        Case::new("T-03 a row too few", after(p, |m| drop(m.tensors.pop())), Malformed(&["SEC-1"])),
        Case::new("T-04 name twice", after(p, |m| m.tensors[1].name = "a".into()), Malformed(&["TEN-4"])),
        Case::new("T-05 names descend", after(p, |m| m.tensors[2].name = "A".into()), Malformed(&["TEN-4"])),
        Case::new(
            "T-05 prefix after the longer name",
            after(p, |m| {
                (m.tensors[0].name, m.tensors[1].name) = ("ab".into(), "a".into());
            }),
            Malformed(&["TEN-4"]),
        ),
        Case::new("T-06 empty name", named(""), Malformed(&["TEN-1"])),
        Case::new("T-06 name of 512 bytes", renamed(&"n".repeat(512)), Accepted),
        Case::new("T-06 name of 513 bytes", named(&"n".repeat(513)), Limit),
        Case::new("T-08 name like a path", renamed("../../etc/passwd"), Accepted),
        Case::new("T-08 name like a Windows path", renamed("C:\\x"), Accepted),
        Case::new("T-09 name that is not in NFC", renamed("e\u{301}"), Accepted),
        // [TEN-2] [LIM-1]
        Case::new("T-11 rank 9", shaped(&[1, 1, 1, 1, 1, 1, 1, 10, 33]), Limit),
        Case::new("T-11 rank 100,000", shaped(&[1; 100_000]), Limit),
        Case::new("T-12 a dimension 0", shaped(&[0, 330]), Malformed(&["TEN-8"])),
        Case::new("T-13 product overflows", shaped(&[1 << 32, 1 << 32]), Malformed(&["TEN-3"])),
        Case::new(
            "T-13 product wraps to 4",
            shaped(&[4_194_305, 4_194_305, 211_106_198_978_564]),
            Malformed(&["TEN-3"]),
        ),
        Case::new("T-13 product overflows before a 0", shaped(&[1 << 32, 1 << 32, 0]), Malformed(&["TEN-3"])),
        Case::new("T-14 bits overflow", shaped(&[1 << 60]), Malformed(&["TEN-3"])),
        Case::new("T-15 elements 2^40 and one", shaped(&[(1 << 40) + 1]), Limit),
        Case::new("T-15 elements 2^40", shaped(&[1 << 40]), Malformed(&["TAB-1"])),
        // [DTY-1]
        Case::new("T-16 dtype 0", typed(0), Unsupported),
        Case::new(format!("T-16 dtype {}", Dtype::NEWEST + 1), typed(Dtype::NEWEST + 1), Unsupported),
        Case::new("T-16 dtype 255", typed(255), Unsupported),
        // [DTY-3] [TEN-9]
        Case::new("T-17 numbers on integers", typed(Dtype::I32.code()), Malformed(&["TEN-9"])),
        Case::new(
            "T-17 numbers on E8M0",
            after(&good.int4, |m| {
                (m.tensors[0].dtype, m.tensors[0].shape) = (Dtype::F8_E8M0.code(), vec![10, 33]);
            }),
            Malformed(&["TEN-9"]),
        ),
        Case::new(
            "T-17 odd number of F4",
            after(&good.int4, |m| {
                (m.tensors[0].dtype, m.tensors[0].shape) = (Dtype::F4.code(), vec![33]);
            }),
            Malformed(&["TEN-3"]),
        ),
        Case::new(
            "T-17 numbers in an exact pack",
            after(&good.int4, |m| (m.all_steps, m.gain) = (true, 1.0)),
            Malformed(&["TEN-9"]),
        ),
        Case::new(
            "T-17 numbers in a carried tensor",
            after(&good.int4, |m| {
                own(m, 0).base = None;
                own(m, 0).kept = 330;
            }),
            Malformed(&["TEN-9"]),
        ),
        // [TEN-6] [TEN-8]
        Case::new(
            "T-17 carried, but not all of it",
            after(&good.int4, |m| own(m, 0).base = None),
            Malformed(&["TEN-8"]),
        ),
        Case::new("T-18 table longer", after(p, |m| own(m, 0).table_len += 1), Malformed(&["SEC-1"])),
        Case::new("T-18 table of 2^64-1 bytes", after(p, |m| own(m, 0).table_len = u64::MAX), Malformed(&["TAB-1"])),
        Case::new("T-18 payload longer", after(p, |m| own(m, 0).payload_len += 1), Malformed(&["SEC-1"])),
        Case::new(
            "T-18 payload of 2^64-1 bytes",
            after(p, |m| own(m, 0).payload_len = u64::MAX),
            Malformed(&["SEC-1"]),
        ),
        // [SEC-5]
        Case::new(
            "T-18 payload taken from the next",
            after(p, |m| {
                own(m, 0).payload_len += 1;
                own(m, 1).payload_len -= 1;
            }),
            Malformed(&["TAB-3"]),
        ),
        Case::new(
            "T-20 lengths chained to 2^64",
            after(p, |m| {
                m.payloads[0].raw_len = 1 << 63;
                m.payloads.push(m.payloads[0].clone());
            }),
            Malformed(&["SEC-1"]),
        ),
        Case::new(
            "T-20 section of 1 TB",
            after(p, |m| {
                let more = (1 << 40) - m.payloads[0].len;
                own(m, 0).payload_len += more;
                (m.payloads[0].len, m.payloads[0].raw_len) = (1 << 40, 1 << 40);
            }),
            Limit,
        ),
        Case::new("T-21 kept 0", after(p, |m| own(m, 0).kept = 0), Malformed(&["TEN-8"])),
        Case::new("T-21 kept above units", after(p, |m| own(m, 0).kept = 1201), Malformed(&["TEN-8"])),
        Case::new("T-21 kept 2^64-1", after(p, |m| own(m, 0).kept = u64::MAX), Malformed(&["TEN-8"])),
        Case::new("T-21 kept one more than the blocks", after(p, |m| own(m, 0).kept += 1), Malformed(&["TAB-3"])),
        Case::new("T-21 kept one less than the blocks", after(p, |m| own(m, 0).kept -= 1), Malformed(&["TAB-3"])),
        Case::new("T-22 smaller blocks than the table has", after(p, |m| m.block_log2 = 10), Malformed(&["TAB-1"])),
        Case::new("T-23 shares itself", after(p, |m| m.tensors[1].delta = DeltaRow::SameAs(1)), Malformed(&["TEN-5"])),
        Case::new(
            "T-23 shares a later row",
            after(p, |m| m.tensors[1].delta = DeltaRow::SameAs(2)),
            Malformed(&["TEN-5"]),
        ),
        Case::new(
            "T-23 shares no row",
            after(p, |m| m.tensors[1].delta = DeltaRow::SameAs(u32::MAX)),
            Malformed(&["TEN-5"]),
        ),
        Case::new("T-23 shares another shape", after(p, |m| m.tensors[1].shape = vec![300, 4]), Malformed(&["TEN-5"])),
        Case::new(
            "T-23 shares another dtype",
            after(p, |m| m.tensors[1].dtype = Dtype::I32.code()),
            Malformed(&["TEN-5"]),
        ),
        Case::new(
            "T-23 shares what is shared",
            after(p, |m| {
                let mut row = m.tensors[1].clone();
                (row.name, row.delta) = ("c".into(), DeltaRow::SameAs(1));
                m.tensors.insert(2, row);
            }),
            Malformed(&["TEN-5"]),
        ),
        Case::new(
            "T-24 carried as if it had a base",
            before(e, |m| own(&mut m.manifest, 3).base = Some([7; 32])),
            Malformed(&["VAL-2"]),
        ),
    ];
    for c in [
        '\0', '\u{1b}', '\n', '\u{7f}', '\u{85}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2060}', '\u{2069}',
        '\u{feff}',
    ] {
        let name = format!("T-07 name with U+{:04X}", u32::from(c));
        cases.push(Case::new(name, named(&format!("w{c}")), Malformed(&["TEN-1"])));
    }
    cases
}

/// The first block of the first delta.
fn block(parts: &mut Parts) -> &mut BlockParts {
    &mut parts.owns[0].blocks[0]
}

/// One tensor `w` of `n` U8 units with a step of 1 at the positions, in a plain bitmap or plain gaps; all of it legal.
pub fn forged(good: &Good, n: u64, positions: &[u64], codec: u8) -> Parts {
    let mut parts = Parts::of(&good.exact);
    parts.manifest.tensors.truncate(1);
    parts.owns.truncate(1);
    parts.manifest.exact = false;
    let row = &mut parts.manifest.tensors[0];
    (row.name, row.dtype, row.shape) = ("w".into(), Dtype::U8.code(), vec![n]);
    own(&mut parts.manifest, 0).kept = positions.len() as u64;
    let size = 1u64 << parts.manifest.block_log2;
    parts.owns[0].blocks = (0..n.div_ceil(size))
        .map(|i| {
            let (start, len) = (i * size, size.min(n - i * size));
            let mine: Vec<u64> =
                positions.iter().filter(|p| (start..start + len).contains(p)).map(|p| p - start).collect();
            let kept = mine.len() as u32;
            let (mask_codec, mask) = match mine.len() as u64 {
                0 => (0, vec![]),
                k if k == len => (1, vec![]),
                _ if codec == 2 => (2, bitmap(&mine, len)),
                _ if codec == 8 => (8, rice(&mine, 2)),
                _ => (3, gaps(&mine)),
            };
            BlockParts { mask_codec, value_codec: 0, kept, mask, codes: vec![2; mine.len()] }
        })
        .collect();
    parts
}

pub fn k_cases(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Malformed, Unsupported};
    const BITMAP: Expect = Malformed(&["MSK-4"]);
    const GAPS: Expect = Malformed(&["MSK-5"]);
    const POSITIONS: Expect = Malformed(&["MSK-2"]);
    const RICE: Expect = Malformed(&["MSK-6"]);
    let some = [0u64, 3, 4, 9];
    let lie = |n: u64, codec: u8, lie: &dyn Fn(&mut BlockParts)| {
        let mut parts = forged(good, n, &some, codec);
        lie(block(&mut parts));
        parts.seal()
    };
    let mut cases = vec![
        Case::new("K-01 bitmap one byte short", lie(20, 2, &|b| b.mask.truncate(b.mask.len() - 1)), BITMAP),
        Case::new("K-01 bitmap one byte long", lie(20, 2, &|b| b.mask.push(0)), BITMAP),
        Case::new("K-01 no bitmap", lie(20, 2, &|b| b.mask.clear()), BITMAP),
        // [MSK-2]
        Case::new("K-03 one bit less than kept", lie(20, 2, &|b| b.mask[0] &= 0xfe), BITMAP),
        Case::new("K-03 one bit more than kept", lie(20, 2, &|b| b.mask[0] |= 2), BITMAP),
        Case::new("K-04 no bit set", lie(20, 2, &|b| b.mask.fill(0)), BITMAP),
        Case::new("K-04 every bit set", lie(16, 2, &|b| b.mask.fill(255)), BITMAP),
        Case::new("K-05 gaps lead to n", lie(20, 3, &|b| b.mask[3] = 15), POSITIONS),
        Case::new("K-05 gaps lead beyond n", lie(20, 3, &|b| b.mask[0] = 254), POSITIONS),
        Case::new("K-05 one gap less", lie(20, 3, &|b| b.mask.truncate(b.mask.len() - 1)), POSITIONS),
        Case::new("K-05 one gap more", lie(20, 3, &|b| b.mask.push(0)), POSITIONS),
        Case::new("K-06 gaps end within a skip", lie(600, 3, &|b| b.mask.push(255)), GAPS),
        Case::new("K-06 gaps are only skips", lie(600, 3, &|b| b.mask = vec![255; 2]), GAPS),
        Case::new("K-07 no gaps", lie(20, 3, &|b| b.mask.clear()), GAPS),
        // Gaps 0, 2, 0, 4 with two low bits: [2, 0b00_00_10_00, 0b10111].
        Case::new("K-10 Rice codes", forged(good, 20, &some, 8).seal_with_content(), Accepted),
        Case::new("K-10 no Rice codes", lie(20, 8, &|b| b.mask.clear()), RICE),
        Case::new("K-10 32 low bits", lie(20, 8, &|b| b.mask = [&[32; 17][..], &[15]].concat()), RICE),
        Case::new("K-10 31 low bits, cut off", lie(20, 8, &|b| b.mask[0] = 31), RICE),
        Case::new("K-10 low bits cut off", lie(20, 8, &|b| b.mask.truncate(1)), RICE),
        Case::new("K-10 no high parts", lie(20, 8, &|b| b.mask.truncate(2)), RICE),
        Case::new("K-10 a byte long", lie(20, 8, &|b| b.mask.push(0)), RICE),
        Case::new("K-10 one position less", lie(20, 8, &|b| b.mask[2] &= 0b1111), POSITIONS),
        Case::new("K-10 one position more", lie(20, 8, &|b| b.mask[2] |= 0b10_0000), POSITIONS),
        Case::new("K-10 leads to n", lie(20, 8, &|b| (b.mask[1], b.mask[2]) = (0b1100_1000, 0b0100_0111)), POSITIONS),
        Case::new("K-10 leads beyond n", lie(20, 8, &|b| b.mask.push(1)), POSITIONS),
        Case::new("K-10 leads far beyond n", lie(20, 8, &|b| b.mask = [&[31; 16][..], &[15, 15]].concat()), POSITIONS),
        Case::new(
            "K-08 codec empty where some are kept",
            lie(20, 2, &|b| (b.mask_codec, b.mask) = (0, vec![])),
            Malformed(&["MSK-3"]),
        ),
        Case::new(
            "K-08 codec all where some are kept",
            lie(20, 2, &|b| (b.mask_codec, b.mask) = (1, vec![])),
            Malformed(&["MSK-3"]),
        ),
        // [MSK-1]
        Case::new("K-08 mask codec 6 without a coder", lie(20, 2, &|b| b.mask_codec = 6), Malformed(&["CLS-1"])),
        Case::new("K-08 mask codec 7 without a coder", lie(20, 2, &|b| b.mask_codec = 7), Malformed(&["CLS-1"])),
        Case::new(
            format!("K-08 mask codec {}", MaskCodec::NEWEST + 1),
            lie(20, 2, &|b| b.mask_codec = MaskCodec::NEWEST + 1),
            Unsupported,
        ),
        Case::new("K-08 mask codec 255", lie(20, 2, &|b| b.mask_codec = 255), Unsupported),
    ];
    for bit in 4..8 {
        let pack = lie(20, 2, &|b| {
            b.mask[0] &= 0xfe;
            b.mask[2] |= 1 << bit;
        });
        cases.push(Case::new(format!("K-02 bit {bit} after the end"), pack, BITMAP));
    }
    // Everything kept, but not by codec 1. [MSK-3]
    for (codec, mask) in
        [(0, vec![]), (2, vec![255u8]), (3, vec![0; 8]), (4, vec![255]), (5, vec![0; 8]), (8, vec![0, 255])]
    {
        let mut parts = forged(good, 8, &[0, 1, 2, 3, 4, 5, 6, 7], 2);
        (block(&mut parts).mask_codec, block(&mut parts).mask) = (codec, mask);
        cases.push(Case::new(format!("K-08 codec {codec} where all are kept"), parts.seal(), Malformed(&["MSK-3"])));
    }
    let mut parts = forged(good, 8, &[0, 1, 2, 3, 4, 5, 6, 7], 2);
    block(&mut parts).mask = vec![0];
    cases.push(Case::new("K-08 codec all with a byte", parts.seal(), Malformed(&["MSK-3"])));
    // A block that keeps nothing has nothing. [TAB-2]
    type Edit = fn(&mut BlockParts);
    let edits: [(&str, Edit); 4] = [
        ("a mask codec", |b| b.mask_codec = 2),
        ("a value codec", |b| b.value_codec = 1),
        ("a mask", |b| b.mask.push(0)),
        ("codes", |b| b.codes.push(0)),
    ];
    for (what, edit) in edits {
        let mut parts = forged(good, 3000, &[1, 2], 3);
        parts.manifest.block_log2 = 10;
        let first = parts.owns[0].blocks[0].clone();
        parts.owns[0].blocks = vec![first, BlockParts::default(), BlockParts::default()];
        let whole = parts.clone().seal_with_content();
        cases.push(Case::new("K-09 blocks that keep nothing", whole, Accepted));
        edit(&mut parts.owns[0].blocks[1]);
        cases.push(Case::new(format!("K-08 block that keeps nothing has {what}"), parts.seal(), Malformed(&["TAB-2"])));
    }
    let mut parts = forged(good, 20, &some, 2);
    block(&mut parts).kept = 21;
    own(&mut parts.manifest, 0).kept = 20;
    cases.push(Case::new("K-03 block keeps more than it has", parts.seal(), Malformed(&["TAB-2"])));
    // Edge widths, both ways to write a mask.
    for n in [2u64, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025, (1 << 18) + 1] {
        for codec in [2, 3] {
            for positions in [vec![0], vec![n - 1], (0..n).step_by(2).collect()] {
                let name = format!("K-09 {n} units, codec {codec}, {} kept", positions.len());
                cases.push(Case::new(name, forged(good, n, &positions, codec).seal_with_content(), Accepted));
            }
        }
    }
    // A gap of 255 is two bytes, of 254 one.
    for gap in [254u64, 255, 256, 509, 510, 511] {
        let pack = forged(good, 600, &[gap], 3).seal_with_content();
        cases.push(Case::new(format!("K-09 gap of {gap}"), pack, Accepted));
    }
    cases.push(Case::new("K-09 one unit", forged(good, 1, &[0], 2).seal_with_content(), Accepted));
    cases
}

pub fn v_cases(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Malformed, Unsupported};
    const VAL2: Expect = Malformed(&["VAL-2"]);
    /// The codes of the first delta as plain ones.
    fn plain_codes(parts: &mut Parts) -> &mut Vec<u8> {
        let kind = ValueKind::from_code(own(&mut parts.manifest, 0).kind).unwrap();
        let dtype = Dtype::from_code(parts.manifest.tensors[0].dtype).unwrap();
        let codes = unpack(&parts.owns[0].blocks[0], kind, dtype);
        let block = block(parts);
        (block.value_codec, block.codes) = (0, pack(&codes, kind, dtype));
        &mut block.codes
    }
    let codes = |pack: &[u8], lie: &dyn Fn(&mut Vec<u8>)| before(pack, |parts| lie(plain_codes(parts)));
    let floats = |pack: &[u8], lie: &dyn Fn(&mut Vec<f32>)| before(pack, |parts| lie(&mut parts.owns[0].floats));
    let kind = |code: u8| after(&good.int4, |m| own(m, 0).kind = code);
    let mut cases = vec![
        Case::new("V-05 grouping 2", after(&good.int4, |m| own(m, 0).groups = 2), Unsupported),
        Case::new("V-05 grouping 255", after(&good.int4, |m| own(m, 0).groups = 255), Unsupported),
        Case::new(
            "V-05 rows on values without scales",
            after(&good.codebook, |m| own(m, 0).groups = 1),
            Malformed(&["TEN-7"]),
        ),
        Case::new(
            "V-06 a scale a row where the table has one",
            after(&good.int4, |m| own(m, 0).groups = 1),
            Malformed(&["TAB-1"]),
        ),
        Case::new("V-06 a scale too many", floats(&good.int4, &|f| f.push(1.0)), Malformed(&["CLS-3"])),
        Case::new("V-06 no scale", floats(&good.int4, &|f| f.clear()), Malformed(&["TAB-1"])),
        Case::new("V-07 int8 code 0x80", codes(&good.int8, &|c| c[0] = 0x80), VAL2),
        Case::new("V-07 int4 code 8", codes(&good.int4, &|c| c[0] = c[0] & 0xf0 | 8), VAL2),
        Case::new(
            "V-09 step 0",
            codes(&good.exact, &|c| {
                let k = c.len() / 4;
                (0..4).for_each(|plane| c[plane * k] = 0);
            }),
            VAL2,
        ),
        Case::new(
            "V-12 value codec 2 without a coder",
            before(&good.sign, |p| block(p).value_codec = 2),
            Malformed(&["CLS-1"]),
        ),
        Case::new(
            "V-12 value codec 3 without a coder",
            before(&good.sign, |p| block(p).value_codec = 3),
            Malformed(&["CLS-1"]),
        ),
        Case::new(
            format!("V-12 value codec {}", ValueCodec::NEWEST + 1),
            before(&good.sign, |p| block(p).value_codec = ValueCodec::NEWEST + 1),
            Unsupported,
        ),
        Case::new("V-12 value codec 255", before(&good.sign, |p| block(p).value_codec = 255), Unsupported),
        // [VAL-1]
        Case::new("V-13 kind 0", kind(0), Unsupported),
        Case::new(format!("V-13 kind {}", ValueKind::NEWEST + 1), kind(ValueKind::NEWEST + 1), Unsupported),
        Case::new("V-13 kind 255", kind(255), Unsupported),
        Case::new("V-14 levels descend", floats(&good.codebook, &|f| f.reverse()), Malformed(&["TAB-5"])),
        Case::new(
            "V-14 level -0",
            floats(&good.codebook, &|f| {
                let at = f.partition_point(|x| *x < 0.0).min(15);
                f[at] = -0.0;
            }),
            Malformed(&["TAB-5"]),
        ),
        Case::new("V-14 level NaN", floats(&good.codebook, &|f| f[15] = f32::NAN), Malformed(&["TAB-5"])),
        Case::new("V-14 level infinite", floats(&good.codebook, &|f| f[15] = f32::INFINITY), Malformed(&["TAB-5"])),
        Case::new("V-14 15 levels", floats(&good.codebook, &|f| f.truncate(15)), Malformed(&["TAB-1"])),
        Case::new("V-14 17 levels", floats(&good.codebook, &|f| f.push(f32::MAX)), Malformed(&["CLS-2"])),
        Case::new(
            "V-14 equal levels",
            consistent(&good.codebook, |p| p.owns[0].floats[1] = p.owns[0].floats[0]),
            Accepted,
        ),
    ];
    for (what, pack) in [
        ("sign", &good.sign),
        ("int4", &good.int4),
        ("codebook", &good.codebook),
        ("int8", &good.int8),
        ("f32", &good.f32),
        ("f16", &good.f16),
        ("bf16", &good.bf16),
        ("step", &good.exact),
    ] {
        cases.push(Case::new(
            format!("V-01 {what} codes one byte short"),
            codes(pack, &|c| c.truncate(c.len() - 1)),
            VAL2,
        ));
        cases.push(Case::new(format!("V-01 {what} codes one byte long"), codes(pack, &|c| c.push(0)), VAL2));
        cases.push(Case::new(format!("V-01 {what} no codes"), codes(pack, &|c| c.clear()), VAL2));
        let same = consistent(pack, |p| {
            plain_codes(p);
        });
        cases.push(Case::new(format!("V-01 {what} plain codes"), same, Accepted));
    }
    // 120 of 1,200 kept and 99 of 330: the last byte of int4 codes is half used; one kept sign fewer leaves seven bits.
    cases.push(Case::new("V-02 int4 pad bits", codes(&good.int4, &|c| *c.last_mut().unwrap() |= 0x10), VAL2));
    for bit in 1..8 {
        let mut parts = Parts::of(&good.int4);
        own(&mut parts.manifest, 0).kind = ValueKind::Sign.code();
        own(&mut parts.manifest, 0).kept = 1;
        *block(&mut parts) =
            BlockParts { mask_codec: 3, value_codec: 0, kept: 1, mask: vec![7], codes: vec![1 << bit] };
        cases.push(Case::new(format!("V-02 sign pad bit {bit}"), parts.seal(), VAL2));
    }
    for bits in [0x7fc0_0000u32, 0xffc0_0000, 0x7f80_0000, 0xff80_0000, 0x8000_0000, 0xbf80_0000, 0x8000_0001] {
        for (what, pack) in [("sign", &good.sign), ("int8", &good.int8), ("int4", &good.int4)] {
            let lie = floats(pack, &|f| f[0] = f32::from_bits(bits));
            cases.push(Case::new(format!("V-03 {what} scale with bits {bits:08x}"), lie, Malformed(&["TAB-4"])));
        }
    }
    for bits in [0u32, 1, 0x7f7f_ffff] {
        let pack = consistent(&good.int4, |p| p.owns[0].floats[0] = f32::from_bits(bits));
        cases.push(Case::new(format!("V-03 legal scale with bits {bits:08x}"), pack, Accepted));
    }
    let bad: [(&str, &[u8], usize, &[u64]); 3] = [
        ("f32", &good.f32, 4, &[0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0xffff_ffff]),
        ("f16", &good.f16, 2, &[0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff]),
        ("bf16", &good.bf16, 2, &[0x7f80, 0xff80, 0x7fc0, 0x7f81, 0xffff]),
    ];
    for (what, pack, width, all) in bad {
        for bits in all {
            let lie = codes(pack, &|c| {
                let k = c.len() / width;
                (0..width).for_each(|plane| c[plane * k + 1] = (bits >> (8 * plane)) as u8);
            });
            cases.push(Case::new(format!("V-08 {what} delta with bits {bits:x}"), lie, VAL2));
        }
    }
    cases
}

/// A coder of one class with even odds, which a block keeps half of the time; then more of it.
fn coder_of(flags: u8, parts: u8, more: &[&[u8]]) -> Vec<u8> {
    [&[flags, 0, 0, 0, 1, parts, 80, 128][..], &more.concat()].concat()
}

/// A stored table of weights from symbol `first` on; two weights, of which that of the escape is 0, cost no bits.
fn weights(first: u16, all: &[u8]) -> Vec<u8> {
    [&(all.len() as u16).to_le_bytes()[..], &first.to_le_bytes(), all].concat()
}

/// A mask of [`coder_of`]: the class keeps some, and then these high parts.
fn high_parts(all: &[usize]) -> Vec<u8> {
    let gaps = all.iter().map(|h| classes::gap_entry(80, *h));
    classes::write_run(1, &[(2040, 2056)].into_iter().chain(gaps).collect::<Vec<_>>(), &[])
}

/// Four U8 units of which the first is kept with a step of 1, by class; `lie` changes the coder and the block.
fn forged_by_class(good: &Good, lie: impl FnOnce(&mut Vec<u8>, &mut BlockParts)) -> Parts {
    let mut parts = forged(good, 4, &[0], 2);
    let values = weights(1, &[0, 1]);
    let codes = classes::write_run(2, &[], &[0]);
    let by_class = BlockParts { mask_codec: 6, value_codec: 2, kept: 1, mask: high_parts(&[0, 3]), codes };
    (parts.owns[0].coder, parts.owns[0].blocks[0]) = (coder_of(0, 4, &[&values]), by_class);
    let own_parts = &mut parts.owns[0];
    lie(&mut own_parts.coder, &mut own_parts.blocks[0]);
    own(&mut parts.manifest, 0).kept = own_parts.blocks[0].kept.into();
    parts
}

/// What is coded by class: coders, models, tables and runs.
pub fn e_cases(good: &Good) -> Vec<Case> {
    [coders_lie(good), models_lie(good), shared_models_lie(good), runs_lie(good), steps_of_all_lie(good)].concat()
}

/// The same four units with the mask in the codes.
fn steps_of_all_lie(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Malformed};
    const CLS7: Expect = Malformed(&["CLS-7"]);
    let run = |states: usize, entries: &[u64]| {
        let entries: Vec<(u64, u64)> = entries.iter().map(|start| (*start, 2048)).collect();
        classes::write_run(states, &entries, &[0])
    };
    let with = |lie: &dyn Fn(&mut Vec<u8>, &mut BlockParts)| {
        forged_by_class(good, |coder, b| {
            *coder = coder_of(0, 4, &[&weights(0, &[0, 1, 1])]);
            (b.mask_codec, b.value_codec, b.mask, b.codes) = (7, 3, vec![], run(4, &[2048, 0, 0, 0]));
            lie(coder, b);
        })
    };
    let lie = |lie: &dyn Fn(&mut Vec<u8>, &mut BlockParts)| with(lie).seal();
    vec![
        Case::new("E-10 steps of all units", with(&|_, _| ()).seal_with_content(), Accepted),
        Case::new("E-10 another number of units is kept", lie(&|_, b| b.kept = 2), Malformed(&["MSK-2"])),
        Case::new("E-10 only codes of what is kept", lie(&|_, b| b.value_codec = 2), CLS7),
        Case::new("E-10 a mask of its own", lie(&|_, b| (b.mask_codec, b.mask) = (2, vec![1])), CLS7),
        Case::new("E-10 levels where there are none", lie(&|_, b| b.mask = vec![0]), CLS7),
        Case::new(
            "E-10 codes with two states",
            lie(&|_, b| b.codes = run(2, &[2048, 0, 0, 0])),
            Malformed(&["ENT-4", "ENT-5"]),
        ),
        Case::new("E-10 codes one byte long", lie(&|_, b| b.codes.push(0)), Malformed(&["ENT-4", "ENT-5"])),
        Case::new("E-10 without tables", lie(&|c, _| *c = coder_of(0, 0, &[])), Malformed(&["CLS-6"])),
    ]
}

fn coders_lie(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Malformed};
    const CLS2: Expect = Malformed(&["CLS-2"]);
    let coder = |lie: &dyn Fn(&mut Vec<u8>)| before(&good.classed, |p| lie(&mut p.owns[0].coder));
    let unused = |n: u64, coder: Vec<u8>| {
        let mut parts = forged(good, n, &[0], 2);
        parts.owns[0].coder = coder;
        parts.seal_with_content()
    };
    // One row whose columns are all alike; the first unit is kept.
    let columns = |n: usize| {
        let mut parts = forged(good, n as u64, &[0], 2);
        parts.owns[0].coder = coder_of(2, 2, &[&weights(17, &[0, 1]), &[0, 0, 1, 0]]);
        let high = [vec![0], vec![13; (n - 1) / 13], vec![(n - 1) % 13]].concat();
        (block(&mut parts).mask_codec, block(&mut parts).mask) = (6, high_parts(&high));
        parts
    };
    let carried = |flags: u8| {
        let mut parts = Parts::of(&good.exact);
        let own = parts.owns.last_mut().unwrap();
        own.coder = coder_of(flags, 0, &[]);
        (own.blocks[0].mask_codec, own.blocks[0].mask) = (6, high_parts(&[0, 0, 0, 0]));
        if flags == 0 { parts.seal_with_content() } else { parts.seal() }
    };
    vec![
        Case::new("E-00 a pack by class", before(&good.classed, |_| ()), Accepted),
        Case::new("E-00 a pack by class and base", before(&good.by_base, |_| ()), Accepted),
        Case::new("E-01 flags 8", coder(&|c| c[0] = 8), CLS2),
        Case::new("E-01 flags 255", coder(&|c| c[0] = 255), CLS2),
        Case::new("E-01 axis above the rank", coder(&|c| c[1] = 3), CLS2),
        Case::new("E-01 origin -1025", coder(&|c| c[2..4].copy_from_slice(&(-1025i16).to_le_bytes())), CLS2),
        Case::new("E-01 origin 1025", coder(&|c| c[2..4].copy_from_slice(&1025i16.to_le_bytes())), CLS2),
        Case::new("E-01 coder of three bytes", coder(&|c| c.truncate(3)), CLS2),
        Case::new("E-01 coder of four bytes", coder(&|c| c.truncate(4)), Malformed(&["CLS-3"])),
        Case::new("E-01 a byte after the coder", unused(9, coder_of(0, 0, &[&[0]])), CLS2),
        Case::new("E-01 coder of 2^20+1 bytes", coder(&|c| c.resize((1 << 20) + 1, 0)), Malformed(&["TAB-1"])),
        Case::new("E-02 integers by the base", unused(9, coder_of(1, 0, &[])), CLS2),
        Case::new("E-02 a carried tensor by class", carried(0), Accepted),
        Case::new("E-02 a carried tensor by the base", carried(1), Malformed(&["CLS-1"])),
        Case::new("E-02 a coder that no block uses", unused(9, coder_of(0, 0, &[])), Malformed(&["CLS-1"])),
        Case::new("E-03 2^18 columns", columns(1 << 18).seal_with_content(), Accepted),
        Case::new("E-03 2^18 and one columns", columns((1 << 18) + 1).seal(), CLS2),
        Case::new("E-03 columns without a table", unused(9, coder_of(2, 0, &[&[0, 0, 1, 0]])), CLS2),
        Case::new(
            "E-03 level of a column above 33",
            unused(9, coder_of(2, 2, &[&weights(34, &[0, 1]), &[0, 0, 1, 0]])),
            CLS2,
        ),
        Case::new("E-03 a byte after the columns", coder(&|c| c.push(0)), Malformed(&["ENT-4", "ENT-5"])),
        Case::new("E-03 columns cut", coder(&|c| c.truncate(c.len() - 1)), Malformed(&["ENT-4", "ENT-5", "CLS-2"])),
    ]
}

fn models_lie(good: &Good) -> Vec<Case> {
    use Expect::Malformed;
    const CLS3: Expect = Malformed(&["CLS-3"]);
    const ENT3: Expect = Malformed(&["ENT-3"]);
    let model = |lie: &dyn Fn(&mut Vec<u8>)| before(&good.classed, |p| lie(&mut p.owns[0].coder));
    let one = |parts: u8, more: &[&[u8]]| forged_by_class(good, |c, _| *c = coder_of(0, parts, more)).seal();
    let table = |weights: &[u8]| one(4, &[weights]);
    let a = weights(1, &[0, 1]);
    let two = |tables: [&[u8]; 2]| {
        let coder = [&[0, 0, 0, 0, 2, 4, 80, 80, 128, 128], tables[0], tables[1]].concat();
        forged_by_class(good, |c, _| *c = coder).seal()
    };
    vec![
        Case::new("E-04 no classes", model(&|c| c[4] = 0), CLS3),
        Case::new("E-04 65 classes", model(&|c| c[4] = 65), CLS3),
        Case::new("E-04 unknown parts", model(&|c| c[5] = 15), CLS3),
        Case::new("E-04 odds 128", model(&|c| c[6] = 128), CLS3),
        Case::new("E-04 odds cut", model(&|c| c.truncate(7)), CLS3),
        Case::new("E-04 first table as the one before", two([&[0, 0], &a]), CLS3),
        Case::new("E-04 a table as the one before spelled out", two([&a, &a]), CLS3),
        Case::new("E-04 a table is missing", one(4, &[]), ENT3),
        Case::new("E-05 weight 129", table(&weights(0, &[1, 129])), ENT3),
        Case::new("E-05 no weights", table(&weights(0, &[0, 0])), ENT3),
        Case::new("E-05 one entry", table(&weights(0, &[1])), ENT3),
        Case::new("E-05 257 entries", table(&weights(0, &[1; 257])), ENT3),
        Case::new("E-05 symbol 512", table(&weights(511, &[1, 1, 1])), ENT3),
        Case::new("E-05 first weight 0", table(&weights(0, &[1, 0, 1])), ENT3),
        Case::new("E-05 last weight 0", table(&weights(0, &[1, 1, 0])), ENT3),
    ]
}

fn shared_models_lie(good: &Good) -> Vec<Case> {
    use Expect::Malformed;
    const CLS2: Expect = Malformed(&["CLS-2"]);
    let names =
        |own: usize, row: u32| before(&good.classed, |p| p.owns[own].coder[4..8].copy_from_slice(&row.to_le_bytes()));
    // The first tensor without classes, so that its row has no model to share.
    let without = |share: bool| {
        let mut parts = Parts::of(&good.classed);
        let kept = parts.kept_of(0, &parts.owns[0], ValueKind::Int8, Dtype::F32);
        let (positions, codes): (Vec<u64>, Vec<u64>) = kept.into_iter().unzip();
        let (mask, codes) = (bitmap(&positions, 48 * 128), pack(&codes, ValueKind::Int8, Dtype::F32));
        let kept = positions.len() as u32;
        parts.owns[0].blocks[0] = BlockParts { mask_codec: 2, value_codec: 0, kept, mask, codes };
        if !share {
            parts.owns[0].coder.clear();
        }
        parts.seal()
    };
    vec![
        Case::new("E-06 the model of its own row", names(1, 1), CLS2),
        Case::new("E-06 the model of a later row", names(1, 2), CLS2),
        Case::new("E-06 the model of a row that is not there", names(1, 3), CLS2),
        Case::new("E-06 the model of row 2^32-1", names(1, u32::MAX), CLS2),
        Case::new("E-06 the model of a row that has another's", names(2, 1), CLS2),
        Case::new("E-06 the model of a row without a coder", without(false), CLS2),
        Case::new("E-06 the model of a row that does not use it", without(true), Malformed(&["CLS-1"])),
        Case::new("E-06 row cut", before(&good.classed, |p| p.owns[1].coder.truncate(7)), CLS2),
    ]
}

fn runs_lie(good: &Good) -> Vec<Case> {
    use Expect::{Accepted, Malformed};
    const CLS5: Expect = Malformed(&["CLS-5"]);
    const CLS6: Expect = Malformed(&["CLS-6"]);
    const RUN: Expect = Malformed(&["ENT-4", "ENT-5"]);
    let lie = |lie: &dyn Fn(&mut Vec<u8>, &mut BlockParts)| forged_by_class(good, lie).seal();
    let mask = |high: &[usize], kept: u32| {
        forged_by_class(good, |_, b| {
            (b.mask, b.kept, b.value_codec, b.codes) = (high_parts(high), kept, 0, vec![2; kept as usize])
        })
    };
    let gaps = |high: &[usize], kept: u32| mask(high, kept).seal();
    let symbol = |first: u16, raw: usize| {
        lie(&|c, b| {
            (*c, b.codes) = (coder_of(0, 4, &[&weights(first, &[0, 1])]), classes::write_run(2, &[], &vec![0; raw]))
        })
    };
    let short_rows = {
        let mut parts = forged_by_class(good, |_, _| ());
        parts.manifest.tensors[0].shape = vec![2, 7];
        parts.owns[0].coder = coder_of(0, 1, &[&weights(17, &[0, 1])]);
        parts.owns[0].coder[1] = 1;
        parts.seal()
    };
    let rows = |symbol: u16| coder_of(0, 5, &[&weights(symbol, &[0, 1]), &weights(1, &[0, 1])]);
    let mut cases = vec![
        Case::new("E-07 one unit by class", forged_by_class(good, |_, _| ()).seal_with_content(), Accepted),
        Case::new("E-07 all units by class", mask(&[0, 0, 0, 0, 0], 4).seal_with_content(), Accepted),
        Case::new("E-07 a class ends late", gaps(&[0, 4], 1), CLS5),
        Case::new("E-07 a class ends late by the last entry", gaps(&[0, 13, 0], 1), CLS5),
        Case::new("E-07 a class keeps none", gaps(&[4], 1), CLS5),
        Case::new("E-07 a class has no end", gaps(&[0, 0, 0, 0], 4), Malformed(&["CLS-5", "ENT-4"])),
        Case::new("E-07 level of a row above 33", lie(&|c, _| *c = rows(34)), CLS5),
        Case::new("E-07 another number of units is kept", lie(&|_, b| b.kept = 2), Malformed(&["MSK-2"])),
        Case::new("E-08 mask without a state", lie(&|_, b| b.mask.truncate(3)), RUN),
        Case::new("E-08 no mask", lie(&|_, b| b.mask.clear()), RUN),
        Case::new(
            "E-08 mask with a state below 2^16",
            lie(&|_, b| b.mask[..4].copy_from_slice(&[255, 255, 0, 0])),
            RUN,
        ),
        Case::new("E-08 mask one byte long", lie(&|_, b| b.mask.push(0)), RUN),
        Case::new("E-08 mask one byte short", lie(&|_, b| b.mask.truncate(b.mask.len() - 1)), RUN),
        Case::new("E-08 codes one byte long", lie(&|_, b| b.codes.push(0)), Malformed(&["ENT-5"])),
        Case::new(
            "E-08 a bit after the raw bits",
            lie(&|_, b| *b.codes.last_mut().unwrap() = 2),
            Malformed(&["ENT-5"]),
        ),
        Case::new("E-08 codes with one state", lie(&|_, b| b.codes.truncate(4)), RUN),
        Case::new("E-08 codes that end with another state", lie(&|_, b| b.codes[0] = 1), RUN),
        Case::new("E-09 levels of rows of seven units", short_rows, Malformed(&["CLS-2"])),
        Case::new("E-09 codes by class without tables", lie(&|c, _| *c = coder_of(0, 0, &[])), CLS6),
        Case::new(
            "E-09 codes by class of rows whose levels are not there",
            lie(&|c, b| (*c, b.mask_codec, b.mask) = (rows(17), 2, vec![1])),
            CLS6,
        ),
        Case::new(
            "E-09 a code in a dead column",
            lie(&|c, b| {
                *c = coder_of(2, 6, &[&weights(0, &[0, 1]), &weights(1, &[0, 1]), &[0, 0, 1, 0]]);
                (b.mask_codec, b.mask) = (2, vec![1]);
            }),
            CLS6,
        ),
        Case::new("E-09 a step of 0", symbol(0, 0), Malformed(&["VAL-2"])),
        Case::new(
            "E-09 a step of 8 bits and magnitude 127",
            lie(&|c, b| {
                *c = coder_of(0, 4, &[&weights(23, &[0, 1])]);
                b.codes = classes::write_run(2, &[], &[0b1_1110]);
            }),
            Malformed(&["CID-1"]),
        ),
        Case::new("E-09 a step of 8 bits and magnitude 128", symbol(24, 1), CLS6),
    ];
    for first in [28u16, 63, 127, 251, 252, 253, 256, 257, 300, 511] {
        let raw = usize::from((first / 4).min(64)).div_ceil(8);
        cases.push(Case::new(format!("E-09 a step of 8 bits and symbol {first}"), symbol(first, raw), CLS6));
    }
    cases
}

pub fn c_cases(good: &Good) -> Vec<Case> {
    use Expect::{Limit, Malformed};
    let mut cases = Vec::new();
    // Six places where a frame may stand, each asked for a frame of some length. [MAN-1] [SEC-2] [MSK-1] [VAL-2]
    let manifest = |frame: &[u8], n: u64| seal_stored(&[], frame, n as u32);
    let file = |frame: &[u8], n: u64| {
        let mut parts = Parts::of(&good.empty);
        parts.files = vec![("a".into(), frame.to_vec(), n)];
        parts.seal()
    };
    let table = |frame: &[u8], _: u64| {
        // 4 + 300 rows of int4: 14 bytes of block and 304 scales, 1,230 bytes of table.
        let mut parts = Parts::of(&good.int4);
        parts.manifest.tensors[0].shape = vec![304, 10];
        own(&mut parts.manifest, 0).groups = 1;
        parts.owns[0].floats = vec![0.0; 304];
        parts.tables = Some(frame.to_vec());
        parts.seal()
    };
    let mask = |frame: &[u8], n: u64| {
        let mut parts = forged(good, n * 8, &[1, 5], 2);
        (block(&mut parts).mask_codec, block(&mut parts).mask) = (4, frame.to_vec());
        parts.seal()
    };
    let gap_mask = |frame: &[u8], n: u64| {
        let mut parts = forged(good, n + 5, &(0..n).collect::<Vec<_>>(), 3);
        (block(&mut parts).mask_codec, block(&mut parts).mask) = (5, frame.to_vec());
        parts.seal()
    };
    let codes = |frame: &[u8], n: u64| {
        let mut parts = forged(good, n + 5, &(0..n).collect::<Vec<_>>(), 3);
        (block(&mut parts).value_codec, block(&mut parts).codes) = (1, frame.to_vec());
        parts.seal()
    };
    type Place<'a> = (&'a str, u64, &'a dyn Fn(&[u8], u64) -> Vec<u8>, Expect);
    let places: [Place; 6] = [
        ("manifest", 1000, &manifest, Malformed(&["MAN-2"])),
        ("file", 1000, &file, Malformed(&["CID-1"])),
        ("table", 1230, &table, Malformed(&["TAB-2", "TAB-3"])),
        ("bitmap", 500, &mask, Malformed(&["MSK-4"])),
        ("gaps", 500, &gap_mask, Malformed(&["CID-1"])),
        ("codes", 500, &codes, Malformed(&["VAL-2"])),
    ];
    for (place, n, put, control) in places {
        // A legal frame gets past ZST-1, to whatever its zeros break there.
        for (what, frame) in [
            ("legal frame", Frame::zeros(n)),
            ("legal frame with dictionary 0", Frame { dictionary: Some(0), ..Frame::zeros(n) }),
            ("legal frame with a large window", Frame { window: Some(0x70), ..Frame::zeros(n) }),
        ] {
            cases.push(Case::new(format!("C-00 {place} {what}"), put(&frame.bytes(), n), control.clone()));
        }
        for (what, frame) in bad_frames(n) {
            let (id, what) = what.split_once(' ').unwrap();
            let name = match what {
                "cut short" => format!("{id} {place} cut at byte {}", frame.len()),
                _ => format!("{id} {place} {what}"),
            };
            let expect = match place {
                // Gaps have no one length: what is claimed is bounded instead, and then the positions must be right.
                "gaps" => Malformed(&["ZST-1", "MSK-5"]),
                // Too short to have earned what it claims.
                "manifest" if (frame.len() as u64) < n.div_ceil(256) => Malformed(&["MAN-6"]),
                "file" | "table" if (frame.len() as u64) < n.div_ceil(256) => Malformed(&["SEC-2"]),
                _ => ZST,
            };
            cases.push(Case::new(name, put(&frame, n), expect));
        }
    }
    let bomb = |n: u64| Frame::zeros(n).bytes();
    let mut other = Parts::of(&good.empty);
    other.files = vec![("a".into(), bomb(64 << 20), 64 << 20)];
    let twice = zstd::bulk::compress(&zstd::bulk::compress(&vec![0; 1 << 24], 3).unwrap(), 3).unwrap();
    cases.extend([
        Case::new("C-01 manifest of 1 GiB in a frame", seal_stored(&[], &bomb(1 << 30), 1 << 30), Limit),
        Case::new(
            "C-01 manifest of 100 MiB in 3 KiB",
            seal_stored(&[], &bomb(100 << 20), 100 << 20),
            Malformed(&["MAN-6"]),
        ),
        Case::new("C-03 manifest of 4 GiB", seal_stored(&[], &bomb(1 << 20), u32::MAX), Limit),
        Case::new("C-01 file of 64 MiB in 2 KiB", other.seal(), Malformed(&["SEC-2"])),
        Case::new(
            "C-03 file of 65 MiB",
            {
                other.files[0].2 = 65 << 20;
                other.seal()
            },
            Limit,
        ),
        Case::new(
            "C-03 file with stored above decoded",
            {
                other.files[0].2 = 10;
                other.seal()
            },
            Malformed(&["SEC-2"]),
        ),
        Case::new(
            "C-03 file stored as nothing",
            {
                (other.files[0].1, other.files[0].2) = (vec![], 10);
                other.seal()
            },
            Malformed(&["SEC-2"]),
        ),
        Case::new("C-01 bitmap frame of 1 GiB", mask(&bomb(1 << 30), 500), ZST),
        Case::new("C-01 gaps frame of 1 GiB", gap_mask(&bomb(1 << 30), 500), Malformed(&["MSK-5"])),
        Case::new("C-01 gaps frame one byte above the bound", gap_mask(&bomb(500 + 1 + 1), 500), Malformed(&["MSK-5"])),
        Case::new("C-01 codes frame of 1 GiB", codes(&bomb(1 << 30), 500), ZST),
        Case::new("C-11 zstd of zstd as codes", codes(&twice, 500), ZST),
        Case::new("C-13 plain codes where a frame is said", codes(&[2; 500], 500), ZST),
        Case::new("C-13 plain bitmap where a frame is said", mask(&[3; 500], 500), ZST),
    ]);
    cases
}

pub fn x_cases(good: &Good) -> Vec<Case> {
    use Expect::{Digest, Malformed};
    let p = &good.sign;
    let len = u32_at(p, 64) as usize;
    let flip = |at: usize| {
        let mut bytes = p.clone();
        bytes[at] ^= 1;
        bytes
    };
    let zeros = |at: usize| {
        let mut bytes = p.clone();
        bytes[at..at + 32].fill(0);
        bytes
    };
    vec![
        Case::new("X-02 manifest digest wrong", header(p, |h| h[72] ^= 1), Digest),
        Case::new("X-02 manifest changed", flip(p.len() - len), Digest),
        Case::new("X-03 section digest wrong", after(p, |m| m.payloads[0].digest[0] ^= 1), Digest),
        Case::new("X-03 table digest wrong", after(p, |m| m.tables[0].digest[0] ^= 1), Digest),
        Case::new("X-03 section changed", flip(104), Digest),
        Case::new(
            "X-04 two sections swapped with their digests",
            {
                let (body, mut m) = Parts::of(p).fill();
                let (a, b) = body.split_at(m.payloads[0].len as usize);
                std::mem::swap(&mut m.payloads, &mut m.tables);
                seal(&[b, a].concat(), &m.encode().unwrap())
            },
            Malformed(&["SEC-1"]),
        ),
        Case::new(
            "X-04 manifest digest in the role of a section",
            {
                let stored = &p[p.len() - len..];
                let digest = naive::digest("section", stored);
                header(p, |h| h[72..104].copy_from_slice(&digest))
            },
            Digest,
        ),
        Case::new(
            "X-04 section digest without a role",
            after(p, |m| {
                let n = m.payloads[0].len as usize;
                m.payloads[0].digest = *blake3::hash(&p[104..104 + n]).as_bytes();
            }),
            Digest,
        ),
        Case::new("X-08 header digest all zero", zeros(8), Digest),
        Case::new("X-08 manifest digest all zero", header(p, |h| h[72..104].fill(0)), Digest),
        Case::new("X-08 section digest all zero", after(p, |m| m.payloads[0].digest = [0; 32]), Digest),
        Case::new("X-05 id of another pack", [&p[..8], &good.int8[8..40], &p[40..]].concat(), Digest),
    ]
}
