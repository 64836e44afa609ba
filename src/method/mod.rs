//! The numbers: slices in, slices out. spec/numbers.md says each in full.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod density;
pub(crate) mod float;
pub mod learn;
pub mod localize;
pub(crate) mod quantize;
pub(crate) mod shares;
pub mod step;
pub mod stitch;
