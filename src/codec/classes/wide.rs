//! The same code compiled for wider registers and counting of bits, where the processor has them.
//!
//! `unsafe`: the calls of functions that are compiled for more than every processor has; the compiler does the rest.
#![allow(unsafe_code)]

use crate::codec::classes::coder::Coder;
use crate::codec::classes::map::{ClassMap, Units};
use crate::codec::classes::mask;
use crate::codec::classes::short::{ShortReader, ShortWriter};
use crate::codec::classes::walker::Run;
use crate::codec::entropy::gaps::GapTable;
use crate::codec::entropy::rans::{Decoder, Encoder};
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

/// Whether any unit of a class is kept.
pub(super) fn keeps(map: &ClassMap, class: u8, bits: &[u64]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(map: &ClassMap, class: u8, bits: &[u64]) -> bool {
            mask::keeps::<true>(map, class, bits)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(map, class, bits) };
    }
    mask::keeps::<false>(map, class, bits)
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

/// [`ShortWriter::write`].
pub(super) fn write_short_steps<const N: usize>(short: &ShortWriter, classes: &[u8], steps: &[u16]) -> Option<Vec<u8>> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<const N: usize>(short: &ShortWriter, classes: &[u8], steps: &[u16]) -> Option<Vec<u8>> {
            short.write::<N>(classes, steps)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide::<N>(short, classes, steps) };
    }
    short.write::<N>(classes, steps)
}

/// [`ShortReader::read`].
pub(super) fn read_short_steps<const N: usize>(
    short: &ShortReader,
    decoder: &mut Decoder<N>,
    classes: &[[u8; N]],
    out: &mut [[u16; N]],
) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<const N: usize>(
            short: &ShortReader,
            d: &mut Decoder<N>,
            classes: &[[u8; N]],
            out: &mut [[u16; N]],
        ) -> Result<()> {
            short.read(d, classes, out)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(short, decoder, classes, out) };
    }
    short.read(decoder, classes, out)
}

/// Reads the kept units of one class of runs, and lists what is read.
pub(super) fn read_class_of_runs(
    decoder: &mut Decoder<1>,
    table: &GapTable,
    runs: &[Run],
    class: u8,
    bits: &mut [u64],
    list: &mut Vec<u32>,
) -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(
            d: &mut Decoder<1>,
            table: &GapTable,
            runs: &[Run],
            class: u8,
            bits: &mut [u64],
            list: &mut Vec<u32>,
        ) -> Result<()> {
            mask::read_class_of_runs(d, table, runs, class, bits, list)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(decoder, table, runs, class, bits, list) };
    }
    mask::read_class_of_runs(decoder, table, runs, class, bits, list)
}

/// Reads the kept units of one class of a map.
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
