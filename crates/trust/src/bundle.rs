//! Sigstore bundles v0.3 with one DSSE envelope and a public-key hint: spec/trust.md, "Bundles".

use std::path::Path;

use serde_json::{Value, json};
use stitchpack::error::{Error, Escaped, Result};

use crate::encoding::{base64, from_base64};
use crate::files::{self, Secret};
use crate::json::{self, Members};
use crate::key::PublicKey;

/// Media type of the bundle. cosign, Kyverno and OpenSSF model signing read it.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Media type of what is signed: an in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// Most bytes of a bundle. The statement of a folder of 100,000 files fits.
pub const MOST: usize = 32 << 20;

/// A signed claim whose signature has not been checked: it gives nothing but who may have signed.
#[derive(Clone)]
pub struct Bundle {
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<String>,
}

/// What a key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The bytes of the statement.
    pub payload: Vec<u8>,
    /// The name of the key that signed ([`PublicKey::id`]).
    pub key: String,
}

/// DSSE's pre-authentication encoding: what a signature is over. [ENV-1]
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Bundle {
    /// A bundle of a statement and its signature in DER; `key` is hinted at.
    ///
    /// # Errors
    /// As [`PublicKey::id`].
    pub fn new(payload: Vec<u8>, signature: Vec<u8>, key: Option<&PublicKey>) -> Result<Self> {
        Ok(Bundle { payload, signature, hint: key.map(PublicKey::id).transpose()? })
    }

    /// Parses a bundle.
    ///
    /// # Errors
    /// `Malformed` with the rule that it breaks; `Unsupported` for a keyless bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut bundle = Members::of(json::parse(bytes, MOST, "bundle")?, "BUN-1", "bundle")?;
        let media_type = bundle.text("mediaType")?;
        if media_type != MEDIA_TYPE {
            let detail = format!("the media type is \"{}\", must be \"{MEDIA_TYPE}\"", Escaped(&media_type));
            return Err(malformed("BUN-2", "bundle", detail));
        }
        let hint = hint(bundle.need("verificationMaterial")?)?;
        if bundle.take("messageSignature").is_some() {
            return Err(malformed("BUN-1", "bundle", "signs a message, must sign a DSSE envelope"));
        }
        let (payload, signature) = envelope(bundle.need("dsseEnvelope")?)?;
        bundle.finish()?;
        Ok(Bundle { payload, signature, hint })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `Io`, `LimitExceeded`, or as [`Bundle::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&files::read(path, MOST, Secret::No)?).map_err(|e| files::within(path, e))
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let key = self.hint.as_ref().map_or(json!({}), |hint| json!({ "hint": hint }));
        let value = json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": { "publicKey": key, "tlogEntries": [] },
            "dsseEnvelope": {
                "payload": base64(&self.payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{ "sig": base64(&self.signature), "keyid": "" }],
            },
        });
        value.to_string().into_bytes()
    }

    /// The name of the key that may have signed. It is no part of what is signed: for messages alone. [BUN-3]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The statement, where one of `keys` signed it. Which one is found by trying: the hint says nothing that can be believed.
    ///
    /// # Errors
    /// As [`PublicKey::id`].
    pub fn verify<'k>(&self, keys: impl IntoIterator<Item = &'k PublicKey>) -> Result<Option<Signed>> {
        let message = pae(&self.payload);
        let signer = keys.into_iter().find(|key| key.verifies(&message, &self.signature));
        signer.map(|key| Ok(Signed { payload: self.payload.clone(), key: key.id()? })).transpose()
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({} bytes, unverified)", self.payload.len())
    }
}

fn malformed(rule: &'static str, place: &str, detail: impl Into<String>) -> Error {
    Error::Malformed { rule, place: place.into(), detail: detail.into() }
}

/// Reads the verification material: a public key's hint.
fn hint(material: Value) -> Result<Option<String>> {
    let place = "bundle: verificationMaterial";
    let mut material = Members::of(material, "BUN-1", place)?;
    if ["certificate", "x509CertificateChain"].iter().any(|name| material.take(name).is_some()) {
        let what = "a bundle signed without a key of its own (a certificate): verification material of kind".into();
        return Err(Error::Unsupported { what, found: 2, known: 1 });
    }
    let key = material.need("publicKey")?;
    for name in ["tlogEntries", "timestampVerificationData"] {
        // A log's proof or a time stamp says nothing about the signature, and nobody here relies on either.
        material.take(name);
    }
    material.finish()?;
    let mut key = Members::of(key, "BUN-1", "bundle: publicKey")?;
    let hint = match key.take("hint") {
        None | Some(Value::Null) => None,
        Some(Value::String(hint)) => Some(hint),
        Some(_) => return key.fault("\"hint\" must be a string"),
    };
    key.finish()?;
    Ok(hint.filter(|hint| !hint.is_empty()))
}

/// Reads a DSSE envelope with exactly one signature: payload and signature.
fn envelope(envelope: Value) -> Result<(Vec<u8>, Vec<u8>)> {
    let place = "bundle: dsseEnvelope";
    let mut envelope = Members::of(envelope, "ENV-2", place)?;
    let kind = envelope.text("payloadType")?;
    if kind != PAYLOAD_TYPE {
        let detail = format!("the payload's type is \"{}\", must be \"{PAYLOAD_TYPE}\"", Escaped(&kind));
        return Err(malformed("ENV-3", place, detail));
    }
    let payload = decoded(&envelope.text("payload")?, "payload")?;
    let mut signatures = envelope.list("signatures")?;
    let count = signatures.len();
    let (Some(signature), 1) = (signatures.pop(), count) else {
        return Err(malformed("ENV-5", place, format!("{count} signatures, must be one")));
    };
    envelope.finish()?;
    let mut signature = Members::of(signature, "ENV-2", "bundle: signature")?;
    let sig = decoded(&signature.text("sig")?, "sig")?;
    match signature.take("keyid") {
        // The key's name in an envelope is not signed either.
        None | Some(Value::String(_)) => {}
        Some(_) => return signature.fault("\"keyid\" must be a string"),
    }
    signature.finish()?;
    if sig.is_empty() {
        return Err(malformed("ENV-5", place, "the signature is empty"));
    }
    Ok((payload, sig))
}

fn decoded(text: &str, what: &str) -> Result<Vec<u8>> {
    let detail = || format!("\"{what}\" is not standard base64 with padding, in its one spelling");
    from_base64(text).ok_or_else(|| malformed("ENV-4", "bundle: dsseEnvelope", detail()))
}
