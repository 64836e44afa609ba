//! A stitched model as something that packs can be made of, and bound to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::{Layout, ModelSource, digests};
use crate::error::Result;
use crate::io::ReadAt;
use crate::merge::model::StitchedModel;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

impl StitchedModel<'_> {
    /// Which checkpoint this model is: `base` is what is known of the base, and the touched tensors are computed and digested.
    /// What the next link of a chain is bound to. [STI-10]
    ///
    /// # Errors
    /// What computing the tensors gives; `Refused` where finite elements would become infinite or NaN.
    pub fn identity(&self, base: &BaseIdentity, workers: &Workers) -> Result<BaseIdentity> {
        let touched: Vec<&TensorInfo> = self.tensors().filter(|t| self.touches(&t.name)).collect();
        let found = digests(self, &touched, workers)?;
        let known = |name: &str| match found.get(name) {
            Some(digest) => Some(*digest),
            None => base.tensor(name).and_then(|(_, digest)| digest),
        };
        Ok(BaseIdentity::new(self.tensors().map(|info| (info.clone(), known(&info.name)))))
    }

    /// Units of what this model's packs lie on.
    pub(super) fn ground_units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        match self.below() {
            Some(below) => below.units(name, start, len),
            None => self.base().units(name, start, len),
        }
    }

    /// Companion files that packs carry, by name; what a later link carries hides what an earlier one did.
    fn carrier(&self, name: &str) -> Option<Result<Vec<u8>>> {
        let here = self.in_play().flat_map(|(_, layer)| layer.pack.files());
        let found = here.filter_map(|file| match file {
            Ok((n, bytes)) => (n == name).then_some(Ok(bytes)),
            Err(e) => Some(Err(e)),
        });
        found.last().or_else(|| self.below()?.carrier(name))
    }
}

impl TensorSource for StitchedModel<'_> {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        if !self.touches(name) {
            return self.base().units(name, start, len);
        }
        let reader = self.reader(name)?;
        let unit = reader.info().dtype.unit_bytes() as u64;
        let mut out = vec![0; reader.checked_len(start.saturating_mul(unit), len.saturating_mul(unit))?];
        self.read_into(name, start * unit..(start + len) * unit, &mut out)?;
        Ok(Cow::Owned(out))
    }
}

impl ModelSource for StitchedModel<'_> {
    fn infos(&self) -> Vec<&TensorInfo> {
        self.tensors().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor(name)
    }

    fn will_need(&self, tensors: &[&str]) {
        for level in self.levels() {
            level.in_play().for_each(|(_, layer)| layer.pack.will_need(tensors.iter().copied()));
        }
        self.base().will_need(tensors);
    }

    fn place(&self, name: &str) -> Option<(&File, u64)> {
        if self.touches(name) { None } else { self.base().place(name) }
    }

    /// Of what no pack touches.
    fn remembered(&self) -> Vec<Option<Digest>> {
        let base = self.base();
        let known: BTreeMap<&str, Option<Digest>> =
            base.infos().into_iter().map(|info| info.name.as_str()).zip(base.remembered()).collect();
        let digest = |info: &TensorInfo| known.get(info.name.as_str()).copied().flatten();
        self.tensors().map(|info| if self.touches(&info.name) { None } else { digest(info) }).collect()
    }

    fn layout(&self) -> Result<Layout> {
        self.base().layout()?.with(&self.carried())
    }

    fn metadata(&self) -> Vec<(&str, &str)> {
        self.base().metadata()
    }

    fn has_companions(&self) -> bool {
        self.base().has_companions()
    }

    fn companion_names(&self) -> Result<Vec<String>> {
        let mut names = self.base().companion_names()?;
        for level in self.levels() {
            for file in level.in_play().flat_map(|(_, layer)| layer.pack.files()) {
                names.push(file?.0.to_string());
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn companion(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        match self.carrier(name) {
            Some(bytes) => Ok(Arc::new(bytes?)),
            None => self.base().companion(name),
        }
    }

    fn input_paths(&self) -> Vec<PathBuf> {
        let levels = self.levels();
        let packs = levels.iter().flat_map(|m| m.layers()).filter_map(|l| l.pack.path().map(PathBuf::from));
        packs.chain(self.base().input_paths()).collect()
    }

    fn unchanged(&self) -> Result<()> {
        self.base().unchanged()
    }
}
