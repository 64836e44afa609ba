//! Base and packs as one model, stitched while it is read; and the recipes that say how one was made.

pub mod calibrate;
mod chain;
mod fill;
mod gain;
mod model;
pub mod named;
mod open;
mod options;
mod reader;
pub mod recipe;
pub mod resolve;
mod slopes;
mod source;
mod stitchers;
mod tensor;

pub use fill::Tensors;
pub use gain::PackGain;
pub(crate) use model::nonfinite_refused;
pub use model::{Layer, StitchedModel};
pub use open::{OpenOptions, check_of};
pub use options::{GainChoice, MergeOptions};
pub use reader::{Buffers, TensorReader};
pub(crate) use stitchers::Stitchers;
pub(crate) use tensor::{Scratch, TensorStitcher};
