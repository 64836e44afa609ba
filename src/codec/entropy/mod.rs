//! The entropy coder that masks and values share: tables of frequencies, a range coder on them (rANS), and raw bits beside it.
//! spec/format.md, "Entropy coding".
// Every cast here is of a frequency, an entry, a symbol or a state: small by construction, or masked.
#![allow(clippy::cast_possible_truncation)]

pub(crate) mod bits;
pub(crate) mod gaps;
pub(crate) mod rans;
pub(crate) mod table;
