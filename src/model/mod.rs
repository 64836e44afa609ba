//! The nouns: plain data with their invariants. No IO, no bytes of the format.

pub mod codec;
pub mod delta;
pub mod digest;
pub mod dtype;
pub(crate) mod filename;
pub mod identity;
pub mod mask;
pub(crate) mod numbered;
pub mod origin;
pub(crate) mod pieces;
pub mod source;
pub mod tensor;
