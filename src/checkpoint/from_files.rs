//! A checkpoint of named files that are wherever their sources read them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::companions::Companions;
use crate::checkpoint::folder::{Index, is_companion, unsorted};
use crate::checkpoint::reader::Checkpoint;
use crate::error::{Error, Escaped, Result};
use crate::io::ReadAt;
use crate::model::filename::is_plain;

/// The files of a checkpoint, each with a name and the source of its bytes; see [`Checkpoint::from_files`].
#[derive(Debug)]
pub struct CheckpointFiles {
    root: PathBuf,
    weights: Vec<(String, Arc<dyn ReadAt>)>,
    index: Option<(String, Vec<u8>)>,
    companions: Vec<(String, Arc<dyn ReadAt>)>,
}

impl Checkpoint {
    /// A checkpoint whose files are not on this machine's disk: in an object store, behind HTTP, in memory. `name` is what errors
    /// call it. Several safetensors files need an index; without one, or companions, it counts as a single file.
    ///
    /// # Example
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stitchpack::Checkpoint;
    ///
    /// # let header = br#"{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#;
    /// # let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[7, 8]].concat();
    /// let base = Checkpoint::from_files("my-org/base")
    ///     .weights("model.safetensors", Arc::new(bytes))
    ///     .companion("config.json", Arc::new(b"{}".to_vec()))
    ///     .open()?;
    /// assert_eq!(&*base.bytes("w", 0..2)?, [7, 8]);
    /// # Ok::<(), stitchpack::Error>(())
    /// ```
    pub fn from_files(name: impl Into<PathBuf>) -> CheckpointFiles {
        CheckpointFiles { root: name.into(), weights: Vec::new(), index: None, companions: Vec::new() }
    }
}

impl CheckpointFiles {
    /// Adds a safetensors file.
    pub fn weights(mut self, name: impl Into<String>, source: Arc<dyn ReadAt>) -> Self {
        self.weights.push((name.into(), source));
        self
    }

    /// Adds the index that says which file holds which tensor, such as `model.safetensors.index.json`.
    pub fn index(mut self, name: impl Into<String>, bytes: Vec<u8>) -> Self {
        self.index = Some((name.into(), bytes));
        self
    }

    /// Adds a file that goes along with the weights.
    pub fn companion(mut self, name: impl Into<String>, source: Arc<dyn ReadAt>) -> Self {
        self.companions.push((name.into(), source));
        self
    }

    /// Reads the headers. Those of all files are announced before the first is read.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; `InvalidInput` for names that no folder of a model has, or has once.
    pub fn open(mut self) -> Result<Checkpoint> {
        self.check_names()?;
        let index = self.index.map(|(name, bytes)| Index::parse(name, bytes)).transpose();
        let index = index.map_err(|e| e.in_file(&self.root))?;
        self.weights.sort_by(|a, b| a.0.cmp(&b.0));
        match &index {
            None if self.weights.len() != 1 => return Err(unsorted(self.weights.len()).in_file(&self.root)),
            Some(index) if !self.weights.iter().map(|(name, _)| name).eq(&index.files()) => {
                return Err(Error::InvalidInput(format!(
                    "{}: the safetensors files must be those that the index names: {}",
                    Escaped(&self.root.to_string_lossy()),
                    Escaped(&index.files().join(", "))
                )));
            }
            None | Some(_) => {}
        }
        self.companions.sort_by(|a, b| a.0.cmp(&b.0));
        let is_folder = index.is_some() || !self.companions.is_empty();
        Checkpoint::assemble(self.root, is_folder, self.weights, index, Companions::Given(self.companions))
    }

    /// Every name is one that can be written into a folder, and stands once.
    fn check_names(&self) -> Result<()> {
        let bad = |name: &str, why| Err(Error::InvalidInput(format!("file \"{}\" {why}", Escaped(name))));
        let (weights, companions) = (self.weights.iter(), self.companions.iter());
        let mut names: Vec<&str> = weights.chain(companions).map(|(name, _)| name.as_str()).collect();
        names.extend(self.index.iter().map(|(name, _)| name.as_str()));
        if let Some(name) = names.iter().find(|name| !is_plain(name)) {
            return bad(name, "has a name that is not plain");
        }
        if let Some((name, _)) = self.companions.iter().find(|(name, _)| !is_companion(name)) {
            return bad(name, "does not go along with weights");
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => bad(pair[0], "is named twice"),
            None => Ok(()),
        }
    }
}
