//! Ship, store and load many fine-tunes of one base model as small, verified stitch packs.
pub mod checkpoint;
mod codec;
pub mod create;
pub mod error;
mod files;
pub mod format;
pub mod limits;
pub mod method;
pub mod model;
pub mod pack;
pub mod parallel;
pub use checkpoint::Checkpoint;
pub use create::{CreateOptions, Created, create, create_dry};
pub use error::{Error, Result};
pub use limits::Limits;
pub use parallel::{Progress, Quiet, Workers};
