//! Where tensors come from and go: safetensors files and Hugging Face folders. Knows nothing about packs.

mod cache;
mod folder;
pub(crate) mod header;
mod identity;
pub(crate) mod output;
pub(crate) mod plan;
mod reader;
mod source;
mod unread;

pub use identity::BaseCheck;
pub(crate) use identity::digests;
pub use output::{refuse_input, write_whole};
pub use reader::Checkpoint;
pub use source::ModelSource;
pub(crate) use unread::UnreadIdentity;
