//! The codes of a block, each with the table of its unit's class. [CLS-6]

use crate::codec::classes::map::ClassMap;
use crate::codec::classes::model::Model;
use crate::codec::classes::symbols::Split;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};

/// Codes in the order of their positions; `None` where the tables lack a symbol.
pub(crate) fn encode(model: &Model, map: &ClassMap, split: Split, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::default();
    for (p, code) in positions.iter().zip(codes) {
        let table = model.classes.get(usize::from(map.class(*p)))?.values.as_ref()?;
        let parts = split.take_apart(*code);
        encoder.symbol(table, parts.symbol)?;
        encoder.bits.put(parts.extra, parts.extra_bits);
    }
    Some(encoder.finish::<2>())
}

/// Reads one code a position from all of `bytes`.
pub(crate) fn decode(
    model: &Model,
    map: &ClassMap,
    split: Split,
    positions: &[u32],
    bytes: &[u8],
    out: &mut Vec<u64>,
) -> Result<()> {
    let mut tables: Vec<&Table> = Vec::with_capacity(model.classes.len());
    for class in &model.classes {
        let missing = || Error::malformed("CLS-6", "codes", "are coded by class, but the model has no tables for them");
        tables.push(class.values.as_deref().ok_or_else(missing)?);
    }
    match split {
        // Spelled out so that the compiler knows the widths: by far the most codes are of these.
        Split::Step { bits: 16 } => read(&tables, map, Split::Step { bits: 16 }, positions, bytes, out),
        Split::Step { bits: 32 } => read(&tables, map, Split::Step { bits: 32 }, positions, bytes, out),
        other => read(&tables, map, other, positions, bytes, out),
    }
}

#[inline(always)]
fn read(
    tables: &[&Table],
    map: &ClassMap,
    split: Split,
    positions: &[u32],
    bytes: &[u8],
    out: &mut Vec<u64>,
) -> Result<()> {
    let no_class = || Error::malformed("CLS-6", "codes", "one belongs to a unit without a class");
    let mut decoder: Decoder<2> = Decoder::new(bytes)?;
    out.clear();
    out.reserve(positions.len());
    for p in positions {
        let table = *tables.get(usize::from(map.class(*p))).ok_or_else(no_class)?;
        let symbol = decoder.symbol(table)?;
        let extra = decoder.bits.take(split.extra_bits(symbol));
        out.push(split.put_together(symbol, extra)?);
    }
    decoder.finish()
}
