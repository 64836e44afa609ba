//! The touched tensors, staged a few at a time and handed over one by one.

use std::collections::HashMap;

use crate::error::Result;
use crate::export::ExportOptions;
use crate::live::Staged;
use crate::live::stage::compute;
use crate::merge::{StitchedModel, nonfinite_refused};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;

/// Bytes of the tensors that are staged together; a larger tensor is staged alone.
const TOGETHER: u64 = 1 << 23;

/// A model whose packs' changes are written.
pub(super) struct Changes<'a> {
    pub model: &'a StitchedModel<'a>,
    pub options: &'a ExportOptions,
    base: &'a BaseIdentity,
}

impl<'a> Changes<'a> {
    pub fn new(model: &'a StitchedModel<'a>, base: &'a BaseIdentity, options: &'a ExportOptions) -> Self {
        Changes { model, options, base }
    }

    /// Tensors that packs touch and that the base has in this shape, by name.
    pub fn touched(&self) -> impl Iterator<Item = &'a TensorInfo> {
        let carried = self.model.carried();
        let touched = move |t: &&TensorInfo| self.model.touches(&t.name) && !carried.contains_key(&t.name);
        self.model.base().infos().into_iter().filter(touched)
    }

    /// Stages tensors and hands each over, by its number, with what is staged of it and of others. Finite elements that would
    /// become infinite or NaN are counted to the end, and refused. [STI-7]
    pub fn each(
        &self,
        stage: &'static str,
        tensors: &[&'a TensorInfo],
        mut then: impl FnMut(usize, &Staged<'a>) -> Result<()>,
    ) -> Result<()> {
        let workers = &self.options.workers;
        workers.progress().stage(stage, tensors.iter().map(|t| t.byte_len()).sum());
        let mut nonfinite: Option<(&TensorInfo, u64)> = None;
        let mut done = 0;
        while let Some(rest) = tensors.get(done..).filter(|rest| !rest.is_empty()) {
            let mut bytes = 0;
            let fits = |t: &&&TensorInfo| {
                bytes += t.byte_len();
                bytes <= TOGETHER
            };
            let together = rest.iter().take_while(fits).count().max(1);
            let (staged, met) =
                compute(self.model.base(), self.model, rest.get(..together).unwrap_or_default(), workers)?;
            if let Some((first, count)) = met {
                let (known, before) = nonfinite.unwrap_or((first, 0));
                nonfinite = Some((known, before + count));
            }
            if nonfinite.is_none() {
                (done..done + together).try_for_each(|i| then(i, &staged))?;
            }
            done += together;
        }
        match nonfinite {
            Some((first, count)) => Err(nonfinite_refused(count, &first.name)),
            None => Ok(()),
        }
    }

    /// The digest of the base, where all of it was read.
    pub fn base_digest(&self) -> Option<Digest> {
        self.base.digest()
    }

    /// The digest of the model that the changes lead to, where all of the base was read.
    pub fn result_digest(&self) -> Result<Option<Digest>> {
        match self.base.digest() {
            Some(_) => Ok(self.model.identity(self.base, &self.options.workers)?.digest()),
            None => Ok(None),
        }
    }

    /// What the file says of itself. [EXP-2]
    pub fn metadata(&self, result: Option<Digest>) -> HashMap<String, String> {
        let own = [("stitchpack_export", self.options.format.name().to_string()), ("stitchpack_version", "1".into())];
        let digests = [("base", self.base_digest()), ("result", result)];
        let known = digests.into_iter().filter_map(|(key, digest)| Some((key, digest?.to_string())));
        let pt = ("format", "pt".to_string());
        own.into_iter().chain(known).chain([pt]).map(|(key, value)| (key.to_string(), value)).collect()
    }
}
