//! Norms of the task vector, and what changed, before anything is chosen.

use crate::create::localize::task::TaskVector;
use crate::error::{Error, Escaped, Result};
use crate::parallel::Workers;

/// What was seen of a block, or of all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// Elements that differ.
    pub changed: u64,
    /// The squared 2-norm of the task vector.
    pub square: f64,
    /// Its 1-norm.
    pub sum: f64,
}

impl Seen {
    fn add(&mut self, other: &Seen) {
        self.changed += other.changed;
        self.square += other.square;
        self.sum += other.sum;
    }
}

/// Block by block, and all together; refuses deltas that are no numbers.
pub(super) fn survey(task: &TaskVector, workers: &Workers) -> Result<(Vec<Seen>, Seen)> {
    workers.progress().stage("measuring", task.all_bytes()?);
    let mut all = Vec::with_capacity(task.spans.len());
    workers.in_order(
        task.spans.len(),
        |i| {
            let seen = see(task, i)?;
            workers.progress().advance(task.bytes(i)?);
            Ok(seen)
        },
        |_, seen| {
            all.push(seen);
            Ok(())
        },
    )?;
    // Added block by block in order, so that rounding does not depend on threads.
    let mut total = Seen::default();
    all.iter().for_each(|seen| total.add(seen));
    Ok((all, total))
}

fn see(task: &TaskVector, i: usize) -> Result<Seen> {
    let (_, pair, deltas) = task.deltas(i)?;
    let mut seen = Seen::default();
    for d in deltas.iter().filter(|d| **d != 0.0) {
        if !d.is_finite() {
            let name = Escaped(&pair.info.name);
            return Err(Error::Refused(format!(
                "tensor \"{name}\": the delta of an element is {d}, which no lossy pack can hold; use --exact or --exclude it"
            )));
        }
        seen.add(&Seen { changed: 1, square: d * d, sum: d.abs() });
    }
    Ok(seen)
}
