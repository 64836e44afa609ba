//! Bundles: what is accepted, byte by byte, and what is refused, with the rule.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use stitchpack_trust::{Bundle, PublicKey, sign};
use support::{CURVES, bundle, parse, private, public, rule};

const STATEMENT: &str = r#"{"_type":"https://in-toto.io/Statement/v1"}"#;

#[test]
fn every_curve_signs_and_only_its_key_verifies() {
    for name in CURVES {
        let bytes = sign(STATEMENT.into(), &private(name)).unwrap().to_bytes();
        let bundle = Bundle::parse(&bytes).unwrap();
        for other in CURVES {
            let signed = bundle.verify([&public(other)]).unwrap();
            assert_eq!(signed.is_some(), other == name, "{name} by {other}");
        }
        let all: Vec<PublicKey> = CURVES.into_iter().map(public).collect();
        let signed = bundle.verify(&all).unwrap().unwrap();
        assert_eq!((signed.payload, signed.key), (STATEMENT.into(), public(name).id().unwrap()));
        assert!(bundle.verify([]).unwrap().is_none());
    }
}

/// Spoils a good bundle and gives the rule that refuses it.
fn spoiled(spoil: impl FnOnce(&mut Value)) -> String {
    let mut value = bundle(STATEMENT);
    spoil(&mut value);
    parse(value.to_string().as_bytes()).expect_err("accepted")
}

/// What is wrong, the reason that is given, and the change.
type Case = (&'static str, &'static str, Box<dyn FnOnce(&mut Value)>);

#[test]
fn a_bundle_that_is_not_as_it_must_be_is_refused() {
    let text = bundle(STATEMENT).to_string();
    let payload = bundle(STATEMENT)["dsseEnvelope"]["payload"].as_str().unwrap().to_string();
    let twice = |name: &str| text.replacen(&format!("\"{name}\":"), &format!("\"{name}\":\"\",\"{name}\":"), 1);
    let raw: Vec<(&str, &str, Vec<u8>)> = vec![
        ("empty", "JSN-1", vec![]),
        ("two values", "JSN-1", format!("{text}{text}").into()),
        ("trailing text", "JSN-1", format!("{text}x").into()),
        ("byte order mark", "JSN-1", format!("\u{feff}{text}").into()),
        ("not UTF-8", "JSN-1", [text.as_bytes(), b"\xff"].concat()),
        ("UTF-16", "JSN-1", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("duplicate media type", "JSN-1", twice("mediaType").into()),
        ("duplicate payload", "JSN-1", twice("payload").into()),
        ("duplicate envelope", "JSN-1", twice("dsseEnvelope").into()),
        ("duplicate by escape", "JSN-1", text.replacen("{", "{\"media\\u0054ype\":\"x\",", 1).into()),
        ("duplicate sig", "JSN-1", twice("sig").into()),
        ("deep nesting", "JSN-1", "[".repeat(100_000).into()),
        ("a comment", "JSN-1", format!("/* */{text}").into()),
        ("a list", "BUN-1", format!("[{text}]").into()),
        ("NaN", "JSN-1", b"NaN".to_vec()),
    ];
    for (what, expected, bytes) in raw {
        assert_eq!(parse(&bytes).expect_err(what), expected, "{what}");
    }
    let (url, bare) = (format!("{}_-", payload.trim_end_matches('=')), payload.trim_end_matches('=').to_string() + "A");
    let cases: Vec<Case> = vec![
        (
            "media type v0.2",
            "BUN-2",
            Box::new(|b| b["mediaType"] = json!("application/vnd.dev.sigstore.bundle+json;version=0.2")),
        ),
        ("no media type", "BUN-1", Box::new(|b| drop(b.as_object_mut().unwrap().remove("mediaType")))),
        ("unknown member", "BUN-1", Box::new(|b| b["more"] = json!(1))),
        ("other spelling", "BUN-1", Box::new(|b| b["media_type"] = json!("x"))),
        ("message signature", "BUN-1", Box::new(|b| b["messageSignature"] = json!({}))),
        ("no envelope", "BUN-1", Box::new(|b| drop(b.as_object_mut().unwrap().remove("dsseEnvelope")))),
        ("no material", "BUN-1", Box::new(|b| drop(b.as_object_mut().unwrap().remove("verificationMaterial")))),
        ("empty material", "BUN-1", Box::new(|b| b["verificationMaterial"] = json!({}))),
        (
            "a certificate",
            "unsupported",
            Box::new(|b| b["verificationMaterial"] = json!({"certificate": {"rawBytes": ""}})),
        ),
        ("key in material", "BUN-1", Box::new(|b| b["verificationMaterial"]["publicKey"]["rawBytes"] = json!("AAAA"))),
        ("hint is a number", "BUN-1", Box::new(|b| b["verificationMaterial"]["publicKey"]["hint"] = json!(1))),
        ("payload type", "ENV-3", Box::new(|b| b["dsseEnvelope"]["payloadType"] = json!("text/plain"))),
        (
            "payload type by case",
            "ENV-3",
            Box::new(|b| b["dsseEnvelope"]["payloadType"] = json!("application/vnd.in-toto+JSON")),
        ),
        ("no payload", "ENV-2", Box::new(|b| drop(b["dsseEnvelope"].as_object_mut().unwrap().remove("payload")))),
        ("two payloads", "ENV-2", Box::new(|b| b["dsseEnvelope"]["payload2"] = json!("e30="))),
        ("payload list", "ENV-2", Box::new(|b| b["dsseEnvelope"]["payload"] = json!(["e30=", "e30="]))),
        ("base64url", "ENV-4", Box::new(move |b| b["dsseEnvelope"]["payload"] = json!(url))),
        ("no padding", "ENV-4", Box::new(move |b| b["dsseEnvelope"]["payload"] = json!(bare))),
        ("bits in padding", "ENV-4", Box::new(|b| b["dsseEnvelope"]["payload"] = json!("e31="))),
        ("line breaks", "ENV-4", Box::new(|b| b["dsseEnvelope"]["payload"] = json!("e3\n0="))),
        ("signature not base64", "ENV-4", Box::new(|b| b["dsseEnvelope"]["signatures"][0]["sig"] = json!("*"))),
        ("no signatures", "ENV-2", Box::new(|b| drop(b["dsseEnvelope"].as_object_mut().unwrap().remove("signatures")))),
        ("empty list", "ENV-5", Box::new(|b| b["dsseEnvelope"]["signatures"] = json!([]))),
        ("empty signature", "ENV-5", Box::new(|b| b["dsseEnvelope"]["signatures"][0]["sig"] = json!(""))),
        (
            "two signatures",
            "ENV-5",
            Box::new(|b| {
                let sig = b["dsseEnvelope"]["signatures"][0].clone();
                b["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(sig);
            }),
        ),
        ("no sig", "ENV-2", Box::new(|b| b["dsseEnvelope"]["signatures"] = json!([{}]))),
        ("unknown in signature", "ENV-2", Box::new(|b| b["dsseEnvelope"]["signatures"][0]["cert"] = json!(""))),
        ("keyid is a number", "ENV-2", Box::new(|b| b["dsseEnvelope"]["signatures"][0]["keyid"] = json!(3))),
    ];
    for (what, expected, spoil) in cases {
        assert_eq!(spoiled(spoil), expected, "{what}");
    }
}

/// A signature with another curve's key, of another message, or of the payload without its encoding.
#[test]
fn a_signature_over_anything_else_does_not_verify() {
    let good = bundle(STATEMENT);
    use base64ct::{Base64, Encoding};
    let verifies = |message: &[u8], curve: &str| {
        let mut b = good.clone();
        b["dsseEnvelope"]["signatures"][0]["sig"] =
            json!(Base64::encode_string(&private(curve).sign(message).unwrap()));
        let bundle = Bundle::parse(b.to_string().as_bytes()).unwrap();
        bundle.verify([&public("p256")]).unwrap().is_some()
    };
    let pae = stitchpack_trust::bundle::pae(STATEMENT.as_bytes());
    assert!(pae.starts_with(b"DSSEv1 28 application/vnd.in-toto+json 43 {"));
    assert!(verifies(&pae, "p256"));
    assert!(!verifies(&pae, "p384"));
    assert!(!verifies(&pae, "p521"));
    assert!(!verifies(STATEMENT.as_bytes(), "p256"));
    assert!(!verifies(&[b"DSSEV1", &pae[6..]].concat(), "p256"));
}

/// Each byte of a bundle changed in every bit: never another payload and never another key. What is accepted is the same claim.
#[test]
fn no_changed_byte_gives_another_claim() {
    let bytes = sign(STATEMENT.into(), &private("p256")).unwrap().to_bytes();
    let keys = [public("p256"), public("p384")];
    let expected = Bundle::parse(&bytes).unwrap().verify(&keys).unwrap().unwrap();
    let (mut same, mut at_of_same) = (0, std::collections::BTreeSet::new());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let Ok(bundle) = Bundle::parse(&changed) else { continue };
            if let Some(signed) = bundle.verify(&keys).unwrap() {
                assert_eq!(signed, expected, "byte {at} bit {bit}");
                same += 1;
                at_of_same.insert(at);
            }
        }
    }
    // What changes and means the same is the hint, which nobody believes, and nothing else.
    let text = std::str::from_utf8(&bytes).unwrap();
    let hint = text.find("\"hint\":\"").unwrap() + 8;
    assert!(same > 0 && at_of_same.iter().all(|at| (hint..hint + 64).contains(at)), "{at_of_same:?}");
    for len in 0..bytes.len() {
        assert!(Bundle::parse(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn white_space_and_hints_say_nothing() {
    let expected = Bundle::parse(bundle(STATEMENT).to_string().as_bytes()).unwrap().verify([&public("p256")]).unwrap();
    let mut b = bundle(STATEMENT);
    b["verificationMaterial"]["publicKey"] = json!({ "hint": public("p384").id().unwrap() });
    b["dsseEnvelope"]["signatures"][0]["keyid"] = json!("somebody else");
    b["verificationMaterial"]["tlogEntries"] = json!([{"logIndex": "1"}]);
    let pretty = format!(" \n{}\t\r\n", serde_json::to_string_pretty(&b).unwrap());
    assert_eq!(Bundle::parse(pretty.as_bytes()).unwrap().verify([&public("p256")]).unwrap(), expected);
}

#[test]
fn a_bundle_that_is_too_large_is_refused_before_it_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(rule(&Bundle::read(&large).unwrap_err()), "limit");
    assert_eq!(parse(&vec![b' '; (32 << 20) + 1]).unwrap_err(), "JSN-1");
}
