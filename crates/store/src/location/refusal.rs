//! Why words are no location.

use stitchpack::Error;
use stitchpack::error::Escaped;

/// What is wrong with a location.
pub(super) fn bad(text: &str, detail: &str) -> Error {
    Error::InvalidInput(format!("location \"{}\" {detail}", Escaped(&without_secrets(text))))
}

/// The text of a location without its query and without credentials before its host. [PLC-8]
fn without_secrets(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |i| rest.split_at(i));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://…@{host}{path}"),
        None => text.into(),
    }
}
