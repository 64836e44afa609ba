//! The touched tensors of a manifest, end to end: of a hundred thousand in each of several packs, a name and a shape of its own
//! each would be most of the memory and most of the time that it takes to open them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Result;
use crate::format::manifest::{DeltaRow, OwnDelta, TensorRow};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Rows of touched tensors. In a pack's bytes they are a list of [`TensorRow`].
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Rows {
    names: String,
    dimensions: Vec<u64>,
    rows: Vec<Fixed>,
}

/// What is of one size in every row.
#[derive(Clone, PartialEq, Eq)]
struct Fixed {
    name_end: usize,
    shape_end: usize,
    dtype: u8,
    delta: DeltaRow,
}

/// One of [`Rows`]: a [`TensorRow`] that is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Row<'a> {
    /// Its name in the checkpoint.
    pub name: &'a str,
    /// Its dtype's code. [DTY-1]
    pub dtype: u8,
    /// Its dimensions.
    pub shape: &'a [u64],
    /// Where its delta is.
    pub delta: &'a DeltaRow,
}

impl Rows {
    /// Number of touched tensors.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the pack touches nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Row `i`.
    pub fn get(&self, i: usize) -> Option<Row<'_>> {
        let before = i.checked_sub(1).and_then(|i| self.rows.get(i));
        let (name, shape) = before.map_or((0, 0), |row| (row.name_end, row.shape_end));
        let Fixed { name_end, shape_end, dtype, delta } = self.rows.get(i)?;
        let (name, shape) = (self.names.get(name..*name_end)?, self.dimensions.get(shape..*shape_end)?);
        Some(Row { name, dtype: *dtype, shape, delta })
    }

    /// All rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        let (mut names, mut dimensions) = (self.names.as_str(), &self.dimensions[..]);
        let (mut name_start, mut shape_start) = (0, 0);
        self.rows.iter().map(move |row| {
            let (name, after) = names.split_at_checked(row.name_end.saturating_sub(name_start)).unwrap_or_default();
            let (shape, rest) =
                dimensions.split_at_checked(row.shape_end.saturating_sub(shape_start)).unwrap_or_default();
            (names, dimensions, name_start, shape_start) = (after, rest, row.name_end, row.shape_end);
            Row { name, dtype: row.dtype, shape, delta: &row.delta }
        })
    }

    /// The delta of row `i`, its own or an earlier row's, and the row whose own it is. [TEN-5]
    pub fn own(&self, i: usize) -> Option<(usize, &OwnDelta)> {
        let row = |i: usize| self.rows.get(i).map(|row| &row.delta);
        match row(i)? {
            DeltaRow::Own(own) => Some((i, own)),
            DeltaRow::SameAs(earlier) => match row(*earlier as usize)? {
                DeltaRow::Own(own) => Some((*earlier as usize, own)),
                DeltaRow::SameAs(_) => None,
            },
        }
    }

    /// All rows, each with its delta.
    pub fn with_own(&self) -> impl Iterator<Item = (Row<'_>, &OwnDelta)> {
        self.iter().enumerate().filter_map(|(i, row)| match row.delta {
            DeltaRow::Own(own) => Some((row, own)),
            DeltaRow::SameAs(_) => Some((row, self.own(i)?.1)),
        })
    }

    /// The row of a name, where rows are in order of name. [TEN-4]
    pub fn find(&self, name: &str) -> Option<usize> {
        let (mut from, mut to) = (0usize, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.get(middle)?.name.cmp(name) {
                std::cmp::Ordering::Less => from = middle.saturating_add(1),
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }

    fn push(&mut self, row: Row) {
        self.names.push_str(row.name);
        self.dimensions.extend(row.shape);
        let (name_end, shape_end) = (self.names.len(), self.dimensions.len());
        self.rows.push(Fixed { name_end, shape_end, dtype: row.dtype, delta: row.delta.clone() });
    }
}

impl TensorRow {
    /// The row, lent.
    pub fn lend(&self) -> Row<'_> {
        Row { name: &self.name, dtype: self.dtype, shape: &self.shape, delta: &self.delta }
    }
}

impl Row<'_> {
    /// Name, dtype and shape.
    ///
    /// # Errors
    /// `Unsupported` for a dtype that this build does not know. [DTY-1]
    pub fn info(&self) -> Result<TensorInfo> {
        Ok(TensorInfo { name: self.name.into(), dtype: self.dtype()?, shape: self.shape.into() })
    }

    /// [`Row::info`], in memory that is there.
    pub(crate) fn info_into(&self, info: &mut TensorInfo) -> Result<()> {
        self.name.clone_into(&mut info.name);
        info.dtype = self.dtype()?;
        self.shape.clone_into(&mut info.shape);
        Ok(())
    }

    /// The type of its elements.
    ///
    /// # Errors
    /// As [`Row::info`].
    pub fn dtype(&self) -> Result<Dtype> {
        Dtype::known(self.dtype)
    }

    /// The row as one of its own.
    pub fn to_owned(&self) -> TensorRow {
        TensorRow { name: self.name.into(), dtype: self.dtype, shape: self.shape.into(), delta: self.delta.clone() }
    }
}

impl<'a> FromIterator<&'a TensorRow> for Rows {
    fn from_iter<I: IntoIterator<Item = &'a TensorRow>>(all: I) -> Self {
        let mut rows = Rows::default();
        all.into_iter().for_each(|row| rows.push(row.lend()));
        rows
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_seq(read::List)
    }
}

/// Rows from a pack's bytes, each part straight to its place.
mod read {
    use std::fmt;

    use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

    use super::{Fixed, Rows};

    pub struct List;

    impl<'de> Visitor<'de> for List {
        type Value = Rows;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tensors")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Rows, A::Error> {
            let mut rows = Rows::default();
            while all.next_element_seed(Next(&mut rows))?.is_some() {}
            Ok(rows)
        }
    }

    struct Next<'r>(&'r mut Rows);

    impl<'de> DeserializeSeed<'de> for Next<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_struct("TensorRow", &["name", "dtype", "shape", "delta"], self)
        }
    }

    impl<'de> Visitor<'de> for Next<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a tensor")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
            let Rows { names, dimensions, rows } = self.0;
            let missing = || A::Error::custom("a tensor without all of its fields");
            fields.next_element_seed(Name(names))?.ok_or_else(missing)?;
            let dtype = fields.next_element()?.ok_or_else(missing)?;
            fields.next_element_seed(Shape(dimensions))?.ok_or_else(missing)?;
            let delta = fields.next_element()?.ok_or_else(missing)?;
            rows.push(Fixed { name_end: names.len(), shape_end: dimensions.len(), dtype, delta });
            Ok(())
        }
    }

    struct Name<'r>(&'r mut String);

    impl<'de> DeserializeSeed<'de> for Name<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_str(self)
        }
    }

    impl Visitor<'_> for Name<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a name")
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
            self.0.push_str(name);
            Ok(())
        }
    }

    struct Shape<'r>(&'r mut Vec<u64>);

    impl<'de> DeserializeSeed<'de> for Shape<'_> {
        type Value = ();

        fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
            deserializer.deserialize_seq(self)
        }
    }

    impl<'de> Visitor<'de> for Shape<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
            while let Some(dimension) = all.next_element()? {
                self.0.push(dimension);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<TensorRow> {
        let own = OwnDelta { base: None, kind: 1, groups: 0, kept: 7, table_len: 14, payload_len: 3 };
        let row =
            |name: &str, shape: &[u64], delta| TensorRow { name: name.into(), dtype: 3, shape: shape.into(), delta };
        vec![
            row("a", &[7], DeltaRow::Own(own.clone())),
            row("b", &[], DeltaRow::Own(OwnDelta { base: Some([9; 32]), kept: 1, ..own })),
            row("bé", &[7], DeltaRow::SameAs(0)),
            row("c", &[2, 3, 4], DeltaRow::SameAs(2)),
        ]
    }

    #[test]
    fn rows_are_a_list_of_tensors() {
        let (list, rows): (_, Rows) = (list(), list().iter().collect());
        assert_eq!(serde_json::to_string(&rows).unwrap(), serde_json::to_string(&list).unwrap());
        let owned = |row: Row| row.to_owned();
        assert_eq!(rows.iter().map(owned).collect::<Vec<_>>(), list);
        assert_eq!((0..5).map_while(|i| rows.get(i)).map(|row| row.to_owned()).collect::<Vec<_>>(), list);
    }

    #[test]
    fn a_row_is_found_by_name_and_lent_the_delta_of_another() {
        let rows: Rows = list().iter().collect();
        assert_eq!(
            ["", "a", "b", "bz", "bé", "c", "d"].map(|name| rows.find(name)),
            [None, Some(0), Some(1), None, Some(2), Some(3), None]
        );
        assert_eq!(
            (0..5).map(|i| rows.own(i).map(|(own, _)| own)).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(0), None, None]
        );
        let names: Vec<_> = rows.with_own().map(|(row, own)| (row.name, own.kept)).collect();
        assert_eq!(names, [("a", 7), ("b", 1), ("bé", 7)]);
    }
}
