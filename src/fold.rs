//! Packs on a base → one pack that gives the same model.

use std::collections::BTreeMap;
use std::path::Path;

use crate::create::{CreateOptions, Created, Effort, Method, NewTensors, create};
use crate::error::Result;
use crate::merge::{Layer, PackGain, StitchedModel};
use crate::parallel::Workers;

/// How packs are folded.
#[derive(Debug, Clone, Default)]
pub struct FoldOptions {
    /// Replace an output that exists.
    pub force: bool,
    /// How hard to compress.
    pub effort: Effort,
    /// Threads and progress.
    pub workers: Workers,
}

/// Makes one exact pack of all that lies on a model's base: of a chain, or of packs merged under a rule and weights. A merge is
/// marked as folded, since merged again with others it is an average of averages.
///
/// # Errors
/// As [`create`](crate::create()), and what computing the model gives.
pub fn fold(model: &StitchedModel, out: &Path, options: &FoldOptions) -> Result<Created> {
    let options = CreateOptions {
        method: Method::Exact,
        new_tensors: NewTensors::Carry,
        carry_files: true,
        notes: BTreeMap::from([("folded".to_string(), made_of(model))]),
        force: options.force,
        folded: model.is_merge(),
        effort: options.effort,
        workers: options.workers.clone(),
        ..CreateOptions::default()
    };
    create(model.base(), model, out, &options)
}

/// What was folded, for people: ids and weights, link after link.
fn made_of(model: &StitchedModel) -> String {
    let here = model.layers().iter().zip(model.gains());
    let named = |(layer, gain): (&Layer, &PackGain)| {
        let by_tensor = if gain.tensors.is_empty() { "" } else { ", by tensor" };
        format!("{} weight {} gain {}{by_tensor}", layer.pack.id(), layer.weight, gain.gain)
    };
    let here: Vec<String> = here.map(named).collect();
    let here = format!("{} lambda {}: {}", model.rule().name(), model.lambda(), here.join(", "));
    model.below().map_or(here.clone(), |below| format!("{}; then {here}", made_of(below)))
}
