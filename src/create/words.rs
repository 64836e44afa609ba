//! Options of [`create`](crate::create()) as words: what the command line and Python take.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::create::{Budget, Localizer, Lossy, Method};
use crate::error::{Error, Escaped, Result};

/// How a pack is made, as words; what is none was not said.
#[derive(Debug, Clone, Default)]
pub struct MethodWords<'a> {
    /// [`Size`](crate::create::Size): a share or bytes.
    pub size: Option<&'a str>,
    /// Fail rather than make a lossy pack.
    pub require_exact: bool,
    /// [`Density`](crate::method::density::Density).
    pub density: Option<&'a str>,
    /// [`Method::Exact`].
    pub exact: bool,
    /// [`ValueKind`](crate::model::delta::ValueKind).
    pub values: Option<&'a str>,
    /// [`Scope`](crate::create::Scope).
    pub scope: Option<&'a str>,
    /// [`Groups`](crate::model::delta::Groups).
    pub groups: Option<&'a str>,
    /// [`Rescale`](crate::create::Rescale).
    pub rescale: Option<&'a str>,
    /// Scores to keep the largest of.
    pub scores: Option<Arc<Checkpoint>>,
    /// A mask to keep.
    pub mask: Option<Arc<Checkpoint>>,
}

impl MethodWords<'_> {
    /// The method that the words mean.
    ///
    /// # Errors
    /// `InvalidInput` for a word that means nothing, and for words that contradict each other.
    pub fn method(self) -> Result<Method> {
        self.check()?;
        if self.exact {
            return Ok(Method::Exact);
        }
        let is_lossy = self.density.is_some() || self.mask.is_some();
        let (keep_values, require_exact, defaults) = (self.values.is_some(), self.require_exact, Budget::default());
        let size = self.size.map_or(Ok(defaults.size), str::parse)?;
        let lossy = self.lossy()?;
        Ok(match is_lossy {
            true => Method::Lossy(lossy),
            false => Method::Sized(Budget { size, lossy, keep_values, require_exact }),
        })
    }

    fn lossy(self) -> Result<Lossy> {
        let defaults = Lossy::default();
        Ok(Lossy {
            density: self.density.map_or(Ok(defaults.density), str::parse)?,
            localizer: match (self.scores, self.mask) {
                (Some(scores), _) => Localizer::Scores(scores),
                (None, Some(mask)) => Localizer::Mask(mask),
                (None, None) => Localizer::Magnitude,
            },
            scope: self.scope.map_or(Ok(defaults.scope), str::parse)?,
            values: self.values.map_or(Ok(defaults.values), str::parse)?,
            groups: self.groups.map_or(Ok(defaults.groups), str::parse)?,
            rescale: self.rescale.map(str::parse).transpose()?,
        })
    }

    /// Refuses words that contradict each other.
    fn check(&self) -> Result<()> {
        let bad = |detail: String| Err(Error::InvalidInput(detail));
        let lossy = [
            ("values", self.values.is_some()),
            ("rescale", self.rescale.is_some()),
            ("scope", self.scope.is_some()),
            ("groups", self.groups.is_some()),
            ("scores", self.scores.is_some()),
            ("mask", self.mask.is_some()),
            ("density", self.density.is_some()),
        ];
        if let Some((name, _)) = lossy.iter().find(|(_, said)| self.exact && *said) {
            return bad(format!("an exact pack has no {name}; leave exact or {name} out"));
        }
        let ways = [
            ("exact", self.exact),
            ("size", self.size.is_some()),
            ("density", self.density.is_some()),
            ("mask", self.mask.is_some()),
        ];
        let said: Vec<&str> = ways.iter().filter(|(_, said)| *said).map(|(name, _)| *name).collect();
        match said.as_slice() {
            [first, second, ..] => bad(format!("{first} and {second} both say how much is kept; use one")),
            [only] if self.require_exact && *only != "size" => {
                bad(format!("require_exact is about a size, not about {only}"))
            }
            _ if self.scores.is_some() && self.mask.is_some() => {
                bad("scores and mask both choose positions; use one".into())
            }
            _ if self.scope.is_some() && self.mask.is_some() => bad("a mask has no scope".into()),
            _ => Ok(()),
        }
    }
}

/// Notes from texts `KEY=VALUE`.
///
/// # Errors
/// `InvalidInput` for a text without a key, and for a key that is given twice.
pub fn notes<'a>(texts: impl Iterator<Item = &'a str>) -> Result<BTreeMap<String, String>> {
    let mut notes = BTreeMap::new();
    for text in texts {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = pair else {
            return Err(Error::InvalidInput(format!("note \"{}\" is not KEY=VALUE", Escaped(text))));
        };
        if notes.insert(key.to_string(), value.to_string()).is_some() {
            return Err(Error::InvalidInput(format!("note \"{}\" is given twice", Escaped(key))));
        }
    }
    Ok(notes)
}
