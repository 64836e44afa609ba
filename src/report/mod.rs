//! What packs and models are, and how they differ: outcomes as data, for people and for machines.

pub mod diff;
pub mod inspect;
pub mod overlap;
