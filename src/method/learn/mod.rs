//! What gradients say of which elements matter, and how far the kept ones should move: spec/numbers.md, "Learning".

pub(crate) mod gains;
pub mod gradient;
pub(crate) mod importance;
