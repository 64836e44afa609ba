//! One block of a delta: its mask and its codes, each by the codec that makes them smallest. spec/format.md, "Blocks".

use std::cell::RefCell;

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::{ClassMap, Units};
use crate::codec::classes::symbols::Split;
use crate::codec::classes::{mask, values};
use crate::codec::{codes, positions};
use crate::error::{Error, Result};
use crate::model::delta::{BlockDelta, SignBlock, ValueKind};
use crate::model::tensor::TensorInfo;

/// Positions coded by class, with the tensor's coder. [CLS-5]
pub(crate) const CLASSED_MASK: u8 = 6;
/// Codes coded by class. [CLS-6]
pub(crate) const CLASSED_VALUES: u8 = 2;

/// Which units of which tensor a block holds, and what there is to code them with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub info: &'a TensorInfo,
    pub kind: ValueKind,
    /// The first unit.
    pub start: u64,
    pub len: u32,
    /// How units fall into classes, where the tensor says so.
    pub coder: Option<&'a Coder>,
    /// The base's bytes of the units; needed only where the coder uses them.
    pub base: &'a [u8],
}

impl Frame<'_> {
    pub fn units(&self) -> Units<'_> {
        Units { info: self.info, start: self.start, len: self.len, base: self.base }
    }
}

/// An encoded block.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub mask_codec: u8,
    pub value_codec: u8,
    pub mask: Vec<u8>,
    pub values: Vec<u8>,
}

/// How hard an encoder tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// Decodes at the speed of memory: no exponents of the base, no columns.
    Fast,
    /// The smallest pack at speeds that people can use.
    #[default]
    Default,
    /// Every codec is tried on every block.
    Small,
}

thread_local! {
    // A map of a quarter of a million classes is too much to allocate for every block.
    static SCRATCH: RefCell<mask::Decoded> = RefCell::default();
}

/// Runs `work` with this thread's buffers.
fn with_scratch<T>(work: impl FnOnce(&mut mask::Decoded) -> T) -> T {
    SCRATCH.with(|cell| match cell.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut mask::Decoded::default()),
    })
}

/// Encodes a block with the smallest codecs. `rows` are the levels that the encoder chose for its row runs.
pub(crate) fn encode(frame: &Frame, delta: &BlockDelta, rows: &[i16], effort: Effort) -> Encoded {
    if delta.positions.is_empty() {
        return Encoded::default();
    }
    let classed = frame.coder.and_then(|coder| encode_by_class(frame, coder, delta, rows));
    let (mask, values) = classed.unwrap_or_default();
    let trivial = delta.positions.len() == frame.len as usize;
    // Where classes did well there is nothing in general to find for the others.
    let tries_all =
        effort == Effort::Small || mask.is_none() || mask.as_ref().is_some_and(|m| is_suspicious(m, frame, delta));
    let plain_mask =
        (tries_all || trivial || effort == Effort::Fast).then(|| positions::encode(&delta.positions, frame.len));
    // Floats that are differences of coarse numbers have patterns in their mantissas, which classes store raw.
    let has_mantissa = matches!(frame.kind, ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16);
    let tries_codes = effort == Effort::Small || values.is_none() || (has_mantissa && effort != Effort::Fast);
    let plain_values = tries_codes.then(|| codes::encode(frame.kind, frame.info.dtype, &delta.codes));
    let of = |codec: u8| move |bytes: Vec<u8>| (codec, bytes);
    let value = smaller(values.map(of(CLASSED_VALUES)), plain_values);
    // Codes by class need the levels of the rows, which stand in the mask.
    let bound = value.0 == CLASSED_VALUES && frame.coder.is_some_and(|c| c.model.rows.is_some());
    let classed_mask = mask.map(of(CLASSED_MASK));
    let mask = match plain_mask.filter(|_| !bound) {
        Some(plain) if effort == Effort::Fast && is_near(&plain, classed_mask.as_ref()) => plain,
        plain => smaller(classed_mask, plain),
    };
    Encoded { mask_codec: mask.0, value_codec: value.0, mask: mask.1, values: value.1 }
}

/// Whether a mask that is read several times as fast is nearly as small as one by class: a bitmap may cost 3 % for that, gaps 1.5.
fn is_near(plain: &(u8, Vec<u8>), classed: Option<&(u8, Vec<u8>)>) -> bool {
    let thousandths = if matches!(plain.0, positions::BITMAP | positions::BITMAP_ZSTD) { 1030 } else { 1015 };
    let scaled = |bytes: &[u8], by: u64| (bytes.len() as u64).saturating_mul(by);
    classed.is_some_and(|classed| scaled(&plain.1, 1000) <= scaled(&classed.1, thousandths))
}

/// Whether a mask could be one of a kind that classes do not see, such as long runs or every hundredth unit.
fn is_suspicious(mask: &[u8], frame: &Frame, delta: &BlockDelta) -> bool {
    // An eighth of a long mask shows it as well as all of it.
    let (run, every) = if delta.positions.len() < 1 << 14 { (usize::MAX, 1) } else { (1 << 10, 8) };
    let looked_at = || delta.positions.chunks(run).step_by(every);
    let regular = looked_at().flat_map(|run| run.windows(3)).filter(|w| match w {
        [a, b, c] => c.wrapping_sub(*b) == b.wrapping_sub(*a),
        _ => false,
    });
    let dense = (delta.positions.len() as u64).saturating_mul(8) > u64::from(frame.len);
    let share = if dense { 15 } else { 4 };
    let n: usize = looked_at().map(<[u32]>::len).sum();
    mask.len() > 16 && regular.count().saturating_mul(16) > n.saturating_mul(share)
}

fn smaller(a: Option<(u8, Vec<u8>)>, b: Option<(u8, Vec<u8>)>) -> (u8, Vec<u8>) {
    match (a, b) {
        (Some(a), Some(b)) => {
            if b.1.len() < a.1.len() {
                b
            } else {
                a
            }
        }
        (a, b) => a.or(b).unwrap_or_default(),
    }
}

type ByClass = (Option<Vec<u8>>, Option<Vec<u8>>);

fn encode_by_class(frame: &Frame, coder: &Coder, delta: &BlockDelta, rows: &[i16]) -> Option<ByClass> {
    let mut map = ClassMap::default();
    map.fill(coder, &frame.units(), rows);
    let bits = mask::bits_of(&delta.positions, frame.len);
    let mask = mask::encode(coder, &map, &bits, rows)?;
    let split = Split::of(frame.kind, frame.info.dtype);
    let values = split.and_then(|split| values::encode(&coder.model, &map, split, &delta.positions, &delta.codes));
    Some((Some(mask), values))
}

/// Whether a block is coded by class.
pub(crate) fn is_by_class(mask_codec: u8, value_codec: u8) -> bool {
    mask_codec == CLASSED_MASK || value_codec == CLASSED_VALUES
}

/// Whether a block cannot be decoded without the base's bytes.
pub(crate) fn needs_base(mask_codec: u8, value_codec: u8, coder: Option<&Coder>) -> bool {
    is_by_class(mask_codec, value_codec) && coder.is_some_and(|c| c.uses_base)
}

/// How a block is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub mask_codec: u8,
    pub value_codec: u8,
    pub kept: u32,
    pub mask: &'a [u8],
    pub values: &'a [u8],
    /// Whether a step may be 0, as in a tensor that is carried whole.
    pub zero_steps: bool,
}

/// Decodes a block.
pub(crate) fn decode(frame: &Frame, stored: &Stored, out: &mut BlockDelta) -> Result<()> {
    out.clear();
    let Some(coder) = check_codecs(frame, stored)? else {
        positions::decode(stored.mask_codec, stored.mask, stored.kept, frame.len, &mut out.positions)?;
        return decode_codes(frame, stored, &mut out.codes);
    };
    with_scratch(|scratch| decode_by_class(frame, coder, stored, scratch, out))
}

/// The coder of a block that is coded by class, none for another; refuses codecs that this build does not know.
fn check_codecs<'a>(frame: &Frame<'a>, stored: &Stored) -> Result<Option<&'a Coder>> {
    if stored.mask_codec > CLASSED_MASK {
        let found = stored.mask_codec.into();
        return Err(Error::Unsupported { what: "mask codec".into(), found, known: CLASSED_MASK.into() });
    }
    if stored.value_codec > CLASSED_VALUES {
        let found = stored.value_codec.into();
        return Err(Error::Unsupported { what: "value codec".into(), found, known: CLASSED_VALUES.into() });
    }
    if !is_by_class(stored.mask_codec, stored.value_codec) {
        return Ok(None);
    }
    let missing = || Error::malformed("CLS-1", "block", "is coded by class, but its tensor has no coder");
    let coder = frame.coder.ok_or_else(missing)?;
    let unit = frame.info.dtype.unit_bytes() as u64;
    if coder.uses_base && frame.base.len() as u64 != u64::from(frame.len).saturating_mul(unit) {
        return Err(Error::Internal(format!("{} bytes of the base for {} units", frame.base.len(), frame.len)));
    }
    Ok(Some(coder))
}

fn check_kept(found: u64, kept: u32) -> Result<()> {
    if found == u64::from(kept) {
        return Ok(());
    }
    Err(Error::malformed("MSK-2", "mask", format!("holds {found} positions, must hold {kept}")))
}

/// Decodes a block of signs to bits. Which rules hold, and in which order they are checked, is as for [`decode`].
pub(crate) fn decode_signs(frame: &Frame, stored: &Stored, out: &mut SignBlock) -> Result<()> {
    with_scratch(|scratch| decode_signs_with(frame, stored, scratch, out))
}

fn decode_signs_with(frame: &Frame, stored: &Stored, scratch: &mut mask::Decoded, out: &mut SignBlock) -> Result<()> {
    let coder = check_codecs(frame, stored)?;
    match coder {
        Some(coder) if stored.mask_codec == CLASSED_MASK => {
            mask::decode(coder, &frame.units(), stored.mask, scratch)?;
            let found: u64 = scratch.bits.iter().map(|word| u64::from(word.count_ones())).sum();
            check_kept(found, stored.kept)?;
            // The next mask is decoded into what this one leaves.
            std::mem::swap(&mut scratch.bits, &mut out.mask);
        }
        _ => {
            let mut listed = Vec::new();
            positions::decode_bits(stored.mask_codec, stored.mask, stored.kept, frame.len, &mut listed, &mut out.mask)?;
        }
    }
    if stored.value_codec == CLASSED_VALUES {
        return Err(Error::malformed("CLS-6", "codes", "sign values are never coded by class"));
    }
    codes::decode_signs(stored.value_codec, stored.values, stored.kept, &mut out.signs)
}

fn decode_by_class(
    frame: &Frame,
    coder: &Coder,
    stored: &Stored,
    scratch: &mut mask::Decoded,
    out: &mut BlockDelta,
) -> Result<()> {
    if stored.mask_codec == CLASSED_MASK {
        mask::decode(coder, &frame.units(), stored.mask, scratch)?;
        mask::positions(&scratch.bits, &mut out.positions);
        check_kept(out.positions.len() as u64, stored.kept)?;
    } else {
        positions::decode(stored.mask_codec, stored.mask, stored.kept, frame.len, &mut out.positions)?;
        if coder.model.rows.is_some() {
            let detail = "are coded by class, which here needs the levels of rows that a mask by class has";
            return Err(Error::malformed("CLS-6", "codes", detail));
        }
        scratch.map.fill(coder, &frame.units(), &[]);
    }
    if stored.value_codec != CLASSED_VALUES {
        return decode_codes(frame, stored, &mut out.codes);
    }
    if stored.mask_codec == CLASSED_MASK && !mask::needs_map(coder) {
        scratch.map.fill(coder, &frame.units(), &scratch.rows);
    }
    let no_split = || Error::malformed("CLS-6", "codes", format!("{} values are never coded by class", frame.kind));
    let split = Split::of(frame.kind, frame.info.dtype).ok_or_else(no_split)?;
    values::decode(&coder.model, &scratch.map, split, &out.positions, stored.values, &mut out.codes)?;
    codes::check(frame.kind, &out.codes, stored.zero_steps)
}

fn decode_codes(frame: &Frame, stored: &Stored, out: &mut Vec<u64>) -> Result<()> {
    let Stored { value_codec, values, kept, zero_steps, .. } = *stored;
    codes::decode(value_codec, values, frame.kind, frame.info.dtype, kept, zero_steps, out)
}
