//! ECDSA keys on the three NIST curves, in PEM as openssl writes it: spec/trust.md, "Keys".

use std::fmt;
use std::path::Path;

use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use sha2::{Digest as _, Sha256};
use stitchpack::error::{Error, Escaped, Result};

use crate::encoding::hex;
use crate::files::{self, Secret};

/// Most bytes of a key file that are read.
const MOST: usize = 64 << 10;

/// A curve and the hash that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// P-256 with SHA-256.
    P256,
    /// P-384 with SHA-384.
    P384,
    /// P-521 with SHA-512.
    P521,
}

/// A key that verifies.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Verifying);

#[derive(Clone, PartialEq, Eq)]
enum Verifying {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// A key that signs. It is overwritten when it is dropped, and nothing prints it.
pub struct PrivateKey(Signing);

enum Signing {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

fn fault(rule: &'static str, detail: impl Into<String>) -> Error {
    Error::Malformed { rule, place: "key".into(), detail: detail.into() }
}

impl PublicKey {
    /// Reads one PEM block `PUBLIC KEY`. [KEY-1]
    ///
    /// # Errors
    /// `Malformed` with what it is instead: a private key, a certificate, another curve.
    pub fn from_pem(text: &str) -> Result<Self> {
        let blocks = blocks(text)?;
        let [block] = blocks.as_slice() else {
            return Err(fault("KEY-1", format!("{} PEM blocks, must be one", blocks.len())));
        };
        if block.label != "PUBLIC KEY" {
            return Err(fault("KEY-1", format!("a PEM block \"{}\", must be \"PUBLIC KEY\"", Escaped(block.label))));
        }
        let read = |curve: Curve| match curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_public_key_pem(block.text).ok().map(Verifying::P256),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_public_key_pem(block.text).ok().map(Verifying::P384),
            Curve::P521 => p521::ecdsa::VerifyingKey::from_public_key_pem(block.text).ok().map(Verifying::P521),
        };
        let key = CURVES.into_iter().find_map(read).map(PublicKey);
        key.ok_or_else(|| fault("KEY-2", "not an ECDSA key on P-256, P-384 or P-521"))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `Io`, or as [`PublicKey::from_pem`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path, MOST, Secret::No)?;
        Self::from_pem(&text).map_err(|e| files::within(path, e))
    }

    /// The key's curve.
    pub fn curve(&self) -> Curve {
        match self.0 {
            Verifying::P256(_) => Curve::P256,
            Verifying::P384(_) => Curve::P384,
            Verifying::P521(_) => Curve::P521,
        }
    }

    /// The PEM of the key, as openssl writes it.
    ///
    /// # Errors
    /// `Internal` where a valid key does not encode.
    pub fn to_pem(&self) -> Result<String> {
        let pem = match &self.0 {
            Verifying::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Verifying::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Verifying::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.map_err(|_| Error::Internal("a public key does not encode".into()))
    }

    /// The name of the key: the SHA-256 of its PEM in hex, as OpenSSF model signing hints at keys. [KEY-3]
    ///
    /// # Errors
    /// As [`PublicKey::to_pem`].
    pub fn id(&self) -> Result<String> {
        Ok(hex(&Sha256::digest(self.to_pem()?.as_bytes())))
    }

    /// Whether `signature`, in DER, is the key's over `message`, hashed with the curve's hash. Both values of s are accepted, as
    /// openssl and most key services do not normalise it. [SIG-1]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        use p256::ecdsa::signature::Verifier;
        match &self.0 {
            Verifying::P256(key) => {
                p256::ecdsa::Signature::from_der(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Verifying::P384(key) => {
                p384::ecdsa::Signature::from_der(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
            Verifying::P521(key) => {
                p521::ecdsa::Signature::from_der(signature).is_ok_and(|s| key.verify(message, &s).is_ok())
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?} {})", self.curve(), self.id().unwrap_or_else(|_| "?".into()))
    }
}

impl PrivateKey {
    /// Reads SEC1 (`EC PRIVATE KEY`, with or without `EC PARAMETERS` before) or PKCS#8 (`PRIVATE KEY`). [KEY-4]
    ///
    /// # Errors
    /// `Malformed` with what it is instead; never with any of its bytes.
    pub fn from_pem(text: &str) -> Result<Self> {
        let mut blocks = blocks(text)?;
        blocks.retain(|block| block.label != "EC PARAMETERS");
        let [block] = blocks.as_slice() else {
            return Err(fault("KEY-4", format!("{} PEM blocks of keys, must be one", blocks.len())));
        };
        let read = |curve: Curve| match (block.label, curve) {
            ("EC PRIVATE KEY", Curve::P256) => {
                p256::SecretKey::from_sec1_pem(block.text).ok().map(|key| Signing::P256(key.into()))
            }
            ("EC PRIVATE KEY", Curve::P384) => {
                p384::SecretKey::from_sec1_pem(block.text).ok().map(|key| Signing::P384(key.into()))
            }
            ("EC PRIVATE KEY", Curve::P521) => {
                p521::SecretKey::from_sec1_pem(block.text).ok().map(|key| Signing::P521(key.into()))
            }
            (_, Curve::P256) => p256::SecretKey::from_pkcs8_pem(block.text).ok().map(|key| Signing::P256(key.into())),
            (_, Curve::P384) => p384::SecretKey::from_pkcs8_pem(block.text).ok().map(|key| Signing::P384(key.into())),
            (_, Curve::P521) => p521::SecretKey::from_pkcs8_pem(block.text).ok().map(|key| Signing::P521(key.into())),
        };
        match block.label {
            "EC PRIVATE KEY" if block.text.contains("Proc-Type:") => Err(fault("KEY-4", ENCRYPTED)),
            "ENCRYPTED PRIVATE KEY" => Err(fault("KEY-4", ENCRYPTED)),
            "EC PRIVATE KEY" | "PRIVATE KEY" => {
                let key = CURVES.into_iter().find_map(read).map(PrivateKey);
                key.ok_or_else(|| fault("KEY-2", "not an ECDSA key on P-256, P-384 or P-521"))
            }
            other => Err(fault("KEY-4", format!("a PEM block \"{}\", must be a private key", Escaped(other)))),
        }
    }

    /// Reads a file that only its owner can read or write. [KEY-5]
    ///
    /// # Errors
    /// `Io`, `Refused` for loose permissions, or as [`PrivateKey::from_pem`].
    pub fn read(path: &Path) -> Result<Self> {
        let text = files::read_text(path, MOST, Secret::Yes)?;
        Self::from_pem(&text).map_err(|e| files::within(path, e))
    }

    /// The key that verifies what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Signing::P256(key) => Verifying::P256(*key.verifying_key()),
            Signing::P384(key) => Verifying::P384(*key.verifying_key()),
            Signing::P521(key) => Verifying::P521(*key.verifying_key()),
        })
    }

    /// The signature of `message` in DER. It is deterministic (RFC 6979), so that it leans on no randomness.
    ///
    /// # Errors
    /// `Internal` where the arithmetic gives none, which has no known case.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        use p256::ecdsa::signature::Signer;
        let none = |_| Error::Internal("no signature".into());
        Ok(match &self.0 {
            Signing::P256(key) => {
                Signer::<p256::ecdsa::Signature>::try_sign(key, message).map_err(none)?.to_der().as_bytes().to_vec()
            }
            Signing::P384(key) => {
                Signer::<p384::ecdsa::Signature>::try_sign(key, message).map_err(none)?.to_der().as_bytes().to_vec()
            }
            Signing::P521(key) => {
                Signer::<p521::ecdsa::Signature>::try_sign(key, message).map_err(none)?.to_der().as_bytes().to_vec()
            }
        })
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

const CURVES: [Curve; 3] = [Curve::P256, Curve::P384, Curve::P521];

const ENCRYPTED: &str = "an encrypted key; decrypt it (openssl pkey) into a file of mode 0600, or sign with --signer";

/// One block of a PEM file.
struct Block<'a> {
    label: &'a str,
    text: &'a str,
}

/// The PEM blocks of a text. Nothing but white space stands outside them, so that a file says one thing to all readers.
fn blocks(text: &str) -> Result<Vec<Block<'_>>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let label = rest.strip_prefix("-----BEGIN ").and_then(|r| r.split_once("-----")).map(|(label, _)| label);
        let Some(label) = label.filter(|l| !l.contains('\n')) else {
            return Err(fault(
                "KEY-1",
                "not PEM: nothing but blocks from \"-----BEGIN …-----\" to \"-----END …-----\" is allowed",
            ));
        };
        let end = format!("-----END {label}-----");
        let Some(at) = rest.find(&end) else {
            return Err(fault("KEY-1", format!("a PEM block \"{}\" without an end", Escaped(label))));
        };
        let (block, after) = rest.split_at(at + end.len());
        out.push(Block { label, text: block });
        rest = after.trim_start();
    }
    Ok(out)
}
