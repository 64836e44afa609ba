//! A block, encoded: codecs bid with their sizes.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::codec::block::scratch::{Scratch, with_scratch};
use crate::codec::block::{Effort, Frame, spread};
use crate::codec::classes::coder::Coder;
use crate::codec::classes::symbols::Split;
use crate::codec::classes::{mask, values};
use crate::codec::{codes, positions};
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{BlockDelta, StepBlock, ValueKind, list_bits, set_bits};

/// An encoded block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Encoded {
    pub mask_codec: MaskCodec,
    pub value_codec: ValueCodec,
    pub mask: Vec<u8>,
    pub values: Vec<u8>,
}

impl Encoded {
    fn len(&self) -> usize {
        self.mask.len().saturating_add(self.values.len())
    }
}

/// What is kept of a block, in the form in which it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    List(&'a BlockDelta),
    Steps(&'a StepBlock),
}

impl<'a> Found<'a> {
    /// How many units are kept.
    pub fn kept(&self) -> usize {
        match self {
            Found::List(delta) => delta.positions.len(),
            Found::Steps(block) => block.steps.len(),
        }
    }

    /// One bit a unit of `len`, set where it is kept; `buffer` is used where there are none yet.
    pub fn bits<'b>(&self, len: u32, buffer: &'b mut Vec<u64>) -> &'b [u64]
    where
        'a: 'b,
    {
        match self {
            Found::Steps(block) => &block.mask,
            Found::List(delta) => {
                set_bits(&delta.positions, len, buffer);
                buffer
            }
        }
    }

    /// All of it as a list.
    pub fn listed(&self) -> Cow<'a, BlockDelta> {
        match self {
            Found::List(delta) => Cow::Borrowed(*delta),
            Found::Steps(block) => {
                let mut out = BlockDelta::default();
                block.list(&mut out);
                Cow::Owned(out)
            }
        }
    }
}

/// Encodes a block with the smallest codecs. `rows` are the levels that the encoder chose for its row runs.
pub(crate) fn encode(frame: &Frame, found: Found, rows: &[i16], effort: Effort) -> Encoded {
    if found.kept() == 0 {
        return Encoded::default();
    }
    let may_have_pattern =
        |scratch: &mut Scratch| has_pattern(found.bits(frame.len, &mut scratch.bits), found.kept(), frame.len);
    match encode_spread(frame, found, rows) {
        Some(spread) if effort != Effort::Small && !with_scratch(may_have_pattern) => spread,
        Some(spread) => {
            // What classes see, all of the steps have in them: only the other codecs may find more.
            let other = encode_apart(&Frame { coder: None, ..*frame }, found, rows, effort);
            if other.len() < spread.len() { other } else { spread }
        }
        None => encode_apart(frame, found, rows, effort),
    }
}

/// Encodes a block to the steps of all units, where its coder was made for that.
pub(crate) fn encode_spread(frame: &Frame, found: Found, rows: &[i16]) -> Option<Encoded> {
    let coder = frame.coder.filter(|coder| spread::is_meant(frame, coder, found))?;
    let (mask, values) = with_scratch(|scratch| spread::encode(frame, coder, found, rows, scratch))?;
    Some(Encoded { mask_codec: MaskCodec::InCodes, value_codec: ValueCodec::AllUnits, mask, values })
}

/// Encodes a block to a mask and the codes of what is kept.
fn encode_apart(frame: &Frame, found: Found, rows: &[i16], effort: Effort) -> Encoded {
    let classed = frame.coder.and_then(|coder| encode_by_class(frame, coder, found, rows));
    let ByClass { mask, values, is_suspicious } = classed.unwrap_or_default();
    let list = OnceCell::new();
    let list = || list.get_or_init(|| found.listed());
    let trivial = found.kept() == frame.len as usize;
    // Where classes did well there is nothing in general to find for the others.
    let tries_all = effort == Effort::Small || mask.is_none() || is_suspicious;
    let plain_mask = if trivial {
        Some((MaskCodec::All, Vec::new()))
    } else {
        (tries_all || effort == Effort::Fast).then(|| positions::encode(&list().positions, frame.len))
    };
    // Floats that are differences of coarse numbers have patterns in their mantissas, which classes store raw.
    let has_mantissa = matches!(frame.kind, ValueKind::F32 | ValueKind::F16 | ValueKind::Bf16);
    let tries_codes = effort == Effort::Small || values.is_none() || (has_mantissa && effort != Effort::Fast);
    let plain_values = tries_codes.then(|| codes::encode(frame.kind, frame.info.dtype, &list().codes));
    let value = smaller(values.map(|bytes| (ValueCodec::Classes, bytes)), plain_values);
    // Codes by class need the levels of the rows, which stand in the mask.
    let bound = value.0 == ValueCodec::Classes && frame.coder.is_some_and(|c| c.model.rows.is_some());
    let classed_mask = mask.map(|bytes| (MaskCodec::Classes, bytes));
    let mask = match plain_mask.filter(|_| !bound) {
        Some(plain) if effort == Effort::Fast && is_near(&plain, classed_mask.as_ref()) => plain,
        plain => smaller(classed_mask, plain),
    };
    Encoded { mask_codec: mask.0, value_codec: value.0, mask: mask.1, values: value.1 }
}

/// Whether a mask that is read several times as fast is nearly as small as one by class: a bitmap and Rice codes may cost 3 %
/// for that, gaps 1.5.
fn is_near(plain: &(MaskCodec, Vec<u8>), classed: Option<&(MaskCodec, Vec<u8>)>) -> bool {
    let is_fastest = matches!(plain.0, MaskCodec::Bitmap | MaskCodec::BitmapZstd | MaskCodec::Rice);
    let thousandths = if is_fastest { 1030 } else { 1015 };
    let scaled = |bytes: &[u8], by: u64| (bytes.len() as u64).saturating_mul(by);
    classed.is_some_and(|classed| scaled(&plain.1, 1000) <= scaled(&classed.1, thousandths))
}

/// Whether a mask could be one of a kind that classes do not see, such as long runs or every hundredth unit.
fn has_pattern(bits: &[u64], kept: usize, len: u32) -> bool {
    // Where less is not kept, that shows it as well. So does an eighth of a long mask.
    let less = kept.min((len as usize).saturating_sub(kept));
    let flip = if less < kept { u64::MAX } else { 0 };
    let (run, every) = if less < 1 << 14 { (usize::MAX, 1) } else { (1 << 4, 8) };
    let (mut regular, mut n, mut listed, mut flipped) = (0usize, 0usize, Vec::new(), Vec::new());
    for run in bits.chunks(run).step_by(every) {
        flipped.clear();
        flipped.extend(run.iter().map(|word| word ^ flip));
        listed.clear();
        list_bits(&flipped, &mut listed);
        let is_regular = |w: &&[u32]| match w {
            [a, b, c] => c.wrapping_sub(*b) == b.wrapping_sub(*a),
            _ => false,
        };
        regular = regular.saturating_add(listed.windows(3).filter(is_regular).count());
        n = n.saturating_add(listed.len());
    }
    let dense = less.saturating_mul(8) > len as usize;
    let share = if dense { 15 } else { 4 };
    regular.saturating_mul(16) > n.saturating_mul(share)
}

fn smaller<C: Default>(a: Option<(C, Vec<u8>)>, b: Option<(C, Vec<u8>)>) -> (C, Vec<u8>) {
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

/// A block by class, as far as that goes.
#[derive(Debug, Default)]
struct ByClass {
    mask: Option<Vec<u8>>,
    values: Option<Vec<u8>>,
    is_suspicious: bool,
}

fn encode_by_class(frame: &Frame, coder: &Coder, found: Found, rows: &[i16]) -> Option<ByClass> {
    with_scratch(|scratch| {
        let (map, classes) = (&mut scratch.mask.map, &mut scratch.classes);
        map.fill(coder, &frame.units(), rows);
        let bits = found.bits(frame.len, &mut scratch.bits);
        let mask = mask::encode(coder, map, bits, rows)?;
        let is_suspicious = mask.len() > 16 && has_pattern(bits, found.kept(), frame.len);
        let values = Split::of(frame.kind, frame.info.dtype).and_then(|split| {
            map.of_kept(bits, classes);
            match found {
                Found::Steps(block) => values::encode_short::<2>(&coder.model, classes, &block.steps),
                Found::List(delta) => values::encode::<2>(&coder.model, split, classes, &delta.codes),
            }
        });
        Some(ByClass { mask: Some(mask), values, is_suspicious })
    })
}
