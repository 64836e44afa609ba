//! The blocks of a tensor that are looked at closely.

use std::borrow::Cow;

use crate::create::fit::sample::Sample;
use crate::error::{Error, Result};
use crate::model::delta::{BlockDelta, ValueKind};
use crate::model::tensor::TensorInfo;

/// Blocks of a tensor that are looked at closely.
const MOST_SAMPLES: usize = 8;
/// And of one of which half and more are kept; of a tensor of more blocks than [`MOST_SAMPLES`], one.
const MOST_DENSE_SAMPLES: usize = 2;

/// A block of a delta with the base's bytes of its units.
pub(crate) type Loaded<'a> = (BlockDelta, Cow<'a, [u8]>);

/// Some blocks of a tensor.
pub(super) struct Samples<'a> {
    pub all: Vec<Sample>,
    /// The base's bytes of each, empty where they do not count.
    pub bytes: Vec<Cow<'a, [u8]>>,
    /// Units kept in these blocks, and units in all.
    pub kept: u64,
    pub seen: u64,
    /// How much of the tensor they are.
    pub part: f64,
    /// Whether they are all there is.
    pub whole: bool,
}

impl<'a> Samples<'a> {
    /// Takes from `blocks` what `load` gives of them.
    pub fn of(
        info: &TensorInfo,
        kind: ValueKind,
        blocks: &[(u64, u64)],
        uses_base: bool,
        load: &impl Fn(usize, (u64, u64)) -> Result<Loaded<'a>>,
    ) -> Result<Self> {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        let mut chosen = chosen(blocks.len(), MOST_SAMPLES);
        while let Some(i) = chosen.get(all.len()).copied() {
            let at = *blocks.get(i).ok_or_else(|| Error::Internal(format!("no block {i}")))?;
            let (delta, base) = load(i, at)?;
            // Where most moved, few blocks say as much as many do elsewhere.
            if all.is_empty() && delta.positions.len() as u64 * 2 > at.1 {
                let most = if blocks.len() > MOST_SAMPLES { 1 } else { MOST_DENSE_SAMPLES };
                chosen = self::chosen(blocks.len(), most);
            }
            let base = if uses_base { base } else { Cow::Borrowed(&[][..]) };
            all.push(Sample::new(info, kind, at, delta, &base));
            bytes.push(base);
        }
        let kept = all.iter().map(|s| s.positions.len() as u64).sum();
        let seen: u64 = all.iter().map(|s| u64::from(s.len)).sum();
        let part = seen as f64 / info.units().max(1) as f64;
        Ok(Samples { all, bytes, kept, seen, part, whole: chosen.len() >= blocks.len() })
    }
}

/// Spread evenly over all blocks.
fn chosen(blocks: usize, most: usize) -> Vec<usize> {
    let n = blocks.min(most);
    (0..n).map(|i| (i * blocks + blocks / 2) / n.max(1)).map(|i| i.min(blocks - 1)).collect()
}
