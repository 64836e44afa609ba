//! Which files of a Hugging Face folder hold the weights, and which only accompany them. [CKP-3]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Escaped, Result};
use crate::files::read_regular;
use crate::json::{Members, Object};
use crate::model::filename::{is_foreign_weight, is_plain, is_safetensors};
use crate::model::tensor::TensorInfo;

/// The file that says which shard holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The weights of a folder that is not sharded.
pub(crate) const SINGLE: &str = "model.safetensors";
/// What `apply` writes beside the weights.
pub(crate) const RECIPE: &str = "stitch.json";

/// The files of a checkpoint folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// Names of the safetensors files, sorted.
    pub weights: Vec<String>,
    /// The index, where the folder is sharded.
    pub index: Option<Index>,
}

/// An index of shards.
#[derive(Debug)]
pub(super) struct Index {
    /// The name of its file.
    pub name: String,
    pub bytes: Vec<u8>,
    /// The file that is said to hold a tensor, by the name of the tensor.
    pub map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WeightMap {
    weight_map: Members<String>,
}

impl Folder {
    /// Looks into a folder.
    pub fn open(root: &Path) -> Result<Self> {
        let names = file_names(root)?;
        let has = |name: &str| names.iter().any(|n| n == name);
        let indices: Vec<&String> = names.iter().filter(|n| n.ends_with(".safetensors.index.json")).collect();
        let index = if has(INDEX) { Some(INDEX.to_string()) } else { indices.first().map(|n| n.to_string()) };
        if let Some(name) = index {
            let path = root.join(&name);
            let index = Index::parse(name, read_regular(&path)?).map_err(|e| e.in_file(&path))?;
            return Ok(Folder { weights: index.files(), index: Some(index) });
        }
        let weights: Vec<&String> = names.iter().filter(|n| n.ends_with(".safetensors")).collect();
        let single = if has(SINGLE) { Some(SINGLE.to_string()) } else { None };
        match (single, weights.as_slice()) {
            (Some(single), _) => Ok(Folder { weights: vec![single], index: None }),
            (None, [only]) => Ok(Folder { weights: vec![only.to_string()], index: None }),
            (None, []) => Err(no_weights(root, &names)),
            (None, many) => Err(unsorted(many.len()).in_file(root)),
        }
    }
}

/// The error for several files of weights of which nothing says what they are.
pub(super) fn unsorted(files: usize) -> Error {
    let detail = format!("has {files} safetensors files but no {INDEX} that says what they are");
    Error::malformed("CKP-3", "folder", detail)
}

fn no_weights(root: &Path, names: &[String]) -> Error {
    let other = names.iter().find(|n| is_foreign_weight(n));
    let detail = match other {
        Some(name) => format!(
            "has no safetensors file, only \"{}\", which stitchpack never opens; convert the model to safetensors",
            Escaped(name)
        ),
        None => format!("has no {SINGLE} and no {INDEX}; is this the folder of a model?"),
    };
    Error::malformed("CKP-3", "folder", detail).in_file(root)
}

impl Index {
    /// Reads the bytes of an index. [CKP-4]
    pub fn parse(name: String, bytes: Vec<u8>) -> Result<Self> {
        let bad = |detail: String| Error::malformed("CKP-4", "index", detail);
        // What the parser says may quote the file.
        let Object(index): Object<WeightMap> =
            serde_json::from_slice(&bytes).map_err(|e| bad(Escaped(&e.to_string()).to_string()))?;
        if index.weight_map.0.is_empty() {
            return Err(bad("names no tensor".into()));
        }
        let map: BTreeMap<String, String> = index.weight_map.0.into_iter().collect();
        for (tensor, file) in &map {
            // The value is joined to a path: anything but a plain file name could lead out of the folder.
            if !is_plain(file) {
                let detail = format!(
                    "tensor \"{}\" is said to be in \"{}\", which is not a plain file name",
                    Escaped(tensor),
                    Escaped(file)
                );
                return Err(bad(detail));
            }
        }
        Ok(Index { name, bytes, map })
    }

    /// The files that it names, sorted.
    pub fn files(&self) -> Vec<String> {
        let files: BTreeSet<&String> = self.map.values().collect();
        files.into_iter().cloned().collect()
    }

    /// The bytes of an index with these tensors in these files besides.
    pub fn with<'f>(bytes: &[u8], files: impl Iterator<Item = (&'f str, &'f [TensorInfo])>) -> Result<Vec<u8>> {
        let bad = |e: serde_json::Error| Error::malformed("CKP-4", "index", e.to_string());
        let mut index: serde_json::Value = serde_json::from_slice(bytes).map_err(bad)?;
        let mut total = 0u64;
        for (file, tensor) in files.flat_map(|(file, tensors)| tensors.iter().map(move |t| (file, t))) {
            index["weight_map"][&tensor.name] = file.into();
            total = total.saturating_add(tensor.byte_len());
        }
        if !index["metadata"].is_object() {
            index["metadata"] = serde_json::json!({});
        }
        index["metadata"]["total_size"] = total.into();
        serde_json::to_vec_pretty(&index).map_err(bad)
    }
}

/// Names of the files that go along with the weights: configuration, tokenizer and the like, sorted.
pub(super) fn companions(root: &Path) -> Result<Vec<String>> {
    Ok(file_names(root)?.into_iter().filter(|name| is_companion(name)).collect())
}

/// Whether a file of this name goes along with weights.
pub(super) fn is_companion(name: &str) -> bool {
    let weight = is_safetensors(name) || is_foreign_weight(name);
    !(weight || name.starts_with('.') || name == RECIPE || name.ends_with(".stitch"))
}

/// Names of the regular files in a folder (links are followed: the hub's cache is made of them), sorted.
fn file_names(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|e| Error::io(root, e))? {
        let entry = entry.map_err(|e| Error::io(root, e))?;
        let is_file = std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file());
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
