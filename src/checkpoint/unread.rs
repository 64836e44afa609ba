//! Which checkpoint this is, before its bytes are read: what a cache remembers, and which tensors are still to be digested.

use std::collections::BTreeMap;

use crate::checkpoint::cache;
use crate::checkpoint::identity::{BaseCheck, digests};
use crate::checkpoint::reader::{Checkpoint, CheckpointFile, Place};
use crate::error::{Error, Escaped, Result};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// An identity that waits for digests. Whoever reads the tensors anyway takes them on the way.
#[derive(Debug)]
pub(crate) struct UnreadIdentity<'c> {
    base: &'c Checkpoint,
    check: BaseCheck,
    /// By name.
    rows: Vec<(&'c Place, Known)>,
}

/// What is known of a tensor's data.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Remembered(Digest),
    Unread,
    /// The check does not ask for it.
    LeftOut,
}

impl Checkpoint {
    /// What is known before anything is read, and what `check` still asks for; `touched` says which tensors a pack touches.
    pub(crate) fn unread_identity(&self, check: BaseCheck, touched: &dyn Fn(&str) -> bool) -> UnreadIdentity<'_> {
        let load = |file: &CheckpointFile| match check {
            BaseCheck::Cached => cache::load(&file.bytes.stamp()?, file.order.len()),
            BaseCheck::Full | BaseCheck::Touched => None,
        };
        let remembered: Vec<Option<Vec<Digest>>> = self.files.iter().map(load).collect();
        let known = |place: &Place| {
            let digest = remembered.get(place.file).and_then(|file| file.as_ref()?.get(place.number));
            match digest {
                Some(digest) => Known::Remembered(*digest),
                None if check == BaseCheck::Touched && !touched(&place.info.name) => Known::LeftOut,
                None => Known::Unread,
            }
        };
        UnreadIdentity { base: self, check, rows: self.places().map(|place| (place, known(place))).collect() }
    }
}

impl<'c> UnreadIdentity<'c> {
    /// The checkpoint.
    pub fn base(&self) -> &'c Checkpoint {
        self.base
    }

    /// The tensors to digest, by name.
    pub fn wanted(&self) -> impl Iterator<Item = &'c TensorInfo> {
        self.rows.iter().filter(|(_, known)| *known == Known::Unread).map(|(place, _)| &*place.info)
    }

    /// Whether a tensor is to be digested.
    pub fn wants(&self, name: &str) -> bool {
        self.known(name) == Some(Known::Unread)
    }

    /// The digest of a tensor, where a cache remembers it.
    pub fn remembered(&self, name: &str) -> Option<Digest> {
        match self.known(name) {
            Some(Known::Remembered(digest)) => Some(digest),
            _ => None,
        }
    }

    fn known(&self, name: &str) -> Option<Known> {
        let i = self.rows.binary_search_by(|(place, _)| place.info.name.as_str().cmp(name)).ok()?;
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

    /// The identity, with the digests of all that was wanted; a cache remembers them from now on, where it was asked.
    ///
    /// # Errors
    /// `Io` where a file was changed since it was opened.
    pub fn settle(&self, fresh: &BTreeMap<&str, Digest>) -> Result<BaseIdentity> {
        self.base.check_unchanged()?;
        let digest = |(place, known): &(&Place, Known)| match known {
            Known::Remembered(digest) => Ok(Some(*digest)),
            Known::LeftOut => Ok(None),
            Known::Unread => fresh.get(place.info.name.as_str()).copied().map(Some).ok_or_else(|| {
                Error::Internal(format!("tensor \"{}\" was wanted and not digested", Escaped(&place.info.name)))
            }),
        };
        let found = self.rows.iter().map(digest).collect::<Result<Vec<_>>>()?;
        if self.check == BaseCheck::Cached && !fresh.is_empty() {
            self.remember(&found);
        }
        let infos = self.rows.iter().map(|(place, _)| place.info.clone());
        Ok(BaseIdentity::new(infos.zip(found)))
    }

    fn remember(&self, found: &[Option<Digest>]) {
        for (i, file) in self.base.files.iter().enumerate() {
            let rows = self.rows.iter().zip(found).filter(|((place, _), _)| place.file == i);
            let mut own: Vec<_> = rows.filter_map(|((place, _), digest)| Some((place.number, (*digest)?))).collect();
            own.sort_unstable_by_key(|(number, _)| *number);
            if let (true, Some(stamp)) = (own.len() == file.order.len(), file.bytes.stamp()) {
                cache::store(&stamp, &own.into_iter().map(|(_, digest)| digest).collect::<Vec<_>>());
            }
        }
    }
}
