//! The container's parts, one file a struct of spec/format.md. Each field's write and read stand side by side.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

pub(crate) mod check;
pub mod header;
pub mod manifest;
pub mod rows;
pub mod table;
