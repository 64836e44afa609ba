//! A base with an adapter on it, as something that packs can be made of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::adapter::parts::Part;
use crate::checkpoint::{Checkpoint, Layout, ModelSource};
use crate::error::Result;
use crate::io::ReadAt;
use crate::model::digest::Digest;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;

/// The fine-tuned model that an adapter makes of its base.
pub struct Adapted<'a> {
    pub(super) base: &'a dyn ModelSource,
    pub(super) config_path: PathBuf,
    pub(super) file: Checkpoint,
    /// By the name of the tensor.
    pub(super) parts: BTreeMap<String, Part>,
    /// All tensors of the model.
    pub(super) infos: BTreeMap<String, TensorInfo>,
}

impl Adapted<'_> {
    /// Names of the tensors that the adapter changes, replaces or adds.
    pub fn touched(&self) -> impl Iterator<Item = &str> {
        self.parts.keys().map(String::as_str)
    }
}

impl TensorSource for Adapted<'_> {
    fn units(&self, name: &str, start: u64, len: u64) -> Result<Cow<'_, [u8]>> {
        let (part, info) = (self.parts.get(name), self.infos.get(name));
        let (Some(part), Some(info)) = (part, info) else { return self.base.units(name, start, len) };
        if let Part::Whole(own) = part {
            return self.file.units(&own.name, start, len);
        }
        let mut out = self.base.units(name, start, len)?;
        match part {
            Part::LowRank(part) => part.add(&self.file, info, start, out.to_mut())?,
            Part::Values(part) => part.add(info, start, out.to_mut())?,
            Part::Whole(_) => {}
        }
        Ok(out)
    }
}

impl ModelSource for Adapted<'_> {
    fn infos(&self) -> Vec<&TensorInfo> {
        self.infos.values().collect()
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.infos.get(name)
    }

    fn will_need(&self, tensors: &[&str]) {
        self.base.will_need(tensors);
    }

    /// Of what the adapter leaves alone.
    fn remembered(&self) -> Vec<Option<Digest>> {
        let base: BTreeMap<&str, Option<Digest>> =
            self.base.infos().into_iter().map(|info| info.name.as_str()).zip(self.base.remembered()).collect();
        let digest = |name: &str| if self.parts.contains_key(name) { None } else { base.get(name).copied().flatten() };
        self.infos.keys().map(|name| digest(name)).collect()
    }

    fn layout(&self) -> Result<Layout> {
        let own = |(name, info): (&String, &TensorInfo)| (name.clone(), info.clone());
        let changed = self.infos.iter().filter(|(name, info)| self.base.info(name) != Some(*info));
        self.base.layout()?.with(&changed.map(own).collect())
    }

    /// Those of the base: an adapter's own file is no measure of the model that it makes.
    fn weight_bytes(&self) -> Result<u64> {
        self.base.weight_bytes()
    }

    /// None: what lies beside an adapter belongs to it.
    fn has_companions(&self) -> bool {
        false
    }

    fn companion(&self, name: &str) -> Result<Arc<dyn ReadAt>> {
        self.base.companion(name)
    }

    fn input_paths(&self) -> Vec<PathBuf> {
        [self.base.input_paths(), self.file.own_paths(), vec![self.config_path.clone()]].concat()
    }

    fn unchanged(&self) -> Result<()> {
        self.base.unchanged()?;
        self.file.check_unchanged()
    }
}
