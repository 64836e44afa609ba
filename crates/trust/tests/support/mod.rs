//! Keys and bundles that several tests use.
#![allow(dead_code)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use stitchpack_trust::{Bundle, PrivateKey, PublicKey, sign};

pub const CURVES: [&str; 3] = ["p256", "p384", "p521"];

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

pub fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

pub fn private(curve: &str) -> PrivateKey {
    PrivateKey::from_pem(&text(&format!("{curve}.pem"))).unwrap()
}

pub fn public(curve: &str) -> PublicKey {
    PublicKey::from_pem(&text(&format!("{curve}.pub.pem"))).unwrap()
}

/// A signed bundle, as JSON that a test may spoil.
pub fn bundle(statement: &str) -> Value {
    let bundle = sign(statement.as_bytes().to_vec(), &private("p256")).unwrap();
    serde_json::from_slice(&bundle.to_bytes()).unwrap()
}

/// The rule that an error cites, or its kind.
pub fn rule(error: &stitchpack::Error) -> String {
    match error.root() {
        stitchpack::Error::Malformed { rule, .. } => (*rule).into(),
        other => other.kind().into(),
    }
}

pub fn parse(bytes: &[u8]) -> Result<Bundle, String> {
    Bundle::parse(bytes).map_err(|e| rule(&e))
}
