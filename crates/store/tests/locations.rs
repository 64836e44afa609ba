//! Every row of the table in spec/locations.md, and what no row can say.

#![allow(clippy::unwrap_used)]

use stitchpack::Error;
use stitchpack_store::{Location, Weighted};

/// (words, how they are read) of the table of cases.
fn cases() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/locations.md")).unwrap();
    let table = page.split("## Cases").nth(1).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').split(" | ");
        let words = cells.next().unwrap().trim().trim_matches('`').to_owned();
        (words, cells.next().unwrap().trim().replace('`', ""))
    })
    .collect()
}

#[test]
fn every_case_of_the_page_is_read_as_it_says() {
    let cases = cases();
    assert!(cases.len() > 50, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for (words, expected) in cases {
        let found = match Weighted::parse(&words) {
            Ok(Weighted { location, weight: None }) => location.to_string(),
            Ok(Weighted { location, weight: Some(weight) }) => format!("{location} @ {weight}"),
            Err(Error::InvalidInput(_)) => "refused".into(),
            Err(other) => format!("{other:?}"),
        };
        if found != expected {
            wrong.push(format!("{words}: {found}, the page says {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_shown_is_read_as_the_same_place() {
    for (words, expected) in
        cases().into_iter().filter(|(_, expected)| expected != "refused" && !expected.contains('@'))
    {
        let shown = Location::parse(&expected).unwrap();
        assert_eq!(shown.to_string(), expected, "{words}");
    }
}

#[test]
fn no_message_and_no_debug_text_holds_a_secret() {
    for words in [
        "https://user:hunter2@host/x",
        "https://hunter2@host/x",
        "s3://user:hunter2@bucket/x",
        "oci://user:hunter2@host/x",
        "ftp://user:hunter2@host/x",
        "https://host/x?sig=hunter2#y",
        "s3://bucket/x?sig=hunter2",
    ] {
        let message = Location::parse(words).unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{words}: {message}");
    }
    let signed = Location::parse("https://host/x?sig=hunter2").unwrap();
    assert!(!format!("{signed} {signed:?}").contains("hunter2"));
}

#[test]
fn a_channel_is_named_after_its_store() {
    let (store, name) = Location::parse_channel("s3://bucket/models#nightly").unwrap();
    assert_eq!((store.to_string().as_str(), name.as_str()), ("s3://bucket/models", "nightly"));
    let (store, name) = Location::parse_channel("./store#a#b").unwrap();
    assert_eq!((store.to_string().as_str(), name.as_str()), ("./store#a", "b"));
    for words in ["./store", "./store#", "./store#.x", "./store#a/b", "oci://h/r#x", "hf://o/n#x", "#x"] {
        assert!(matches!(Location::parse_channel(words), Err(Error::InvalidInput(_))), "{words}");
    }
}

#[test]
fn text_of_any_kind_is_read_or_refused_and_never_panics() {
    let parts =
        ["https:", "hf:", "oci:", "//", "/", "@", ":", "#", "?", "a", "..", "sha256:", "é", "\u{202e}", "%", "[", "1"];
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut words = String::new();
        for _ in 0..(state >> 60) + 1 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            words.push_str(parts[(state >> 33) as usize % parts.len()]);
        }
        drop(Weighted::parse(&words));
        drop(Location::parse_channel(&words));
    }
}
