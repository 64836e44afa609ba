//! Objects in object stores: `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, `az://CONTAINER/KEY`. [PLC-4]

use std::fmt;

use stitchpack::Result;
use stitchpack::error::Escaped;

use crate::location::refusal::bad;

/// Which protocol an object store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectScheme {
    /// Amazon S3 and what speaks like it.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage; the account comes from the environment.
    Az,
}

/// An object, or a prefix of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectPlace {
    /// The protocol.
    pub scheme: ObjectScheme,
    /// The bucket or container.
    pub bucket: String,
    /// The key, without a slash at its start; empty for the whole bucket.
    pub key: String,
}

impl ObjectPlace {
    pub(super) fn parse(text: &str, scheme: &str, rest: &str) -> Result<Self> {
        let scheme = match scheme {
            "s3" => ObjectScheme::S3,
            "gs" => ObjectScheme::Gs,
            _ => ObjectScheme::Az,
        };
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(bad(text, "is not complete; write SCHEME://BUCKET/KEY"));
        };
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if bucket.is_empty() || !bucket.chars().all(legal) {
            return Err(bad(text, "names no bucket; write SCHEME://BUCKET/KEY"));
        }
        if key.contains(['?', '#']) {
            return Err(bad(text, "has a query or a fragment, which a key cannot have here"));
        }
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(bad(text, "has . or .. in its key"));
        }
        Ok(ObjectPlace { scheme, bucket: bucket.into(), key: key.into() })
    }
}

impl fmt::Display for ObjectScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectScheme::S3 => "s3",
            ObjectScheme::Gs => "gs",
            ObjectScheme::Az => "az",
        })
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.bucket, Escaped(&self.key))
    }
}
