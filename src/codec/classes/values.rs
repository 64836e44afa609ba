//! The codes of a block, each with the table of its unit's class. [CLS-6]

use crate::codec::classes::model::Model;
use crate::codec::classes::steps16::{self, MANY, STEP, Steps16Reader, Steps16Writer};
use crate::codec::classes::symbols::{Split, no_class, table_of};
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};

/// Codes in the order of their units, whose classes are given, written with `N` states; `None` where the tables lack a symbol.
pub(crate) fn encode<const N: usize>(model: &Model, split: Split, classes: &[u8], codes: &[u64]) -> Option<Vec<u8>> {
    let tables = tables_of(model)?;
    match split {
        // Spelled out so that the compiler knows the width.
        Split::Step { bits: 32 } => write::<N>(&tables, Split::Step { bits: 32 }, classes, codes.iter().copied()),
        other @ (Split::Step { .. } | Split::Float { .. } | Split::Small { .. }) => {
            write::<N>(&tables, other, classes, codes.iter().copied())
        }
    }
}

/// [`encode`] for steps of 16 bits, by far the most codes, with `N` states.
pub(crate) fn encode_short<const N: usize>(model: &Model, classes: &[u8], steps: &[u16]) -> Option<Vec<u8>> {
    let tables = tables_of(model)?;
    if steps.len() < MANY {
        return write::<N>(&tables, STEP, classes, steps.iter().map(|step| u64::from(*step)));
    }
    steps16::write::<N>(&Steps16Writer::new(&tables), classes, steps)
}

fn tables_of(model: &Model) -> Option<Vec<&Table>> {
    model.classes.iter().map(|c| c.values.as_deref()).collect()
}

#[inline(always)]
fn write<const N: usize>(
    tables: &[&Table],
    split: Split,
    classes: &[u8],
    codes: impl ExactSizeIterator<Item = u64>,
) -> Option<Vec<u8>> {
    let mut encoder = Encoder::with_capacity(codes.len());
    for (class, code) in classes.iter().zip(codes) {
        let token = split.take_apart(code);
        encoder.symbol(tables.get(usize::from(*class))?, token.symbol)?;
        encoder.bits.put(token.extra, token.extra_bits);
    }
    Some(encoder.finish::<N>())
}

/// Reads one code a unit, whose classes are given, from all of `bytes`, which `N` states wrote.
pub(crate) fn decode<const N: usize>(
    model: &Model,
    split: Split,
    classes: &[u8],
    bytes: &[u8],
    out: &mut Vec<u64>,
) -> Result<()> {
    let tables = all_tables(model)?;
    let mut decoder: Decoder<N> = Decoder::new(bytes)?;
    out.clear();
    out.reserve(classes.len());
    match split {
        // Spelled out so that the compiler knows the widths.
        Split::Step { bits: 32 } => {
            read(&mut decoder, &tables, Split::Step { bits: 32 }, classes, |code| out.push(code))?;
        }
        STEP => read(&mut decoder, &tables, STEP, classes, |code| out.push(code))?,
        other @ (Split::Step { .. } | Split::Float { .. } | Split::Small { .. }) => {
            read(&mut decoder, &tables, other, classes, |code| out.push(code))?;
        }
    }
    decoder.finish()
}

/// [`decode`] for steps of 16 bits.
pub(crate) fn decode_short<const N: usize>(
    model: &Model,
    classes: &[u8],
    bytes: &[u8],
    out: &mut Vec<u16>,
) -> Result<()> {
    let tables = all_tables(model)?;
    let mut decoder: Decoder<N> = Decoder::new(bytes)?;
    out.resize(classes.len(), 0);
    let (mut rest, mut done) = (classes, 0);
    if classes.len() >= MANY {
        let ((turns, last), (places, _)) = (classes.as_chunks::<N>(), out.as_chunks_mut::<N>());
        steps16::read(&Steps16Reader::new(&tables), &mut decoder, turns, places)?;
        (rest, done) = (last, turns.len().wrapping_mul(N));
    }
    let mut places = out.get_mut(done..).unwrap_or_default().iter_mut();
    read(&mut decoder, &tables, STEP, rest, |code| {
        if let Some(place) = places.next() {
            *place = code as u16;
        }
    })?;
    decoder.finish()
}

fn all_tables(model: &Model) -> Result<Vec<&Table>> {
    let missing = || Error::malformed("CLS-6", "codes", "are coded by class, but the model has no tables for them");
    tables_of(model).ok_or_else(missing)
}

#[inline(always)]
fn read<const N: usize>(
    decoder: &mut Decoder<N>,
    tables: &[&Table],
    split: Split,
    classes: &[u8],
    mut found: impl FnMut(u64),
) -> Result<()> {
    let (turns, last) = classes.as_chunks::<N>();
    let Some(first) = tables.first() else { return Err(no_class()) };
    for turn in turns {
        let mut own = [*first; N];
        for (own, class) in own.iter_mut().zip(turn) {
            *own = table_of(tables, *class)?;
        }
        let entries = decoder.entries(own);
        for (table, entry) in own.into_iter().zip(entries) {
            found(split.read(&mut decoder.bits, table, entry)?);
        }
    }
    for class in last {
        let table = table_of(tables, *class)?;
        let entry = decoder.entry(table);
        found(split.read(&mut decoder.bits, table, entry)?);
    }
    Ok(())
}
