//! The numbers: slices in, slices out. spec/numbers.md says each in full.

pub mod density;
pub(crate) mod float;
pub mod localize;
pub(crate) mod quantize;
pub mod step;
pub mod stitch;
