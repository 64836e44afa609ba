//! The files beside the weights.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::folder;
use crate::checkpoint::source::no_companion;
use crate::error::Result;
use crate::io::{LocalFile, ReadAt};

/// Where the companion files of a checkpoint are.
#[derive(Debug)]
pub(super) enum Companions {
    /// A single file has none.
    None,
    /// In a folder, which is listed when they are asked for.
    In(PathBuf),
    /// Given, by name.
    Given(Vec<(String, Arc<dyn ReadAt>)>),
}

impl Companions {
    pub fn names(&self) -> Result<Vec<String>> {
        match self {
            Companions::None => Ok(Vec::new()),
            Companions::In(root) => folder::companions(root),
            Companions::Given(files) => Ok(files.iter().map(|(name, _)| name.clone()).collect()),
        }
    }

    pub fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        let given = match self {
            Companions::In(root) if folder::companions(root)?.iter().any(|own| own == name) => {
                return Ok(Arc::new(LocalFile::open(root.join(name))?));
            }
            Companions::None | Companions::In(_) => None,
            Companions::Given(files) => files.iter().find(|(own, _)| own == name),
        };
        given.map(|(_, source)| source.clone()).ok_or_else(|| no_companion(name))
    }

    /// The files on disk. A folder that cannot be listed any more has none that could be replaced.
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Companions::None => Vec::new(),
            Companions::In(root) => {
                folder::companions(root).unwrap_or_default().iter().map(|name| root.join(name)).collect()
            }
            Companions::Given(files) => files.iter().filter_map(|(_, s)| s.path().map(PathBuf::from)).collect(),
        }
    }
}
