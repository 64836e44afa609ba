//! Keys as openssl makes them, and what is no such key.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use stitchpack_trust::key::Curve;
use stitchpack_trust::{CommandSigner, PrivateKey, PublicKey, Signer, sign};
use support::{CURVES, path, private, public, rule, text};

#[test]
fn all_forms_of_a_key_are_one_key() {
    for (name, curve) in CURVES.into_iter().zip([Curve::P256, Curve::P384, Curve::P521]) {
        let key = public(name);
        assert_eq!(key.curve(), curve);
        for form in ["pem", "sec1.pem", "sec1.params.pem"] {
            let found = PrivateKey::from_pem(&text(&format!("{name}.{form}"))).unwrap();
            assert_eq!(found.public(), key, "{name}.{form}");
            assert!(key.verifies(b"message", &found.sign(b"message").unwrap()));
        }
        assert_eq!(key.to_pem().unwrap(), text(&format!("{name}.pub.pem")));
    }
    // A compressed point is the same key, under the same name.
    let compressed = PublicKey::from_pem(&text("p256.pub.compressed.pem")).unwrap();
    assert_eq!(compressed.id().unwrap(), public("p256").id().unwrap());
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let p256 = text("p256.pub.pem");
    let twice = format!("{p256}{p256}");
    let chatty = format!("trust me\n{p256}");
    let cut = p256.replace("-----END", "-----");
    let damaged = p256.replacen('M', "N", 1);
    let public = |text: &str| rule(&PublicKey::from_pem(text).unwrap_err());
    let cases: Vec<(&str, &str, String)> = vec![
        ("two keys", "KEY-1", twice),
        ("text outside", "KEY-1", chatty),
        ("no end", "KEY-1", cut),
        ("empty", "KEY-1", String::new()),
        ("a private key", "KEY-1", text("p256.pem")),
        ("secp256k1", "KEY-2", text("k256.pub.pem")),
        ("Ed25519", "KEY-2", text("ed25519.pub.pem")),
        ("RSA", "KEY-2", text("rsa.pub.pem")),
        ("explicit parameters", "KEY-2", text("p256.pub.explicit.pem")),
        ("damaged", "KEY-2", damaged),
    ];
    for (what, expected, text) in cases {
        assert_eq!(public(&text), expected, "{what}");
    }
    for (name, expected) in [
        ("k256.pem", "KEY-2"),
        ("ed25519.pem", "KEY-2"),
        ("p256.encrypted.pem", "KEY-4"),
        ("p256.sec1.encrypted.pem", "KEY-4"),
        ("p256.pub.pem", "KEY-4"),
    ] {
        assert_eq!(rule(&PrivateKey::from_pem(&text(name)).unwrap_err()), expected, "{name}");
    }
}

#[test]
fn no_changed_byte_of_a_key_verifies() {
    let (key, pem) = (public("p256"), text("p256.pub.pem"));
    let signature = private("p256").sign(b"message").unwrap();
    let mut accepted = 0;
    for at in 0..pem.len() {
        for bit in 0..7 {
            let mut bytes = pem.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let Some(found) = std::str::from_utf8(&bytes).ok().and_then(|t| PublicKey::from_pem(t).ok()) else {
                continue;
            };
            // White space for white space is the same key; anything else must be another.
            accepted += usize::from(found == key);
            assert_eq!(found.verifies(b"message", &signature), found == key, "byte {at}");
        }
    }
    assert!(accepted < 16, "{accepted} changed files are the same key");
}

#[test]
fn no_error_and_no_debug_has_bytes_of_a_key() {
    let pem = text("p256.pem");
    let secret: Vec<&str> = pem.lines().filter(|l| !l.starts_with("-----")).collect();
    let shown = |text: String| secret.iter().any(|line| text.contains(&line[..12]));
    assert!(shown(pem.clone()));
    assert!(!shown(format!("{:?}", private("p256"))));
    for spoiled in [
        pem.replace("PRIVATE", "SECRET"),
        pem.replacen("AE1", "A*1", 1),
        pem.replace('h', "*"),
        format!("{}{pem}", text("p384.pem")),
    ] {
        let error = PrivateKey::from_pem(&spoiled).unwrap_err();
        assert!(!shown(format!("{error} {error:?}")), "{error}");
    }
}

#[test]
fn a_private_key_that_is_open_to_others_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::copy(path("p256.pem"), &file).unwrap();
    for (mode, accepted) in
        [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o666, false)]
    {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = PrivateKey::read(&file);
        assert_eq!(found.is_ok(), accepted, "{mode:o}");
        if let Err(e) = found {
            assert!(e.to_string().contains("KEY-5"), "{e}");
        }
    }
    // A pipe that nobody writes to does not hold the process.
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(rule(&PrivateKey::read(&pipe).unwrap_err()), "io");
    let large = folder.path().join("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(rule(&PublicKey::read(&large).unwrap_err()), "limit");
}

/// Both s and −s are signatures; nothing may be keyed by one of them.
#[test]
fn a_high_s_is_accepted() {
    let (key, message) = (private("p256"), b"message");
    let signature = p256::ecdsa::Signature::from_der(&key.sign(message).unwrap()).unwrap();
    let (r, s) = signature.split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r, -*s).unwrap();
    assert_ne!(other, signature);
    for signature in [signature, other] {
        assert!(key.public().verifies(message, signature.to_der().as_bytes()));
        // Raw r‖s, and what follows DER, are no signatures here.
        assert!(!key.public().verifies(message, &signature.to_bytes()));
        assert!(!key.public().verifies(message, &[signature.to_der().as_bytes(), &[0]].concat()));
    }
}

fn signed_by(command: &str, key: Option<PublicKey>) -> Result<Vec<u8>, String> {
    let signer = CommandSigner::new(command, key).with_deadline(Duration::from_secs(5));
    sign(b"{}".to_vec(), &signer).map(|bundle| bundle.to_bytes()).map_err(|e| e.to_string())
}

#[test]
fn a_command_signs_with_a_key_that_never_comes_here() {
    let key = path("p256.pem");
    let key = key.to_str().unwrap();
    for command in [
        format!("openssl dgst -sha256 -sign {key}"),
        format!("openssl dgst -sha256 -sign {key} | base64"),
        // A service that takes a digest, and does not read its input.
        format!("perl -e 'print pack \"H*\", $ENV{{STITCHPACK_SHA256}}' | openssl pkeyutl -sign -inkey {key}"),
    ] {
        let bytes = signed_by(&command, Some(public("p256"))).unwrap();
        let bundle = stitchpack_trust::Bundle::parse(&bytes).unwrap();
        assert!(bundle.verify([&public("p256")]).unwrap().is_some(), "{command}");
        assert_eq!(bundle.hint(), Some(public("p256").id().unwrap().as_str()));
    }
    let bytes = signed_by(&format!("openssl dgst -sha256 -sign {key}"), None).unwrap();
    assert_eq!(stitchpack_trust::Bundle::parse(&bytes).unwrap().hint(), None);
}

#[test]
fn a_command_that_does_not_sign_is_refused_in_time() {
    let key = path("p256.pem");
    let key = key.to_str().unwrap();
    for (command, why) in [
        ("exit 3".to_string(), "exit status: 3"),
        ("true".into(), "printed no ECDSA signature"),
        ("echo hello".into(), "printed no ECDSA signature"),
        ("yes".into(), "ended with"),
        ("head -c 5000 /dev/zero".into(), "more than 4096 bytes"),
        (format!("openssl dgst -sha256 -sign {key} < /dev/null"), "SIG-2"),
        (format!("openssl dgst -sha384 -sign {key}"), "SIG-2"),
    ] {
        let error = signed_by(&command, Some(public("p256"))).unwrap_err();
        assert!(error.contains(why), "{command}: {error}");
    }
    let start = Instant::now();
    for command in ["sleep 60", "exec >&-; sleep 60", "sleep 60 & exit 0"] {
        let signer = CommandSigner::new(command, None).with_deadline(Duration::from_millis(200));
        let error = signer.sign(b"x").unwrap_err().to_string();
        assert!(error.contains("took longer"), "{command}: {error}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}
