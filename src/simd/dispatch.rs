//! Which instructions the processor has, and code that is compiled for them.
//!
//! `unsafe`: the calls of functions compiled for AVX2 and BMI2, each behind a [`Wide`], which only [`Wide::detect`] makes; and an
//! empty piece of assembly, which no instruction stands for.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::sync::LazyLock;

/// The environment variable that turns the wide code off for the whole process, by the value `scalar`.
const SWITCH: &str = "STITCHPACK_SIMD";

/// The instructions that a piece of code is compiled for.
pub(crate) trait Level: Copy + 'static {
    /// The leave to use those of AVX2, BMI1, BMI2 and POPCNT, where they are among them.
    fn wide(self) -> Option<Wide>;
}

/// The instructions that every processor of a kind has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrow;

/// AVX2, BMI1, BMI2 and POPCNT. A value exists only where the processor has all four; only x86-64 does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wide(());

impl Level for Narrow {
    #[inline(always)]
    fn wide(self) -> Option<Wide> {
        None
    }
}

impl Level for Wide {
    #[inline(always)]
    fn wide(self) -> Option<Wide> {
        Some(self)
    }
}

impl Wide {
    /// Asks the processor, once; [`SWITCH`] overrules it.
    #[inline]
    pub fn detect() -> Option<Wide> {
        static IS_WIDE: LazyLock<bool> =
            LazyLock::new(|| may_be_wide(std::env::var_os(SWITCH).as_deref()) && has_all());
        (!is_narrowed() && *IS_WIDE).then_some(Wide(()))
    }
}

/// What [`SWITCH`] says. Any other value than `scalar` is as good as none.
fn may_be_wide(asked: Option<&OsStr>) -> bool {
    asked.is_none_or(|value| value != "scalar")
}

fn has_all() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx2")
        && std::is_x86_feature_detected!("popcnt")
        && std::is_x86_feature_detected!("bmi1")
        && std::is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Compiles a function twice, for [`Narrow`] and for [`Wide`], and makes one that picks at each call.
///
/// `fn name<generic>[level](arguments) -> result { body }`: in the body, `level` is the [`Level`] that it is compiled for, to be
/// handed to whatever has two forms. What the body calls must be `#[inline(always)]`, or both forms call what is compiled for all.
macro_rules! compiled_twice {
    (@both [$(#[$meta:meta])* $vis:vis] $name:ident [$($generic:tt)*] [$($own:ident)?]
        [$level:ident] ($($arg:ident: $of:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(unsafe_code, unused_unsafe)]
        $vis fn $name<$($generic)*>($($arg: $of),*) $(-> $out)? {
            #[inline(always)]
            fn compiled<Level: $crate::simd::Level, $($generic)*>($level: Level, $($arg: $of),*) $(-> $out)? $body

            #[cfg_attr(target_arch = "x86_64", target_feature(enable = "avx2,popcnt,bmi1,bmi2"))]
            fn wide<$($generic)*>(level: $crate::simd::Wide, $($arg: $of),*) $(-> $out)? {
                compiled::<$crate::simd::Wide, $($own)?>(level, $($arg),*)
            }

            if let Some(level) = $crate::simd::Wide::detect() {
                // SAFETY: a `Wide` exists only where the processor has these features.
                return unsafe { wide::<$($own)?>(level, $($arg),*) };
            }
            compiled::<$crate::simd::Narrow, $($own)?>($crate::simd::Narrow, $($arg),*)
        }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<const $n:ident: $number:ty>$($rest:tt)*) => {
        $crate::simd::compiled_twice! { @both [$(#[$meta])* $vis] $name [const $n: $number] [$n] $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$t:ident $(: $bound:path)?>$($rest:tt)*) => {
        $crate::simd::compiled_twice! { @both [$(#[$meta])* $vis] $name [$t $(: $bound)?] [$t] $($rest)* }
    };
    ($(#[$meta:meta])* $vis:vis fn $name:ident$($rest:tt)*) => {
        $crate::simd::compiled_twice! { @both [$(#[$meta])* $vis] $name [] [] $($rest)* }
    };
}
pub(crate) use compiled_twice;

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

/// Whether this thread runs a test of the narrow code.
#[cfg(not(test))]
const fn is_narrowed() -> bool {
    false
}

#[cfg(test)]
use tests::is_narrowed;
#[cfg(test)]
pub(crate) use tests::narrowly;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::process::Command;

    use super::*;

    thread_local! {
        static IS_NARROWED: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) fn is_narrowed() -> bool {
        IS_NARROWED.get()
    }

    /// Runs `work` as on a processor that is not wide.
    pub(crate) fn narrowly<T>(work: impl FnOnce() -> T) -> T {
        let before = IS_NARROWED.replace(true);
        let out = work();
        IS_NARROWED.set(before);
        out
    }

    compiled_twice! {
        fn is_wide[level]() -> bool {
            level.wide().is_some()
        }
    }

    compiled_twice! {
        fn first_of<T: Copy>[_level](all: &[T]) -> Option<T> {
            all.first().copied()
        }
    }

    compiled_twice! {
        fn sum_of<const N: usize>[_level](all: &[u8; N]) -> usize {
            all.iter().map(|n| usize::from(*n)).sum::<usize>() + N
        }
    }

    #[test]
    fn the_form_is_the_processors() {
        assert_eq!(is_wide(), Wide::detect().is_some());
        assert!(!narrowly(is_wide));
        assert_eq!((first_of(&[3, 4]), narrowly(|| first_of(&[3, 4]))), (Some(3), Some(3)));
        assert_eq!((sum_of(&[3, 4]), narrowly(|| sum_of(&[3, 4]))), (9, 9));
    }

    /// This test again, in a process of its own for each value.
    #[test]
    fn the_switch_is_for_the_whole_process() {
        const ASKED: &str = "STITCHPACK_TEST_ASKED";
        if let Ok(asked) = std::env::var(ASKED) {
            assert_eq!(is_wide(), asked != "scalar" && has_all());
            return;
        }
        for asked in ["scalar", "wide", ""] {
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", "simd::dispatch::tests::the_switch_is_for_the_whole_process"]);
            let done = again.env(SWITCH, asked).env(ASKED, asked).output().unwrap();
            let told = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && told.contains("1 passed"), "{asked:?}: {told}");
        }
    }
}
