//! Codes as symbols: the part worth a table, and raw bits beside it. [CLS-6]

use crate::codec::entropy::bits::BitReader;
use crate::codec::entropy::rans::symbol_of;
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};
use crate::model::delta::ValueKind;
use crate::model::dtype::Dtype;

/// Leading bits of a step's magnitude that a symbol tells apart, after the first.
const LEADING: u32 = 2;

/// How the codes of a value kind are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    /// Signed numbers of so many bits: a symbol for the size, then the rest of the size and the sign.
    Step { bits: u32 },
    /// Sign, exponent and mantissa: the exponent is the symbol.
    Float { exponent: u32, mantissa: u32 },
    /// The code itself, as a signed number of so many bits plus an offset.
    Small { bits: u32, offset: u32 },
}

/// A code taken apart: its symbol, and the raw bits that the symbol does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub symbol: u32,
    pub extra: u64,
    pub extra_bits: u32,
}

impl Split {
    /// The split of a kind; none for signs, which are one raw bit each.
    pub fn of(kind: ValueKind, dtype: Dtype) -> Option<Self> {
        Some(match kind {
            ValueKind::Step => Split::Step { bits: (dtype.unit_bytes() as u32).saturating_mul(8) },
            ValueKind::F32 => Split::Float { exponent: 8, mantissa: 23 },
            ValueKind::F16 => Split::Float { exponent: 5, mantissa: 10 },
            ValueKind::Bf16 => Split::Float { exponent: 8, mantissa: 7 },
            ValueKind::Int8 => Split::Small { bits: 8, offset: 127 },
            ValueKind::Int4 => Split::Small { bits: 4, offset: 7 },
            ValueKind::Codebook => Split::Small { bits: 4, offset: 0 },
            ValueKind::Sign => return None,
        })
    }

    /// Takes a code apart.
    #[inline(always)]
    pub fn take_apart(self, code: u64) -> Token {
        match self {
            Split::Step { bits } => {
                let signed = extend(code, bits);
                let (magnitude, minus) = (signed.unsigned_abs(), u64::from(signed < 0));
                if magnitude == 0 {
                    return Token { symbol: 0, extra: 0, extra_bits: 0 };
                }
                let low = 63u32.wrapping_sub(magnitude.leading_zeros()).saturating_sub(LEADING);
                let rest = magnitude & (1u64 << low).wrapping_sub(1);
                let symbol = (low << LEADING).wrapping_add((magnitude >> low) as u32);
                Token { symbol, extra: rest << 1 | minus, extra_bits: low.wrapping_add(1) }
            }
            Split::Float { exponent, mantissa } => {
                let symbol = (code >> mantissa & (1u64 << exponent).wrapping_sub(1)) as u32;
                let sign = code >> mantissa.wrapping_add(exponent) & 1;
                let rest = code & (1u64 << mantissa).wrapping_sub(1);
                Token { symbol, extra: rest << 1 | sign, extra_bits: mantissa.wrapping_add(1) }
            }
            Split::Small { bits, offset } => {
                let signed = if offset == 0 { code.cast_signed() } else { extend(code, bits) };
                let symbol = signed.wrapping_add(offset.into()) as u32;
                Token { symbol, extra: 0, extra_bits: 0 }
            }
        }
    }

    /// The code whose symbol is at an entry that was just read.
    #[inline(always)]
    pub(super) fn read(self, bits: &mut BitReader, table: &Table, entry: u32) -> Result<u64> {
        let symbol = symbol_of(bits, table, entry)?;
        let extra = bits.take(self.extra_bits(symbol));
        self.put_together(symbol, extra)
    }

    /// Raw bits that follow a symbol.
    #[inline(always)]
    pub fn extra_bits(self, symbol: u32) -> u32 {
        match self {
            Split::Step { .. } if symbol == 0 => 0,
            Split::Step { .. } => low_bits(symbol).wrapping_add(1).min(64),
            Split::Float { mantissa, .. } => mantissa.wrapping_add(1),
            Split::Small { .. } => 0,
        }
    }

    /// Puts a code together; an error for parts that no code has.
    #[inline(always)]
    pub fn put_together(self, symbol: u32, extra: u64) -> Result<u64> {
        match self {
            Split::Step { bits } => {
                if symbol == 0 {
                    return Ok(0);
                }
                let low = low_bits(symbol);
                // Beyond the symbols of the widest steps a magnitude would lose bits.
                if low > 61 {
                    return Err(no_code(symbol));
                }
                let (lead, minus) = (u64::from(symbol.wrapping_sub(low << LEADING)), extra & 1);
                let magnitude = lead << low | extra >> 1;
                // −2^(b−1) is there, +2^(b−1) is not.
                if magnitude > (1u64 << bits.wrapping_sub(1)).wrapping_sub(1).wrapping_add(minus) {
                    return Err(no_code(symbol));
                }
                let code = if minus == 1 { magnitude.wrapping_neg() } else { magnitude };
                Ok(code & u64::MAX >> 64u32.wrapping_sub(bits))
            }
            Split::Float { exponent, mantissa } => {
                if symbol >> exponent != 0 {
                    return Err(no_code(symbol));
                }
                Ok((extra & 1) << mantissa.wrapping_add(exponent) | u64::from(symbol) << mantissa | extra >> 1)
            }
            Split::Small { bits, offset } => {
                let most = if offset == 0 { (1u32 << bits).wrapping_sub(1) } else { offset.wrapping_mul(2) };
                if symbol > most {
                    return Err(no_code(symbol));
                }
                Ok(u64::from(symbol).wrapping_sub(offset.into()) & (1u64 << bits).wrapping_sub(1))
            }
        }
    }
}

/// The table of a class.
#[inline(always)]
pub(super) fn table_of<'t>(tables: &[&'t Table], class: u8) -> Result<&'t Table> {
    tables.get(usize::from(class)).copied().ok_or_else(no_class)
}

#[cold]
pub(super) fn no_class() -> Error {
    Error::malformed("CLS-6", "codes", "one belongs to a unit without a class")
}

#[cold]
fn no_code(symbol: u32) -> Error {
    Error::malformed("CLS-6", "codes", format!("symbol {symbol} stands for no code"))
}

/// Bits of a magnitude below those that its symbol tells apart.
#[inline(always)]
fn low_bits(symbol: u32) -> u32 {
    (symbol >> LEADING).saturating_sub(1)
}

#[inline(always)]
fn extend(code: u64, bits: u32) -> i64 {
    let unused = 64u32.wrapping_sub(bits);
    (code << unused).cast_signed() >> unused
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_code_again() {
        let splits = [
            (Split::Step { bits: 8 }, 8),
            (Split::Step { bits: 16 }, 16),
            (Split::Step { bits: 64 }, 64),
            (Split::Float { exponent: 8, mantissa: 23 }, 32),
            (Split::Float { exponent: 5, mantissa: 10 }, 16),
            (Split::Small { bits: 4, offset: 0 }, 4),
        ];
        for (split, bits) in splits {
            let mask = u64::MAX >> (64 - bits);
            let few = (0u64..600).chain((0..600).map(|i| mask.wrapping_sub(i)));
            let spread = (0..bits).flat_map(|b| [1 << b, (1 << b) - 1, (1u64 << b) + 1]);
            for code in few.chain(spread).map(|c| c & mask) {
                let parts = split.take_apart(code);
                assert_eq!(split.extra_bits(parts.symbol), parts.extra_bits, "{split:?} {code:#x}");
                assert_eq!(split.put_together(parts.symbol, parts.extra).unwrap(), code, "{split:?}");
                assert!(parts.symbol < 256);
            }
        }
        let bytes = Split::Small { bits: 8, offset: 127 };
        for code in (0u64..=0xff).filter(|c| *c != 0x80) {
            assert_eq!(bytes.put_together(bytes.take_apart(code).symbol, 0).unwrap(), code);
        }
        assert!(bytes.put_together(255, 0).is_err());
        for symbol in 252..512 {
            assert!(Split::Step { bits: 64 }.put_together(symbol, 2).is_err(), "{symbol}");
        }
        let plus = Split::Step { bits: 8 }.take_apart(0x80);
        assert_eq!(plus.extra & 1, 1);
        assert!(Split::Step { bits: 8 }.put_together(plus.symbol, plus.extra & !1).is_err());
    }

    /// Whatever 9 bits of symbol and any raw bits give, it is refused or the one form of its code.
    #[test]
    fn no_two_parts_make_the_same_code() {
        let steps = [8, 16, 32, 64].map(|bits| Split::Step { bits });
        let floats = [(8, 23), (5, 10), (8, 7)].map(|(exponent, mantissa)| Split::Float { exponent, mantissa });
        let small = [(8, 127), (4, 7), (4, 0)].map(|(bits, offset)| Split::Small { bits, offset });
        for split in steps.into_iter().chain(floats).chain(small) {
            for symbol in 0..512 {
                let extra_bits = split.extra_bits(symbol);
                let all = u64::MAX.checked_shr(64 - extra_bits).unwrap_or(0);
                for extra in [0, 1, 2, 3, all >> 1, all & !1, all].map(|e| e & all) {
                    let Ok(code) = split.put_together(symbol, extra) else { continue };
                    assert_eq!(split.take_apart(code), Token { symbol, extra, extra_bits }, "{split:?} {code:#x}");
                }
            }
        }
    }
}
