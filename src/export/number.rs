//! The number that leads from one element to another by one addition and one rounding. [EXP-4]

use crate::method::float::{Element, Real, decode_f64, encode_f64, with_element};
use crate::model::dtype::Dtype;

/// An f32 that, added to the base in real arithmetic and rounded to the dtype, gives the result's bits; none where no such
/// number was found, as for a NaN or an infinity.
pub(super) fn narrow(dtype: Dtype, base: u64, result: u64) -> Option<f32> {
    let difference = difference(dtype, base, result)? as f32;
    // Where the rounding of the result is not symmetric, a neighbour may do what the nearest does not.
    let tries = [difference, difference.next_up(), difference.next_down()];
    tries.into_iter().find(|x| x.is_finite() && add(dtype, base, *x) == result)
}

/// An f64 that, added to the base in f64 and rounded to the dtype, gives the result's bits.
pub(super) fn wide(dtype: Dtype, base: u64, result: u64) -> Option<f64> {
    let difference = difference(dtype, base, result)?;
    let sum = |x: f64| encode_f64(dtype, decode_f64(dtype, base) + x);
    let tries = [difference, difference.next_up(), difference.next_down()];
    tries.into_iter().find(|x| x.is_finite() && sum(*x) == result)
}

fn difference(dtype: Dtype, base: u64, result: u64) -> Option<f64> {
    let difference = decode_f64(dtype, result) - decode_f64(dtype, base);
    difference.is_finite().then_some(difference)
}

fn add(dtype: Dtype, base: u64, x: f32) -> u64 {
    with_element!(dtype, E => E::encode(E::decode(base).add(<E as Element>::Real::from_f32(x))), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32s(base: f32, result: f32) -> (Option<f32>, Option<f64>) {
        let bits = |x: f32| u64::from(x.to_bits());
        let (base, result) = (bits(base), bits(result));
        (narrow(Dtype::F32, base, result), wide(Dtype::F32, base, result))
    }

    #[test]
    fn what_one_width_cannot_hold_the_other_may() {
        assert_eq!(f32s(1.0, 1.5), (Some(0.5), Some(0.5)));
        // The last bit of the smaller number is set, and is below the last bit that the difference has in f32.
        let odd = 0.3f32.next_up();
        assert_eq!(f32s(1.0, odd), (None, Some(f64::from(odd) - 1.0)));
        assert_eq!(f32s(1e30, 1e-30), (None, None));
    }

    #[test]
    fn no_number_leads_to_what_is_none() {
        for result in [f32::NAN, f32::INFINITY] {
            assert_eq!(f32s(0.0, result), (None, None), "{result}");
        }
        assert_eq!(f32s(f32::INFINITY, 1.0), (None, None));
        // A negative number too small for the dtype rounds to −0; f32 has none that is too small for f32.
        assert_eq!(f32s(0.0, -0.0), (None, Some(-f64::from_bits(1))));
        assert_eq!(f32s(f32::MAX, f32::MIN), (None, Some(-2.0 * f64::from(f32::MAX))));
    }

    /// For every pair of E4M3 numbers one f32 is enough.
    #[test]
    fn small_floats_are_always_reached() {
        let finite = |bits: &u64| decode_f64(Dtype::F8_E4M3, *bits).is_finite();
        for base in (0..256u64).filter(finite) {
            for result in (0..256u64).filter(finite).filter(|r| *r != 0x80 && *r != base) {
                let x = narrow(Dtype::F8_E4M3, base, result).expect("a number");
                let sum = decode_f64(Dtype::F8_E4M3, base) + f64::from(x);
                assert_eq!(encode_f64(Dtype::F8_E4M3, sum), result, "{base:#x} {result:#x}");
            }
        }
    }
}
