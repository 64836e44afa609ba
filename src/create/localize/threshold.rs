//! Where the top k ends, block by block. [LOC-2]

use std::iter;

use crate::create::localize::ranking::Ranking;
use crate::create::localize::survey::Seen;
use crate::create::localize::task::TaskVector;
use crate::create::options::{Lossy, Scope};
use crate::error::{Error, Result};
use crate::method::localize::topk::{self, Threshold};
use crate::parallel::Workers;

/// For each block the threshold of its elements and how many ties it may keep; none for one that keeps nothing.
pub(super) fn choose(
    task: &TaskVector,
    ranking: &Ranking,
    lossy: &Lossy,
    seen: &[Seen],
    workers: &Workers,
) -> Result<Vec<Option<Threshold>>> {
    let mut out = vec![None; seen.len()];
    let groups: Vec<_> = match lossy.scope {
        Scope::Global => iter::once(0..seen.len()).collect(),
        Scope::Tensor => task.spans.by_pair().collect(),
    };
    for group in groups {
        let n = task.spans.units(group.clone());
        let own: Vec<(usize, &Seen)> = group.clone().zip(seen.get(group).unwrap_or_default()).collect();
        let k = lossy.density.of(n).min(own.iter().map(|(_, seen)| seen.changed).sum());
        let changed: Vec<usize> = own.iter().filter(|(_, seen)| seen.changed > 0).map(|(i, _)| *i).collect();
        if k == 0 {
            continue;
        }
        for (i, threshold) in changed.iter().zip(choose_in(ranking, &changed, k, workers)?) {
            *out.get_mut(*i).ok_or_else(|| Error::Internal("a group beyond the blocks".into()))? = Some(threshold);
        }
    }
    Ok(out)
}

/// The thresholds of a group of blocks that keeps `k` elements.
fn choose_in(ranking: &Ranking, group: &[usize], k: u64, workers: &Workers) -> Result<Vec<Threshold>> {
    workers.progress().stage("localizing", 0);
    let read = |i: usize, out: &mut Vec<u64>| {
        let block = group.get(i).ok_or_else(|| Error::Internal("a block beyond its group".into()))?;
        ranking.read(*block, out)
    };
    let threshold = topk::threshold(workers, group.len(), ranking.bits(), k, read)?;
    // Of those equal to the threshold the first in order are kept, so each block must know how many came before it.
    let mut left = threshold.ties;
    let mut out = Vec::with_capacity(group.len());
    workers.in_order(
        group.len(),
        |i| {
            let mut found = Vec::new();
            read(i, &mut found)?;
            Ok(found.iter().filter(|key| **key == threshold.key).count() as u64)
        },
        |_, ties| {
            let mine = ties.min(left);
            left -= mine;
            out.push(Threshold { key: threshold.key, ties: mine });
            Ok(())
        },
    )?;
    Ok(out)
}
