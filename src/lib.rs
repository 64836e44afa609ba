//! Ship, store and load many fine-tunes of one base model as small, verified stitch packs.
pub mod apply;
pub mod checkpoint;
mod codec;
pub mod create;
pub mod diff;
pub mod error;
mod files;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod limits;
pub mod method;
pub mod model;
pub mod overlap;
pub mod pack;
pub mod parallel;
pub mod recipe;
pub mod stitched;
pub use apply::{Applied, ApplyOptions, apply, lock};
pub use checkpoint::Checkpoint;
pub use create::{CreateOptions, Created, create, create_dry};
pub use error::{Error, Result};
pub use limits::Limits;
pub use pack::{BoundPack, OpenedPack, VerifiedPack};
pub use parallel::{Progress, Quiet, Workers};
pub use stitched::{GainChoice, Layer, MergeOptions, StitchedModel};
