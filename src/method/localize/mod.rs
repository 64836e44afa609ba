//! Choosing the positions to keep: spec/numbers.md, "Localizing".

pub(crate) mod keys;
pub(crate) mod topk;
