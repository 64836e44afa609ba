//! What a reader needs to know of a tensor before its blocks: spec/format.md, "Table".

use crate::error::{Error, Result};
use crate::model::codec::{MaskCodec, ValueCodec};
use crate::model::delta::{Groups, LEVELS, ValueKind};
use crate::model::tensor::TensorInfo;

/// Where the bytes of one block are and how they are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockRow {
    /// Codec of the mask.
    pub mask_codec: MaskCodec,
    /// Codec of the codes.
    pub value_codec: ValueCodec,
    /// Units kept.
    pub kept: u32,
    /// Bytes of the mask.
    pub mask_len: u32,
    /// Bytes of the codes, right after it.
    pub values_len: u32,
}

/// Bytes that a block takes in a table.
const ROW_LEN: u64 = 14;

impl BlockRow {
    /// Bytes of the block.
    pub fn payload_len(&self) -> u64 {
        u64::from(self.mask_len).saturating_add(self.values_len.into())
    }
}

/// The table of one tensor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// One row a block.
    pub blocks: Vec<BlockRow>,
    /// One scale a group, for the kinds that have scales.
    pub scales: Vec<f32>,
    /// The levels of a codebook, ascending.
    pub levels: Option<[f32; LEVELS]>,
    /// How units fall into classes, where blocks are coded by class; empty elsewhere. [CLS-2]
    pub coder: Vec<u8>,
}

/// Most bytes of a coder: 64 tables of 256 entries and the levels of every column fit. [TAB-1]
pub const MOST_CODER: u64 = 1 << 20;

/// Number of blocks of a tensor.
pub fn block_count(info: &TensorInfo, block_log2: u8) -> u64 {
    info.units().div_ceil(1 << block_log2.min(63))
}

/// A table has its columns, and up to [`MOST_CODER`] bytes of coder. [TAB-1]
pub(crate) fn check_len(found: u64, columns: u64) -> Result<()> {
    if (columns..=columns.saturating_add(MOST_CODER)).contains(&found) {
        return Ok(());
    }
    let detail = format!("has {found} bytes, must have {columns}, and up to {MOST_CODER} more for its coder");
    Err(Error::malformed("TAB-1", "table", detail))
}

/// Number of scales of a tensor. [TEN-7]
pub fn scale_count(info: &TensorInfo, kind: ValueKind, groups: Groups) -> u64 {
    match (kind.has_scale(), groups) {
        (false, _) => 0,
        (true, Groups::Tensor) => 1,
        (true, Groups::Row) => info.units().checked_div(info.row_len()).unwrap_or(0),
    }
}

/// Bytes of a tensor's table without its coder. [TAB-1]
pub fn table_len(info: &TensorInfo, kind: ValueKind, groups: Groups, block_log2: u8) -> u64 {
    let floats =
        scale_count(info, kind, groups).saturating_add(if kind == ValueKind::Codebook { LEVELS as u64 } else { 0 });
    block_count(info, block_log2).saturating_mul(ROW_LEN).saturating_add(floats.saturating_mul(4))
}

impl Table {
    /// Column after column: mask codecs, value codecs, kept, mask lengths, code lengths, scales, levels; then the coder.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.blocks.iter().map(|b| b.mask_codec.code()));
        out.extend(self.blocks.iter().map(|b| b.value_codec.code()));
        out.extend(self.blocks.iter().flat_map(|b| b.kept.to_le_bytes()));
        out.extend(self.blocks.iter().flat_map(|b| b.mask_len.to_le_bytes()));
        out.extend(self.blocks.iter().flat_map(|b| b.values_len.to_le_bytes()));
        out.extend(self.scales.iter().chain(self.levels.iter().flatten()).flat_map(|x| x.to_le_bytes()));
        out.extend(&self.coder);
        out
    }

    /// Reads a table from all of `bytes`, and checks it against the row of its tensor.
    pub fn decode(
        bytes: &[u8],
        info: &TensorInfo,
        kind: ValueKind,
        groups: Groups,
        block_log2: u8,
        kept: u64,
        payload_len: u64,
    ) -> Result<Self> {
        check_len(bytes.len() as u64, table_len(info, kind, groups, block_log2))?;
        let n = usize::try_from(block_count(info, block_log2)).unwrap_or(usize::MAX);
        let mut rest = bytes;
        let mask_codecs = column::<1>(&mut rest, n);
        let value_codecs = column::<1>(&mut rest, n);
        let kepts = column::<4>(&mut rest, n);
        let mask_lens = column::<4>(&mut rest, n);
        let values_lens = column::<4>(&mut rest, n);
        let codecs = mask_codecs.zip(value_codecs).map(|([mask], [values])| (mask, values));
        let numbers = kepts.zip(mask_lens).zip(values_lens).map(|((kept, mask_len), values_len)| Numbers {
            kept: u32::from_le_bytes(kept),
            mask_len: u32::from_le_bytes(mask_len),
            values_len: u32::from_le_bytes(values_len),
        });
        let levels = if kind == ValueKind::Codebook { LEVELS as u64 } else { 0 };
        let floats = scale_count(info, kind, groups).saturating_add(levels);
        let floats = column::<4>(&mut rest, usize::try_from(floats).unwrap_or(usize::MAX));
        let floats: Vec<f32> = floats.map(f32::from_le_bytes).collect();
        let levels = if kind == ValueKind::Codebook { floats.as_slice().try_into().ok() } else { None };
        let scales = if levels.is_some() { Vec::new() } else { floats };
        // What a newer reader would refuse as well is malformed, whatever codecs it is told in.
        check_rows(codecs.clone().zip(numbers.clone()), info, block_log2, kept, payload_len)?;
        check_floats(&scales, levels.as_ref())?;
        let blocks = codecs.zip(numbers).map(|(codecs, numbers)| numbers.of_codecs(codecs)).collect::<Result<_>>()?;
        Ok(Table { blocks, scales, levels, coder: rest.to_vec() })
    }
}

/// A row of a table without its codecs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    kept: u32,
    mask_len: u32,
    values_len: u32,
}

impl Numbers {
    /// The row with codecs. [MSK-1] [VAL-2]
    fn of_codecs(self, (mask, values): (u8, u8)) -> Result<BlockRow> {
        let Numbers { kept, mask_len, values_len } = self;
        let (mask_codec, value_codec) = (MaskCodec::known(mask)?, ValueCodec::known(values)?);
        Ok(BlockRow { mask_codec, value_codec, kept, mask_len, values_len })
    }
}

fn check_rows(
    rows: impl Iterator<Item = ((u8, u8), Numbers)>,
    info: &TensorInfo,
    block_log2: u8,
    kept: u64,
    payload_len: u64,
) -> Result<()> {
    let bad = |rule, detail: String| Err(Error::malformed(rule, "table", detail));
    let (mut kept_sum, mut payload_sum, mut left) = (0u64, 0u64, info.units());
    for (i, (codecs, row)) in rows.enumerate() {
        let len = left.min(1 << block_log2.min(63));
        left = left.saturating_sub(len);
        let bytes = u64::from(row.mask_len).saturating_add(row.values_len.into());
        if u64::from(row.kept) > len || (row.kept == 0 && (bytes > 0 || codecs != (0, 0))) {
            return bad("TAB-2", format!("block {i} keeps {} of {len} units", row.kept));
        }
        kept_sum = kept_sum.saturating_add(row.kept.into());
        payload_sum = payload_sum.saturating_add(bytes);
    }
    if kept_sum != kept || payload_sum != payload_len {
        let detail =
            format!("blocks keep {kept_sum} units in {payload_sum} bytes, the manifest says {kept} in {payload_len}");
        return bad("TAB-3", detail);
    }
    Ok(())
}

fn check_floats(scales: &[f32], levels: Option<&[f32; LEVELS]>) -> Result<()> {
    let bad = |rule, detail: String| Err(Error::malformed(rule, "table", detail));
    // A sign bit on a scale would be a second encoding of the sign of every code.
    if let Some(scale) = scales.iter().find(|s| !s.is_finite() || s.is_sign_negative()) {
        let bits = scale.to_bits();
        return bad("TAB-4", format!("a scale is {scale} (bits {bits:#010x}), must be finite and not below 0"));
    }
    if let Some(levels) = levels {
        let negative_zero = levels.iter().any(|l| *l == 0.0 && l.is_sign_negative());
        let ascending = levels.iter().zip(levels.iter().skip(1)).all(|(a, b)| a <= b);
        if negative_zero || !ascending || levels.iter().any(|l| !l.is_finite()) {
            return bad("TAB-5", "levels must be finite, ascending, and not -0".into());
        }
    }
    Ok(())
}

/// Takes `n` fields of `N` bytes from the front.
fn column<'a, const N: usize>(rest: &mut &'a [u8], n: usize) -> impl Iterator<Item = [u8; N]> + Clone + 'a {
    let (column, after) = rest.split_at_checked(n.saturating_mul(N)).unwrap_or((&[], &[]));
    *rest = after;
    column.as_chunks::<N>().0.iter().copied()
}
