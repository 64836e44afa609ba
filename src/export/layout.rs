//! One safetensors file to write: its header, and where each tensor's bytes go.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::checkpoint::header;
use crate::error::{Error, Result};
use crate::model::tensor::TensorInfo;

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 18;

/// Where the tensors of a file are.
pub(super) struct Layout {
    head: Vec<u8>,
    /// By the order in which the tensors were given: offsets from the start of the file.
    offsets: Vec<u64>,
    /// Bytes of the file.
    pub len: u64,
}

impl Layout {
    /// Lays tensors out, the widest elements first: a program that maps the file can then look at each as what it is, without a
    /// copy. Of one width by name. [EXP-1]
    pub fn new(tensors: &[TensorInfo], metadata: &HashMap<String, String>) -> Result<Self> {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|i| tensors.get(*i).map(|t| (Reverse(t.dtype.bits()), t.name.as_str())));
        let sorted: Vec<TensorInfo> = order.iter().filter_map(|i| tensors.get(*i)).cloned().collect();
        let head = header::encode(&sorted, Some(metadata))?;
        let (mut offsets, mut len) = (vec![0; tensors.len()], head.len() as u64);
        for (i, tensor) in order.iter().zip(&sorted) {
            if let Some(offset) = offsets.get_mut(*i) {
                *offset = len;
            }
            len += tensor.byte_len();
        }
        Ok(Layout { head, offsets, len })
    }

    /// Writes the header.
    pub fn write_head(&self, file: &File, path: &Path) -> Result<()> {
        file.write_all_at(&self.head, 0).map_err(|e| Error::io(path, e))
    }

    /// Somewhere to put the bytes of the tensor that was given `i`th, from byte `skip` of it on.
    pub fn run<'f>(&self, i: usize, skip: u64, file: &'f File, path: &'f Path) -> Run<'f> {
        Run { file, path, at: self.offsets.get(i).copied().unwrap_or(0) + skip, gathered: Vec::new() }
    }
}

/// Bytes that go to a file one after another.
pub(super) struct Run<'f> {
    file: &'f File,
    path: &'f Path,
    at: u64,
    gathered: Vec<u8>,
}

impl Run<'_> {
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= BUFFER { self.finish() } else { Ok(()) }
    }

    /// Writes what is gathered.
    pub fn finish(&mut self) -> Result<()> {
        self.file.write_all_at(&self.gathered, self.at).map_err(|e| Error::io(self.path, e))?;
        self.at += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}
