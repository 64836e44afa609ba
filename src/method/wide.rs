//! The same code compiled for wider registers and for moving bits, where the processor has them.
//!
//! `unsafe`: calls of functions that are compiled for more than every processor has, after it was asked; they touch no memory
//! but what they are given.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;
use crate::method::float::Element;
use crate::method::signs::{Job, SignPart, Target, add_part};
use crate::method::step::differences_inline;
use crate::model::delta::BlockDelta;
use crate::model::dtype::Dtype;

/// [`add_part`].
pub(super) fn add_to_run<E: Element>(target: &mut Target, part: &mut SignPart<'_, E::Real>, job: &Job<E::Real>) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<E: Element>(target: &mut Target, part: &mut SignPart<'_, E::Real>, job: &Job<E::Real>) {
            add_part::<E, true>(target, part, job);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide::<E>(target, part, job) };
    }
    add_part::<E, false>(target, part, job);
}

/// [`differences`](crate::method::step::differences).
pub(super) fn differences(dtype: Dtype, from: &[u8], to: &[u8]) -> BlockDelta {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(dtype: Dtype, from: &[u8], to: &[u8]) -> BlockDelta {
            differences_inline(dtype, from, to)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(dtype, from, to) };
    }
    differences_inline(dtype, from, to)
}

/// The lowest bits of `bits`, one for each bit that is set in `places`, in order.
#[inline(always)]
pub(super) fn deposit<const WIDE: bool>(bits: u64, places: u64) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        // SAFETY: only `add_to_run` asks for the wide form, after it found BMI2.
        return unsafe { std::arch::x86_64::_pdep_u64(bits, places) };
    }
    let (mut out, mut left, mut bits) = (0, places, bits);
    while left != 0 {
        out |= (left & left.wrapping_neg()) * (bits & 1);
        (left, bits) = (left & (left - 1), bits >> 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_dealt_in_order() {
        assert_eq!(deposit::<false>(0b101, 0b1101_0010), 0b0100_0010);
        for seed in 0u64..200 {
            let bits = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let places = bits.rotate_left(17) & (seed * 77).wrapping_mul(0xff51_afd7_ed55_8ccd);
            let slow = deposit::<false>(bits, places);
            assert_eq!(slow & !places, 0);
            if crate::cpu::is_wide() {
                assert_eq!(deposit::<true>(bits, places), slow, "{bits:#x} {places:#x}");
            }
        }
    }
}
