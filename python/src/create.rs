//! Base and fine-tuned model → pack.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use stitchpack::checkpoint::{BaseCheck, ModelSource};
use stitchpack::create::{Budget, CreateOptions, Localizer, Lossy, Method};
use stitchpack::model::delta::Groups;
use stitchpack::{Created, Error, Result, Workers};

use crate::base::Base;
use crate::call::Call;
use crate::fine_tuned::FineTuned;
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

/// Makes a pack of what `fine_tuned` has and `base`, with the packs of `after` on it, has not.
#[pyfunction]
#[pyo3(signature = (base, fine_tuned, out, after, how, call))]
pub fn create<'py>(
    py: Python<'py>,
    base: &Base,
    fine_tuned: FineTuned,
    out: Option<PathBuf>,
    after: Merge,
    how: How,
    call: Call,
) -> PyResult<Bound<'py, PyDict>> {
    let base = base.checkpoint.clone();
    let mut lesson = how.lesson.as_ref().map(Lesson::begin);
    let created = call.run(py, |workers| {
        let mut options = how.options(workers)?;
        let merged = if after.is_empty() { None } else { Some(after.onto(&base, workers)?) };
        let ground: &dyn ModelSource = merged.as_ref().map_or(&*base, |(model, _)| model);
        fine_tuned.on(ground, |fine_tuned| {
            if let Some(lesson) = &mut lesson {
                options = lesson.learn(ground, fine_tuned, &options)?;
            }
            match &out {
                Some(out) => stitchpack::create(ground, fine_tuned, out, &options),
                None => stitchpack::create_dry(ground, fine_tuned, &options),
            }
        })
    });
    match lesson.and_then(Learning::raised) {
        Some(raised) => Err(raised),
        None => report(py, &created?),
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
            base_check: match self.base_check.parse()? {
                BaseCheck::Touched => return Err(invalid("create reads all of the base: use full or cached")),
                check => check,
            },
            workers: workers.clone(),
            ..CreateOptions::default()
        })
    }

    fn method(&self) -> Result<Method> {
        self.check()?;
        if self.exact {
            return Ok(Method::Exact);
        }
        let (lossy, budget) = (self.lossy()?, Budget::default());
        if self.density.is_some() || self.mask.is_some() {
            return Ok(Method::Lossy(lossy));
        }
        let size = self.size.as_deref().map_or(Ok(budget.size), str::parse)?;
        Ok(Method::Sized(Budget { size, lossy, keep_values: self.values.is_some(), require_exact: self.require_exact }))
    }

    /// What contradicts each other.
    fn check(&self) -> Result<()> {
        let lossy = [
            ("values", self.values.is_some()),
            ("rescale", self.rescale.is_some()),
            ("scope", self.scope.is_some()),
            ("groups", self.groups.is_some()),
            ("scores", self.scores.is_some()),
            ("mask", self.mask.is_some()),
            ("density", self.density.is_some()),
        ];
        if let Some((name, _)) = lossy.iter().find(|(_, said)| self.exact && *said) {
            return Err(invalid(&format!("an exact pack has no {name}; leave exact or {name} out")));
        }
        let ways = [
            ("exact", self.exact),
            ("size", self.size.is_some()),
            ("density", self.density.is_some()),
            ("mask", self.mask.is_some()),
        ];
        let said: Vec<&str> = ways.iter().filter(|(_, said)| *said).map(|(name, _)| *name).collect();
        match said.as_slice() {
            [first, second, ..] => Err(invalid(&format!("{first} and {second} both say how much is kept; use one"))),
            [only] if self.require_exact && *only != "size" => {
                Err(invalid(&format!("require_exact is about a size, not about {only}")))
            }
            _ if self.scores.is_some() && self.mask.is_some() => {
                Err(invalid("scores and mask both choose positions; use one"))
            }
            _ if self.scope.is_some() && self.mask.is_some() => Err(invalid("a mask has no scope")),
            _ => Ok(()),
        }
    }

    fn lossy(&self) -> Result<Lossy> {
        let defaults = Lossy::default();
        Ok(Lossy {
            density: self.density.as_deref().map_or(Ok(defaults.density), str::parse)?,
            localizer: match (&self.scores, &self.mask) {
                (Some(scores), _) => Localizer::Scores(scores.get().checkpoint.clone()),
                (None, Some(mask)) => Localizer::Mask(mask.get().checkpoint.clone()),
                (None, None) => Localizer::Magnitude,
            },
            scope: self.scope.as_deref().map_or(Ok(defaults.scope), str::parse)?,
            values: self.values.as_deref().map_or(Ok(defaults.values), str::parse)?,
            groups: match self.groups.as_deref() {
                None | Some("tensor") => Groups::Tensor,
                Some("row") => Groups::Row,
                Some(other) => return Err(invalid(&format!("groups \"{other}\" is not tensor or row"))),
            },
            rescale: self.rescale.as_deref().map(str::parse).transpose()?,
        })
    }
}

fn invalid(detail: &str) -> Error {
    Error::InvalidInput(detail.into())
}

/// What was made, field by field.
pub fn report<'py>(py: Python<'py>, c: &Created) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("id", c.id.to_string())?;
    fields.set_item("content_id", c.content.to_string())?;
    fields.set_item("pack_bytes", c.pack_bytes)?;
    fields.set_item("fine_tuned_bytes", c.fine_tuned_bytes)?;
    fields.set_item("touched_tensors", c.touched)?;
    fields.set_item("candidates", c.candidates)?;
    fields.set_item("changed", c.changed)?;
    fields.set_item("kept", c.kept)?;
    fields.set_item("energy_kept", c.energy)?;
    fields.set_item("gain", c.gain)?;
    fields.set_item("exact", c.exact)?;
    fields.set_item("all_steps", c.all_steps)?;
    fields.set_item("unchanged_in_mask", c.unchanged_in_mask)?;
    fields.set_item("carried", &c.carried)?;
    fields.set_item("skipped", &c.skipped)?;
    fields.set_item("only_in_base", &c.only_in_base)?;
    fields.set_item("differing_files", &c.companions)?;
    Ok(fields)
}
