//! Tied and duplicate tensors: of rank 2 or more, with the same dtype, shape and bytes on both sides. [LOC-4]

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::checkpoint::{BaseCheck, ModelSource};
use crate::create::pairs::pair::Pair;
use crate::error::{Error, Result};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::parallel::Workers;

/// Marks every pair that is the same as an earlier one.
pub(super) fn mark(pairs: &mut [Pair], fine_tuned: &dyn ModelSource, workers: &Workers) -> Result<()> {
    let groups = same_in_base(pairs);
    if groups.is_empty() {
        return Ok(());
    }
    let members = groups.iter().flatten().filter_map(|i| pairs.get(*i));
    let names: HashSet<&str> = members.map(|p| p.info.name.as_str()).collect();
    let tuned = fine_tuned.identity_of(BaseCheck::Touched, &|name| names.contains(name), workers)?;
    for group in &groups {
        mark_group(pairs, group, &tuned)?;
    }
    Ok(())
}

/// Groups of pairs that have the same bytes in the base.
fn same_in_base(pairs: &[Pair]) -> Vec<Vec<usize>> {
    let mut by_base: HashMap<(Digest, u8, &[u64]), Vec<usize>> = HashMap::new();
    for (i, pair) in pairs.iter().enumerate() {
        if pair.info.shape.len() >= 2 && pair.info.units() > 0 {
            by_base.entry((pair.digest, pair.info.dtype.code(), &pair.info.shape)).or_default().push(i);
        }
    }
    by_base.into_values().filter(|group| group.len() > 1).collect()
}

fn mark_group(pairs: &mut [Pair], group: &[usize], tuned: &BaseIdentity) -> Result<()> {
    let mut firsts: BTreeMap<(Digest, u8), usize> = BTreeMap::new();
    for i in group {
        let pair = pairs.get_mut(*i).ok_or_else(|| Error::Internal(format!("no pair {i}")))?;
        let Some((info, Some(digest))) = tuned.tensor(&pair.info.name) else {
            return Err(Error::Internal("a fine-tuned tensor without a digest".into()));
        };
        let first = *firsts.entry((digest, info.dtype.code())).or_insert(*i);
        pair.same_as = (first != *i).then_some(first);
    }
    Ok(())
}
