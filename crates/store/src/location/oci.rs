//! Artifacts in OCI registries: `oci://HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`. [PLC-5]

use std::fmt;

use stitchpack::Result;

use crate::location::refusal::bad;

/// An artifact in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OciPlace {
    /// Host, and port where one was written.
    pub registry: String,
    /// The repository, such as `team/models`.
    pub repository: String,
    /// Which artifact.
    pub reference: Reference,
}

/// Which artifact of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// What a tag points at; `latest` where nothing was written.
    Tag(String),
    /// The manifest of this digest, as `sha256:` and 64 hex digits. A tag beside it is not looked at.
    Digest(String),
}

impl OciPlace {
    pub(super) fn parse(text: &str, rest: &str) -> Result<Self> {
        let incomplete = "is not complete; write oci://HOST/REPOSITORY[:TAG]";
        let Some((registry, path)) = rest.strip_prefix("//").and_then(|rest| rest.split_once('/')) else {
            return Err(bad(text, incomplete));
        };
        if registry.contains('@') {
            return Err(bad(text, "holds credentials; log in with `docker login` or `oras login`"));
        }
        let (named, digest) = match path.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (path, None),
        };
        let (repository, tag) = match named.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (named, None),
        };
        if !is_registry(registry) || !repository.split('/').all(is_component) {
            return Err(bad(text, incomplete));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(text, "has a tag that is not legal: letters, digits, `.`, `_` and `-`, at most 128"));
        }
        let reference = match digest {
            Some(digest) if is_digest(digest) => Reference::Digest(digest.into()),
            Some(_) => return Err(bad(text, "has a digest that is not sha256: and 64 hex digits")),
            None => Reference::Tag(tag.unwrap_or("latest").into()),
        };
        Ok(OciPlace { registry: registry.into(), repository: repository.into(), reference })
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']' | ':');
    !host.is_empty() && host.chars().all(legal) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// One part of a repository's name, as the distribution specification has it: lower case and digits, separated by `.`, `_`, `__`
/// or dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = text.starts_with(alphanumeric) && text.ends_with(alphanumeric);
    ends && text.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-')) && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (1..=128).contains(&text.len()) && text.starts_with(word) && text.chars().all(|c| word(c) || matches!(c, '.' | '-'))
}

fn is_digest(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.chars().all(hex))
}

impl fmt::Display for OciPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.registry, self.repository)?;
        match &self.reference {
            Reference::Tag(tag) => write!(f, ":{tag}"),
            Reference::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}
