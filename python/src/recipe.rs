//! Recipes, as JSON text.

use std::path::PathBuf;

use pyo3::prelude::*;
use stitchpack::{Recipe, Result};

use crate::error::raise;

/// The recipe in a file, as the command writes it.
#[pyfunction]
pub fn read_recipe(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    text(py, Recipe::open(&path))
}

/// The same of text.
#[pyfunction]
pub fn parse_recipe(py: Python<'_>, json: &str) -> PyResult<String> {
    text(py, Recipe::parse(json.as_bytes()))
}

fn text(py: Python<'_>, recipe: Result<Recipe>) -> PyResult<String> {
    let json = recipe.and_then(|recipe| recipe.to_json()).map_err(|e| raise(py, &e))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}
