//! Base and fine-tuned model → pack.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;
use stitchpack::checkpoint::ModelSource;
use stitchpack::create::words::MethodWords;
use stitchpack::create::{CreateOptions, Method};
use stitchpack::report::create::CreateReport;
use stitchpack::{Result, Workers};

use crate::base::Base;
use crate::call::Call;
use crate::fine_tuned::FineTuned;
use crate::inspect::document;
use crate::learn::{Learning, Lesson};
use crate::merge::Merge;

/// How a pack is made, as words; what is None was not said.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct How {
    size: Option<String>,
    density: Option<String>,
    exact: bool,
    require_exact: bool,
    values: Option<String>,
    scope: Option<String>,
    groups: Option<String>,
    rescale: Option<String>,
    scores: Option<Py<Base>>,
    mask: Option<Py<Base>>,
    include: Vec<String>,
    exclude: Vec<String>,
    cast: bool,
    new_tensors: String,
    carry_files: bool,
    notes: BTreeMap<String, String>,
    effort: String,
    force: bool,
    base_check: String,
    lesson: Option<Lesson>,
}

/// Makes a pack, as JSON in the shape of `stitchpack create --json`, of what `fine_tuned` has and `base`, with the packs of `after` on it, has not.
#[pyfunction]
#[pyo3(signature = (base, fine_tuned, out, after, how, call))]
pub fn create(
    py: Python<'_>,
    base: &Base,
    fine_tuned: FineTuned,
    out: Option<PathBuf>,
    after: Merge,
    how: How,
    call: Call,
) -> PyResult<String> {
    let base = base.checkpoint.clone();
    let mut lesson = how.lesson.as_ref().map(Lesson::begin);
    let made = call.run(py, |workers| {
        let mut options = how.options(workers)?;
        let merged = if after.is_empty() { None } else { Some(after.onto(&base, workers)?) };
        let ground: &dyn ModelSource = merged.as_ref().map_or(&*base, |(model, _)| model);
        fine_tuned.on(ground, |fine_tuned| {
            if let Some(lesson) = &mut lesson {
                options = lesson.learn(ground, fine_tuned, &options)?;
            }
            let created = match &out {
                Some(out) => stitchpack::create(ground, fine_tuned, out, &options),
                None => stitchpack::create_dry(ground, fine_tuned, &options),
            };
            document("create", &CreateReport::of(&created?, out.as_deref(), None))
        })
    });
    match lesson.and_then(Learning::raised) {
        Some(raised) => Err(raised),
        None => made,
    }
}

impl How {
    fn options(&self, workers: &Workers) -> Result<CreateOptions> {
        Ok(CreateOptions {
            method: self.method()?,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            cast: self.cast,
            new_tensors: self.new_tensors.parse()?,
            carry_files: self.carry_files,
            notes: self.notes.clone(),
            force: self.force,
            effort: self.effort.parse()?,
            base_check: self.base_check.parse()?,
            workers: workers.clone(),
            ..CreateOptions::default()
        })
    }

    fn method(&self) -> Result<Method> {
        let opened = |file: &Option<Py<Base>>| file.as_ref().map(|file| file.get().checkpoint.clone());
        MethodWords {
            size: self.size.as_deref(),
            require_exact: self.require_exact,
            density: self.density.as_deref(),
            exact: self.exact,
            values: self.values.as_deref(),
            scope: self.scope.as_deref(),
            groups: self.groups.as_deref(),
            rescale: self.rescale.as_deref(),
            scores: opened(&self.scores),
            mask: opened(&self.mask),
        }
        .method()
    }
}
