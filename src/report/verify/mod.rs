//! Journey: what can be proved of packs, with a base, an id and a model at hand or without.
//!
//! Every pack is checked, even after a failure, and says for itself what is proved of it.

mod base;
mod claims;
mod outcome;

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::checkpoint::{BaseCheck, Checkpoint};
use crate::error::{Error, Result};
use crate::model::digest::Digest;
use crate::pack::{OpenedPack, VerifiedPack};
use crate::parallel::Workers;
use crate::report::document::{ErrorReport, path_text};

use base::Ground;
pub use claims::{Claim, Topic};
use claims::{Facts, Outcome, sentences};

/// What packs are checked against.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions<'a> {
    /// The base, for the packs themselves or for a chain of them.
    pub base: Option<&'a Checkpoint>,
    /// How much of it is read.
    pub base_check: BaseCheck,
    /// The id that the pack must have; for one pack only.
    pub expect_id: Option<Digest>,
    /// A model to compare: with the recorded result of one pack, or, with a base, with what all packs make of it.
    pub result: Option<&'a Checkpoint>,
    /// Threads and progress.
    pub workers: Workers,
}

/// What was found.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Each pack, in the order in which they were named.
    pub packs: Vec<PackVerdict>,
    /// Why the model is not what the packs make, where packs are good and the model is not.
    #[serde(skip)]
    pub mismatch: Option<Error>,
    /// What holds only where nothing is wrong.
    #[serde(flatten)]
    pub summary: Option<Summary>,
}

/// What is known of all packs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The packs' ids, in hex.
    pub ids: Vec<String>,
    /// Sentences that hold for every pack.
    pub proved: Vec<String>,
    /// Sentences that do not hold for every pack, or that no check can prove.
    pub not_proved: Vec<String>,
}

/// What is known of one pack: its id and claims, or why it is bad.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct PackVerdict {
    /// The pack as it was named.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// The claims of a good pack, or the error.
    #[serde(flatten, serialize_with = "either")]
    pub found: Result<PackClaims>,
}

/// What is known of a good pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PackClaims {
    /// The digest that names the file, in hex.
    pub id: String,
    /// What is proved.
    pub proved: Vec<Claim>,
    /// What is not.
    pub not_proved: Vec<Claim>,
}

/// Opens the pack of a place in the list. A pack that others lie on is opened twice.
pub type Open<'o> = dyn Fn(usize) -> Result<OpenedPack> + 'o;

impl Verification {
    /// The first thing that is wrong, in the order of the packs.
    pub fn error(&self) -> Option<&Error> {
        self.errors().next()
    }

    /// All that is wrong.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.packs.iter().filter_map(|pack| pack.found.as_ref().err()).chain(&self.mismatch)
    }

    /// The same as a result: the first thing that is wrong as the error.
    ///
    /// # Errors
    /// The first of [`Verification::errors`].
    pub fn into_result(self) -> Result<(Vec<PackClaims>, Summary)> {
        let claims = self.packs.into_iter().map(|pack| pack.found).collect::<Result<Vec<_>>>()?;
        match (self.mismatch, self.summary) {
            (Some(e), _) => Err(e),
            (None, Some(summary)) => Ok((claims, summary)),
            (None, None) => Err(Error::Internal("a verification that says nothing".into())),
        }
    }
}

/// Checks packs in files.
///
/// # Errors
/// As [`verify`].
pub fn verify_files(paths: &[PathBuf], options: &VerifyOptions) -> Result<Verification> {
    verify(paths, &|i| OpenedPack::open(paths.get(i).map_or(Path::new(""), PathBuf::as_path)), options)
}

/// Checks packs: every digest, everything that decodes, and what `options` name. `open` opens a pack by its place in `names`.
///
/// # Errors
/// `InvalidInput` for options that do not fit the packs; `Io` where the base cannot be read. What is wrong with a pack or with
/// the model is in the outcome.
pub fn verify(names: &[PathBuf], open: &Open, options: &VerifyOptions) -> Result<Verification> {
    options.check(names.len())?;
    let open_one = |i: usize| open(i).and_then(|pack| options.expected(pack.verify()?));
    let mut found: Vec<Result<VerifiedPack>> = (0..names.len()).map(open_one).collect();
    let ground = match options.base {
        Some(base) if found.iter().any(Result::is_ok) => {
            Some(Ground::check(base, options.base_check, &mut found, open, &options.workers)?)
        }
        _ => None,
    };
    let mut packs = Vec::with_capacity(found.len());
    let found: Vec<Result<Known>> = found
        .into_iter()
        .map(|pack| {
            let pack = pack?;
            let known = Known { id: pack.id(), needs_base: pack.needs_base()? };
            packs.push(pack);
            Ok(known)
        })
        .collect();
    let compared = match options.result {
        Some(model) if packs.len() == names.len() => Some(options.compare(model, packs, ground.as_ref())),
        _ => None,
    };
    let (outcome, mismatch) = match compared {
        Some(Ok(outcome)) => (Some(outcome), None),
        Some(Err(e)) => (None, Some(e)),
        None => (None, None),
    };
    let base = ground.map(|ground| ground.check);
    let facts = Facts { decoded: false, expected: options.expect_id.is_some(), base, outcome };
    let found = found.into_iter().map(|pack| pack.map(|pack| pack.claims(facts))).collect();
    Ok(Verification::of(names, found, mismatch))
}

/// What is known of a good pack when it is put away.
struct Known {
    id: Digest,
    needs_base: bool,
}

impl Known {
    fn claims(&self, facts: Facts) -> PackClaims {
        let decoded = facts.base.is_some() || !self.needs_base;
        let (proved, not_proved) = Facts { decoded, ..facts }.claims();
        PackClaims { id: self.id.to_string(), proved, not_proved }
    }
}

impl Verification {
    fn of(names: &[PathBuf], found: Vec<Result<PackClaims>>, mismatch: Option<Error>) -> Self {
        let good: Option<Vec<&PackClaims>> = found.iter().map(|pack| pack.as_ref().ok()).collect();
        let summary = good.filter(|_| mismatch.is_none()).map(|good| {
            let claims: Vec<_> = good.iter().map(|pack| (&pack.proved[..], &pack.not_proved[..])).collect();
            let (proved, not_proved) = sentences(&claims);
            Summary { ids: good.iter().map(|pack| pack.id.clone()).collect(), proved, not_proved }
        });
        let packs = names.iter().cloned().zip(found).map(|(path, found)| PackVerdict { path, found });
        Verification { packs: packs.collect(), mismatch, summary }
    }
}

impl VerifyOptions<'_> {
    fn check(&self, packs: usize) -> Result<()> {
        if packs != 1 && self.expect_id.is_some() {
            return Err(Error::InvalidInput("an expected id (--expect-id) goes with one pack".into()));
        }
        if packs != 1 && self.result.is_some() && self.base.is_none() {
            return Err(Error::InvalidInput("the result of several packs needs their base (--base)".into()));
        }
        Ok(())
    }

    fn expected(&self, pack: VerifiedPack) -> Result<VerifiedPack> {
        match self.expect_id {
            Some(id) if id != pack.id() => {
                Err(Error::DigestMismatch { place: "pack id".into(), expected: id.0, found: pack.id().0 })
            }
            _ => Ok(pack),
        }
    }

    fn compare(&self, model: &Checkpoint, packs: Vec<VerifiedPack>, ground: Option<&Ground>) -> Result<Outcome> {
        match (ground, packs.as_slice()) {
            (Some(ground), _) => outcome::computed(ground, model, packs, &self.workers).map(|()| Outcome::Computed),
            (None, [pack]) => outcome::recorded(pack, model, &self.workers).map(|()| Outcome::Recorded),
            (None, _) => Err(Error::Internal("a result of several packs without a base".into())),
        }
    }
}

fn as_text<S: Serializer>(path: &Path, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&path_text(path))
}

#[derive(Serialize)]
#[serde(untagged)]
enum Either<'a> {
    Good(&'a PackClaims),
    Bad { error: ErrorReport },
}

fn either<S: Serializer>(found: &Result<PackClaims>, to: S) -> std::result::Result<S::Ok, S::Error> {
    let either = match found {
        Ok(claims) => Either::Good(claims),
        Err(e) => Either::Bad { error: ErrorReport::of(e) },
    };
    either.serialize(to)
}
