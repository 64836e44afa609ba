//! A checkpoint as a set of named tensors, whatever files they are in.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::companions::Companions;
use crate::checkpoint::folder::{Folder, Index};
use crate::checkpoint::shard::{Place, Shard, check_index, find, gather};
use crate::error::{Error, Escaped, Result};
use crate::io::{self, LocalFile, ReadAt};
use crate::limits::Limits;
use crate::model::tensor::TensorInfo;

/// A base or fine-tuned model: one `.safetensors` file or a Hugging Face folder, on disk or wherever [`Checkpoint::from_files`]
/// finds it. Never modified.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) root: PathBuf,
    pub(super) is_folder: bool,
    pub(super) shards: Vec<Shard>,
    pub(super) index: Option<Index>,
    pub(super) companions: Companions,
    /// By name.
    pub(super) tensors: Vec<Place>,
}

impl Checkpoint {
    /// Opens a checkpoint that is read by system calls.
    ///
    /// # Errors
    /// `Io` for what is missing or unreadable, `Malformed` for what is no checkpoint.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_path(path.as_ref(), |file| LocalFile::open(file))
    }

    /// Opens a checkpoint whose files are mapped into memory: the fast way.
    ///
    /// # Safety
    /// Nobody may change the files while the value lives: one that shrinks kills the process, one that is overwritten
    /// changes bytes that were already checked. Replacing a file by rename is harmless.
    #[expect(unsafe_code, reason = "mapping a file is the caller's promise that it stays as it is")]
    pub unsafe fn map(path: impl AsRef<Path>) -> Result<Self> {
        // SAFETY: the caller makes the promise that `LocalFile::map` asks for.
        Self::open_path(path.as_ref(), |file| unsafe { LocalFile::map(file) })
    }

    fn open_path(root: &Path, open: impl Fn(&Path) -> Result<LocalFile>) -> Result<Self> {
        let is_folder = std::fs::metadata(root).map_err(|e| Error::io(root, e))?.is_dir();
        let (names, index, companions) = if is_folder {
            let folder = Folder::open(root)?;
            let named = folder.weights.into_iter().map(|n| (n.clone(), root.join(n))).collect();
            (named, folder.index, Companions::In(root.to_owned()))
        } else {
            let name = root.file_name().map_or("model.safetensors".into(), |n| n.to_string_lossy().into_owned());
            (vec![(name, root.to_owned())], None, Companions::None)
        };
        let mut files: Vec<(String, Arc<dyn ReadAt>)> = Vec::new();
        for (name, path) in names {
            files.push((name, Arc::new(open(&path)?)));
        }
        Self::assemble(root.to_owned(), is_folder, files, index, companions)
    }

    /// Reads the headers of files, and holds the index to them.
    pub(super) fn assemble(
        root: PathBuf,
        is_folder: bool,
        files: Vec<(String, Arc<dyn ReadAt>)>,
        index: Option<Index>,
        companions: Companions,
    ) -> Result<Self> {
        let limits = Limits::default();
        files.iter().for_each(|(_, bytes)| Shard::announce(&**bytes));
        let mut shards = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            let path = bytes.name().map_or_else(|| root.join(&name), Path::to_owned);
            shards.push(Shard::open(name, bytes, &limits).map_err(|e| e.in_file(&path))?);
        }
        let tensors = gather(&shards, &limits).map_err(|e| e.in_file(&root))?;
        if let Some(index) = &index {
            check_index(&index.map, &tensors, &shards).map_err(|e| e.in_file(&root.join(&index.name)))?;
        }
        Ok(Checkpoint { root, is_folder, shards, index, companions, tensors })
    }

    /// The path that was opened, or the name that was given.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Whether this is a folder, with files beside the weights.
    pub fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// All tensors, by name in byte order.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.tensors.iter().map(|place| &*place.info)
    }

    /// One tensor's dtype and shape.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        find(&self.tensors, name).map(|place| &*place.info)
    }

    /// Bytes of the weight files, headers included: the denominator of a pack's size.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes.size()).sum()
    }

    /// What the files say of themselves in `__metadata__`, file after file.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.shards.iter().filter_map(|shard| shard.metadata.as_ref()).flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// A range of a tensor's bytes, counted from its start: borrowed where the file is mapped.
    ///
    /// # Errors
    /// `InvalidInput` for an unknown name or a range past the end; `Io` where reading fails or the file was changed.
    pub fn bytes(&self, name: &str, range: Range<u64>) -> Result<Cow<'_, [u8]>> {
        let (source, place) = self.place_of(name, &range)?;
        io::bytes(source, place.offset + range.start..place.offset + range.end)
    }

    /// The source that holds a range of a tensor's bytes, and where the tensor is in it.
    pub(super) fn place_of(&self, name: &str, range: &Range<u64>) -> Result<(&dyn ReadAt, &Place)> {
        let place = find(&self.tensors, name);
        let place = place.filter(|p| range.start <= range.end && range.end <= p.info.byte_len());
        let Some(place) = place else {
            let detail = format!("no bytes {range:?} of a tensor \"{}\"", Escaped(name));
            return Err(Error::InvalidInput(detail));
        };
        let shard = self.shards.get(place.file).ok_or_else(|| Error::Internal("a tensor without a file".into()))?;
        Ok((&*shard.bytes, place))
    }
}
