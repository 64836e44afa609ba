//! Models and coders that lie: each is refused with the rule that it breaks.

use std::sync::Arc;

use crate::codec::block::{self, Encoded, Frame, Stored};
use crate::codec::classes::coder::{Coder, DEAD, ModelPlace};
use crate::codec::classes::model::{Class, Model};
use crate::codec::entropy::rans::Encoder;
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

use super::random::{Case, Random};

fn rule<T>(answer: Result<T>) -> &'static str {
    match answer {
        Ok(_) => "accepted",
        Err(Error::Malformed { rule, .. }) => rule,
        Err(_) => "another error",
    }
}

fn no_model(_: u32) -> Result<Arc<Model>> {
    Err(Error::malformed("CLS-2", "coder", "no model is shared here"))
}

/// Entries, first symbol, weights.
fn table(n: u16, first: u16, weights: &[u8]) -> Vec<u8> {
    [&n.to_le_bytes()[..], &first.to_le_bytes(), weights].concat()
}

/// A model of `n` classes with even odds and no tables.
fn plain_model(n: u8) -> Vec<u8> {
    let ones = vec![80; n.into()];
    [&[n, 0][..], &ones, &ones].concat()
}

fn info(dtype: Dtype, shape: &[u64]) -> TensorInfo {
    TensorInfo { name: "t".into(), dtype, shape: shape.to_vec() }
}

#[test]
fn coders_survive_and_are_refused_where_they_are_cut() {
    for seed in 0..150 {
        let mut random = Random(seed);
        let case = Case::new(700, &mut random);
        let (coder, model) = (&case.coder, &case.coder.model);
        let own = coder.encode(&ModelPlace::Own).unwrap();
        assert_eq!(Coder::decode(&own, &case.info, no_model).unwrap(), *coder, "{}", case.name);
        let shared = coder.encode(&ModelPlace::Row(70_000)).unwrap();
        let give = |row| if row == 70_000 { Ok(model.clone()) } else { no_model(row) };
        assert_eq!(Coder::decode(&shared, &case.info, give).unwrap(), *coder, "{}", case.name);
        for (bytes, step) in [(&own, own.len() / 60 + 1), (&shared, 1)] {
            for end in (0..bytes.len()).step_by(step) {
                let found = rule(Coder::decode(&bytes[..end], &case.info, give));
                assert!(["ENT-3", "ENT-4", "ENT-5", "CLS-2", "CLS-3"].contains(&found), "{found}: {}", case.name);
            }
            assert_ne!(rule(Coder::decode(&[bytes, &[0][..]].concat(), &case.info, give)), "accepted");
        }
    }
}

/// Any byte of a coder changed: refused, or another coder in its one form.
#[test]
fn a_changed_coder_has_two_forms() {
    for seed in 0..150 {
        let mut random = Random(seed + 5000);
        let case = Case::new(700, &mut random);
        let bytes = case.coder.encode(&ModelPlace::Own).unwrap();
        for _ in 0..60 {
            let mut other = bytes.clone();
            let near = if random.once_in(2) { 12 } else { bytes.len() as u64 };
            other[random.below(near) as usize] ^= random.below(255) as u8 + 1;
            match Coder::decode(&other, &case.info, no_model) {
                Ok(coder) => assert_eq!(coder.encode(&ModelPlace::Own), Some(other), "{}", case.name),
                Err(e) => assert!(matches!(e, Error::Malformed { .. }), "{e}"),
            }
        }
    }
}

#[test]
fn a_table_lies() {
    let read = |bytes: Vec<u8>| rule(Table::decode(&mut &bytes[..]));
    assert_eq!(read(table(2, 0, &[1, 1])), "accepted");
    assert_eq!(read(table(2, 511, &[0, 128])), "accepted");
    assert_eq!(read(table(256, 257, &[1; 256])), "accepted");
    let lies = [
        ("one entry", table(1, 0, &[1])),
        ("no entry", table(0, 0, &[])),
        ("257 entries", table(257, 0, &[1; 257])),
        ("symbol 512", table(2, 512, &[1, 1])),
        ("a last symbol of 512", table(256, 258, &[1; 256])),
        ("weight 129", table(3, 0, &[1, 129, 1])),
        ("escape of weight 129", table(2, 0, &[129, 1])),
        ("no weight", table(3, 0, &[0, 0, 0])),
        ("only an escape", table(2, 0, &[1, 0])),
        ("first symbol absent", table(3, 0, &[1, 0, 1])),
        ("last symbol absent", table(3, 0, &[1, 1, 0])),
        ("weights cut", table(3, 0, &[1, 1])),
    ];
    for (what, bytes) in lies {
        assert_eq!(read(bytes), "ENT-3", "{what}");
    }
}

#[test]
fn a_model_lies() {
    let read = |bytes: &[u8]| rule(Model::decode(&mut &bytes[..]));
    let tables = |parts: u8, tables: &[&[u8]]| [&[2, parts, 80, 80, 1, 1][..], &tables.concat()].concat();
    let (a, b) = (table(2, 0, &[1, 1]), table(2, 1, &[1, 1]));
    for n in [1, 63, 64] {
        assert_eq!(read(&plain_model(n)), "accepted");
    }
    assert_eq!(read(&tables(7, &[&a, &a, &a, &[0, 0]])), "accepted");
    assert_eq!(read(&tables(4, &[&a, &b])), "accepted");
    let mut odds = plain_model(3);
    odds[4] = 127;
    assert_eq!(read(&odds), "accepted");
    odds[4] = 128;
    let lies = [
        ("odds 128", odds),
        ("no classes", plain_model(0)),
        ("65 classes", plain_model(65)),
        ("255 classes", plain_model(255)),
        ("parts 8", tables(8, &[])),
        ("first table as the one before", tables(4, &[&[0, 0], &a])),
        ("a table as the one before, spelled out", tables(4, &[&a, &a])),
        ("occupancy cut", plain_model(3)[..7].to_vec()),
    ];
    for (what, bytes) in lies {
        assert_eq!(read(&bytes), "CLS-3", "{what}");
    }
    assert_eq!(read(&tables(4, &[&a])), "ENT-3", "a table is missing");
}

#[test]
fn a_coder_lies() {
    let model = plain_model(3);
    let head = |flags: u8, axis: u8, origin: i16| [&[flags, axis][..], &origin.to_le_bytes()].concat();
    let with = |head: Vec<u8>| [head, model.clone()].concat();
    let read = |bytes: &[u8], info: &TensorInfo| rule(Coder::decode(bytes, info, no_model));
    let (floats, bytes) = (info(Dtype::BF16, &[4, 10]), info(Dtype::U8, &[4, 10]));
    for (axis, origin) in [(0, 0), (2, 0), (1, -1024), (1, 1024)] {
        assert_eq!(read(&with(head(1, axis, origin)), &floats), "accepted");
    }
    let lies = [
        ("flags 8", with(head(8, 1, 0)), &floats),
        ("axis 3", with(head(0, 3, 0)), &floats),
        ("origin -1025", with(head(0, 1, -1025)), &floats),
        ("origin 1025", with(head(0, 1, 1025)), &floats),
        ("base under integers", with(head(1, 1, 0)), &bytes),
        ("a byte after the end", [with(head(0, 1, 0)), vec![0]].concat(), &floats),
        ("three bytes", head(0, 1, 0)[..3].to_vec(), &floats),
        ("a row of three bytes", [head(4, 1, 0), vec![0; 3]].concat(), &floats),
        ("columns without a table", [with(head(2, 1, 0)), vec![0, 0, 1, 0]].concat(), &floats),
    ];
    for (what, bytes, info) in lies {
        assert_eq!(read(&bytes, info), "CLS-2", "{what}");
    }
    for dtype in [Dtype::F8_E8M0, Dtype::F6_E2M3, Dtype::C64, Dtype::BOOL] {
        assert_eq!(read(&with(head(1, 0, 0)), &info(dtype, &[8])), "CLS-2", "{dtype}");
    }
}

/// Rows of less than eight units have no levels, but where all is one row.
#[test]
fn rows_of_few_units_have_levels() {
    let bytes = [&[0, 1, 0, 0, 1, 1, 80, 80][..], &table(2, 17, &[1, 1])].concat();
    let read = |shape: &[u64]| rule(Coder::decode(&bytes, &info(Dtype::U8, shape), no_model));
    let found = [&[4, 7][..], &[4, 8], &[1, 7], &[1, 1], &[2, 0]].map(read);
    assert_eq!(found, ["CLS-2", "accepted", "accepted", "accepted", "accepted"]);
}

/// A coder with columns whose table has only what is given.
fn columns_of(symbols: &[u32], first: u16, weights: &[u8]) -> Vec<u8> {
    let stored = table(weights.len() as u16, first, weights);
    let mut encoder = Encoder::default();
    let read = Table::decode(&mut &stored[..]).unwrap();
    symbols.iter().for_each(|s| encoder.symbol(&read, *s).unwrap());
    [&[2, 1, 0, 0, 1, 2, 80, 80][..], &stored, &encoder.finish::<1>()].concat()
}

#[test]
fn columns_lie() {
    let read = |bytes: &[u8], columns: u64| rule(Coder::decode(bytes, &info(Dtype::F32, &[2, columns]), no_model));
    assert_eq!(read(&columns_of(&[0, 1, 33], 0, &[1, 1, 1]), 3), "accepted");
    for symbol in [34, 35, 511] {
        assert_eq!(read(&columns_of(&[17, symbol], 17, &[9, 1]), 2), "CLS-2", "level {symbol}");
    }
    assert_eq!(read(&columns_of(&[17, 34], 17, &[1; 19]), 2), "CLS-2", "level 34 without an escape");
    // All of one level: the columns have no bytes but a state, so only their number can be too large.
    for (n, answer) in [(1 << 18, "accepted"), ((1 << 18) + 1, "CLS-2"), (1 << 40, "CLS-2")] {
        assert_eq!(read(&columns_of(&[], 17, &[0, 1]), n), answer, "{n} columns");
    }
    assert_eq!(read(&columns_of(&[], 17, &[0, 1]), 0), "CLS-2", "no columns, and flags that say so");
    assert_eq!(read(&columns_of(&[17, 18], 17, &[1, 1, 1]), 1), "ENT-4", "a column too many");
    let one = columns_of(&[17], 17, &[1, 1]);
    assert_eq!(read(&[&one[..], &[0]].concat(), 1), "ENT-5", "a byte too many");
    assert_eq!(read(&one[..one.len() - 1], 1), "ENT-4", "no whole state");
}

/// A block of six units, two of which are kept, with a coder of one class.
fn small(rows: Option<Table>, values: Option<Table>) -> (TensorInfo, Coder) {
    let classes = vec![Class { odds: 70, occupied: 128, values: values.map(Arc::new) }];
    let model = Arc::new(Model { classes, rows, columns: None });
    let coder = Coder { uses_base: false, axis: 1, origin: 0, columns: vec![0, 0, DEAD], model };
    (info(Dtype::F32, &[2, 3]), coder)
}

fn decode(info: &TensorInfo, coder: Option<&Coder>, kind: ValueKind, kept: u32, block: &Encoded) -> &'static str {
    let frame = Frame { info, kind, start: 0, len: 6, coder, base: &[] };
    let Encoded { mask_codec, value_codec, mask, values } = block;
    let (mask_codec, value_codec) = (*mask_codec, *value_codec);
    let stored = Stored { mask_codec, value_codec, kept, mask, values, zero_steps: false };
    rule(block::decode(&frame, &stored, &mut BlockDelta::default()))
}

#[test]
fn a_block_lies() {
    let one = || Table::fit(&[0, 0, 0, 1]);
    let (info, coder) = small(None, one());
    let delta = BlockDelta { positions: vec![0, 4], codes: vec![3, 4_294_967_293] };
    let frame = Frame { info: &info, kind: ValueKind::Step, start: 0, len: 6, coder: Some(&coder), base: &[] };
    let (map, split) = super::block_parts(&frame);
    let mask = crate::codec::classes::mask::encode(&coder, &map, &[0b01_0001], &[]).unwrap();
    let classes = [0; 2];
    let codes = |d: &BlockDelta| super::values::encode::<2>(&coder.model, split, &classes, &d.codes).unwrap();
    let (mask_codec, value_codec) = (MaskCodec::Classes, ValueCodec::Classes);
    let block =
        |mask_codec, mask: &[u8], values: Vec<u8>| Encoded { mask_codec, value_codec, mask: mask.into(), values };
    let good = block(mask_codec, &mask, codes(&delta));
    let step = |kept, block: &Encoded| decode(&info, Some(&coder), ValueKind::Step, kept, block);
    assert_eq!(step(2, &good), "accepted");
    assert_eq!(decode(&info, None, ValueKind::Step, 2, &good), "CLS-1", "no coder");
    assert_eq!(step(1, &good), "MSK-2", "one kept, the mask has two");
    assert_eq!(step(3, &good), "MSK-2", "three kept, the mask has two");
    assert_eq!(decode(&info, Some(&coder), ValueKind::Sign, 2, &good), "CLS-6", "signs by class");
    let (_, without) = small(None, None);
    assert_eq!(decode(&info, Some(&without), ValueKind::Step, 2, &good), "CLS-6", "no tables for values");
    // Positions 0 and 2 in a bitmap; 2 is in a dead column.
    assert_eq!(step(2, &block(MaskCodec::Bitmap, &[0b01_0001], codes(&delta))), "accepted");
    assert_eq!(
        step(2, &block(MaskCodec::Bitmap, &[0b00_0101], codes(&delta))),
        "CLS-6",
        "a code for a unit without a class"
    );
    let (_, rows) = small(one(), one());
    let bitmap = block(MaskCodec::Bitmap, &[0b01_0001], codes(&delta));
    assert_eq!(decode(&info, Some(&rows), ValueKind::Step, 2, &bitmap), "CLS-6", "the levels of rows are missing");
    let zero = BlockDelta { positions: vec![0, 4], codes: vec![3, 0] };
    assert_eq!(step(2, &block(mask_codec, &mask, codes(&zero))), "VAL-2", "a step of 0");
    let infinite = BlockDelta { positions: vec![0, 4], codes: vec![0x7f80_0000, 0] };
    let split = crate::codec::classes::symbols::Split::of(ValueKind::F32, Dtype::F32).unwrap();
    let values = super::values::encode::<2>(&coder.model, split, &classes, &infinite.codes).unwrap();
    let found = decode(&info, Some(&coder), ValueKind::F32, 2, &block(mask_codec, &mask, values));
    assert_eq!(found, "VAL-2", "an infinite delta");
}

/// Steps of all units, four of which have a class; the first two of these are kept.
#[test]
fn a_block_with_its_mask_in_the_codes_lies() {
    let (info, coder) = small(None, Table::fit(&[2, 0, 0, 1]));
    let table = coder.model.classes[0].values.as_ref().unwrap();
    let run = |symbols: &[u32]| {
        let mut encoder = Encoder::default();
        for symbol in symbols {
            encoder.symbol(table, *symbol).unwrap();
            encoder.bits.put(0, u32::from(*symbol > 0));
        }
        encoder.finish::<4>()
    };
    let block =
        |mask_codec, value_codec, mask: &[u8], values| Encoded { mask_codec, value_codec, mask: mask.into(), values };
    let step = |kept, block: &Encoded| decode(&info, Some(&coder), ValueKind::Step, kept, block);
    let good = block(MaskCodec::InCodes, ValueCodec::AllUnits, &[], run(&[3, 3, 0, 0]));
    assert_eq!(step(2, &good), "accepted");
    assert_eq!(decode(&info, None, ValueKind::Step, 2, &good), "CLS-1", "no coder");
    assert_eq!(step(1, &good), "MSK-2", "one kept, two steps");
    assert_eq!(step(3, &good), "MSK-2", "three kept, two steps");
    assert_eq!(
        step(2, &block(MaskCodec::InCodes, ValueCodec::AllUnits, &[0], run(&[3, 3, 0, 0]))),
        "CLS-7",
        "a byte of levels"
    );
    assert_eq!(
        step(2, &block(MaskCodec::InCodes, ValueCodec::Classes, &[], run(&[3, 3]))),
        "CLS-7",
        "codes of what is kept"
    );
    assert_eq!(step(2, &block(MaskCodec::Bitmap, ValueCodec::AllUnits, &[3], run(&[3, 3, 0, 0]))), "CLS-7", "a mask");
    assert_eq!(decode(&info, Some(&coder), ValueKind::F32, 2, &good), "CLS-7", "no steps");
    assert_eq!(decode(&info, Some(&coder), ValueKind::Sign, 2, &good), "CLS-7", "signs");
    assert_eq!(
        step(2, &block(MaskCodec::InCodes, ValueCodec::AllUnits, &[], run(&[3, 3, 0]))),
        "ENT-4",
        "one step less"
    );
    assert_eq!(
        step(2, &block(MaskCodec::InCodes, ValueCodec::AllUnits, &[], run(&[3, 3, 0, 0, 0, 0]))),
        "ENT-4",
        "steps of all"
    );
    let (_, without) = small(None, None);
    assert_eq!(decode(&info, Some(&without), ValueKind::Step, 2, &good), "CLS-6", "no tables for values");
    let Encoded { mask_codec, value_codec, mask, values } = &good;
    let (mask_codec, value_codec) = (*mask_codec, *value_codec);
    let frame = Frame { info: &info, kind: ValueKind::Step, start: 0, len: 6, coder: Some(&coder), base: &[] };
    let stored = Stored { mask_codec, value_codec, kept: 2, mask, values, zero_steps: true };
    assert_eq!(rule(block::decode(&frame, &stored, &mut BlockDelta::default())), "CLS-7", "a carried tensor");
}

/// A row whose level is none of the 34.
#[test]
fn a_row_lies() {
    let (info, coder) = small(Table::fit(&[1, 1]), None);
    let table = coder.model.rows.as_ref().unwrap();
    for symbol in [34, 511] {
        let mut encoder = Encoder::default();
        encoder.symbol(table, 1).unwrap();
        encoder.symbol(table, symbol).unwrap();
        let mask = encoder.finish::<1>();
        let block =
            Encoded { mask_codec: MaskCodec::Classes, value_codec: ValueCodec::Stored, mask, values: Vec::new() };
        assert_eq!(decode(&info, Some(&coder), ValueKind::Step, 1, &block), "CLS-5", "level {symbol}");
    }
    // 1 is in the table, and escaped all the same.
    let mut encoder = Encoder::default();
    encoder.put(table.range(0));
    encoder.bits.put(1, 9);
    let block = Encoded {
        mask_codec: MaskCodec::Classes,
        value_codec: ValueCodec::Stored,
        mask: encoder.finish::<1>(),
        values: Vec::new(),
    };
    assert_eq!(decode(&info, Some(&coder), ValueKind::Step, 1, &block), "ENT-4", "an escape without need");
}

/// Every other way to say the same gaps. [CLS-5]
#[test]
fn a_gap_has_two_forms() {
    use crate::codec::entropy::gaps::GapTable;
    let (info, coder) = small(None, None);
    let class = &coder.model.classes[0];
    let gaps = GapTable::of(class.odds);
    assert!(!gaps.inverted && gaps.shift == 0 && gaps.last > 5);
    let read = |highs: &[u32], kept| {
        let mut encoder = Encoder::default();
        encoder.put((class.empty(), 4096 - class.empty()));
        highs.iter().for_each(|h| encoder.put(gaps.table.range(*h)));
        let block = Encoded {
            mask_codec: MaskCodec::Classes,
            value_codec: ValueCodec::Stored,
            mask: encoder.finish::<1>(),
            values: vec![0; 4 * kept as usize],
        };
        decode(&info, Some(&coder), ValueKind::F32, kept, &block)
    };
    // Four living units: the first kept, then three that are not.
    assert_eq!(read(&[0, 3], 1), "accepted");
    assert_eq!(read(&[0, 4], 1), "CLS-5", "ends late");
    assert_eq!(read(&[0, gaps.last], 1), "CLS-5", "ends late with the last entry");
    assert_eq!(read(&[0, gaps.last, 0], 1), "CLS-5", "ends late with the last entry and a zero");
    assert_eq!(read(&[4], 0), "CLS-5", "keeps nothing, and says that it keeps something");
    assert_eq!(read(&[0, 0, 0, 0, 0], 4), "accepted");
    assert_eq!(read(&[0, 0, 0, 0], 4), "ENT-4", "no end");
    assert_eq!(read(&[0, 0, 0, 0, 1], 4), "CLS-5", "an end after the end");
}
