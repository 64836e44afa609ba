//! What is known of each class: how often its units are kept, and how far they move. [CLS-3]

use std::sync::Arc;

use crate::codec::entropy::gaps::ODDS_MAX;
use crate::codec::entropy::table::Table;
use crate::error::{Error, Result};

/// Most classes that a model may have.
pub(crate) const MOST_CLASSES: usize = 64;

/// One class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    /// Odds that a unit is kept: 2^((odds − 80) / 4).
    pub odds: u8,
    /// How often a block keeps any unit of the class, in 256ths.
    pub occupied: u8,
    /// How far its kept units move; none where values are not coded by class.
    pub values: Option<Arc<Table>>,
}

/// What is known of the classes of one tensor, or of several.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Model {
    pub classes: Vec<Class>,
    /// How often a row has which level.
    pub rows: Option<Table>,
    /// How often a column has which level.
    pub columns: Option<Table>,
}

impl Class {
    /// The frequency, of 4,096, at which a block keeps no unit of the class. [CLS-3]
    pub fn empty(&self) -> u16 {
        4088u16.saturating_sub(u16::from(self.occupied).saturating_mul(16))
    }
}

impl Model {
    /// Number of classes (u8), which parts follow (u8: 1 rows, 2 columns, 4 values), odds of each, occupancy of each, tables.
    /// [CLS-3]
    pub fn encode(&self) -> Vec<u8> {
        let values = self.classes.iter().any(|c| c.values.is_some());
        let parts = u8::from(self.rows.is_some()) | u8::from(self.columns.is_some()) << 1 | u8::from(values) << 2;
        let mut out = vec![self.classes.len() as u8, parts];
        out.extend(self.classes.iter().map(|c| c.odds));
        out.extend(self.classes.iter().map(|c| c.occupied));
        self.rows.iter().chain(&self.columns).for_each(|t| t.encode(&mut out));
        let mut before: Option<&Arc<Table>> = None;
        for class in &self.classes {
            match &class.values {
                Some(table) if before != Some(table) => table.encode(&mut out),
                Some(_) => out.extend([0, 0]),
                None => {}
            }
            before = class.values.as_ref();
        }
        out
    }

    /// Reads a model from the front of `bytes`.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self> {
        let bad = |detail: &str| Error::malformed("CLS-3", "model of classes", detail);
        let cut = || bad("is cut off");
        let (head, rest) = bytes.split_first_chunk::<2>().ok_or_else(cut)?;
        let [n, parts] = *head;
        if n == 0 || usize::from(n) > MOST_CLASSES || parts > 7 {
            return Err(bad("has no classes, more than 64, or unknown parts"));
        }
        let (odds, rest) = rest.split_at_checked(n.into()).ok_or_else(cut)?;
        let (occupied, rest) = rest.split_at_checked(n.into()).ok_or_else(cut)?;
        if odds.iter().any(|o| *o > ODDS_MAX) {
            return Err(bad("has odds above 127"));
        }
        *bytes = rest;
        let rows = if parts & 1 != 0 { Some(Table::decode(bytes)?) } else { None };
        let columns = if parts & 2 != 0 { Some(Table::decode(bytes)?) } else { None };
        let mut classes: Vec<Class> = Vec::with_capacity(n.into());
        for (odds, occupied) in odds.iter().zip(occupied) {
            let before = classes.last().and_then(|c| c.values.clone());
            let values = if parts & 4 != 0 { Some(next_table(bytes, before)?) } else { None };
            classes.push(Class { odds: *odds, occupied: *occupied, values });
        }
        Ok(Model { classes, rows, columns })
    }

    /// Whether any table has a symbol for a step of 0, so that what is not kept may be coded among the steps.
    pub fn knows_zero(&self) -> bool {
        self.classes.iter().any(|class| class.values.as_ref().is_some_and(|table| table.range_of(0).1 > 0))
    }

    /// The class of what lies outside of all.
    pub fn last(&self) -> i16 {
        self.classes.len().saturating_sub(1).min(MOST_CLASSES) as i16
    }
}

/// A table, or two zero bytes for the one before.
fn next_table(bytes: &mut &[u8], before: Option<Arc<Table>>) -> Result<Arc<Table>> {
    let bad = |detail: &str| Error::malformed("CLS-3", "model of classes", detail);
    if let Some(rest) = bytes.strip_prefix(&[0, 0]) {
        *bytes = rest;
        return before.ok_or_else(|| bad("repeats a table before the first"));
    }
    let table = Table::decode(bytes)?;
    if before.as_deref() == Some(&table) {
        return Err(bad("spells a table out that is the same as the one before"));
    }
    Ok(Arc::new(table))
}
