//! Who signs: a key in a file, or a command that stands for a key service or a hardware token: spec/trust.md, "Signers".

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use stitchpack::error::{Error, Result};

use crate::bundle::{Bundle, pae};
use crate::encoding::{from_base64, hex};
use crate::key::{PrivateKey, PublicKey};

/// Signs what it is given.
pub trait Signer {
    /// The signature of `message` in DER, hashed with the hash of the key's curve.
    ///
    /// # Errors
    /// Where there is none: `Refused`, with a reason that has no secret in it.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;

    /// The key that verifies, where it is known.
    fn public(&self) -> Option<PublicKey>;
}

impl Signer for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        PrivateKey::sign(self, message)
    }

    fn public(&self) -> Option<PublicKey> {
        Some(PrivateKey::public(self))
    }
}

/// Signs a statement. A signature that the signer's own public key does not accept is not given away. [SIG-2]
///
/// # Errors
/// What the signer says; `Refused` where its signature is not one of its key.
pub fn sign(statement: Vec<u8>, signer: &dyn Signer) -> Result<Bundle> {
    let message = pae(&statement);
    let signature = signer.sign(&message)?;
    let key = signer.public();
    if key.as_ref().is_some_and(|key| !key.verifies(&message, &signature)) {
        return Err(Error::Refused(
            "the signer's answer is no signature of the named key over the statement [SIG-2]".into(),
        ));
    }
    Bundle::new(statement, signature, key.as_ref())
}

/// A command that signs. It is given to `sh -c`, reads the bytes to sign from standard input and prints the signature in DER,
/// as it is or in base64. [SIG-3]
#[derive(Debug, Clone)]
pub struct CommandSigner {
    command: String,
    key: Option<PublicKey>,
    deadline: Duration,
}

impl CommandSigner {
    /// How long a command may take: a person may have to touch a token.
    pub const DEADLINE: Duration = Duration::from_secs(120);

    /// Most bytes that are read of its output.
    pub const MOST: usize = 4096;

    /// `key` is what its signatures are checked with.
    pub fn new(command: impl Into<String>, key: Option<PublicKey>) -> Self {
        CommandSigner { command: command.into(), key, deadline: Self::DEADLINE }
    }

    /// Sets another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        CommandSigner { deadline, ..self }
    }
}

impl Signer for CommandSigner {
    fn public(&self) -> Option<PublicKey> {
        self.key.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let failed = |why: String| Error::Refused(format!("the signing command {why} [SIG-3]"));
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(&self.command)
            // For services that take a digest; each is of the same bytes as standard input.
            .env("STITCHPACK_SHA256", hex(&Sha256::digest(message)))
            .env("STITCHPACK_SHA384", hex(&Sha384::digest(message)))
            .env("STITCHPACK_SHA512", hex(&Sha512::digest(message)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("could not be started: {e}")))?;
        let output = talk(&mut child, message, self.deadline);
        if output.is_none() {
            // It may have ended meanwhile, which is as good.
            drop(child.kill());
        }
        let status = child.wait().map_err(|e| failed(format!("could not be waited for: {e}")))?;
        let output = output.ok_or_else(|| failed(format!("took longer than {} s", self.deadline.as_secs_f32())))?;
        if !status.success() {
            return Err(failed(format!("ended with {status}")));
        }
        if output.len() > Self::MOST {
            return Err(failed(format!("printed more than {} bytes", Self::MOST)));
        }
        signature(&output).ok_or_else(|| failed("printed no ECDSA signature in DER or base64".into()))
    }
}

/// Gives the command its input and takes its output; none where the deadline passed before it was done. Threads that wait for
/// what the command left behind are left to themselves.
fn talk(child: &mut Child, message: &[u8], deadline: Duration) -> Option<Vec<u8>> {
    let until = Instant::now() + deadline;
    let (mut stdin, stdout, message) = (child.stdin.take()?, child.stdout.take()?, message.to_vec());
    // A command that takes only the digest may not read, and the pipe breaks: no error.
    std::thread::spawn(move || drop(stdin.write_all(&message)));
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let mut out = Vec::new();
        let read = stdout.take(CommandSigner::MOST as u64 + 1).read_to_end(&mut out);
        drop(send.send(read.map(|_| out)));
    });
    let out = receive.recv_timeout(deadline).ok()?.ok()?;
    // Output may be closed long before the end.
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Some(out)
}

/// DER, as it is or in base64 with white space around and in it.
fn signature(output: &[u8]) -> Option<Vec<u8>> {
    if is_signature(output) {
        return Some(output.to_vec());
    }
    let text: String = std::str::from_utf8(output).ok()?.split_ascii_whitespace().collect();
    from_base64(&text).filter(|der| is_signature(der))
}

/// Whether bytes are an ECDSA signature in DER of one of the curves.
fn is_signature(der: &[u8]) -> bool {
    p256::ecdsa::Signature::from_der(der).is_ok()
        || p384::ecdsa::Signature::from_der(der).is_ok()
        || p521::ecdsa::Signature::from_der(der).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::base64;

    #[test]
    fn a_signature_is_der_or_base64() {
        let key = PrivateKey::from_pem(include_str!("../tests/keys/p256.pem")).unwrap();
        let der = key.sign(b"x").unwrap();
        assert_eq!(signature(&der), Some(der.clone()));
        assert_eq!(signature(format!("{}\n", base64(&der)).as_bytes()), Some(der.clone()));
        let with_more = [der.as_slice(), b"\n"].concat();
        assert_eq!(signature(&with_more), None);
        assert_eq!(signature(b"MEUC"), None);
    }
}
