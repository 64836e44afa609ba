//! Blocks that keep so many units that all of them have a step, 0 where one is not kept: the mask stands in the codes. [CLS-7]

use crate::codec::block::encode::Found;
use crate::codec::block::scratch::Scratch;
use crate::codec::block::{Frame, Stored};
use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::ClassMap;
use crate::codec::classes::symbols::Split;
use crate::codec::classes::{mask, values};
use crate::error::{Error, Result};
use crate::model::delta::{BlockDelta, StepBlock, ValueKind};
use crate::simd::{WORD, compress, count, expand, nonzero};

/// States of the codes: more than those of kept units have, as there are many more of these.
const STATES: usize = 4;

/// Whether the mask of a block may stand in its codes, and that is what its coder was made for.
pub(super) fn is_meant(frame: &Frame, coder: &Coder, found: Found) -> bool {
    frame.kind == ValueKind::Step && found.kept() < frame.len as usize && coder.model.knows_zero()
}

/// The levels of the rows and the codes; `None` where the tables lack a symbol or a unit without a class is kept.
pub(super) fn encode(
    frame: &Frame,
    coder: &Coder,
    found: Found,
    rows: &[i16],
    scratch: &mut Scratch,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let Scratch { mask: mask::Decoded { map, bits, .. }, bits: buffer, classes, codes, all, .. } = scratch;
    map.fill(coder, &frame.units(), rows);
    let classes = classes_of(map, frame.len, bits, classes);
    if bits.iter().zip(found.bits(frame.len, buffer)).any(|(with, kept)| kept & !with != 0) {
        return None;
    }
    let values = match found {
        Found::Steps(block) => {
            expand(&block.mask, &block.steps, all);
            let steps = of_class(all, frame.len, bits);
            values::encode_short::<STATES>(&coder.model, classes, &steps)
        }
        Found::List(delta) => {
            let split = Split::of(frame.kind, frame.info.dtype)?;
            codes.clear();
            codes.resize(frame.len as usize, 0);
            for (p, code) in delta.positions.iter().zip(&delta.codes) {
                *codes.get_mut(*p as usize)? = *code;
            }
            let mut units = 0..frame.len;
            codes.retain(|_| units.next().is_some_and(|unit| map.has_class(unit)));
            values::encode::<STATES>(&coder.model, split, classes, codes)
        }
    }?;
    Some((mask::encode_rows(coder, rows)?, values))
}

/// Decodes a block of steps of 16 bits to bits and steps.
pub(super) fn decode_steps(
    frame: &Frame,
    coder: &Coder,
    stored: &Stored,
    scratch: &mut Scratch,
    out: &mut StepBlock,
) -> Result<()> {
    let Scratch { mask: mask::Decoded { map, bits, rows, .. }, classes, all, .. } = scratch;
    mask::decode_rows(coder, &frame.units(), stored.mask, rows)?;
    map.fill(coder, &frame.units(), rows);
    let classes = classes_of(map, frame.len, bits, classes);
    if bits.is_empty() {
        values::decode_short::<STATES>(&coder.model, classes, stored.values, &mut out.steps)?;
    } else {
        values::decode_short::<STATES>(&coder.model, classes, stored.values, all)?;
        expand(bits, all, &mut out.steps);
    }
    out.spread = true;
    nonzero(&out.steps, &mut out.mask);
    stored.check_kept(count(&out.mask))
}

/// Decodes a block of any steps to a list.
pub(super) fn decode_list(
    frame: &Frame,
    coder: &Coder,
    stored: &Stored,
    scratch: &mut Scratch,
    out: &mut BlockDelta,
) -> Result<()> {
    list(frame, coder, (stored.mask, stored.values), scratch, out)?;
    stored.check_kept(out.positions.len() as u64)
}

/// [`decode_list`] of a mask and codes, whatever they keep.
fn list(
    frame: &Frame,
    coder: &Coder,
    (mask, values): (&[u8], &[u8]),
    scratch: &mut Scratch,
    out: &mut BlockDelta,
) -> Result<()> {
    let Scratch { mask: mask::Decoded { map, bits, rows, .. }, classes, codes, .. } = scratch;
    mask::decode_rows(coder, &frame.units(), mask, rows)?;
    map.fill(coder, &frame.units(), rows);
    let classes = classes_of(map, frame.len, bits, classes);
    let no_split = || Error::Internal(format!("{} values have no symbols", frame.kind));
    let split = Split::of(frame.kind, frame.info.dtype).ok_or_else(no_split)?;
    values::decode::<STATES>(&coder.model, split, classes, values, codes)?;
    let with_class = (0..frame.len).filter(|unit| map.has_class(*unit));
    for (unit, code) in with_class.zip(codes.iter()).filter(|(_, code)| **code != 0) {
        out.positions.push(unit);
        out.codes.push(*code);
    }
    Ok(())
}

/// What a mask and codes decode to is encoded to the same bytes again, or something is wrong.
pub(crate) fn there_and_back(frame: &Frame, coder: &Coder, parts: (&[u8], &[u8])) -> Result<BlockDelta> {
    let (mut scratch, mut out) = (Scratch::default(), BlockDelta::default());
    list(frame, coder, parts, &mut scratch, &mut out)?;
    let rows = scratch.mask.rows.clone();
    let again = encode(frame, coder, Found::List(&out), &rows, &mut scratch);
    assert_eq!(again.as_ref().map(|(mask, values)| (mask.as_slice(), values.as_slice())), Some(parts));
    Ok(out)
}

/// The classes of the units that have one. `with` becomes one bit a unit that has, or empty where all do.
fn classes_of<'a>(map: &'a ClassMap, len: u32, with: &mut Vec<u64>, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    with.clear();
    if !map.any_without() {
        return map.classes(len);
    }
    map.with_class(with);
    map.of_kept(with, buffer);
    buffer
}

/// Steps of the units that have a class.
fn of_class<'a>(all: &'a [u16], len: u32, with: &[u64]) -> std::borrow::Cow<'a, [u16]> {
    if with.is_empty() {
        return all.get(..len as usize).unwrap_or(&[]).into();
    }
    let mut out = Vec::with_capacity(all.len().saturating_add(WORD));
    compress(all, with, &mut out);
    out.into()
}
