//! Where packs, bases and recipes are, and how they get there.
//!
//! The library reads bytes through its own trait and knows no network; what talks to one is here. A [`Location`] is parsed
//! from the words of a command line by the grammar of `spec/locations.md`, and never touches a file or a network to do so.

pub mod location;
mod weighted;

pub use location::{ChannelName, Location, Place};
pub use weighted::Weighted;
