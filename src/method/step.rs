//! Steps: the signed distance between two bit patterns. spec/numbers.md, "Steps".

use crate::method::float::{load_unit, store_unit};
use crate::model::dtype::Dtype;

/// The place of a float's bits in the order of the floats, as a two's-complement number of the same width: magnitude m for
/// plus, −1 − m for minus. For what is no float, the bits themselves. [STP-1]
pub fn order(dtype: Dtype, bits: u64) -> u64 {
    let b = dtype.unit_bytes() as u32 * 8;
    let sign = 1u64 << (b - 1);
    // −1 − m in two's complement is !m; with the sign bit set in both, only the magnitude bits flip.
    if dtype.is_float() && bits & sign != 0 { bits ^ (sign - 1) } else { bits }
}

/// order(to) − order(from), modulo 2^b. [STP-1]
pub fn step(dtype: Dtype, from: u64, to: u64) -> u64 {
    order(dtype, to).wrapping_sub(order(dtype, from)) & width_mask(dtype)
}

/// The bits that lie `step` away from `from`. [STP-1]
pub fn apply_step(dtype: Dtype, from: u64, step: u64) -> u64 {
    // `order` is its own inverse: it flips the magnitude bits where the sign bit is set.
    order(dtype, order(dtype, from).wrapping_add(step) & width_mask(dtype))
}

/// Moves the units at `positions` of a run by one step each. [STP-1]
pub(crate) fn apply_steps(dtype: Dtype, run: &mut [u8], positions: &[u32], steps: &[u64]) {
    match (dtype.unit_bytes(), dtype.is_float()) {
        (1, true) => steps_of::<1, true>(run, positions, steps),
        (2, true) => steps_of::<2, true>(run, positions, steps),
        (4, true) => steps_of::<4, true>(run, positions, steps),
        (8, true) => steps_of::<8, true>(run, positions, steps),
        (1, false) => steps_of::<1, false>(run, positions, steps),
        (2, false) => steps_of::<2, false>(run, positions, steps),
        (4, false) => steps_of::<4, false>(run, positions, steps),
        _ => steps_of::<8, false>(run, positions, steps),
    }
}

/// [`apply_step`] for a width that the compiler knows.
fn steps_of<const BYTES: usize, const FLOAT: bool>(run: &mut [u8], positions: &[u32], steps: &[u64]) {
    let units = run.as_chunks_mut::<BYTES>().0;
    let sign = 1u64 << (BYTES * 8 - 1);
    let order = |bits: u64| if FLOAT && bits & sign != 0 { bits ^ (sign - 1) } else { bits };
    for (position, step) in positions.iter().zip(steps) {
        if let Some(unit) = units.get_mut(*position as usize) {
            let moved = order(load_unit(unit)).wrapping_add(*step) & (sign | (sign - 1));
            store_unit(unit, order(moved));
        }
    }
}

/// A step as a signed number.
pub fn signed(dtype: Dtype, step: u64) -> i64 {
    let unused = 64 - dtype.unit_bytes() as u32 * 8;
    (step << unused) as i64 >> unused
}

fn width_mask(dtype: Dtype) -> u64 {
    u64::MAX >> (64 - dtype.unit_bytes() as u32 * 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_counts_the_floats_upward() {
        for d in [Dtype::F16, Dtype::BF16, Dtype::F8_E4M3] {
            let all = 1u64 << d.bits();
            let mut bits: Vec<u64> = (0..all).collect();
            bits.sort_by_key(|b| signed(d, order(d, *b)));
            let places: Vec<i64> = bits.iter().map(|b| signed(d, order(d, *b))).collect();
            assert!(places.windows(2).all(|w| w[1] == w[0] + 1));
            let values: Vec<f64> = bits.iter().map(|b| crate::method::float::decode_f64(d, *b)).collect();
            let numbers: Vec<f64> = values.into_iter().filter(|x| !x.is_nan()).collect();
            assert!(numbers.windows(2).all(|w| w[0] <= w[1]), "{d}");
        }
        assert_eq!(signed(Dtype::BF16, step(Dtype::BF16, 0, 0x8000)), -1, "-0 lies just below +0");
    }

    #[test]
    fn steps_lead_back() {
        for d in Dtype::all() {
            for (a, b) in [(0u64, 1u64), (0x80, 0x7f), (u64::MAX, 0), (1 << 63, u64::MAX >> 1), (0x3f80, 0xbf81)] {
                let (a, b) = (a & width_mask(d), b & width_mask(d));
                assert_eq!(apply_step(d, a, step(d, a, b)), b, "{d}");
            }
        }
    }
}
