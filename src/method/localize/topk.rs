//! The k largest of very many keys without holding them: histograms find the threshold. [LOC-2]

use crate::error::{Error, Result};
use crate::parallel::Workers;

/// Where the top k ends: keys above `key` are kept, and of those equal to it the first `ties` in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threshold {
    pub key: u64,
    pub ties: u64,
}

/// Bits of key that one pass over the data settles.
const DIGIT: u32 = 16;

/// The threshold of the `k` largest among all keys that `read` gives.
///
/// `read(i, out)` appends the keys of block `i` to `out`; it is called once a block and pass, from any thread. `k` is at
/// least 1 and at most the number of keys. A pass settles 16 bits and holds one table of counts a thread.
pub(crate) fn threshold(
    workers: &Workers,
    blocks: usize,
    bits: u32,
    k: u64,
    read: impl Fn(usize, &mut Vec<u64>) -> Result<()> + Sync,
) -> Result<Threshold> {
    let (mut prefix, mut remaining) = (0u64, k);
    for level in (0..bits / DIGIT).rev() {
        let shift = level * DIGIT;
        let counts = histogram(workers, blocks, shift, prefix, &read)?;
        let mut digit = None;
        for (value, count) in counts.iter().enumerate().rev() {
            if remaining <= *count {
                digit = Some(value as u64);
                break;
            }
            remaining -= count;
        }
        let digit = digit.ok_or_else(|| Error::Internal("top-k asked for more keys than there are".into()))?;
        prefix = prefix << DIGIT | digit;
    }
    Ok(Threshold { key: prefix, ties: remaining })
}

/// Counts, by their digit at `shift`, the keys whose higher digits are `prefix`.
fn histogram(
    workers: &Workers,
    blocks: usize,
    shift: u32,
    prefix: u64,
    read: &(impl Fn(usize, &mut Vec<u64>) -> Result<()> + Sync),
) -> Result<Vec<u64>> {
    let bins = 1usize << DIGIT;
    let above = |key: u64| key.checked_shr(shift + DIGIT).unwrap_or(0);
    let tables = workers.for_each(
        blocks,
        || (vec![0u64; bins], Vec::new()),
        |(counts, keys), i| {
            keys.clear();
            read(i, keys)?;
            for key in keys.iter().filter(|key| above(**key) == prefix) {
                if let Some(count) = counts.get_mut((key >> shift) as usize & (bins - 1)) {
                    *count += 1;
                }
            }
            Ok(())
        },
    )?;
    let mut total = vec![0u64; bins];
    for (counts, _) in tables {
        total.iter_mut().zip(counts).for_each(|(t, c)| *t += c);
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_sorting() {
        let keys: Vec<u64> = (0..5000u64).map(|i| (i * 2654435761) % 977 * 70_001).collect();
        let mut sorted = keys.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        for threads in [1, 3] {
            let workers = Workers::new(threads, std::sync::Arc::new(crate::parallel::Quiet));
            for k in [1, 2, 5, 6, 4999, 5000] {
                let chunks: Vec<_> = keys.chunks(100).collect();
                let read = |i: usize, out: &mut Vec<u64>| {
                    out.extend(chunks[i]);
                    Ok(())
                };
                for bits in [32, 64] {
                    let t = threshold(&workers, chunks.len(), bits, k, read).unwrap();
                    assert_eq!(t.key, sorted[k as usize - 1]);
                    let above = keys.iter().filter(|key| **key > t.key).count() as u64;
                    assert_eq!(t.ties, k - above);
                }
            }
        }
    }
}
