//! How the units of one tensor fall into classes. [CLS-1] [CLS-2]

use std::sync::Arc;

use crate::codec::classes::model::Model;
use crate::codec::entropy::rans::{Decoder, Encoder};
use crate::error::{Error, Result};
use crate::model::tensor::TensorInfo;

/// The level of a row or column that keeps nothing.
pub(crate) const DEAD: i16 = -16_384;
/// Levels other than that lie between −16 and 16.
pub(crate) const LEVEL_MAX: i16 = 16;

/// The symbol of a level: 0 for dead, then −16 … 16.
pub(crate) fn symbol_of(level: i16) -> u32 {
    if level == DEAD { 0 } else { level.saturating_add(LEVEL_MAX + 1).clamp(1, 2 * LEVEL_MAX + 1) as u32 }
}

/// The level of a symbol.
pub(crate) fn level_of(symbol: u32) -> Option<i16> {
    match i16::try_from(symbol).ok()? {
        0 => Some(DEAD),
        s if s <= 2 * LEVEL_MAX + 1 => Some(s.saturating_sub(LEVEL_MAX + 1)),
        _ => None,
    }
}

/// How the units of one tensor fall into classes, and what is known of each class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coder {
    /// Whether the exponent of the base's element counts.
    pub uses_base: bool,
    /// The first dimension of which a row is made: a row has the units of this one and all after it.
    pub axis: u8,
    /// The class of a unit whose exponent, row and column add nothing.
    pub origin: i16,
    /// One level a column; empty where columns make no difference.
    pub columns: Vec<i16>,
    pub model: Arc<Model>,
}

/// Where a coder finds its model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelPlace {
    /// In its own table.
    Own,
    /// In the table of an earlier row of the manifest.
    Row(u32),
}

/// Units of a row that begins at dimension `axis`.
pub(crate) fn row_len(info: &TensorInfo, axis: u8) -> u64 {
    let tail: u64 = info.shape.iter().skip(axis.into()).fold(1, |n, d| n.saturating_mul(*d));
    tail.saturating_mul(info.dtype.bits().into()).checked_div(info.dtype.unit_bytes() as u64).unwrap_or(0) / 8
}

impl Coder {
    /// Flags (u8: 1 base, 2 columns, 4 the model of another row), axis (u8), origin (i16), then the row (u32) or the model, and the
    /// levels of the columns as a coded run. [CLS-2]
    pub fn encode(&self, place: &ModelPlace) -> Option<Vec<u8>> {
        let columns = !self.columns.is_empty();
        let shared = matches!(place, ModelPlace::Row(_));
        let mut out = vec![u8::from(self.uses_base) | u8::from(columns) << 1 | u8::from(shared) << 2, self.axis];
        out.extend(self.origin.to_le_bytes());
        // The model stands before the columns, which are coded with one of its tables.
        match place {
            ModelPlace::Own => out.extend(self.model.encode()),
            ModelPlace::Row(row) => out.extend(row.to_le_bytes()),
        }
        if columns {
            let table = self.model.columns.as_ref()?;
            let mut encoder = Encoder::default();
            for level in &self.columns {
                encoder.symbol(table, symbol_of(*level))?;
            }
            out.extend(encoder.finish::<1>());
        }
        Some(out)
    }

    /// Reads a coder from all of `bytes`; `model_of` gives the model of an earlier row.
    pub fn decode(bytes: &[u8], info: &TensorInfo, model_of: impl FnOnce(u32) -> Result<Arc<Model>>) -> Result<Self> {
        let bad = |detail: String| Error::malformed("CLS-2", "coder", detail);
        let ([flags, axis, low, high], mut rest) = head_of(bytes)?;
        if flags > 7 || usize::from(axis) > info.shape.len() {
            return Err(bad(format!("has flags {flags} and axis {axis}")));
        }
        let uses_base = flags & 1 != 0;
        if uses_base && !info.dtype.is_float() {
            return Err(bad(format!("uses the exponent of {} elements, which have none", info.dtype)));
        }
        let model = if flags & 4 != 0 {
            let (row, after) = rest.split_first_chunk::<4>().ok_or_else(|| bad("is cut off".into()))?;
            rest = after;
            model_of(u32::from_le_bytes(*row))?
        } else {
            Arc::new(Model::decode(&mut rest)?)
        };
        // Each row has a level: rows of next to nothing would be work that no byte has paid for.
        let len = row_len(info, axis);
        if model.rows.is_some() && len < FEWEST_IN_ROW && len < info.units() {
            return Err(bad(format!("has levels for rows of {len} units, must have at least {FEWEST_IN_ROW} in each")));
        }
        let mut coder = Coder { uses_base, axis, origin: i16::from_le_bytes([low, high]), columns: Vec::new(), model };
        if flags & 2 != 0 {
            coder.read_columns(rest, len)?;
        } else if !rest.is_empty() {
            return Err(bad(format!("has {} bytes after its end", rest.len())));
        }
        if !(-1024..=1024).contains(&coder.origin) {
            return Err(bad(format!("has origin {}", coder.origin)));
        }
        Ok(coder)
    }

    /// The model in a coder that has its own, and what follows it.
    pub fn own_model(bytes: &[u8]) -> Result<Option<(Model, &[u8])>> {
        let ([flags, ..], mut rest) = head_of(bytes)?;
        if flags & 4 != 0 {
            return Ok(None);
        }
        let model = Model::decode(&mut rest)?;
        Ok(Some((model, rest)))
    }

    fn read_columns(&mut self, bytes: &[u8], n: u64) -> Result<()> {
        let bad = |detail: String| Error::malformed("CLS-2", "coder", detail);
        // Equal levels cost almost nothing, so the number of columns is bounded by itself.
        if !(1..=MOST_COLUMNS).contains(&n) {
            return Err(bad(format!("has levels for {n} columns, must be from 1 to {MOST_COLUMNS}")));
        }
        let model = self.model.clone();
        let table = model.columns.as_ref().ok_or_else(|| bad("has columns, but its model does not".into()))?;
        let mut decoder: Decoder<1> = Decoder::new(bytes)?;
        for _ in 0..n {
            let symbol = decoder.symbol(table)?;
            self.columns.push(level_of(symbol).ok_or_else(|| bad(format!("has a column with level {symbol}")))?);
        }
        decoder.finish()
    }
}

/// Flags, axis and origin, and what follows them.
fn head_of(bytes: &[u8]) -> Result<([u8; 4], &[u8])> {
    let (head, rest) =
        bytes.split_first_chunk::<4>().ok_or_else(|| Error::malformed("CLS-2", "coder", "is cut off"))?;
    Ok((*head, rest))
}

/// Fewest units of a row, where rows have levels and a tensor has more than one. [CLS-2]
pub(crate) const FEWEST_IN_ROW: u64 = 8;

/// Most columns that may have levels. [CLS-2]
pub(crate) const MOST_COLUMNS: u64 = 1 << 18;
