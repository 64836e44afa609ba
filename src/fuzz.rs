//! The bodies of the fuzz targets, so that `cargo fuzz` and `cargo test` run the same code. Not part of the API.
//!
//! Each takes any bytes and panics when a promise is broken. A fuzzer never guesses a digest, so [`open`] seals what it is
//! given before it reads it: the parsers behind the digests are what is tried.

use crate::checkpoint::header;
use crate::codec::block::{self, Frame, Stored};
use crate::codec::classes::coder::{Coder, ModelPlace};
use crate::codec::classes::mask::Decoded;
use crate::codec::classes::symbols::Split;
use crate::codec::classes::{mask, values};
use crate::codec::{codes, positions};
use crate::error::Error;
use crate::format::header::{HEADER_LEN, Header};
use crate::format::manifest::Manifest;
use crate::limits::Limits;
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{BlockDelta, ValueKind, list_bits};
use crate::model::digest::{Digest, Role};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;
use crate::pack::OpenedPack;

/// A pack file: as it is, and with every digest made right.
pub fn open(data: &[u8]) {
    let limits = Limits { section_bytes: 4 << 20, manifest_bytes: 4 << 20, ..Limits::default() };
    for bytes in [Some(data.to_vec()), seal(data, &limits)].into_iter().flatten() {
        if let Ok(verified) = OpenedPack::from_bytes(bytes, &limits).and_then(OpenedPack::verify) {
            let manifest = verified.manifest();
            let again = Manifest::decode(&manifest.encode().expect("a manifest that was read"), &limits);
            assert_eq!(again.expect("the same manifest"), *manifest);
        }
    }
}

/// The bytes of a pack with its section digests, manifest digest and id made right, as far as it has any.
pub fn seal(data: &[u8], limits: &Limits) -> Option<Vec<u8>> {
    let manifest_len = u32::from_le_bytes(data.get(64..68)?.try_into().ok()?) as usize;
    let manifest_start = data.len().checked_sub(manifest_len).filter(|start| *start >= HEADER_LEN)?;
    let mut manifest = Manifest::decode(data.get(manifest_start..)?, limits).ok()?;
    let mut at = HEADER_LEN;
    let files = manifest.files.iter_mut().map(|f| &mut f.section);
    for row in manifest.payloads.iter_mut().chain(&mut manifest.tables).chain(files) {
        let end = at.checked_add(usize::try_from(row.len).ok()?)?;
        row.digest = Digest::of(Role::Section, data.get(at..end)?).0;
        at = end;
    }
    let raw = manifest.encode().ok()?;
    let len = u32::try_from(raw.len()).ok()?;
    let total = (manifest_start + raw.len()) as u64;
    let mut out = Header::new(total, len, len, Digest::of(Role::Manifest, &raw)).encode();
    out.extend_from_slice(data.get(HEADER_LEN..manifest_start)?);
    out.extend(raw);
    Some(out)
}

/// A manifest: what is accepted is in its one encoding.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::decode(data, &Limits::default()) {
        assert_eq!(manifest.encode().expect("a manifest that was read"), data);
    }
}

/// A mask: codec, kept, length, then bytes.
pub fn mask(data: &[u8]) {
    let Some(([codec, k0, k1, k2, l0, l1, l2], stored)) = data.split_first_chunk::<7>() else { return };
    let (kept, len) = (u32::from_le_bytes([*k0, *k1, *k2, 0]), u32::from_le_bytes([*l0, *l1, *l2, 0]) % (1 << 20) + 1);
    let (codec, mut out) = (picked(MaskCodec::ALL, *codec), Vec::new());
    if positions::decode(codec, stored, kept, len, &mut out).is_err() {
        return;
    }
    assert_eq!(out.len(), kept as usize);
    assert!(out.windows(2).all(|w| w[0] < w[1]) && out.last().is_none_or(|p| *p < len));
    match codec {
        MaskCodec::Bitmap => assert_eq!(positions::bitmap::encode(&out, len), stored),
        MaskCodec::Gaps => assert_eq!(positions::gaps::encode(&out), stored),
        MaskCodec::Rice => assert!(positions::rice::is_written_so(stored, &out)),
        // A frame of zstd may be another than ours, and the others have no bytes of their own.
        MaskCodec::BitmapZstd | MaskCodec::GapsZstd | MaskCodec::Empty | MaskCodec::All => {}
        MaskCodec::Classes | MaskCodec::InCodes => unreachable!("{codec} decoded without a coder"),
    }
}

/// One of a list: every byte means some.
fn picked<T: Copy>(all: &[T], byte: u8) -> T {
    all[usize::from(byte) % all.len()]
}

/// Codes: codec, kind, dtype, number, then bytes.
pub fn values(data: &[u8]) {
    let Some(([codec, kind, dtype, n0, n1, zeros], stored)) = data.split_first_chunk::<6>() else { return };
    let (kind, dtype) = (picked(ValueKind::ALL, *kind), picked(Dtype::ALL, *dtype));
    let codec = picked(ValueCodec::ALL, *codec);
    let n = u32::from(u16::from_le_bytes([*n0, *n1]));
    let mut out = Vec::new();
    if codes::decode(codec, stored, kind, dtype, n, zeros & 1 == 1, &mut out).is_err() {
        return;
    }
    assert_eq!(out.len(), n as usize);
    if codec == ValueCodec::Stored {
        assert_eq!(codes::pack(kind, dtype, &out), stored);
    }
}

/// A block coded by class: dtype, kind, ways, seed of the base, two dimensions, first unit, lengths of coder and mask (u16 each),
/// then coder, mask and codes. What decodes is the one encoding of what it decodes to.
pub fn classes(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<14>() else { return };
    let [dtype, kind, ways, seed, a0, a1, b0, b1, s0, s1, c0, c1, m0, m1] = *head;
    let (kind, dtype) = (picked(ValueKind::ALL, kind), picked(Dtype::ALL, dtype));
    let number = |low, high| u16::from_le_bytes([low, high]);
    let shape = [number(a0, a1), number(b0, b1)].map(|d| u64::from(d % 513)).to_vec();
    let info = TensorInfo { name: "t".into(), dtype, shape };
    if info.check(&Limits::default()).is_err() || info.units() == 0 {
        return;
    }
    let (coder, rest) = rest.split_at(rest.len().min(number(c0, c1).into()));
    let (mask, values) = rest.split_at(rest.len().min(number(m0, m1).into()));
    let start = u64::from(number(s0, s1)) % info.units();
    let len = (info.units() - start) as u32;
    let base = base_of(seed, len as usize, dtype.unit_bytes());
    let Ok(coder) = Coder::decode(coder, &info, |_| Err(Error::malformed("CLS-2", "fuzz", "no other row")))
        .inspect(|c| assert_eq!(c.encode(&ModelPlace::Own).as_deref(), Some(coder)))
    else {
        return;
    };
    let frame = Frame { info: &info, kind, start, len, coder: Some(&coder), base: &base };
    by_class(&frame, &coder, ways, mask, values);
}

fn by_class(frame: &Frame, coder: &Coder, ways: u8, mask: &[u8], values: &[u8]) {
    if frame.kind == ValueKind::Step && ways & 4 != 0 {
        drop(block::there_and_back(frame, coder, (mask, values)));
        return;
    }
    let mut decoded = Decoded::default();
    if mask::decode(coder, &frame.units(), mask, &mut decoded).is_err() {
        return;
    }
    if !mask::needs_map(coder) {
        decoded.map.fill(coder, &frame.units(), &decoded.rows);
    }
    assert_eq!(mask::encode(coder, &decoded.map, &decoded.bits, &decoded.rows).as_deref(), Some(mask));
    let mut listed = Vec::new();
    list_bits(&decoded.bits, &mut listed);
    let (kept, zero_steps) = (listed.len() as u32, ways & 2 != 0);
    let value_codec = if ways & 1 == 0 { ValueCodec::Classes } else { ValueCodec::Stored };
    let stored = Stored { mask_codec: MaskCodec::Classes, value_codec, kept, mask, values, zero_steps };
    let mut delta = BlockDelta::default();
    if block::decode(frame, &stored, &mut delta).is_err() {
        return;
    }
    assert_eq!((delta.positions.as_slice(), delta.codes.len()), (listed.as_slice(), kept as usize));
    if let Some(split) = Split::of(frame.kind, frame.info.dtype).filter(|_| value_codec == ValueCodec::Classes) {
        let mut classes = Vec::new();
        decoded.map.of_units(&delta.positions, &mut classes);
        let again = values::encode::<2>(&coder.model, split, &classes, &delta.codes);
        assert_eq!(again.as_deref(), Some(values));
    }
}

/// Bytes of a base; the exponents are alike where the seed is odd, else of few kinds.
fn base_of(seed: u8, units: usize, unit: usize) -> Vec<u8> {
    let any = |i: usize| ((i as u32).wrapping_mul(u32::from(seed) * 2 + 1).wrapping_mul(0x9e37_79b1) >> 24) as u8;
    let byte = |i: usize| match (i % unit == unit - 1, seed & 1) {
        (true, 1) => 0x3c,
        (true, _) => 0x20 | any(i) & 0x1f,
        _ => any(i),
    };
    (0..units * unit).map(byte).collect()
}

/// A safetensors header: what is accepted is laid out end to end and encodes to a header that says the same.
pub fn checkpoint(data: &[u8]) {
    let Ok(parsed) = header::Header::parse(data, &Limits::default()) else { return };
    let mut at = 0;
    for (info, offset) in &parsed.tensors {
        assert_eq!(*offset, at);
        at += info.byte_len();
    }
    assert_eq!(at, parsed.data_len);
    let infos: Vec<_> = parsed.tensors.into_iter().map(|(info, _)| info).collect();
    let again = header::encode(&infos, parsed.metadata.as_ref()).expect("a header that was read");
    let again = header::Header::parse(&again[8..], &Limits::default()).expect("a header of our own");
    let mut sorted = infos.clone();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut others: Vec<_> = again.tensors.into_iter().map(|(info, _)| info).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(sorted, others);
}
