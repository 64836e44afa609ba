//! Companion files: tokenizer, chat template and what else lies beside the weights.

use std::collections::HashSet;

use crate::checkpoint::ModelSource;
use crate::error::{Error, Escaped, Result};
use crate::format::check::is_plain_name;
use crate::limits::Limits;

/// Names of those that are new or differ from the base's; none where only one side is a folder.
pub(super) fn differing(base: &dyn ModelSource, fine_tuned: &dyn ModelSource) -> Result<Vec<String>> {
    if base.has_companions() != fine_tuned.has_companions() {
        return Ok(Vec::new());
    }
    let in_base: HashSet<String> = base.companion_names()?.into_iter().collect();
    let mut out = Vec::new();
    for name in fine_tuned.companion_names()? {
        if !in_base.contains(&name) || base.companion_bytes(&name)? != fine_tuned.companion_bytes(&name)? {
            out.push(name);
        }
    }
    Ok(out)
}

/// Names and bytes of those. Files whose names a pack cannot hold are refused.
pub(super) fn carried(base: &dyn ModelSource, fine_tuned: &dyn ModelSource) -> Result<Vec<(String, Vec<u8>)>> {
    let mut out = Vec::new();
    for name in differing(base, fine_tuned)? {
        if !is_plain_name(&name) {
            return Err(Error::Refused(format!("file \"{}\" has a name that no pack can carry", Escaped(&name))));
        }
        let bytes = fine_tuned.companion_bytes(&name)?;
        Limits::check("carried file size in bytes", bytes.len() as u64, Limits::default().section_bytes)?;
        out.push((name, bytes));
    }
    Ok(out)
}
