//! What the files of a merged model will be, before a byte of them is written. [OUT-1]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::checkpoint::folder::SINGLE;
use crate::checkpoint::header;
use crate::checkpoint::reader::Checkpoint;
use crate::error::{Error, Result};
use crate::files::read_regular;
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
    pub fn folder(base: &Checkpoint, carried: &BTreeMap<String, TensorInfo>) -> Result<Self> {
        let added: Vec<&TensorInfo> = carried.values().filter(|t| base.tensor(&t.name).is_none()).collect();
        let mut files = Vec::new();
        for (i, file) in base.files.iter().enumerate() {
            let mut tensors: Vec<TensorInfo> =
                file.order.iter().map(|t| carried.get(&t.name).unwrap_or(&**t).clone()).collect();
            if i + 1 == base.files.len() {
                tensors.extend(added.iter().map(|t| (*t).clone()));
            }
            let head = if tensors.iter().eq(file.order.iter().map(|t| &**t)) {
                file.head.clone()
            } else {
                header::encode(&tensors, file.metadata.as_ref())?
            };
            let name = if base.is_folder() { file.name.clone() } else { SINGLE.to_string() };
            files.push(planned(name, head, tensors));
        }
        let index = match &base.index {
            Some(name) => Some((name.clone(), index(base, name, carried, &files)?)),
            None => None,
        };
        Ok(Plan { files, index })
    }

    /// A plan for one file with all tensors, in the order of the base's files.
    pub fn single(base: &Checkpoint, name: String, carried: &BTreeMap<String, TensorInfo>) -> Result<Self> {
        if let [_] = base.files.as_slice() {
            let mut plan = Self::folder(base, carried)?;
            plan.files.iter_mut().for_each(|f| f.name = name.clone());
            return Ok(Plan { files: plan.files, index: None });
        }
        let in_base = base.files.iter().flat_map(|f| &f.order).map(|t| carried.get(&t.name).unwrap_or(&**t));
        let added = carried.values().filter(|t| base.tensor(&t.name).is_none());
        let tensors: Vec<TensorInfo> = in_base.chain(added).cloned().collect();
        let metadata = base.files.first().and_then(|f| f.metadata.as_ref());
        let head = header::encode(&tensors, metadata)?;
        Ok(Plan { files: vec![planned(name, head, tensors)], index: None })
    }

    /// Bytes of all files.
    pub fn len(&self) -> u64 {
        self.files.iter().map(|f| f.len).sum()
    }
}

fn planned(name: String, head: Vec<u8>, tensors: Vec<TensorInfo>) -> PlannedFile {
    let mut at = head.len() as u64;
    let tensors = tensors.into_iter().map(|t| {
        let offset = at;
        at += t.byte_len();
        (t, offset)
    });
    let tensors: Vec<_> = tensors.collect();
    PlannedFile { name, head, tensors, len: at }
}

/// The base's index as it is, or with the carried tensors in it.
fn index(
    base: &Checkpoint,
    name: &str,
    carried: &BTreeMap<String, TensorInfo>,
    files: &[PlannedFile],
) -> Result<Vec<u8>> {
    let path: PathBuf = Path::new(base.path()).join(name);
    let bytes = read_regular(&path)?;
    if carried.is_empty() {
        return Ok(bytes);
    }
    let bad = |e: serde_json::Error| Error::malformed("CKP-4", "index", e.to_string()).in_file(&path);
    let mut index: serde_json::Value = serde_json::from_slice(&bytes).map_err(bad)?;
    for file in files {
        for (t, _) in &file.tensors {
            index["weight_map"][&t.name] = file.name.clone().into();
        }
    }
    let total: u64 = files.iter().flat_map(|f| &f.tensors).map(|(t, _)| t.byte_len()).sum();
    if !index["metadata"].is_object() {
        index["metadata"] = serde_json::json!({});
    }
    index["metadata"]["total_size"] = total.into();
    serde_json::to_vec_pretty(&index).map_err(bad)
}
