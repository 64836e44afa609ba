//! Where tensors come from and go: safetensors files and Hugging Face folders. Knows nothing about packs.

mod cache;
mod companions;
mod folder;
mod from_files;
pub(crate) mod header;
mod identity;
mod layout;
mod model;
pub(crate) mod output;
pub(crate) mod plan;
mod reader;
mod shard;
mod source;
mod unread;

pub use from_files::CheckpointFiles;
pub use identity::BaseCheck;
pub(crate) use identity::digests;
pub use layout::{Layout, LayoutFile};
pub use output::{refuse_input, write_whole};
pub use reader::Checkpoint;
pub use source::ModelSource;
pub(crate) use source::copy_pieces;
pub(crate) use unread::UnreadIdentity;
