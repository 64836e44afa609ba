//! The class of every unit of a block. [CLS-4]

use crate::codec::classes::coder::{Coder, DEAD, row_len};
use crate::model::dtype::{Dtype, Float};
use crate::model::tensor::TensorInfo;
use crate::simd::{Level, Narrow, WORD, compiled_twice, compress, members};

/// What a dead row or column has instead of a class.
pub(crate) const NO_CLASS: u8 = 255;

/// One class a unit, padded to whole words with [`NO_CLASS`].
#[derive(Debug, Default)]
pub(crate) struct ClassMap {
    classes: Vec<u8>,
}

/// The units of a block, with the base's bytes of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Units<'a> {
    pub info: &'a TensorInfo,
    pub start: u64,
    pub len: u32,
    pub base: &'a [u8],
}

/// A run of units of a block that lie in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRun {
    /// First unit, from the start of the block.
    pub start: usize,
    pub len: usize,
    /// The column of the first unit.
    pub column: usize,
}

/// Cuts units `start..start + len` of a tensor into rows of `row_len`.
pub(crate) fn row_runs(row_len: u64, start: u64, len: u32) -> impl Iterator<Item = RowRun> {
    let mut at = 0u64;
    let len = u64::from(len);
    std::iter::from_fn(move || {
        let column = start.wrapping_add(at).checked_rem(row_len)?;
        let run = row_len.saturating_sub(column).min(len.saturating_sub(at));
        let found = RowRun { start: at as usize, len: run as usize, column: column as usize };
        at = at.wrapping_add(run);
        (run > 0).then_some(found)
    })
}

/// The exponent of an element as the classes count it, from its unit's little-endian bytes. [CLS-4]
#[inline(always)]
fn exponent<const N: usize>((shift, mask, bias): (u32, i16, i16), bytes: &[u8; N]) -> i16 {
    // Half-precision floats are most of the world's weights, and wider arithmetic would halve their speed.
    let raw = match bytes.as_slice() {
        [low, high] => (u16::from_le_bytes([*low, *high]) >> shift).cast_signed(),
        _ => {
            let mut word = [0u8; 8];
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
            (u64::from_le_bytes(word) >> shift) as i16
        }
    };
    (raw & mask).wrapping_sub(bias).clamp(0, 255)
}

/// Where the exponent is in a unit: bits below it, its mask, and what is taken off so that it fits a byte. What is no float
/// has none.
fn exponent_of(dtype: Dtype) -> (u32, i16, i16) {
    match dtype.float() {
        Some(Float::Bf16) => (7, 0xff, 0),
        Some(Float::F16) => (10, 0x1f, 0),
        Some(Float::F32) => (23, 0xff, 0),
        Some(Float::F64) => (52, 0x7ff, 896),
        Some(Float::E5m2 | Float::E5m2Fnuz) => (2, 0x1f, 0),
        Some(Float::E4m3 | Float::E4m3Fnuz) => (3, 0xf, 0),
        None => (0, 0, 0),
    }
}

/// The exponents of a run of elements, as the classes count them.
pub(crate) fn exponents(dtype: Dtype, bytes: &[u8], out: &mut Vec<u8>) {
    fn fill<const N: usize>(at: (u32, i16, i16), bytes: &[u8], out: &mut Vec<u8>) {
        out.extend(bytes.as_chunks::<N>().0.iter().map(|b| exponent(at, b) as u8));
    }
    out.clear();
    let at = exponent_of(dtype);
    match dtype.unit_bytes() {
        1 => fill::<1>(at, bytes, out),
        2 => fill::<2>(at, bytes, out),
        4 => fill::<4>(at, bytes, out),
        _ => fill::<8>(at, bytes, out),
    }
}

impl ClassMap {
    /// Fills the map for a block: `rows` are the levels of its row runs (none where rows make no difference).
    pub fn fill(&mut self, coder: &Coder, units: &Units, rows: &[i16]) {
        fill(&mut self.classes, coder, units, rows);
    }

    /// Units of each class.
    pub fn histogram(&self) -> [u64; 64] {
        // Four counters a class, so that a run of one class does not wait for itself.
        let mut counts = [[0u32; 256]; 4];
        for chunk in self.classes.as_chunks::<4>().0 {
            for (count, class) in counts.iter_mut().zip(chunk) {
                if let Some(n) = count.get_mut(usize::from(*class)) {
                    *n = n.wrapping_add(1);
                }
            }
        }
        let mut out = [0; 64];
        for (class, sum) in out.iter_mut().enumerate() {
            *sum = counts.iter().map(|c| u64::from(c.get(class).copied().unwrap_or(0))).sum();
        }
        out
    }

    /// Whether any unit, or what pads the last word, is of no class.
    pub fn any_without(&self) -> bool {
        self.classes.contains(&NO_CLASS)
    }

    /// One bit a unit: whether it has a class.
    pub fn with_class(&self, out: &mut Vec<u64>) {
        let chunks = self.classes.as_chunks::<WORD>().0.iter();
        out.extend(chunks.map(|chunk| !members(Narrow, chunk, NO_CLASS)));
    }

    /// The classes of the first units.
    pub fn classes(&self, len: u32) -> &[u8] {
        self.classes.get(..len as usize).unwrap_or(&[])
    }

    /// Whether a unit has a class.
    pub fn has_class(&self, unit: u32) -> bool {
        self.class(unit) != NO_CLASS
    }

    /// The class of a unit.
    #[inline]
    pub fn class(&self, unit: u32) -> u8 {
        self.classes.get(unit as usize).copied().unwrap_or(NO_CLASS)
    }

    /// The classes of units.
    pub fn of_units(&self, units: &[u32], out: &mut Vec<u8>) {
        out.clear();
        out.extend(units.iter().map(|p| self.class(*p)));
    }

    /// The classes of the units whose bits are set, in order.
    pub fn of_kept(&self, bits: &[u64], out: &mut Vec<u8>) {
        out.clear();
        compress(&self.classes, bits, out);
    }

    /// The units of a class, as words of one bit a unit.
    #[inline(always)]
    pub fn words(&self, level: impl Level, class: u8) -> impl Iterator<Item = u64> + '_ {
        self.classes.as_chunks::<WORD>().0.iter().map(move |chunk| members(level, chunk, class))
    }

    /// Word `i` of the units of a class.
    #[inline(always)]
    pub fn word(&self, level: impl Level, i: usize, class: u8) -> Option<u64> {
        let chunk = self.classes.get(i.wrapping_mul(WORD)..)?.first_chunk::<WORD>()?;
        Some(members(level, chunk, class))
    }
}

compiled_twice! {
    /// [`ClassMap::fill`].
    fn fill[_level](classes: &mut Vec<u8>, coder: &Coder, units: &Units, rows: &[i16]) {
        let Units { info, start, len, base } = *units;
        // Every unit is written below; only what pads the last word has to be cleared.
        classes.resize((len as usize).next_multiple_of(WORD), NO_CLASS);
        let (mut rest, padding) = classes.split_at_mut_checked(len as usize).unwrap_or_default();
        padding.fill(NO_CLASS);
        let unit = info.dtype.unit_bytes();
        let runs = row_runs(row_len(info, coder.axis), start, len);
        let levels = rows.iter().copied().chain(std::iter::repeat(0));
        let last = coder.model.last();
        for (run, level) in runs.zip(levels) {
            let (out, after) = std::mem::take(&mut rest).split_at_mut_checked(run.len).unwrap_or_default();
            rest = after;
            if level == DEAD {
                out.fill(NO_CLASS);
                continue;
            }
            let columns = coder.columns.get(run.column..run.column.saturating_add(run.len)).unwrap_or(&[]);
            let origin = coder.origin.saturating_add(level);
            let bytes = base.get(run.start.wrapping_mul(unit)..run.start.wrapping_add(run.len).wrapping_mul(unit));
            match (coder.uses_base, bytes) {
                (true, Some(bytes)) => by_base_of(info.dtype, out, bytes, origin, columns, last),
                _ if columns.is_empty() => out.fill(origin.clamp(0, last) as u8),
                _ => {
                    for (class, column) in out.iter_mut().zip(columns) {
                        *class = class_of(origin.wrapping_add(*column), last);
                    }
                }
            }
        }
        rest.fill(NO_CLASS);
    }
}

#[inline(always)]
fn by_base_of(dtype: Dtype, out: &mut [u8], bytes: &[u8], origin: i16, columns: &[i16], last: i16) {
    let at = exponent_of(dtype);
    match dtype.unit_bytes() {
        1 => by_base::<1>(at, out, bytes, origin, columns, last),
        2 => by_base::<2>(at, out, bytes, origin, columns, last),
        4 => by_base::<4>(at, out, bytes, origin, columns, last),
        _ => by_base::<8>(at, out, bytes, origin, columns, last),
    }
}

#[inline(always)]
fn by_base<const N: usize>(at: (u32, i16, i16), out: &mut [u8], bytes: &[u8], origin: i16, columns: &[i16], last: i16) {
    let units = bytes.as_chunks::<N>().0;
    // 2 × exponent: two classes an octave.
    if columns.is_empty() {
        for (class, unit) in out.iter_mut().zip(units) {
            *class = origin.wrapping_sub(exponent(at, unit).wrapping_mul(2)).clamp(0, last) as u8;
        }
    } else {
        for ((class, unit), column) in out.iter_mut().zip(units).zip(columns) {
            let value = origin.wrapping_sub(exponent(at, unit).wrapping_mul(2)).wrapping_add(*column);
            *class = class_of(value, last);
        }
    }
}

#[inline(always)]
fn class_of(value: i16, last: i16) -> u8 {
    // Only a dead column brings a value down there.
    if value < DEAD / 2 { NO_CLASS } else { value.clamp(0, last) as u8 }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_where_blocks_are() {
        let runs: Vec<_> = row_runs(10, 25, 20).map(|r| (r.start, r.len, r.column)).collect();
        assert_eq!(runs, [(0, 5, 5), (5, 10, 0), (15, 5, 0)]);
        assert_eq!(row_runs(0, 0, 0).count(), 0);
    }
}
