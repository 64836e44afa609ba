//! Spec, code and tests cite the same rules: every id in `src/` is defined once in `spec/`, every id of `spec/` is
//! enforced somewhere in `src/`, and every id of a rule that a file can break appears in a test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Rules about what a writer or a person does, which no input can break.
const NOT_BREAKABLE: &[&str] = &[];

fn texts(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, extensions: &[&str], out: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, extensions, out);
            } else if extensions.iter().any(|e| path.extension().is_some_and(|x| x == *e)) {
                out.push((path.to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap_or_default()));
            }
        }
    }
    let mut out = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), extensions, &mut out);
    out
}

/// Ids such as `HDR-3`: three capitals, a dash, a number.
fn ids(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (i, _) in text.match_indices('-') {
        let before: String = text[..i].chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
        let after: String = text[i + 1..].chars().take_while(char::is_ascii_digit).collect();
        let capitals: String = before.chars().rev().take_while(|c| c.is_ascii_uppercase()).collect();
        let delimited =
            text[i + 1 + after.len()..].chars().next().is_none_or(|c| !c.is_ascii_alphanumeric() && c != '-');
        if capitals.len() == 3 && !after.is_empty() && after.len() <= 2 && delimited {
            out.push(format!("{}-{after}", capitals.chars().rev().collect::<String>()));
        }
    }
    out.retain(|id| id != "UTF-8");
    out
}

/// A folder of the library and the same one of every crate above it.
fn of_every_crate(folder: &str, extensions: &[&str]) -> Vec<(String, String)> {
    let mut out = texts(folder, extensions);
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")).into_iter().flatten().flatten() {
        out.extend(texts(&format!("crates/{}/{folder}", entry.file_name().to_string_lossy()), extensions));
    }
    out
}

fn ids_of(folder: &str, extensions: &[&str]) -> BTreeMap<String, Vec<String>> {
    let mut out: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in of_every_crate(folder, extensions) {
        for id in ids(&text) {
            out.entry(id).or_default().push(path.clone());
        }
    }
    out
}

/// Ids at the start of a rule: `[HDR-1]` first in its line or list item.
fn defined() -> BTreeMap<String, usize> {
    let mut out = BTreeMap::new();
    for (_, text) in texts("spec", &["md"]) {
        for line in text.lines() {
            let rule = line.trim_start_matches(['-', '*', '|', '#', ' ']);
            let id = rule.strip_prefix('[').and_then(|r| r.split_once(']')).map(|(id, _)| id);
            if let Some(id) = id.filter(|id| ids(&format!("{id} ")).as_slice() == [id.to_string()]) {
                *out.entry(id.to_string()).or_insert(0) += 1;
            }
        }
    }
    out
}

#[test]
fn code_that_cites_an_unwritten_rule_is_found() {
    let spec = defined();
    let src = ids_of("src", &["rs"]);
    let unwritten: Vec<_> = src.iter().filter(|(id, _)| !spec.contains_key(*id)).collect();
    assert!(!spec.is_empty() && unwritten.is_empty(), "{unwritten:#?}");
}

#[test]
fn a_rule_that_nobody_enforces_is_found() {
    let src = ids_of("src", &["rs"]);
    let idle: Vec<_> = defined().into_keys().filter(|id| !src.contains_key(id)).collect();
    assert!(idle.is_empty(), "{idle:?}");
}

#[test]
fn a_rule_written_twice_is_found() {
    let twice: Vec<_> = defined().into_iter().filter(|(_, n)| *n > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn a_rule_that_no_test_breaks_is_found() {
    let enforced: BTreeSet<String> = of_every_crate("src", &["rs"])
        .iter()
        .flat_map(|(_, text)| {
            text.split("malformed(")
                .skip(1)
                .flat_map(|t| ids(&t[..t.len().min(60).min(t.find(',').unwrap_or(60))]))
                .collect::<Vec<_>>()
        })
        .collect();
    let tested = ids_of("tests", &["rs"]);
    let untested: Vec<_> =
        enforced.iter().filter(|id| !tested.contains_key(*id) && !NOT_BREAKABLE.contains(&id.as_str())).collect();
    assert!(untested.is_empty(), "{untested:?}");
}
