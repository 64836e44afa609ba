//! Which model this is, before its bytes are read: what is remembered, and which tensors are still to be digested.

use std::collections::BTreeMap;

use crate::checkpoint::identity::{BaseCheck, digests};
use crate::checkpoint::reader::Checkpoint;
use crate::checkpoint::source::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// An identity that waits for digests. Whoever reads the tensors anyway takes them on the way.
#[derive(Debug)]
pub(crate) struct UnreadIdentity<'m> {
    base: &'m dyn ModelSource,
    check: BaseCheck,
    /// By name.
    rows: Vec<(&'m TensorInfo, Known)>,
}

/// What is known of a tensor's data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Remembered(Digest),
    Unread,
    /// The check does not ask for it.
    LeftOut,
}

impl<'m> UnreadIdentity<'m> {
    /// What is known before anything is read, and what `check` still asks for; `touched` says which tensors a pack touches.
    pub fn new(base: &'m dyn ModelSource, check: BaseCheck, touched: &dyn Fn(&str) -> bool) -> Self {
        let remembered = match check {
            BaseCheck::Cached => base.remembered(),
            BaseCheck::Full | BaseCheck::Touched => Vec::new(),
        };
        let known = |(i, info): (usize, &'m TensorInfo)| match remembered.get(i).copied().flatten() {
            Some(digest) => (info, Known::Remembered(digest)),
            None if check == BaseCheck::Touched && !touched(&info.name) => (info, Known::LeftOut),
            None => (info, Known::Unread),
        };
        UnreadIdentity { base, check, rows: base.infos().into_iter().enumerate().map(known).collect() }
    }

    /// The model.
    pub fn base(&self) -> &'m dyn ModelSource {
        self.base
    }

    /// The tensors to digest, by name.
    pub fn wanted(&self) -> impl Iterator<Item = &'m TensorInfo> {
        self.rows.iter().filter(|(_, known)| *known == Known::Unread).map(|(info, _)| *info)
    }

    /// Whether a tensor is to be digested.
    pub fn wants(&self, name: &str) -> bool {
        self.known(name) == Some(Known::Unread)
    }

    /// The digest of a tensor, where it is remembered.
    pub fn remembered(&self, name: &str) -> Option<Digest> {
        match self.known(name) {
            Some(Known::Remembered(digest)) => Some(digest),
            _ => None,
        }
    }

    fn known(&self, name: &str) -> Option<Known> {
        let i = self.rows.binary_search_by(|(info, _)| info.name.as_str().cmp(name)).ok()?;
        self.rows.get(i).map(|(_, known)| *known)
    }

    /// Reads and digests what is wanted.
    ///
    /// # Errors
    /// `Io` where reading fails or a file was changed meanwhile.
    pub fn read(&self, workers: &Workers) -> Result<BaseIdentity> {
        let wanted: Vec<_> = self.wanted().collect();
        let fresh = if wanted.is_empty() { BTreeMap::new() } else { digests(self.base, &wanted, workers)? };
        self.settle(&fresh)
    }

    /// The identity, with the digests of all that was wanted; they are remembered from now on, where that was asked.
    ///
    /// # Errors
    /// `Io` where a file was changed since it was opened.
    pub fn settle(&self, fresh: &BTreeMap<&str, Digest>) -> Result<BaseIdentity> {
        self.base.unchanged()?;
        let digest = |(info, known): &(&TensorInfo, Known)| match known {
            Known::Remembered(digest) => Ok(Some(*digest)),
            Known::LeftOut => Ok(None),
            Known::Unread => fresh.get(info.name.as_str()).copied().map(Some).ok_or_else(|| {
                Error::Internal(format!("tensor \"{}\" was wanted and not digested", Escaped(&info.name)))
            }),
        };
        let found = self.rows.iter().map(digest).collect::<Result<Vec<_>>>()?;
        if self.check == BaseCheck::Cached && !fresh.is_empty() {
            self.base.remember(&found);
        }
        Ok(BaseIdentity::new(self.rows.iter().map(|(info, _)| (*info).clone()).zip(found)))
    }
}

impl Checkpoint {
    /// Digests every tensor: which checkpoint this is.
    ///
    /// # Errors
    /// `Io` where reading fails or a file was changed meanwhile.
    pub fn identity(&self, workers: &Workers) -> Result<BaseIdentity> {
        self.identity_with(BaseCheck::Full, &|_| true, workers)
    }

    /// Digests as much as `check` asks for; `touched` says which tensors a pack touches.
    ///
    /// # Errors
    /// `Io` where reading fails or a file was changed meanwhile.
    pub fn identity_with(
        &self,
        check: BaseCheck,
        touched: &dyn Fn(&str) -> bool,
        workers: &Workers,
    ) -> Result<BaseIdentity> {
        UnreadIdentity::new(self, check, touched).read(workers)
    }
}

impl<'m> dyn ModelSource + 'm {
    /// Digests as much as `check` asks for; `wanted` says which tensors are needed at least.
    ///
    /// # Errors
    /// `Io` where reading fails or a file was changed meanwhile; for a computed model also what its packs give.
    pub fn identity_of(
        &self,
        check: BaseCheck,
        wanted: &dyn Fn(&str) -> bool,
        workers: &Workers,
    ) -> Result<BaseIdentity> {
        UnreadIdentity::new(self, check, wanted).read(workers)
    }
}
