//! The nouns: plain data with their invariants. No IO, no bytes of the format.

pub mod delta;
pub mod digest;
pub mod dtype;
pub(crate) mod filename;
pub mod identity;
pub mod mask;
pub(crate) mod numbered;
pub(crate) mod pieces;
pub mod source;
pub mod tensor;
