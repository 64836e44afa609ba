//! Bytes that are read by range: the door for files, memory, HTTP and whatever else holds a pack or a checkpoint.
//!
//! Implement [`ReadAt`] for a store and give it to [`OpenedPack::from_source`](crate::OpenedPack::from_source). The library
//! itself has no network; its own sources are [`LocalFile`] and bytes in memory.

mod error;
mod file;
mod memory;
mod source;
mod stamp;

pub use error::{ReadError, ReadErrorKind};
pub use file::LocalFile;
pub use source::ReadAt;
pub(crate) use source::{announce, bytes, joined, read_into, read_vec};
pub use stamp::Stamp;
