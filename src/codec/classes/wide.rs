//! The same code compiled for wider registers and counting of bits, where the processor has them.
//!
//! `unsafe`: the calls of functions that are compiled for more than every processor has; the compiler does the rest.
#![allow(unsafe_code)]

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::{ClassMap, Units};
use crate::codec::classes::mask;
use crate::codec::classes::short::{self, ShortSteps};
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::codec::entropy::table::Table;
#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;
use crate::error::Result;

/// [`ClassMap::fill`].
pub(super) fn fill(map: &mut ClassMap, coder: &Coder, units: &Units, rows: &[i16]) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(map: &mut ClassMap, coder: &Coder, units: &Units, rows: &[i16]) {
            map.fill_inline(coder, units, rows);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(map, coder, units, rows) };
    }
    map.fill_inline(coder, units, rows);
}

/// The gaps of one class, and its end.
pub(super) fn gaps(encoder: &mut Encoder, table: &GapTable, map: &ClassMap, class: u8, bits: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(encoder: &mut Encoder, table: &GapTable, map: &ClassMap, class: u8, bits: &[u64]) {
            mask::gaps::<true>(encoder, table, map, class, bits);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(encoder, table, map, class, bits) };
    }
    mask::gaps::<false>(encoder, table, map, class, bits);
}

/// [`ShortSteps::encode`].
pub(super) fn short_steps(steps: &ShortSteps, map: &ClassMap, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(steps: &ShortSteps, map: &ClassMap, positions: &[u32], codes: &[u64]) -> Option<Vec<u8>> {
            steps.encode(map, positions, codes)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(steps, map, positions, codes) };
    }
    steps.encode(map, positions, codes)
}

/// [`short::read`].
pub(super) fn read_short_steps(
    decoder: &mut Decoder<2>,
    tables: &[&Table],
    map: &ClassMap,
    pairs: &[[u32; 2]],
    out: &mut Vec<u64>,
) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(
            d: &mut Decoder<2>,
            tables: &[&Table],
            map: &ClassMap,
            pairs: &[[u32; 2]],
            out: &mut Vec<u64>,
        ) -> Result<()> {
            short::read(d, tables, map, pairs, out)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(decoder, tables, map, pairs, out) };
    }
    short::read(decoder, tables, map, pairs, out)
}

/// Reads the kept units of one class.
pub(super) fn read_class(
    decoder: &mut Decoder<1>,
    table: &GapTable,
    map: &ClassMap,
    class: u8,
    bits: &mut [u64],
) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(d: &mut Decoder<1>, table: &GapTable, map: &ClassMap, class: u8, bits: &mut [u64]) -> Result<()> {
            mask::read_class_of_map::<true>(d, table, map, class, bits)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(decoder, table, map, class, bits) };
    }
    mask::read_class_of_map::<false>(decoder, table, map, class, bits)
}
