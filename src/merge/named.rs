//! A pack as a person names it: `PACK` or `PACK@WEIGHT`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::error::{Error, Escaped, Result};

/// A pack's file, and the weight that was said.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedPack {
    /// The file.
    pub path: PathBuf,
    /// The weight after the `@`.
    pub weight: Option<f32>,
}

impl NamedPack {
    /// Reads `PACK` or `PACK@WEIGHT`: the last `@` before a number, unless a file of the whole name exists.
    ///
    /// # Errors
    /// `InvalidInput` for a weight that is empty or not finite.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let whole = NamedPack { path: PathBuf::from(text), weight: None };
        let bytes = text.as_bytes();
        let at = bytes.iter().rposition(|b| *b == b'@').filter(|_| !whole.path.exists());
        let Some((name, rest)) = at.map(|at| bytes.split_at(at)) else { return Ok(whole) };
        let weight = rest.get(1..).and_then(|digits| std::str::from_utf8(digits).ok());
        let shown = text.to_string_lossy();
        match weight.map(|digits| (digits, digits.parse::<f32>())) {
            Some((_, Ok(w))) if w.is_finite() => {
                Ok(NamedPack { path: PathBuf::from(OsString::from_vec(name.to_vec())), weight: Some(w) })
            }
            Some((_, Ok(w))) => {
                Err(Error::InvalidInput(format!("weight {w} of \"{}\" is not a finite number", Escaped(&shown))))
            }
            Some(("", _)) => Err(Error::InvalidInput(format!("\"{}\" has no weight after the @", Escaped(&shown)))),
            _ => Ok(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_at_before_a_number_is_a_weight() {
        let parse = |text: &[u8]| NamedPack::parse(OsStr::from_bytes(text));
        let cases: [(&[u8], &[u8], Option<f32>); 6] = [
            (b"a.stitch", b"a.stitch", None),
            (b"a.stitch@0.5", b"a.stitch", Some(0.5)),
            (b"a@b@-1e2", b"a@b", Some(-100.0)),
            (b"a@b", b"a@b", None),
            (b"c\xff@2", b"c\xff", Some(2.0)),
            (b"c@\xff", b"c@\xff", None),
        ];
        for (text, path, weight) in cases {
            let want = NamedPack { path: PathBuf::from(OsStr::from_bytes(path)), weight };
            assert_eq!(parse(text).unwrap(), want);
        }
        for bad in [&b"a@"[..], b"a@inf", b"a@nan"] {
            assert!(matches!(parse(bad), Err(Error::InvalidInput(_))));
        }
    }
}
