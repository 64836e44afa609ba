//! What the processor can do beyond what every one of its kind can, and where it keeps a number.
//!
//! `unsafe`: an empty piece of assembly, which no instruction stands for.
#![allow(unsafe_code)]

/// Whether code that was compiled for AVX2, BMI1, BMI2 and POPCNT may run. Only x86-64 has them.
#[inline]
pub(crate) fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("popcnt")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The same number, in a register of its own. Where the same is done to a few numbers that depend on themselves, the compiler puts
/// them side by side into one wide register, and taking them out again for each look-up costs more than the rest.
#[inline(always)]
pub(crate) fn apart(number: u32) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut number = number;
        // SAFETY: nothing happens here.
        unsafe { std::arch::asm!("/* {0:e} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags)) };
        number
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    number
}
