//! Which files of a Hugging Face folder hold the weights, and which only accompany them. [CKP-3]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Escaped, Result};
use crate::files::read_regular;
use crate::json::{Members, Object};
use crate::model::filename::{is_foreign_weight, is_plain, is_safetensors};

/// The file that says which shard holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The weights of a folder that is not sharded.
pub(crate) const SINGLE: &str = "model.safetensors";
/// What `apply` writes beside the weights.
pub(crate) const RECIPE: &str = "stitch.json";

/// The files of a checkpoint folder.
#[derive(Debug)]
pub(crate) struct Folder {
    /// Names of the safetensors files, sorted.
    pub weights: Vec<String>,
    /// The index, where the folder is sharded: its file name and what it says.
    pub index: Option<(String, BTreeMap<String, String>)>,
}

#[derive(Deserialize)]
struct Index {
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
            let map = read_index(&root.join(&name))?;
            let mut weights: Vec<String> = map.values().cloned().collect();
            weights.sort();
            weights.dedup();
            return Ok(Folder { weights, index: Some((name, map)) });
        }
        let weights: Vec<&String> = names.iter().filter(|n| n.ends_with(".safetensors")).collect();
        let single = if has(SINGLE) { Some(SINGLE.to_string()) } else { None };
        match (single, weights.as_slice()) {
            (Some(single), _) => Ok(Folder { weights: vec![single], index: None }),
            (None, [only]) => Ok(Folder { weights: vec![only.to_string()], index: None }),
            (None, []) => Err(no_weights(root, &names)),
            (None, many) => {
                let detail = format!("has {} safetensors files but no {INDEX} that says what they are", many.len());
                Err(Error::malformed("CKP-3", "folder", detail).in_file(root))
            }
        }
    }
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

fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    let bytes = read_regular(path)?;
    let bad = |detail: String| Error::malformed("CKP-4", "index", detail).in_file(path);
    // What the parser says may quote the file.
    let Object(index): Object<Index> =
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
    Ok(map)
}

/// Files that go along with the weights: configuration, tokenizer and the like, sorted by name.
pub(crate) fn companions(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let names = file_names(root)?.into_iter().filter(|n| {
        let weight = is_safetensors(n) || is_foreign_weight(n);
        !(weight || n.starts_with('.') || n == RECIPE || n.ends_with(".stitch"))
    });
    Ok(names.map(|n| (n.clone(), root.join(n))).collect())
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
