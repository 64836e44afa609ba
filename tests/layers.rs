//! Imports point down and never in a circle: the table below is the architecture, and every `use crate::` is held to it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and the layers that it may use. What stands in one row with another must not see it.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("limits", &["error"]),
    ("files", &["error"]),
    ("parallel", &["error"]),
    ("simd", &[]),
    ("json", &["error"]),
    ("model", &["error", "limits"]),
    ("io", &["error", "files"]),
    ("checkpoint", &["error", "limits", "files", "io", "json", "parallel", "model"]),
    ("method", &["error", "parallel", "simd", "model"]),
    ("codec", &["error", "simd", "model"]),
    ("format", &["error", "limits", "model"]),
    ("pack", &["error", "limits", "io", "parallel", "simd", "model", "codec", "format"]),
    ("adapter", &["json", "error", "limits", "files", "parallel", "model", "checkpoint", "method"]),
    ("merge", &["error", "limits", "files", "json", "parallel", "model", "checkpoint", "method", "pack"]),
    ("apply", &["error", "files", "parallel", "model", "checkpoint", "method", "pack", "merge"]),
    (
        "create",
        &["error", "limits", "parallel", "model", "checkpoint", "method", "codec", "format", "pack", "merge", "apply"],
    ),
    ("fold", &["error", "parallel", "create", "merge"]),
    ("live", &["error", "parallel", "model", "checkpoint", "method", "merge"]),
    ("export", &["error", "parallel", "model", "checkpoint", "method", "merge", "live"]),
    (
        "report",
        &[
            "error",
            "parallel",
            "model",
            "checkpoint",
            "method",
            "codec",
            "format",
            "pack",
            "merge",
            "apply",
            "create",
            "export",
        ],
    ),
    ("fuzz", &["error", "limits", "model", "checkpoint", "codec", "format", "pack"]),
];

/// Third-party crates, each opened in few files.
const DOORS: &[(&str, &[&str])] = &[
    ("bincode", &["format/manifest.rs"]),
    ("bitvec", &["model/mask.rs", "codec/positions/bitmap.rs"]),
    ("blake3", &["model/digest.rs"]),
    ("half", &["method/float.rs"]),
    ("memmap2", &["io/file.rs"]),
    ("rustix", &["checkpoint/output.rs", "files.rs"]),
    ("safetensors", &["checkpoint/header.rs"]),
    ("zstd", &["codec/compress.rs"]),
];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// (path below src, text without its unit tests).
fn library() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut out: Vec<_> = paths
        .into_iter()
        .map(|p| {
            let text = fs::read_to_string(&p).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().to_string();
            (p.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), code)
        })
        .collect();
    out.sort();
    out
}

fn layer_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// The layers that a text names as `crate::LAYER` or in `crate::{LAYER, …}`.
fn used(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (i, _) in text.match_indices("crate::") {
        let rest = &text[i + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => out.extend(list.split('}').next().unwrap().split(',').map(|item| word(item.trim()))),
            None => out.push(word(rest)),
        }
    }
    // Names that start with a capital are re-exports of the root: `crate::Error`.
    out.retain(|w| w.starts_with(|c: char| c.is_ascii_lowercase()));
    out
}

#[test]
fn an_import_that_points_up_is_refused() {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in library() {
        let layer = layer_of(&path);
        if layer == "lib" {
            continue;
        }
        let allowed = table.get(layer).unwrap_or_else(|| panic!("{path}: layer {layer} is not in the table"));
        let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for word in used(&code).iter().filter(|w| *w != layer && table.contains_key(w.as_str())) {
            if !allowed.contains(&word.as_str()) {
                wrong.push(format!("{path} uses {word}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_itself_has_no_circle() {
    for (i, (layer, uses)) in MAY_USE.iter().enumerate() {
        for below in *uses {
            let j = MAY_USE.iter().position(|(l, _)| l == below).unwrap_or_else(|| panic!("{below} is no layer"));
            assert!(j < i, "{layer} may use {below}, which stands above it");
        }
    }
}

#[test]
fn a_third_party_crate_has_its_doors() {
    let mut wrong = Vec::new();
    for (path, text) in library() {
        for (name, doors) in DOORS {
            let opened = text.lines().filter(|l| !l.trim_start().starts_with("//")).any(|l| {
                l.contains(&format!("use {name}::"))
                    || l.contains(&format!(" {name}::"))
                    || l.contains(&format!("({name}::"))
            });
            if opened && !doors.iter().any(|d| path.starts_with(d)) {
                wrong.push(format!("{path} opens {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
