//! The bytes of one thing: positions and codes of a block, and zstd frames. spec/format.md, "Blocks".
//!
//! Every decoder here takes bytes whose digest is right and which may lie all the same.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

pub(crate) mod block;
pub(crate) mod classes;
pub(crate) mod codes;
pub(crate) mod compress;
pub(crate) mod entropy;
pub(crate) mod positions;
