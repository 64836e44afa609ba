//! The one shape of every `--json` document: spec/reports.md.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{BaseMismatch, Error, Result};
use crate::model::digest::Digest;

/// The version of the documents. Fields may be added to a version; none is removed or changes its meaning.
pub const SCHEMA: u32 = 1;

/// The document of a command that succeeded: the fields of its report beside `schema`, `command` and `ok`.
///
/// # Errors
/// `Internal` for a report that is no JSON object.
pub fn success(command: &str, report: &impl Serialize) -> Result<Value> {
    let mut document = head(Some(command), true);
    document.extend(fields(report)?);
    Ok(Value::Object(document))
}

/// The document of a command that failed, with what is to be reported all the same.
///
/// # Errors
/// `Internal` for a report that is no JSON object.
pub fn failure(command: Option<&str>, error: &Error, report: Option<&impl Serialize>) -> Result<Value> {
    let mut document = head(command, false);
    document.extend(fields(&Failure { error: ErrorReport::of(error) })?);
    document.extend(report.map_or(Ok(Map::new()), fields)?);
    Ok(Value::Object(document))
}

fn head(command: Option<&str>, ok: bool) -> Map<String, Value> {
    let rows = [("schema", SCHEMA.into()), ("command", command.into()), ("ok", ok.into())];
    rows.into_iter().map(|(name, value): (&str, Value)| (name.to_string(), value)).collect()
}

fn fields(report: &impl Serialize) -> Result<Map<String, Value>> {
    match serde_json::to_value(report) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Error::Internal(format!("a report is {other}, not an object"))),
        Err(e) => Err(Error::Internal(format!("a report cannot be written as JSON: {e}"))),
    }
}

/// A path as a document has it. Bytes that are no Unicode text become U+FFFD.
pub fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[derive(Serialize)]
struct Failure {
    error: ErrorReport,
}

/// An error as a document has it: which fields are there depends on its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
#[non_exhaustive]
pub struct ErrorReport {
    /// [`Error::kind`].
    pub kind: &'static str,
    /// [`Error::exit_code`].
    pub exit_code: u8,
    /// What to tell a person.
    pub message: String,
    /// The file in which the error was met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The fields of this kind of error.
    #[serde(flatten)]
    pub details: Map<String, Value>,
}

impl ErrorReport {
    /// What there is to say of an error.
    pub fn of(error: &Error) -> Self {
        ErrorReport {
            kind: error.kind(),
            exit_code: error.exit_code(),
            message: error.to_string(),
            path: error.path().map(path_text),
            details: details(error.root()),
        }
    }
}

fn details(error: &Error) -> Map<String, Value> {
    let rows: Vec<(&str, Value)> = match error {
        Error::Malformed { rule, place, detail } => {
            vec![("rule", (*rule).into()), ("place", place.as_str().into()), ("detail", detail.as_str().into())]
        }
        Error::Unsupported { what, found, known } => {
            vec![("what", what.as_str().into()), ("asked", (*found).into()), ("known", (*known).into())]
        }
        Error::DigestMismatch { place, expected, found } => {
            vec![("place", place.as_str().into()), ("expected", hex(expected)), ("found", hex(found))]
        }
        Error::BaseMismatch(mismatch) => base_mismatch(mismatch),
        Error::LimitExceeded { limit, asked, allowed } => {
            vec![("limit", (*limit).into()), ("asked", (*asked).into()), ("allowed", (*allowed).into())]
        }
        _ => Vec::new(),
    };
    rows.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

fn base_mismatch(m: &BaseMismatch) -> Vec<(&'static str, Value)> {
    let tensor = |(name, why): &(String, String)| serde_json::json!({"name": name, "why": why});
    vec![
        ("diagnosis", m.diagnosis.as_str().into()),
        ("advice", m.advice.as_str().into()),
        ("differing", m.differing.into()),
        ("touched", m.touched.into()),
        ("expected", hex(&m.expected)),
        ("found", m.found.as_ref().map_or(Value::Null, hex)),
        ("tensors", m.tensors.iter().map(tensor).collect()),
    ]
}

fn hex(digest: &[u8; 32]) -> Value {
    Digest(*digest).to_string().into()
}
