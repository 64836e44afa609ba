//! The same code compiled for wider registers and for moving bits, where the processor has them.
//!
//! `unsafe`: the call of a function that is compiled for more than every processor has; the compiler does the rest.
#![allow(unsafe_code)]

use crate::codec::positions::rice;
#[cfg(target_arch = "x86_64")]
use crate::cpu::is_wide;

/// [`rice::place`].
pub(super) fn place(highs: &[u64], lows: &[u8], low_bits: u32, out: &mut [u32]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
        fn wide(highs: &[u64], lows: &[u8], low_bits: u32, out: &mut [u32]) -> u64 {
            rice::place::<true>(highs, lows, low_bits, out)
        }
        // SAFETY: the processor was asked for what the function needs.
        return unsafe { wide(highs, lows, low_bits, out) };
    }
    rice::place::<false>(highs, lows, low_bits, out)
}
