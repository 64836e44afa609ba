//! A block, decoded: to a list, or to bits where that is what the next one takes.

use crate::codec::block::scratch::{Scratch, with_scratch};
use crate::codec::block::{Frame, has_steps, is_by_class, spread};
use crate::codec::classes::coder::Coder;
use crate::codec::classes::symbols::Split;
use crate::codec::classes::{mask, values};
use crate::codec::{codes, positions};
use crate::error::{Error, Result};
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{BlockDelta, SignBlock, StepBlock, ValueKind, list_bits};
use crate::simd;

/// How a block is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored<'a> {
    pub mask_codec: MaskCodec,
    pub value_codec: ValueCodec,
    pub kept: u32,
    pub mask: &'a [u8],
    pub values: &'a [u8],
    /// Whether a step may be 0, as in a tensor that is carried whole.
    pub zero_steps: bool,
}

impl Stored<'_> {
    /// Refuses a mask that holds another number of positions. [MSK-2]
    pub(super) fn check_kept(&self, found: u64) -> Result<()> {
        if found == u64::from(self.kept) {
            return Ok(());
        }
        Err(Error::malformed("MSK-2", "mask", format!("holds {found} positions, must hold {}", self.kept)))
    }
}

/// Decodes a block to a list.
pub(crate) fn decode(frame: &Frame, stored: &Stored, out: &mut BlockDelta) -> Result<()> {
    out.clear();
    if has_steps(frame.kind, frame.info, stored.kept, frame.len) {
        return with_scratch(|scratch| {
            let mut steps = std::mem::take(&mut scratch.steps);
            let done = decode_steps_with(frame, stored, scratch, &mut steps);
            if done.is_ok() {
                steps.list(out);
            }
            scratch.steps = steps;
            done
        });
    }
    let coder = check_codecs(frame, stored)?;
    with_scratch(|scratch| match coder {
        Some(coder) if stored.mask_codec == MaskCodec::InCodes => {
            spread::decode_list(frame, coder, stored, scratch, out)
        }
        Some(coder) if stored.value_codec == ValueCodec::Classes => decode_by_class(frame, coder, stored, scratch, out),
        _ => {
            decode_positions(frame, coder, stored, scratch, &mut out.positions)?;
            decode_codes(frame, stored, &mut out.codes)
        }
    })
}

/// Decodes a block of signs to bits, and where few units are kept to a list of them. Which rules hold, and in which order they are
/// checked, is as for [`decode`].
pub(crate) fn decode_signs(frame: &Frame, stored: &Stored, out: &mut SignBlock) -> Result<()> {
    let coder = check_codecs(frame, stored)?;
    with_scratch(|scratch| match SignBlock::is_listed(stored.kept, frame.len) {
        true => decode_positions(frame, coder, stored, scratch, &mut out.positions),
        false => decode_mask(frame, coder, stored, &mut scratch.mask, &mut out.mask),
    })?;
    if stored.value_codec == ValueCodec::Classes {
        return Err(Error::malformed("CLS-6", "codes", "sign values are never coded by class"));
    }
    codes::decode_signs(stored.value_codec, stored.values, stored.kept, &mut out.signs)
}

/// Decodes a block of steps of 16 bits to bits and steps. Which rules hold, and in which order they are checked, is as for
/// [`decode`].
pub(crate) fn decode_steps(frame: &Frame, stored: &Stored, out: &mut StepBlock) -> Result<()> {
    with_scratch(|scratch| decode_steps_with(frame, stored, scratch, out))
}

fn decode_steps_with(frame: &Frame, stored: &Stored, scratch: &mut Scratch, out: &mut StepBlock) -> Result<()> {
    let coder = check_codecs(frame, stored)?;
    if let Some(coder) = coder.filter(|_| stored.mask_codec == MaskCodec::InCodes) {
        return spread::decode_steps(frame, coder, stored, scratch, out);
    }
    out.spread = false;
    decode_mask(frame, coder, stored, &mut scratch.mask, &mut out.mask)?;
    let Some(coder) = coder.filter(|_| stored.value_codec == ValueCodec::Classes) else {
        decode_codes(frame, stored, &mut scratch.codes)?;
        out.steps.clear();
        out.steps.extend(scratch.codes.iter().map(|code| low16(*code)));
        return Ok(());
    };
    fill_map(frame, coder, stored, &mut scratch.mask)?;
    scratch.mask.map.of_kept(&out.mask, &mut scratch.classes);
    values::decode_short::<2>(&coder.model, &scratch.classes, stored.values, &mut out.steps)?;
    codes::check_short(&out.steps, stored.zero_steps)
}

fn decode_by_class(
    frame: &Frame,
    coder: &Coder,
    stored: &Stored,
    scratch: &mut Scratch,
    out: &mut BlockDelta,
) -> Result<()> {
    decode_positions(frame, Some(coder), stored, scratch, &mut out.positions)?;
    fill_map(frame, coder, stored, &mut scratch.mask)?;
    let no_split = || Error::malformed("CLS-6", "codes", format!("{} values are never coded by class", frame.kind));
    let split = Split::of(frame.kind, frame.info.dtype).ok_or_else(no_split)?;
    scratch.mask.map.of_units(&out.positions, &mut scratch.classes);
    values::decode::<2>(&coder.model, split, &scratch.classes, stored.values, &mut out.codes)?;
    codes::check(frame.kind, &out.codes, stored.zero_steps)
}

/// A code of a step of 16 bits: no more are set.
fn low16(code: u64) -> u16 {
    let [low, high, ..] = code.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Decodes a mask to a list.
fn decode_positions(
    frame: &Frame,
    coder: Option<&Coder>,
    stored: &Stored,
    scratch: &mut Scratch,
    out: &mut Vec<u32>,
) -> Result<()> {
    out.clear();
    if coder.is_none() || stored.mask_codec != MaskCodec::Classes {
        return positions::decode(stored.mask_codec, stored.mask, stored.kept, frame.len, out);
    }
    decode_mask(frame, coder, stored, &mut scratch.mask, &mut scratch.bits)?;
    // Where reading came by them in order, they are known.
    if scratch.mask.positions.is_empty() {
        list_bits(&scratch.bits, out);
    } else {
        std::mem::swap(&mut scratch.mask.positions, out);
    }
    Ok(())
}

/// Decodes a mask to bits.
fn decode_mask(
    frame: &Frame,
    coder: Option<&Coder>,
    stored: &Stored,
    scratch: &mut mask::Decoded,
    out: &mut Vec<u64>,
) -> Result<()> {
    let Some(coder) = coder.filter(|_| stored.mask_codec == MaskCodec::Classes) else {
        let listed = &mut scratch.positions;
        return positions::decode_bits(stored.mask_codec, stored.mask, stored.kept, frame.len, listed, out);
    };
    mask::decode(coder, &frame.units(), stored.mask, scratch)?;
    stored.check_kept(simd::count(&scratch.bits))?;
    // The next mask is decoded into what this one leaves.
    std::mem::swap(&mut scratch.bits, out);
    Ok(())
}

/// Sees to it that the class of every unit is known, once the mask was read.
fn fill_map(frame: &Frame, coder: &Coder, stored: &Stored, scratch: &mut mask::Decoded) -> Result<()> {
    let by_class = stored.mask_codec == MaskCodec::Classes;
    if !by_class && coder.model.rows.is_some() {
        let detail = "are coded by class, which here needs the levels of rows that a mask by class has";
        return Err(Error::malformed("CLS-6", "codes", detail));
    }
    if !by_class || !mask::needs_map(coder) {
        let rows = if by_class { scratch.rows.as_slice() } else { &[] };
        scratch.map.fill(coder, &frame.units(), rows);
    }
    Ok(())
}

/// The coder of a block that is coded by class, none for another.
fn check_codecs<'a>(frame: &Frame<'a>, stored: &Stored) -> Result<Option<&'a Coder>> {
    if !is_by_class(stored.mask_codec, stored.value_codec) {
        return Ok(None);
    }
    let missing = || Error::malformed("CLS-1", "block", "is coded by class, but its tensor has no coder");
    let coder = frame.coder.ok_or_else(missing)?;
    let is_spread = [stored.mask_codec == MaskCodec::InCodes, stored.value_codec == ValueCodec::AllUnits];
    // A step of 0 cannot mean two things.
    if is_spread != [false; 2] && (is_spread != [true; 2] || frame.kind != ValueKind::Step || stored.zero_steps) {
        let detail = "has a mask in its codes, which takes steps of all units, of a tensor that the base has";
        return Err(Error::malformed("CLS-7", "block", detail));
    }
    let unit = frame.info.dtype.unit_bytes() as u64;
    if coder.uses_base && frame.base.len() as u64 != u64::from(frame.len).saturating_mul(unit) {
        return Err(Error::Internal(format!("{} bytes of the base for {} units", frame.base.len(), frame.len)));
    }
    Ok(Some(coder))
}

fn decode_codes(frame: &Frame, stored: &Stored, out: &mut Vec<u64>) -> Result<()> {
    let Stored { value_codec, values, kept, zero_steps, .. } = *stored;
    codes::decode(value_codec, values, frame.kind, frame.info.dtype, kept, zero_steps, out)
}
