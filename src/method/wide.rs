//! The same code compiled for wider registers and for moving bits, where the processor has them.
//!
//! `unsafe`: calls of functions that are compiled for more than every processor has, after it was asked; they touch no memory
//! but what they are given.
#![allow(unsafe_code)]

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;
use crate::method::float::Element;
use crate::method::listed::{self, ListScratch};
use crate::method::signs::{Job, SignPart, Target, add_part};
use crate::method::step::{apply_short_inline, differences_inline, short_differences_inline};
use crate::model::delta::{BlockDelta, StepBlock};
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

/// [`listed::mark`].
pub(super) fn mark<R>(parts: &[SignPart<'_, R>], units: &Range<usize>, scratch: &mut ListScratch) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<R>(parts: &[SignPart<'_, R>], units: &Range<usize>, scratch: &mut ListScratch) {
            listed::mark(parts, units, scratch);
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(parts, units, scratch) };
    }
    listed::mark(parts, units, scratch);
}

/// [`apply_short_steps`](crate::method::step::apply_short_steps).
pub(super) fn apply_short_steps(is_float: bool, run: &mut [u8], block: &StepBlock) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<const FLOAT: bool>(run: &mut [u8], block: &StepBlock) {
            apply_short_inline::<FLOAT, true>(run, block);
        }
        // SAFETY: the processor was asked for what the functions need.
        return unsafe { if is_float { wide::<true>(run, block) } else { wide::<false>(run, block) } };
    }
    if is_float {
        apply_short_inline::<true, false>(run, block)
    } else {
        apply_short_inline::<false, false>(run, block)
    }
}

/// [`short_differences`](crate::method::step::short_differences).
pub(super) fn short_differences(is_float: bool, from: &[u8], to: &[u8], out: &mut StepBlock) {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide<const FLOAT: bool>(from: &[u8], to: &[u8], out: &mut StepBlock) {
            short_differences_inline::<FLOAT, true>(from, to, out);
        }
        // SAFETY: the processor was asked for what the functions need.
        return unsafe { if is_float { wide::<true>(from, to, out) } else { wide::<false>(from, to, out) } };
    }
    if is_float {
        short_differences_inline::<true, false>(from, to, out);
    } else {
        short_differences_inline::<false, false>(from, to, out);
    }
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
