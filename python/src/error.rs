//! The library's errors as the exceptions of `stitchpack.errors`: one class a variant, the fields as attributes.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use stitchpack::Error;

/// The exception for an error. Whatever goes wrong while it is made is raised instead.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).unwrap_or_else(|failed| failed)
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    fields.set_item("path", path_of(error))?;
    let class = describe(error.root(), &fields)?;
    let module = py.import("stitchpack.errors")?;
    let made = module.getattr(class)?.call_method("_of", (error.to_string(),), Some(&fields))?;
    Ok(PyErr::from_value(made))
}

/// The file in which the error was met.
fn path_of(error: &Error) -> Option<&Path> {
    match error {
        Error::InFile { path, .. } | Error::Io { path, .. } => Some(path),
        _ => None,
    }
}

/// The name of the class, after its fields were written down.
fn describe(error: &Error, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    let hash = |digest: &[u8; 32]| stitchpack::model::digest::Digest(*digest).to_string();
    match error {
        Error::Io { source, .. } => {
            fields.set_item("errno", source.raw_os_error())?;
            fields.set_item("strerror", source.to_string())?;
            let missing = source.kind() == std::io::ErrorKind::NotFound;
            Ok(if missing { "NotFound" } else { "IoError" })
        }
        Error::Malformed { rule, place, detail } => {
            fields.set_item("rule", rule)?;
            fields.set_item("place", place)?;
            fields.set_item("detail", detail)?;
            Ok("Malformed")
        }
        Error::Unsupported { what, found, known } => {
            fields.set_item("what", what)?;
            fields.set_item("found", found)?;
            fields.set_item("known", known)?;
            Ok("Unsupported")
        }
        Error::UnsupportedName { what, found, known } => {
            fields.set_item("what", what)?;
            fields.set_item("found", found)?;
            fields.set_item("known", known)?;
            Ok("Unsupported")
        }
        Error::DigestMismatch { place, expected, found } => {
            fields.set_item("place", place)?;
            fields.set_item("expected", hash(expected))?;
            fields.set_item("found", hash(found))?;
            Ok("DigestMismatch")
        }
        Error::BaseMismatch(why) => {
            fields.set_item("diagnosis", &why.diagnosis)?;
            fields.set_item("advice", &why.advice)?;
            fields.set_item("tensors", &why.tensors)?;
            fields.set_item("differing", why.differing)?;
            fields.set_item("touched", why.touched)?;
            fields.set_item("expected", hash(&why.expected))?;
            fields.set_item("found", why.found.as_ref().map(hash))?;
            Ok("BaseMismatch")
        }
        Error::LimitExceeded { limit, asked, allowed } => {
            fields.set_item("limit", limit)?;
            fields.set_item("asked", asked)?;
            fields.set_item("allowed", allowed)?;
            Ok("LimitExceeded")
        }
        Error::Refused(_) => Ok("Refused"),
        Error::InvalidInput(_) => Ok("InvalidInput"),
        Error::Interrupted => Ok("Interrupted"),
        _ => Ok("InternalError"),
    }
}
