//! Gains of several packs, calibrated together.

use std::collections::{BTreeMap, HashMap};

use pyo3::prelude::*;
use stitchpack::model::digest::Digest;
use stitchpack::{Error, PackGain, Result, StitchedModel};

use crate::base::Base;
use crate::call::Call;
use crate::learn::Lesson;
use crate::merge::Merge;

/// The gains of packs on their base, one for each in the order in which they are named, after a gradient has moved them.
#[pyfunction]
#[pyo3(signature = (base, merge, lesson, call))]
pub fn calibrate(
    py: Python<'_>,
    base: &Base,
    merge: Merge,
    lesson: Lesson,
    call: Call,
) -> PyResult<Vec<(f32, BTreeMap<String, f32>)>> {
    let base = base.checkpoint.clone();
    let mut learning = lesson.begin();
    let done = call.run(py, |workers| {
        let ids = merge.ids()?;
        let (mut model, _) = merge.onto(&base, workers)?;
        learning.calibrate(&mut model, workers)?;
        let mut gains = by_id(&model);
        let own = ids.iter().map(|id| gains.remove(id).ok_or_else(|| Error::Internal("a pack is lost".into())));
        own.map(|gain| gain.map(|gain| (gain.gain, gain.tensors))).collect::<Result<Vec<_>>>()
    });
    match learning.raised() {
        Some(raised) => Err(raised),
        None => done,
    }
}

/// The gains of all packs of a chain.
fn by_id(model: &StitchedModel) -> HashMap<Digest, PackGain> {
    let mut all = model.below().map_or_else(HashMap::new, by_id);
    all.extend(model.layers().iter().map(|layer| layer.pack.id()).zip(model.gains().iter().cloned()));
    all
}
