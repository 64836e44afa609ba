//! What the files of a merged model will be, before a byte of them is written. [OUT-1]

use std::collections::BTreeMap;

use crate::checkpoint::folder::SINGLE;
use crate::checkpoint::layout::{Layout, LayoutFile};
use crate::checkpoint::source::ModelSource;
use crate::error::Result;
use crate::model::tensor::TensorInfo;

/// One safetensors file to write.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub name: String,
    /// The length field and the header.
    pub head: Vec<u8>,
    /// Its tensors, each with its offset from the start of the file.
    pub tensors: Vec<(TensorInfo, u64)>,
    /// Bytes in all.
    pub len: u64,
}

/// All files of a merged model that hold weights.
#[derive(Debug)]
pub(crate) struct Plan {
    pub files: Vec<PlannedFile>,
    /// The index: its file name and its bytes.
    pub index: Option<(String, Vec<u8>)>,
}

impl Plan {
    /// A plan with the base's shards and header bytes. `carried` are tensors that the base lacks or has in another shape: only
    /// where they force it does a file get a new header; those that the base lacks go to the end of the last file.
    pub fn folder(base: &dyn ModelSource, carried: &BTreeMap<String, TensorInfo>) -> Result<Self> {
        let layout = base.layout()?;
        let layout = if layout.is_folder { layout } else { layout.joined(SINGLE.into())? };
        Ok(Plan::of(layout.with(carried)?))
    }

    /// A plan for one file with all tensors, in the order of the base's files.
    pub fn single(base: &dyn ModelSource, name: String, carried: &BTreeMap<String, TensorInfo>) -> Result<Self> {
        let layout = Layout { index: None, ..base.layout()? };
        Ok(Plan::of(layout.with(carried)?.joined(name)?))
    }

    fn of(layout: Layout) -> Self {
        Plan { files: layout.files.into_iter().map(planned).collect(), index: layout.index }
    }

    /// Bytes of all files.
    pub fn len(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }
}

fn planned(file: LayoutFile) -> PlannedFile {
    let LayoutFile { name, head, tensors, .. } = file;
    let mut at = head.len() as u64;
    let tensors = tensors.into_iter().map(|t| {
        let offset = at;
        at += t.byte_len();
        (t, offset)
    });
    let tensors: Vec<_> = tensors.collect();
    PlannedFile { name, head, tensors, len: at }
}
