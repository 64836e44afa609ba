//! The whole file: how it is written, and the states of trust in which it is read.
//!
//! [`OpenedPack`] → [`VerifiedPack`] → [`BoundPack`], each consuming the one before. Only the last has deltas to give, so no
//! number leaves a pack that is unverified or meets the wrong base: the *bound-base rule*. Whoever writes a whole model may bind
//! first and compare at the end, since nothing leaves before that.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::panic,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm
)]

pub(crate) mod body;
pub mod bound;
pub(crate) mod content;
mod diagnose;
pub mod opened;
mod sections;
mod stored;
mod stream;
pub mod verified;
pub(crate) mod writer;

pub use bound::BoundPack;
pub use opened::OpenedPack;
pub use verified::VerifiedPack;
