//! The table of limits in spec/guarantees.md against `Limits::default()`, field by field.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use stitchpack::Limits;

/// Fields and values, from the derived `Debug`, which cannot leave out a field.
fn in_code() -> BTreeMap<String, u64> {
    let text = format!("{:#?}", Limits::default());
    let fields = text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    fields.map(|(name, value)| (name.to_string(), value.parse().unwrap())).collect()
}

/// `134,217,728` or `2^40`.
fn number(text: &str) -> u64 {
    match text.split_once('^') {
        Some((base, power)) => base.parse::<u64>().unwrap().pow(power.parse().unwrap()),
        None => text.replace(',', "").parse().unwrap(),
    }
}

fn in_spec() -> BTreeMap<String, u64> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spec/guarantees.md")).unwrap();
    let table = page.split("[LIM-1]").nth(1).unwrap().split("Fixed by the format").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    cells.map(|row| (row[1].trim_matches('`').to_string(), number(row[2]))).collect()
}

#[test]
fn a_limit_that_the_spec_does_not_name_is_found() {
    let code = in_code();
    assert!(code.len() >= 12, "{code:?}");
    assert_eq!(in_spec(), code);
}
