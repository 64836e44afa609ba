//! The content id: what a pack decodes to, however hard it was compressed. spec/format.md, "Content id".

use crate::format::table::Table;
use crate::model::delta::{BlockDelta, StepBlock, ValueKind};
use crate::model::digest::{Digest, Digester, Role};
use crate::model::tensor::TensorInfo;
use crate::simd::{WORD, count, list_shorts};

/// Units of a leaf: fixed, so that the block size of a file makes no difference. [CID-2]
const LEAF: u64 = 1 << 10;
/// Of so many units at most a leaf lists the positions; of more, the mask is not longer.
const LISTED: usize = 64;
/// Words of a leaf's mask.
const WORDS: usize = (1 << 10) / WORD;

/// The content digest of one delta, from its blocks in order.
pub(crate) struct DeltaContent {
    digester: Digester,
    width: usize,
}

impl DeltaContent {
    /// Starts with what is known before the blocks. [CID-2]
    pub fn new(info: &TensorInfo, kind: ValueKind, base: Option<Digest>, table: &Table) -> Self {
        let mut digester = Digester::new(Role::Delta);
        digester.add(&[info.dtype.code(), kind.code(), u8::from(base.is_some())]);
        digester.add(&base.map_or([0; 32], |d| d.0));
        digester.add(&(info.shape.len() as u64).to_le_bytes());
        info.shape.iter().for_each(|d| digester.add(&d.to_le_bytes()));
        digester.add(&(table.scales.len() as u64).to_le_bytes());
        let floats = table.scales.iter().chain(table.levels.iter().flatten());
        floats.for_each(|x| digester.add(&x.to_le_bytes()));
        let width = match kind {
            ValueKind::Step => info.dtype.unit_bytes(),
            ValueKind::F32 => 4,
            ValueKind::F16 | ValueKind::Bf16 => 2,
            ValueKind::Int8 | ValueKind::Int4 | ValueKind::Sign | ValueKind::Codebook => 1,
        };
        DeltaContent { digester, width }
    }

    /// Adds a block: the bytes that [`leaves`] made of it.
    pub fn add(&mut self, leaves: &[u8]) {
        self.digester.add(leaves);
    }

    pub fn finish(&self) -> Digest {
        self.digester.finish()
    }

    /// Bytes of a code in a leaf.
    pub fn width(&self) -> usize {
        self.width
    }
}

/// A block as bytes to hash: for each run of 1,024 units that keeps any, its number in the tensor (u64), how many it keeps
/// (u16), which of the run they are (u16 each, or one bit a unit), and the codes. [CID-2]
pub(crate) fn leaves(block_start: u64, delta: &BlockDelta, width: usize) -> Vec<u8> {
    let (first, last) = (delta.positions.first().copied().unwrap_or(0), delta.positions.last().copied().unwrap_or(0));
    let heads = (u64::from(last.saturating_sub(first)) / LEAF).saturating_add(2).min(delta.positions.len() as u64);
    let codes = delta.positions.len().saturating_mul(width.saturating_add(2));
    let mut out = Vec::with_capacity(codes.saturating_add((heads as usize).saturating_mul(10)));
    let mut rest = (delta.positions.as_slice(), delta.codes.as_slice());
    while let Some(first) = rest.0.first() {
        let leaf = u64::from(*first) / LEAF;
        let n = rest.0.partition_point(|p| u64::from(*p) / LEAF == leaf);
        let (positions, codes) = (rest.0.split_at(n), rest.1.split_at(n.min(rest.1.len())));
        out.extend((block_start / LEAF).saturating_add(leaf).to_le_bytes());
        out.extend(low16(n as u64));
        if n > LISTED {
            let mut bits = [0u64; WORDS];
            for p in positions.0 {
                if let Some(word) = bits.get_mut((u64::from(*p) % LEAF / 64) as usize) {
                    *word |= 1 << (p & 63);
                }
            }
            append::<8>(&mut out, bits.into_iter());
        } else {
            append::<2>(&mut out, positions.0.iter().map(|p| u64::from(*p) % LEAF));
        }
        let numbers = codes.0.iter().copied();
        match width {
            1 => append::<1>(&mut out, numbers),
            2 => append::<2>(&mut out, numbers),
            4 => append::<4>(&mut out, numbers),
            _ => append::<8>(&mut out, numbers),
        }
        rest = (positions.1, codes.1);
    }
    out
}

/// [`leaves`] of steps of 16 bits.
pub(crate) fn leaves_of_steps(block_start: u64, block: &StepBlock, out: &mut Vec<u8>) {
    out.clear();
    let (first, mut steps) = (block_start / LEAF, block.steps.as_slice());
    let mut places = Vec::new();
    for (leaf, words) in (first..).zip(block.mask.chunks(WORDS)) {
        let n = count(words);
        let (own, rest) = steps.split_at_checked(usize::try_from(n).unwrap_or(usize::MAX)).unwrap_or_default();
        steps = rest;
        if n > 0 {
            out.extend(leaf.to_le_bytes());
            out.extend(low16(n));
            if n > LISTED as u64 {
                append::<8>(out, words.iter().copied());
                out.resize(out.len().saturating_add(WORDS.saturating_sub(words.len()).saturating_mul(8)), 0);
            } else {
                list_shorts(words, &mut places);
                append::<2>(out, places.iter().map(|place| u64::from(*place)));
            }
            append::<2>(out, own.iter().map(|step| u64::from(*step)));
        }
    }
}

/// The lowest `N` bytes of each number.
fn append<const N: usize>(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u64>) {
    let at = out.len();
    out.resize(at.saturating_add(numbers.len().saturating_mul(N)), 0);
    let (_, new) = out.split_at_mut_checked(at).unwrap_or_default();
    for (to, number) in new.as_chunks_mut::<N>().0.iter_mut().zip(numbers) {
        if let Some(low) = number.to_le_bytes().first_chunk::<N>() {
            *to = *low;
        }
    }
}

fn low16(x: u64) -> [u8; 2] {
    let bytes = x.to_le_bytes();
    [bytes[0], bytes[1]]
}

/// The content id of a pack: the base, the gain, for each row its name and the content of its delta, and for each carried
/// file its name and the digest of its bytes. [CID-1]
pub(crate) fn content_id<'a>(
    base: &[u8; 32],
    gain: f32,
    rows: &[(&'a str, Digest)],
    files: &[(&'a str, Digest)],
) -> Digest {
    let mut digester = Digester::new(Role::Content).with(base).with(&gain.to_le_bytes());
    for list in [rows, files] {
        digester.add(&(list.len() as u64).to_le_bytes());
        for (name, digest) in list {
            digester.add(&(name.len() as u64).to_le_bytes());
            digester.add(name.as_bytes());
            digester.add(&digest.0);
        }
    }
    digester.finish()
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    #[test]
    fn leaves_of_steps_are_leaves() {
        for every in [1, 3, 70, 1500, 5000] {
            let kept = |unit: &u32| (unit / 7 * 13).is_multiple_of(every);
            let positions: Vec<u32> = (0..9000).filter(kept).collect();
            let steps: Vec<u16> = positions.iter().map(|p| (p * 77) as u16 | 1).collect();
            let mut mask = vec![0u64; 9000usize.div_ceil(WORD)];
            positions.iter().for_each(|p| mask[*p as usize / WORD] |= 1 << (p % 64));
            let delta = BlockDelta { positions, codes: steps.iter().map(|step| u64::from(*step)).collect() };
            let mut found = vec![1; 99];
            leaves_of_steps(1 << 18, &StepBlock { mask, steps, spread: false }, &mut found);
            assert_eq!(found, leaves(1 << 18, &delta, 2), "every {every}");
        }
    }
}
