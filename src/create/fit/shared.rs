//! Models that tensors share, and which tensors have one of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::create::fit::classes::axis_of;
use crate::create::fit::task::Fit;
use crate::model::delta::ValueKind;
use crate::model::tensor::TensorInfo;

/// What decides whether two tensors can share a model: dtype, kind, whether the base counts, and whether all units have steps.
pub(crate) type Group = (u8, u8, bool, bool);

/// Coders of all tensors of a pack.
#[derive(Debug, Default)]
pub(crate) struct Fits {
    /// By tensor; none for those from which nothing could be learned.
    fits: Vec<Option<Fit>>,
    /// For each group the model that many share, and its first class.
    shared: BTreeMap<Group, (Fit, i16)>,
}

/// How a tensor is coded.
pub(crate) struct Chosen {
    pub fit: Fit,
    /// The group whose model it shares.
    pub shared: Option<Group>,
}

impl Fits {
    /// Puts what was fitted to each tensor together.
    pub fn new(tensors: Vec<Option<(Group, Fit)>>) -> Self {
        let mut shared: BTreeMap<Group, Fit> = BTreeMap::new();
        for (group, fit) in tensors.iter().flatten() {
            let group = (group.0, group.1, fit.coder.uses_base, fit.stats.spread);
            match shared.get_mut(&group) {
                None => drop(shared.insert(group, fit.clone())),
                Some(best) => {
                    let mut stats = std::mem::take(&mut best.stats);
                    stats.add(&fit.stats);
                    if fit.kept > best.kept {
                        *best = fit.clone();
                    }
                    best.stats = stats;
                }
            }
        }
        let finish = |(group, mut fit): (Group, Fit)| {
            let (first, model) = fit.stats.model();
            fit.coder.model = Arc::new(model);
            (group, (fit, first))
        };
        let shared = shared.into_iter().map(finish).collect();
        Fits { fits: tensors.into_iter().map(|t| t.map(|(_, fit)| fit)).collect(), shared }
    }

    /// How tensor `i` is coded: by a model of its own where that pays for its bytes, else by that of its group.
    pub fn of(&self, i: usize, info: &TensorInfo, kind: ValueKind, has_base: bool) -> Option<Chosen> {
        let key = |uses_base, spread| (info.dtype.code(), kind.code(), uses_base, spread);
        if let Some(fit) = self.fits.get(i).and_then(Option::as_ref) {
            let group = key(fit.coder.uses_base, fit.stats.spread);
            let (shared, first) = self.shared.get(&group)?;
            let model = &shared.coder.model;
            // Counts are of a sample, which stands for all of the tensor.
            let part = fit.stats.classes.iter().map(|c| c.members).sum::<u64>() as f64 / info.units().max(1) as f64;
            let own_first = fit.whole - fit.coder.origin;
            let own =
                fit.stats.bits_under(&fit.coder.model, own_first) + fit.coder.model.encode().len() as f64 * 6.0 * part;
            if own < fit.stats.bits_under(model, *first) {
                return Some(Chosen { fit: fit.clone(), shared: None });
            }
            let mut fit = fit.clone();
            fit.coder.origin = fit.whole - first;
            fit.coder.model = model.clone();
            return Some(Chosen { fit, shared: Some(group) });
        }
        let groups = [key(has_base, false), key(false, false), key(has_base, true), key(false, true)];
        let group = groups.into_iter().find(|k| self.shared.contains_key(k))?;
        let (shared, first) = self.shared.get(&group)?;
        let mut fit = shared.clone();
        fit.coder.origin = fit.whole - first;
        fit.coder.columns = Vec::new();
        fit.coder.axis = axis_of(info);
        Some(Chosen { fit, shared: Some(group) })
    }
}
