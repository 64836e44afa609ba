//! A base with an adapter on it, as something that packs can be made of.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::adapter::parts::Part;
use crate::checkpoint::{BaseCheck, Checkpoint, ModelSource, digests};
use crate::error::Result;
use crate::model::identity::BaseIdentity;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

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

    fn identity_of(&self, check: BaseCheck, wanted: &dyn Fn(&str) -> bool, workers: &Workers) -> Result<BaseIdentity> {
        let base = self.base.identity_of(check, wanted, workers)?;
        let own = |t: &&TensorInfo| self.parts.contains_key(&t.name);
        let asked = |t: &&TensorInfo| check != BaseCheck::Touched || wanted(&t.name);
        let touched: Vec<&TensorInfo> = self.infos.values().filter(own).filter(asked).collect();
        let found = digests(self, &touched, workers)?;
        let digest = |t: &TensorInfo| match self.parts.contains_key(&t.name) {
            true => found.get(t.name.as_str()).copied(),
            false => base.tensor(&t.name).and_then(|(_, digest)| digest),
        };
        Ok(BaseIdentity::new(self.infos.values().map(|t| (t.clone(), digest(t)))))
    }

    /// Those of the base: an adapter's own file is no measure of the model that it makes.
    fn weight_bytes(&self) -> u64 {
        self.base.weight_bytes()
    }

    /// None: what lies beside an adapter belongs to it.
    fn has_companions(&self) -> bool {
        false
    }

    fn companion_names(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn companion(&self, name: &str) -> Result<Vec<u8>> {
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
