//! Slow and obvious: the class of a unit and the order in which a mask and its codes are coded, unit by unit. The judge of
//! `map.rs`, `mask.rs` and `values.rs`; it shares with them only the tables and the range coder.

use crate::codec::classes::coder::{Coder, DEAD, symbol_of};
use crate::codec::classes::symbols::Split;
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::rans::Encoder;
use crate::model::delta::BlockDelta;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Units of a block with everything that decides their classes.
pub struct Block<'a> {
    pub info: &'a TensorInfo,
    pub coder: &'a Coder,
    pub start: u64,
    pub len: u32,
    pub base: &'a [u8],
    /// One level a row that the block touches; empty where rows make no difference.
    pub rows: &'a [i16],
}

/// Units of a row; 0 where a row has less than one.
pub fn row_len(info: &TensorInfo, axis: u8) -> u64 {
    let elements: u64 = info.shape[usize::from(axis)..].iter().product();
    elements * u64::from(info.dtype.bits()) / 8 / info.dtype.unit_bytes() as u64
}

/// Bits of exponent and of mantissa.
fn fields(dtype: Dtype) -> (u32, u32) {
    match dtype {
        Dtype::F64 => (11, 52),
        Dtype::F32 => (8, 23),
        Dtype::BF16 => (8, 7),
        Dtype::F16 => (5, 10),
        Dtype::F8_E5M2 | Dtype::F8_E5M2FNUZ => (5, 2),
        Dtype::F8_E4M3 | Dtype::F8_E4M3FNUZ => (4, 3),
        other => panic!("{other} has no exponent"),
    }
}

impl Block<'_> {
    fn exponent(&self, unit: u32) -> i64 {
        let size = self.info.dtype.unit_bytes();
        let bytes = &self.base[unit as usize * size..][..size];
        let bits = bytes.iter().rev().fold(0u64, |all, byte| all * 256 + u64::from(*byte));
        let (exponent, mantissa) = fields(self.info.dtype);
        let found = (bits / 2u64.pow(mantissa) % 2u64.pow(exponent)) as i64;
        if self.info.dtype == Dtype::F64 { (found - 896).clamp(0, 255) } else { found }
    }

    /// The class of a unit of the block; none where its row or column keeps nothing.
    pub fn class(&self, unit: u32) -> Option<usize> {
        let row_len = row_len(self.info, self.coder.axis);
        let at = self.start + u64::from(unit);
        if row_len == 0 {
            return None;
        }
        let first_row = self.start / row_len;
        let row = self.rows.get((at / row_len - first_row) as usize).copied().unwrap_or(0);
        let column = self.coder.columns.get((at % row_len) as usize).copied().unwrap_or(0);
        if row == DEAD || column == DEAD {
            return None;
        }
        let exponent = if self.coder.uses_base { self.exponent(unit) } else { 0 };
        let class = i64::from(self.coder.origin) + i64::from(row) + i64::from(column) - 2 * exponent;
        Some(class.clamp(0, self.coder.model.classes.len() as i64 - 1) as usize)
    }

    /// The bytes of a mask by class.
    pub fn mask(&self, positions: &[u32]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        if let Some(table) = &self.coder.model.rows {
            self.rows.iter().for_each(|level| encoder.symbol(table, symbol_of(*level)).unwrap());
        }
        for (number, class) in self.coder.model.classes.iter().enumerate() {
            let members: Vec<u32> = (0..self.len).filter(|u| self.class(*u) == Some(number)).collect();
            let kept: Vec<bool> = members.iter().map(|u| positions.binary_search(u).is_ok()).collect();
            let empty = 4088 - 16 * u16::from(class.occupied);
            if kept.iter().all(|k| !k) {
                encoder.put((0, empty));
                continue;
            }
            encoder.put((empty, 4096 - empty));
            let table = GapTable::of(class.odds);
            let mut gap = 0u64;
            for hit in kept.iter().map(|k| *k != table.inverted) {
                if hit {
                    high(&mut encoder, table, gap >> table.shift);
                    encoder.bits.put(gap % (1 << table.shift), table.shift);
                    gap = 0;
                } else {
                    gap += 1;
                }
            }
            // The smallest high part that no gap can have any more.
            let end = (0..).find(|h| h << table.shift >= gap).unwrap();
            high(&mut encoder, table, end);
        }
        encoder.finish::<1>()
    }

    /// The bytes of codes by class.
    pub fn values(&self, split: Split, delta: &BlockDelta) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for (p, code) in delta.positions.iter().zip(&delta.codes) {
            let class = self.class(*p).unwrap();
            let token = split.take_apart(*code);
            encoder.symbol(self.coder.model.classes[class].values.as_ref().unwrap(), token.symbol).unwrap();
            encoder.bits.put(token.extra, token.extra_bits);
        }
        encoder.finish::<2>()
    }

    /// The levels of the rows alone, and the bytes of the steps of all units. [CLS-7]
    pub fn spread(&self, split: Split, delta: &BlockDelta) -> (Vec<u8>, Vec<u8>) {
        let (mut rows, mut encoder) = (Encoder::default(), Encoder::default());
        if let Some(table) = &self.coder.model.rows {
            self.rows.iter().for_each(|level| rows.symbol(table, symbol_of(*level)).unwrap());
        }
        for unit in 0..self.len {
            let code = delta.positions.binary_search(&unit).map_or(0, |i| delta.codes[i]);
            let Some(class) = self.class(unit) else { continue };
            let token = split.take_apart(code);
            encoder.symbol(self.coder.model.classes[class].values.as_ref().unwrap(), token.symbol).unwrap();
            encoder.bits.put(token.extra, token.extra_bits);
        }
        let mask = if self.coder.model.rows.is_some() { rows.finish::<1>() } else { Vec::new() };
        (mask, encoder.finish::<4>())
    }
}

fn high(encoder: &mut Encoder, table: &GapTable, high: u64) {
    for _ in 0..high / u64::from(table.last) {
        encoder.put(table.table.range(table.last));
    }
    encoder.put(table.table.range((high % u64::from(table.last)) as u32));
}
