//! Locations: the words that say where a pack, a checkpoint, a recipe or a store is. spec/locations.md.
//!
//! Parsing asks no file system and no network, so the same words mean the same place on every machine. [PLC-1]

mod hub;
mod object;
mod oci;
mod refusal;

use std::fmt;
use std::path::{Path, PathBuf};

use stitchpack::error::{Escaped, is_unprintable};
use stitchpack::{Error, Result};
use url::Url;

pub use hub::{HubPlace, RepoKind};
pub use object::{ObjectPlace, ObjectScheme};
pub use oci::{OciPlace, Reference};
use refusal::bad;

/// The schemes of locations. [PLC-1]
const SCHEMES: [&str; 8] = ["https", "http", "s3", "gs", "az", "oci", "hf", "file"];

/// Where something is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A file or folder of this machine.
    Path(PathBuf),
    /// An object behind HTTP or HTTPS.
    Http(Url),
    /// An object, or a prefix of objects, in an object store.
    Object(ObjectPlace),
    /// An artifact in an OCI registry.
    Oci(OciPlace),
    /// A repository on a hub, or a file in one.
    Hub(HubPlace),
}

/// A place, and how it was written.
///
/// `Display` and `Debug` show it without credentials and without the query of a URL, which may hold some. [PLC-8]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location {
    place: Place,
}

/// The name of a channel: letters, digits, `.`, `_` and `-`, not beginning with a dot, at most 128. [PLC-6]
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(String);

impl Location {
    /// Reads a location.
    ///
    /// # Errors
    /// `InvalidInput` where the text names no place: an unknown scheme, a part that is missing or not legal, credentials in a
    /// URL, a fragment where no channel is expected.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::InvalidInput("a location is empty; name a path or a URI".into()));
        }
        if let Some(c) = text.chars().find(|c| is_unprintable(*c)) {
            return Err(bad(text, &format!("holds the character {}", c.escape_unicode())));
        }
        let place = match scheme_of(text)? {
            None => Place::Path(PathBuf::from(text)),
            Some(("file", rest)) => Place::Path(file_path(text, rest)?),
            Some(("https" | "http", _)) => Place::Http(http_url(text)?),
            Some(("oci", rest)) => Place::Oci(OciPlace::parse(text, rest)?),
            Some(("hf", rest)) => Place::Hub(HubPlace::parse(text, rest)?),
            Some((scheme, rest)) => Place::Object(ObjectPlace::parse(text, scheme, rest)?),
        };
        Ok(Location { place })
    }

    /// Reads a store with the channel that follows it: `STORE#CHANNEL`. [PLC-6]
    ///
    /// # Errors
    /// As [`Location::parse`]; `InvalidInput` where no channel follows, or its name is not legal.
    pub fn parse_channel(text: &str) -> Result<(Self, ChannelName)> {
        let Some((store, name)) = text.rsplit_once('#') else {
            return Err(bad(text, "names no channel; write STORE#CHANNEL"));
        };
        let location = Self::parse(store)?;
        match location.place {
            Place::Oci(_) | Place::Hub(_) => {
                Err(bad(text, "cannot hold channels; they live in object stores and folders"))
            }
            Place::Path(_) | Place::Http(_) | Place::Object(_) => Ok((location, ChannelName::parse(name)?)),
        }
    }

    /// A location on this machine.
    pub fn of_path(path: impl Into<PathBuf>) -> Self {
        Location { place: Place::Path(path.into()) }
    }

    /// The place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The path, where the place is on this machine.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Path(path) => Some(path),
            Place::Http(_) | Place::Object(_) | Place::Oci(_) | Place::Hub(_) => None,
        }
    }

    /// The last part of the path or key: what a copy of the thing is called.
    pub fn file_name(&self) -> Option<String> {
        let last = |text: &str| text.rsplit('/').find(|part| !part.is_empty()).map(str::to_owned);
        match &self.place {
            Place::Path(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Place::Http(url) => last(url.path()),
            Place::Object(object) => last(&object.key),
            Place::Oci(oci) => last(&oci.repository),
            Place::Hub(hub) => hub.file.as_deref().map_or_else(|| last(&hub.repo), last),
        }
    }
}

impl ChannelName {
    /// Reads a name. [PLC-6]
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not legal.
    pub fn parse(name: &str) -> Result<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(legal) {
            let detail =
                "a channel's name has 1 to 128 letters, digits, `.`, `_` and `-`, and does not begin with a dot";
            return Err(Error::InvalidInput(format!("channel \"{}\": {detail}", Escaped(name))));
        }
        Ok(ChannelName(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scheme and what follows its colon; none for a path. [PLC-1]
fn scheme_of(text: &str) -> Result<Option<(&str, &str)>> {
    let Some((scheme, rest)) = text.split_once(':') else { return Ok(None) };
    if let Some(known) = SCHEMES.iter().find(|known| scheme.eq_ignore_ascii_case(known)) {
        return Ok(Some((known, rest)));
    }
    let is_scheme =
        |s: &str| s.len() > 1 && s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if is_scheme(scheme) && rest.starts_with("//") {
        let known = SCHEMES.map(|s| format!("{s}:")).join(" ");
        return Err(bad(text, &format!("has a scheme that is not known; known are {known}, and paths")));
    }
    Ok(None)
}

/// The path of a `file:` URI: `file:///PATH` or `file:PATH`, of this machine. [PLC-2]
fn file_path(text: &str, rest: &str) -> Result<PathBuf> {
    if !rest.starts_with("//") {
        return if rest.is_empty() { Err(bad(text, "names no path")) } else { Ok(rest.into()) };
    }
    let url = Url::parse(&format!("file:{rest}")).map_err(|e| bad(text, &e.to_string()))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad(text, "has a query or a fragment, which a file has not; write %3F for ? and %23 for #"));
    }
    url.to_file_path().map_err(|()| bad(text, "names another machine; write file:///PATH"))
}

/// A URL without credentials and fragment. [PLC-3]
fn http_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|e| bad(text, &e.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        let detail = "holds credentials, which would end in logs; put them into ~/.netrc or the environment";
        return Err(Error::InvalidInput(format!("a {} URL {detail}", url.scheme())));
    }
    if url.fragment().is_some() {
        return Err(bad(text, "has a fragment: a channel cannot be read as a file; name the object itself"));
    }
    Ok(url)
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(path) => write!(f, "{}", Escaped(&path.to_string_lossy())),
            Place::Http(url) => write!(f, "{}", &url[..url::Position::AfterPath]),
            Place::Object(object) => object.fmt(f),
            Place::Oci(oci) => oci.fmt(f),
            Place::Hub(hub) => hub.fmt(f),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
