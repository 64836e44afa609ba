//! Masks and codes by class against a slow judge, and against whoever changes their bytes.
#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

mod judge;
mod lies;
mod random;

use crate::codec::block::{self, Effort, Encoded, Found, Frame, Stored};
use crate::codec::classes::map::ClassMap;
use crate::codec::classes::mask::{self, Decoded};
use crate::codec::classes::symbols::Split;
use crate::codec::classes::values;
use crate::error::{Error, Result};
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{BlockDelta, StepBlock, ValueKind, set_bits};
use crate::simd::narrowly;
use random::{Case, Random};

impl Case {
    fn frame(&self) -> Frame<'_> {
        let Case { info, kind, start, len, coder, base, .. } = self;
        Frame { info, kind: *kind, start: *start, len: *len, coder: Some(coder), base }
    }

    fn map(&self, rows: &[i16]) -> ClassMap {
        let mut map = ClassMap::default();
        map.fill(&self.coder, &self.frame().units(), rows);
        map
    }

    fn encode_mask(&self, bits: &[u64], rows: &[i16]) -> Option<Vec<u8>> {
        mask::encode(&self.coder, &self.map(rows), bits, rows)
    }

    fn decode_mask(&self, bytes: &[u8]) -> Result<Decoded> {
        let mut out = Decoded::default();
        mask::decode(&self.coder, &self.frame().units(), bytes, &mut out).map(|()| out)
    }

    fn decode(&self, encoded: &Encoded) -> Result<BlockDelta> {
        let Encoded { mask_codec, value_codec, mask, values } = encoded;
        let (mask_codec, value_codec, kept) = (*mask_codec, *value_codec, self.delta.positions.len() as u32);
        let mut out = BlockDelta::default();
        let stored = Stored { mask_codec, value_codec, kept, mask, values, zero_steps: false };
        block::decode(&self.frame(), &stored, &mut out).map(|()| out)
    }

    /// The classes of the kept units.
    fn classes(&self) -> Vec<u8> {
        let mut classes = Vec::new();
        self.map(&self.rows).of_units(&self.delta.positions, &mut classes);
        classes
    }

    fn bits(&self) -> Vec<u64> {
        let mut bits = Vec::new();
        set_bits(&self.delta.positions, self.len, &mut bits);
        bits
    }

    fn split(&self) -> Option<Split> {
        let all_have = self.coder.model.classes.iter().all(|c| c.values.is_some());
        Split::of(self.kind, self.info.dtype).filter(|_| all_have)
    }
}

/// The classes of a block whose rows make no difference, and how its codes are split.
fn block_parts(frame: &Frame) -> (ClassMap, Split) {
    let mut map = ClassMap::default();
    map.fill(frame.coder.unwrap(), &frame.units(), &[]);
    (map, Split::of(frame.kind, frame.info.dtype).unwrap())
}

/// The mask there and back as a processor does it that has no wide registers.
fn check_narrow(case: &Case, bits: &[u64], mask: &[u8]) {
    narrowly(|| {
        assert_eq!(case.encode_mask(bits, &case.rows).unwrap(), mask, "{}", case.name);
        assert_eq!(case.decode_mask(mask).unwrap().bits, bits, "{}", case.name);
    });
}

/// Bytes that differ in one place, are cut, or go on.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let places = bytes.len().min(24);
    for i in 0..places {
        let at = if bytes.len() == places { i } else { random.below(bytes.len() as u64) as usize };
        let mut other = bytes.to_vec();
        other[at] ^= if random.once_in(2) { 1 << random.below(8) } else { random.below(255) as u8 + 1 };
        all.push(other);
    }
    all.extend([1, 2, 3, bytes.len()].map(|n| bytes[..bytes.len().saturating_sub(n)].to_vec()));
    for more in [1usize, 2, 4] {
        all.push([bytes, &vec![0; more]].concat());
        all.push([&vec![0; more], bytes].concat());
        all.push([bytes, &[random.next() as u8; 4][..more]].concat());
    }
    all.push([&bytes[..bytes.len() / 2], &[0], &bytes[bytes.len() / 2..]].concat());
    all
}

/// Whatever decodes is the one encoding of what it decodes to.
fn check_mask(case: &Case, bytes: &[u8], random: &mut Random) {
    for other in damaged(bytes, random).into_iter().filter(|other| other != bytes) {
        match case.decode_mask(&other) {
            Ok(decoded) => {
                let again = case.encode_mask(&decoded.bits, &decoded.rows);
                assert_eq!(again.as_ref(), Some(&other), "{}", case.name);
            }
            Err(e) => assert!(matches!(e, Error::Malformed { .. }), "{e}"),
        }
    }
}

fn check_values(case: &Case, split: Split, bytes: &[u8], random: &mut Random) {
    let (classes, mut out) = (case.classes(), Vec::new());
    let (model, mut short) = (&case.coder.model, Vec::new());
    for other in damaged(bytes, random).into_iter().filter(|other| other != bytes) {
        let found = values::decode::<2>(model, split, &classes, &other, &mut out);
        if split == (Split::Step { bits: 16 }) {
            let same = values::decode_short::<2>(model, &classes, &other, &mut short);
            assert_eq!(same.is_ok(), found.is_ok(), "{}", case.name);
            assert!(
                found.is_err() || short.iter().map(|step| u64::from(*step)).eq(out.iter().copied()),
                "{}",
                case.name
            );
        }
        match found {
            Ok(()) => assert_eq!(values::encode::<2>(model, split, &classes, &out), Some(other), "{}", case.name),
            Err(e) => assert!(matches!(e, Error::Malformed { .. }), "{e}"),
        }
    }
}

/// Fast against slow, there and back, and damage. Gives the codecs that the encoder chose.
fn check(case: &Case, used: &mut Decoded, random: &mut Random) -> Vec<(MaskCodec, ValueCodec)> {
    let (judge, map) = (case.judge(), case.map(&case.rows));
    for unit in 0..case.len {
        let found = Some(map.class(unit)).filter(|c| *c != super::map::NO_CLASS).map(usize::from);
        assert_eq!(found, judge.class(unit), "unit {unit} of {}", case.name);
    }
    let bits = case.bits();
    let mask = case.encode_mask(&bits, &case.rows).unwrap();
    assert_eq!(mask, judge.mask(&case.delta.positions), "{}", case.name);
    let decoded = case.decode_mask(&mask).unwrap();
    assert_eq!((&decoded.bits, &decoded.rows), (&bits, &case.rows));
    // What another block left behind makes no difference.
    mask::decode(&case.coder, &case.frame().units(), &mask, used).unwrap();
    assert_eq!((&used.bits, &used.rows), (&bits, &case.rows));
    assert!(used.positions.is_empty() || used.positions == case.delta.positions, "{}", case.name);
    assert!(!mask::needs_map(&case.coder) || (0..case.len).all(|u| used.map.class(u) == map.class(u)), "{}", case.name);
    check_narrow(case, &bits, &mask);
    check_mask(case, &mask, random);
    if let Some(split) = case.split() {
        let (mut classes, mut narrow) = (Vec::new(), Vec::new());
        map.of_kept(&bits, &mut classes);
        narrowly(|| map.of_kept(&bits, &mut narrow));
        assert_eq!([&classes, &narrow], [&case.classes(); 2], "{}", case.name);
        let values = values::encode::<2>(&case.coder.model, split, &classes, &case.delta.codes).unwrap();
        assert_eq!(values, judge.values(split, &case.delta), "{}", case.name);
        check_values(case, split, &values, random);
        if !case.delta.positions.is_empty() {
            let (mask_codec, value_codec) = (MaskCodec::Classes, ValueCodec::Classes);
            assert_eq!(case.decode(&Encoded { mask_codec, value_codec, mask, values }).unwrap(), case.delta);
        }
        if case.kind == ValueKind::Step {
            check_spread(case, judge.spread(split, &case.delta), random);
        }
    }
    [Effort::Fast, Effort::Default, Effort::Small].map(|effort| check_choice(case, effort)).to_vec()
}

/// The steps of all units, as the judge writes them.
fn check_spread(case: &Case, (mask, values): (Vec<u8>, Vec<u8>), random: &mut Random) {
    let (frame, coder) = (case.frame(), &case.coder);
    assert_eq!(block::there_and_back(&frame, coder, (&mask, &values)).unwrap(), case.delta, "{}", case.name);
    for other in damaged(&values, random) {
        if let Err(e) = block::there_and_back(&frame, coder, (&mask, &other)) {
            assert!(matches!(e, Error::Malformed { .. }), "{e}");
        }
    }
    if case.delta.positions.is_empty() {
        return;
    }
    let encoded = Encoded { mask_codec: MaskCodec::InCodes, value_codec: ValueCodec::AllUnits, mask, values };
    assert_eq!(case.decode(&encoded).unwrap(), case.delta, "{}", case.name);
    if case.info.dtype.unit_bytes() == 2 {
        let Encoded { mask_codec, value_codec, mask, values } = &encoded;
        let (mask_codec, value_codec, kept) = (*mask_codec, *value_codec, case.delta.positions.len() as u32);
        let stored = Stored { mask_codec, value_codec, kept, mask, values, zero_steps: false };
        let (mut steps, mut listed) = (StepBlock::default(), BlockDelta::default());
        block::decode_steps(&frame, &stored, &mut steps).unwrap();
        steps.list(&mut listed);
        assert_eq!((&steps.mask, &listed), (&case.bits(), &case.delta), "{}", case.name);
    }
}

/// What the encoder chose gives back what it was given.
fn check_choice(case: &Case, effort: Effort) -> (MaskCodec, ValueCodec) {
    let frame = case.frame();
    let encoded = block::encode(&frame, Found::List(&case.delta), &case.rows, effort);
    if !case.delta.positions.is_empty() {
        assert_eq!(case.decode(&encoded).unwrap(), case.delta, "{}", case.name);
    }
    if block::has_steps(case.kind, &case.info, case.len, case.len) {
        let steps = case.delta.codes.iter().map(|code| *code as u16).collect();
        let block = StepBlock { mask: case.bits(), steps, spread: false };
        let same = block::encode(&frame, Found::Steps(&block), &case.rows, effort);
        assert_eq!(same, encoded, "{}", case.name);
    }
    (encoded.mask_codec, encoded.value_codec)
}

#[test]
fn fast_and_slow_agree_and_each_block_has_one_encoding() {
    let mut used = Decoded::default();
    let mut chosen = std::collections::BTreeMap::new();
    for seed in 0..2000 {
        let mut random = Random(seed);
        let most = random.pick(&[64, 300, 3000, 3000, 9000]);
        let case = Case::new(most, &mut random);
        for codecs in check(&case, &mut used, &mut random) {
            *chosen.entry((codecs.0.code(), codecs.1.code())).or_insert(0) += 1;
        }
    }
    for codecs in [(7, 3), (6, 2), (6, 0), (2, 0), (0, 0)] {
        assert!(chosen.get(&codecs).is_some_and(|n| *n > 5), "{codecs:?} is hardly tried: {chosen:?}");
    }
}

#[test]
fn a_whole_block_agrees_with_the_judge() {
    for seed in 1000..1006 {
        let mut random = Random(seed);
        let case = Case::new(1 << 18, &mut random);
        check(&case, &mut Decoded::default(), &mut random);
    }
}

/// A row or column that is dead and keeps something: by class it cannot be said.
#[test]
fn what_is_kept_in_a_dead_row_is_lost() {
    let mut tried = 0;
    for seed in 0..200 {
        let mut random = Random(seed);
        let mut case = Case::new(2000, &mut random);
        let judge = case.judge();
        let Some(dead) = (0..case.len).find(|u| judge.class(*u).is_none()) else { continue };
        case.delta = BlockDelta { positions: vec![dead], codes: vec![1] };
        assert_eq!(case.encode_mask(&case.bits(), &case.rows), None);
        assert_ne!(check_choice(&case, Effort::Default).0, MaskCodec::Classes);
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}
