//! The trait of models: a checkpoint, a checkpoint with packs or an adapter on it, or what a caller has.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::layout::Layout;
use crate::error::{Error, Escaped, Result};
use crate::io::{ReadAt, announce, read_into};
use crate::model::digest::Digest;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;

/// A whole model: its tensors, the files that they lie in, and the files beside them.
///
/// Packs are made of two of them and put on one. Names, dtypes, shapes and bytes are all that is asked of an implementation
/// ([`TensorSource::units`]); the other methods make it faster, or say what a checkpoint on disk knows besides.
pub trait ModelSource: TensorSource + Send {
    /// All tensors, by name in byte order.
    fn infos(&self) -> Vec<&TensorInfo>;

    /// Dtype and shape of one tensor.
    fn info(&self, name: &str) -> Option<&TensorInfo>;

    /// Fills `out` with the units of a tensor from unit `start`. Of bytes that are needed `once` no copy has to be kept, and they
    /// come in the order of the files.
    ///
    /// # Errors
    /// As [`TensorSource::units`].
    fn copy_units(&self, name: &str, start: u64, out: &mut [u8], once: bool) -> Result<()> {
        let _ = once;
        let unit = self.info(name).map_or(1, |info| info.dtype.unit_bytes());
        let found = self.units(name, start, (out.len() / unit) as u64)?;
        if found.len() != out.len() {
            let (name, wanted, found) = (Escaped(name), out.len(), found.len());
            return Err(Error::Internal(format!("a source gave {found} bytes of tensor \"{name}\" for {wanted}")));
        }
        out.copy_from_slice(&found);
        Ok(())
    }

    /// Hears which tensors will be read soon, in this order: a hint, as [`ReadAt::will_need`] is.
    fn will_need(&self, tensors: &[&str]) {
        let _ = tensors;
    }

    /// The open file that a tensor lies in, end to end, and its first byte there: the system may then copy it to another file.
    fn place(&self, name: &str) -> Option<(&File, u64)> {
        let _ = name;
        None
    }

    /// Digests that are known without reading, in the order of [`ModelSource::infos`]; fewer where none are.
    fn remembered(&self) -> Vec<Option<Digest>> {
        Vec::new()
    }

    /// Hears the digests that were taken, in the order of [`ModelSource::infos`], to remember them.
    fn remember(&self, digests: &[Option<Digest>]) {
        let _ = digests;
    }

    /// Which files the tensors lie in: a written model has the same. One file in the order of the names where nothing is said.
    ///
    /// # Errors
    /// What keeps the files from being planned.
    fn layout(&self) -> Result<Layout> {
        Layout::of(self.infos().into_iter().cloned().collect())
    }

    /// Bytes of the weight files, headers included: the denominator of a pack's size.
    ///
    /// # Errors
    /// As [`ModelSource::layout`].
    fn weight_bytes(&self) -> Result<u64> {
        Ok(self.layout()?.byte_len())
    }

    /// What the weight files say of themselves in `__metadata__`, file after file.
    fn metadata(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    /// Whether there can be companion files: configuration, tokenizer and the like.
    fn has_companions(&self) -> bool {
        false
    }

    /// Names of the companion files.
    ///
    /// # Errors
    /// `Io` where the folder cannot be listed.
    fn companion_names(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// One companion file.
    ///
    /// # Errors
    /// `Io` where it cannot be opened; `InvalidInput` where there is none of that name.
    fn companion(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        Err(no_companion(name))
    }

    /// Files that no output may replace.
    fn input_paths(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Fails where a file was changed since it was opened, as far as that shows.
    ///
    /// # Errors
    /// `Io` for the changed file.
    fn unchanged(&self) -> Result<()> {
        Ok(())
    }
}

/// The error for a companion file that is not there.
pub(crate) fn no_companion(name: &str) -> Error {
    Error::InvalidInput(format!("there is no file \"{}\"", Escaped(name)))
}

impl fmt::Debug for dyn ModelSource + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a model of {} tensors", self.infos().len())
    }
}

impl<'m> dyn ModelSource + 'm {
    /// The bytes of one companion file.
    ///
    /// # Errors
    /// As [`ModelSource::companion`]; `Io` where it cannot be read.
    pub fn companion_bytes(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        copy_pieces(&*self.companion(name)?, |_, piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Whether a tensor's bytes are in memory, so that nothing is copied when they are asked for.
    pub(crate) fn is_mapped(&self, name: &str) -> Result<bool> {
        Ok(matches!(self.units(name, 0, 0)?, Cow::Borrowed(_)))
    }
}

/// Reads a source to its end, a piece at a time: how long it says it is buys no memory.
pub(crate) fn copy_pieces(source: &dyn ReadAt, mut sink: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    const PIECE: u64 = 1 << 20;
    let all = source.size();
    announce(source, 0..all);
    let mut piece = Vec::new();
    for start in (0..all).step_by(PIECE as usize) {
        piece.resize(PIECE.min(all - start) as usize, 0);
        read_into(source, start, &mut piece)?;
        sink(start, &piece)?;
    }
    Ok(())
}
