//! Masks and values coded by class: units that are about equally likely to be kept, and to move by about as much, are coded
//! together. spec/format.md, "Classes".
//!
//! The class of a unit follows from what the reader has: the exponent of the base's element (an optimizer moves all weights
//! by about the same amount, so the exponent says whether, and by how many steps, the bits change), and how active the unit's
//! row and column are.
// Every cast here is of a class, a level, a symbol or a place in a block: small by construction, or masked.
#![allow(clippy::cast_possible_truncation)]

pub(crate) mod coder;
pub(crate) mod map;
pub(crate) mod mask;
pub(crate) mod model;
pub(crate) mod steps16;
pub(crate) mod symbols;
pub(crate) mod values;
mod walker;

#[cfg(test)]
mod tests;
