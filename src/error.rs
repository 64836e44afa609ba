//! One error for the whole crate; each variant says whose fault it is.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, by blame. Match on variants; the words may change between releases.
///
/// [`Error::exit_code`] gives the number with which the command line ends.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The system refused: a missing file, a full disk, a device error.
    Io {
        /// The file or folder that was worked on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file breaks the rules of its format.
    Malformed {
        /// The rule of `spec/` that is broken, such as `HDR-1`.
        rule: &'static str,
        /// Where it was seen, such as `manifest` or `tensor "a.weight"`.
        place: String,
        /// What was found and what was expected.
        detail: String,
    },
    /// A legal file that needs a newer reader, or a feature that this build lacks.
    Unsupported {
        /// What is not supported.
        what: String,
        /// What the file asks for.
        found: u64,
        /// The newest that this reader knows.
        known: u64,
    },
    /// [`Error::Unsupported`] of what has a name instead of a number.
    UnsupportedName {
        /// What is not supported.
        what: String,
        /// What the file asks for.
        found: String,
        /// The names that this reader knows.
        known: String,
    },
    /// Bytes are not the bytes that were written: damage or tampering.
    DigestMismatch {
        /// The part whose digest differs.
        place: String,
        /// The digest that the file or the caller names.
        expected: [u8; 32],
        /// The digest of the bytes at hand.
        found: [u8; 32],
    },
    /// The pack was made from another base.
    BaseMismatch(Box<BaseMismatch>),
    /// The file asks for more than [`Limits`](crate::Limits) allow.
    LimitExceeded {
        /// Which limit.
        limit: &'static str,
        /// What the file asks for.
        asked: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// Well-formed, but against a policy: an overlap under `refuse`, an output that exists, a value that would overflow.
    Refused(String),
    /// The caller asked for something that makes no sense.
    InvalidInput(String),
    /// The caller's [`Progress`](crate::Progress) asked to stop.
    Interrupted,
    /// A bug of this crate.
    Internal(String),
    /// Any of the others, with the file in which it was met.
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
}

/// How a base differs from the one that a pack is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseMismatch {
    /// The likeliest explanation, in one sentence.
    pub diagnosis: String,
    /// What the person can do about it.
    pub advice: String,
    /// Up to five touched tensors that differ, each with the reason.
    pub tensors: Vec<(String, String)>,
    /// How many touched tensors differ in all.
    pub differing: usize,
    /// How many tensors the pack touches.
    pub touched: usize,
    /// The digest of the checkpoint that the pack was made from.
    pub expected: [u8; 32],
    /// The digest of the checkpoint at hand, where all of it was read.
    pub found: Option<[u8; 32]>,
}

impl BaseMismatch {
    /// Bytes of tensors in a message, which has to leave room for the advice on one line.
    const ROOM: usize = 140;
}

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(rule: &'static str, place: impl Into<String>, detail: impl Into<String>) -> Self {
        Error::Malformed { rule, place: place.into(), detail: detail.into() }
    }

    /// A number of a table, in which a newer reader knows more.
    pub(crate) fn unsupported(what: &str, found: u8, known: u8) -> Self {
        Error::Unsupported { what: what.into(), found: found.into(), known: known.into() }
    }

    /// Names the larger part in which the place of the error lies.
    pub(crate) fn within(self, outer: &str) -> Self {
        let join = |place: String| format!("{outer}: {place}");
        match self {
            Error::Malformed { rule, place, detail } => Error::Malformed { rule, place: join(place), detail },
            Error::DigestMismatch { place, expected, found } => {
                Error::DigestMismatch { place: join(place), expected, found }
            }
            other => other,
        }
    }

    /// Adds the file in which the error was met, once.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Error::Io { .. } | Error::InFile { .. } | Error::Interrupted => self,
            other => Error::InFile { path: path.to_owned(), source: Box::new(other) },
        }
    }

    /// The error itself, without the file around it.
    pub fn root(&self) -> &Error {
        match self {
            Error::InFile { source, .. } => source.root(),
            other => other,
        }
    }

    /// The file in which the error was met, where one is known.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::InFile { path, .. } | Error::Io { path, .. } => Some(path),
            _ => None,
        }
    }

    /// The exit code of the command line for this error: 2 usage, 3 malformed, 4 integrity, 5 wrong base, 6 refused,
    /// 7 IO, 8 a newer version or feature, 70 a bug, 130 interrupted. 9 (conflict: somebody else published),
    /// 10 (stale: expired or rolled back) and 11 (untrusted: a policy refused) are reserved; no error has them yet.
    pub fn exit_code(&self) -> u8 {
        match self.root() {
            Error::InvalidInput(_) => 2,
            Error::Malformed { .. } => 3,
            Error::DigestMismatch { .. } => 4,
            Error::BaseMismatch(_) => 5,
            Error::LimitExceeded { .. } | Error::Refused(_) => 6,
            Error::Io { .. } => 7,
            Error::Unsupported { .. } | Error::UnsupportedName { .. } => 8,
            Error::Interrupted => 130,
            Error::Internal(_) | Error::InFile { .. } => 70,
        }
    }

    /// A stable word for the kind of error, as `--json` prints it.
    pub fn kind(&self) -> &'static str {
        match self.root() {
            Error::InvalidInput(_) => "usage",
            Error::Malformed { .. } => "malformed",
            Error::DigestMismatch { .. } => "integrity",
            Error::BaseMismatch(_) => "wrong-base",
            Error::LimitExceeded { .. } => "limit",
            Error::Refused(_) => "refused",
            Error::Io { .. } => "io",
            Error::Unsupported { .. } | Error::UnsupportedName { .. } => "unsupported",
            Error::Interrupted => "interrupted",
            Error::Internal(_) | Error::InFile { .. } => "bug",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, source } => write!(f, "{}: {source}", Escaped(&path.to_string_lossy())),
            Error::Malformed { rule, place, detail } => write!(f, "{place}: {detail} [{rule}]"),
            Error::Unsupported { what, found, known } => {
                write!(f, "{what} {found} needs a newer stitchpack (this one knows up to {known})")
            }
            Error::UnsupportedName { what, found, known } => {
                write!(f, "{what} \"{}\" needs a newer stitchpack (this one knows {known})", Escaped(found))
            }
            Error::DigestMismatch { place, expected, found } => {
                // What is whole may still be something else than was asked for.
                let what = match place.as_str() {
                    "pack id" => "this is another pack",
                    "result" => "the model is another than the one that was recorded or given",
                    _ => "the bytes were damaged or changed, fetch them again",
                };
                let digits = if found[..SHORT] == expected[..SHORT] { expected.len() } else { SHORT };
                write!(f, "{place}: digest is {}, must be {}; {what}", Digits(found, digits), Digits(expected, digits))
            }
            Error::BaseMismatch(m) => m.fmt(f),
            Error::LimitExceeded { limit, asked, allowed } => {
                write!(f, "{limit} is {asked}, above the limit of {allowed}")
            }
            Error::Refused(detail) | Error::InvalidInput(detail) => f.write_str(detail),
            Error::Interrupted => f.write_str("interrupted; nothing was written"),
            Error::Internal(detail) => write!(f, "internal error, please report this bug: {detail}"),
            Error::InFile { path, source } => write!(f, "{}: {source}", Escaped(&path.to_string_lossy())),
        }
    }
}

impl fmt::Display for BaseMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this is not the base of the pack: {}", self.diagnosis)?;
        let (mut named, mut room) = (0, BaseMismatch::ROOM);
        for (name, why) in &self.tensors {
            let tensor = format!("\"{}\" ({why})", Escaped(name));
            if named > 0 && tensor.len() > room {
                break;
            }
            write!(f, "{} {tensor}", if named == 0 { ": tensor" } else { "," })?;
            (named, room) = (named + 1, room.saturating_sub(tensor.len()));
        }
        let unnamed = self.differing.saturating_sub(named);
        if unnamed > 0 {
            write!(f, " and {unnamed} more")?;
        }
        write!(f, "; {}", self.advice)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::InFile { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Bytes of a digest that tell two apart in a message, unless they begin alike.
const SHORT: usize = 8;

/// The first bytes of a digest, in hex.
struct Digits<'a>(&'a [u8; 32], usize);

impl fmt::Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(self.1).try_for_each(|b| write!(f, "{b:02x}"))?;
        if self.1 < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

/// Text from a file, made safe for a terminal: controls and direction overrides are escaped, and it ends after 120
/// characters.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, c) in self.0.chars().enumerate() {
            if i == 120 {
                return f.write_str("…");
            }
            if is_unprintable(c) { write!(f, "{}", c.escape_unicode())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

/// Whether a character could move the cursor, hide text or change its direction.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
