//! Who says what about a stitch pack, and whether that is enough: signatures, statements and policy.
//!
//! The library proves that a pack is whole and meets its base; it proves no origin. This crate does: [`sign()`] binds a statement
//! to a key as a sigstore bundle, [`Bundle::verify`] gives the statement back where a key that is trusted signed it. The formats
//! are specified in `spec/trust.md`, rule by rule, and errors cite the rule.
//!
//! Nothing here talks to a network, and no secret reaches an error, a log or the output of `Debug`.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::panic, clippy::expect_used)]

pub mod bundle;
mod encoding;
mod files;
mod json;
pub mod key;
pub mod signer;

pub use bundle::Bundle;
pub use key::{PrivateKey, PublicKey};
pub use signer::{CommandSigner, Signer, sign};
