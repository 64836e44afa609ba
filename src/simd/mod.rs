//! The inner loops that have two forms: one for every processor, one for AVX2 and BMI2. All `unsafe` of the arithmetic is here.
//!
//! [`dispatch`] picks the form, [`mask`] works on the bits of words, [`shuffle`] moves the values that those bits select.

mod dispatch;
mod mask;
mod shuffle;

#[cfg(test)]
pub(crate) use dispatch::narrowly;
pub(crate) use dispatch::{Level, Narrow, Wide, apart, compiled_twice};
pub(crate) use mask::{count, deposit, members, nonzero, without_lowest};
pub(crate) use shuffle::{compress, compress_word, expand, expand_word, list_shorts};

/// Values that one word of bits selects from.
pub(crate) const WORD: usize = 64;
/// Up to so many bits are visited one by one.
pub(crate) const FEW: u32 = 8;
