//! The codes of a block, each with the table of its unit's class. [CLS-6]

use crate::codec::classes::map::ClassMap;
use crate::codec::classes::model::Model;
use crate::codec::classes::short::{MANY, ShortSteps};
use crate::codec::classes::symbols::Split;
use crate::codec::classes::wide;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};

/// Codes in the order of their positions; `None` where the tables lack a symbol.
pub(crate) fn encode(model: &Model, map: &ClassMap, split: Split, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
    let tables = model.classes.iter().map(|c| c.values.as_deref()).collect::<Option<Vec<&Table>>>()?;
    match split {
        // By far the most codes are of these.
        Split::Step { bits: 16 } if codes.len() >= MANY => {
            wide::short_steps(&ShortSteps::new(tables), map, positions, codes)
        }
        // Spelled out as below.
        Split::Step { bits: 32 } => write(&tables, map, Split::Step { bits: 32 }, positions, codes),
        other => write(&tables, map, other, positions, codes),
    }
}

#[inline(always)]
fn write(tables: &[&Table], map: &ClassMap, split: Split, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
    let mut encoder = Encoder::with_capacity(codes.len());
    for (p, code) in positions.iter().zip(codes) {
        let table = *tables.get(usize::from(map.class(*p)))?;
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
    let mut decoder: Decoder<2> = Decoder::new(bytes)?;
    out.clear();
    out.reserve(positions.len());
    match split {
        // Spelled out so that the compiler knows the widths: by far the most codes are of these.
        Split::Step { bits: 16 } if positions.len() >= MANY => {
            let (pairs, last) = positions.as_chunks::<2>();
            wide::read_short_steps(&mut decoder, &tables, map, pairs, out)?;
            read(&mut decoder, &tables, map, split, last, out)?;
        }
        Split::Step { bits: 32 } => {
            read(&mut decoder, &tables, map, Split::Step { bits: 32 }, positions, out)?;
        }
        other => read(&mut decoder, &tables, map, other, positions, out)?,
    }
    decoder.finish()
}

#[inline(always)]
fn read(
    decoder: &mut Decoder<2>,
    tables: &[&Table],
    map: &ClassMap,
    split: Split,
    positions: &[u32],
    out: &mut Vec<u64>,
) -> Result<()> {
    let (pairs, last) = positions.as_chunks::<2>();
    for [a, b] in pairs {
        let tables = [table_of(tables, map, *a)?, table_of(tables, map, *b)?];
        let entries = decoder.entries(tables);
        for (table, entry) in tables.into_iter().zip(entries) {
            out.push(code(decoder, split, table, entry)?);
        }
    }
    for p in last {
        let table = table_of(tables, map, *p)?;
        let entry = decoder.entry(table);
        out.push(code(decoder, split, table, entry)?);
    }
    Ok(())
}

/// The table of a unit's class.
#[inline(always)]
pub(super) fn table_of<'t>(tables: &[&'t Table], map: &ClassMap, p: u32) -> Result<&'t Table> {
    tables.get(usize::from(map.class(p))).copied().ok_or_else(no_class)
}

#[cold]
pub(super) fn no_class() -> Error {
    Error::malformed("CLS-6", "codes", "one belongs to a unit without a class")
}

/// The code whose symbol is at an entry that was just read.
#[inline(always)]
pub(super) fn code(decoder: &mut Decoder<2>, split: Split, table: &Table, entry: u32) -> Result<u64> {
    let symbol = decoder.symbol_of(table, entry)?;
    let extra = decoder.bits.take(split.extra_bits(symbol));
    split.put_together(symbol, extra)
}
