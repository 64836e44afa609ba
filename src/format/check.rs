//! What a manifest must fulfil before anything in it is believed: spec/format.md, "Manifest" and "Sections".

use crate::error::{Error, Result};
use crate::format::manifest::{DeltaRow, MOST_PER_BYTE, Manifest, OwnDelta, SectionRow};
use crate::format::rows::Row;
use crate::format::table;
use crate::limits::Limits;
use crate::model::delta::{Groups, ValueKind};
use crate::model::dtype::Dtype;
use crate::model::filename::{is_foreign_weight, is_plain, is_safetensors};
use crate::model::tensor::TensorInfo;

impl Manifest {
    /// Everything that can be judged without the sections.
    pub(crate) fn check(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of tensors", self.tensors.len() as u64, limits.tensors)?;
        if !(self.gain.is_finite() && self.gain > 0.0) {
            let detail =
                format!("gain is {} (bits {:#010x}), must be positive and finite", self.gain, self.gain.to_bits());
            return Err(Error::malformed("MAN-3", "manifest", detail));
        }
        if (self.all_steps && self.gain != 1.0) || (self.exact && !self.all_steps) {
            let detail = format!(
                "all_steps is {}, exact is {} and the gain {}; a pack of steps has gain 1, and only such a pack is exact",
                self.all_steps, self.exact, self.gain
            );
            return Err(Error::malformed("MAN-7", "manifest", detail));
        }
        if !(10..=20).contains(&self.block_log2) {
            let detail = format!("block size is 2^{}, must be from 2^10 to 2^20", self.block_log2);
            return Err(Error::malformed("MAN-4", "manifest", detail));
        }
        self.check_notes(limits)?;
        self.check_tensors(limits)?;
        self.check_sections(limits)
    }

    fn check_notes(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of notes", self.notes.len() as u64, limits.notes)?;
        let bytes = self
            .notes
            .iter()
            .fold(0u64, |sum, (k, v)| sum.saturating_add(k.len() as u64).saturating_add(v.len() as u64));
        Limits::check("size of the notes in bytes", bytes, limits.notes_bytes)?;
        let pairs = self.notes.iter().zip(self.notes.iter().skip(1));
        if let Some((_, b)) = pairs.into_iter().find(|(a, b)| a.0 >= b.0) {
            let detail = format!("note \"{}\" is not after the one before it", crate::error::Escaped(&b.0));
            return Err(Error::malformed("MAN-5", "manifest", detail));
        }
        Ok(())
    }

    fn check_tensors(&self, limits: &Limits) -> Result<()> {
        let mut previous: Option<Row> = None;
        // One for all rows: of a hundred thousand, what is allocated for each is what it takes to open a pack.
        let mut info = TensorInfo { name: String::new(), dtype: Dtype::U8, shape: Vec::new() };
        for (i, row) in self.tensors.iter().enumerate() {
            row.info_into(&mut info)?;
            info.check(limits)?;
            let place = || format!("tensor \"{}\"", crate::error::Escaped(row.name));
            if previous.is_some_and(|p| p.name >= row.name) {
                let detail = format!("row {i} is not after the row before it, in byte order of names");
                return Err(Error::malformed("TEN-4", place(), detail));
            }
            previous = Some(row);
            match row.delta {
                DeltaRow::Own(own) => {
                    check_own(own, &info, self.all_steps, self.block_log2).map_err(|e| e.within(&place()))?
                }
                DeltaRow::SameAs(earlier) => self.check_same(i, *earlier).map_err(|e| e.within(&place()))?,
            }
        }
        Ok(())
    }

    /// A row that borrows another's delta. [TEN-5]
    fn check_same(&self, i: usize, earlier: u32) -> Result<()> {
        let (row, other) = (self.tensors.get(i), self.tensors.get(earlier as usize));
        let fits = (earlier as usize) < i
            && row
                .zip(other)
                .is_some_and(|(a, b)| a.dtype == b.dtype && a.shape == b.shape && matches!(b.delta, DeltaRow::Own(_)));
        if fits {
            return Ok(());
        }
        let detail =
            format!("is the same as row {earlier}, which must be an earlier row of its own with its dtype and shape");
        Err(Error::malformed("TEN-5", "delta", detail))
    }

    /// Section lengths add up to what the tensors say. [SEC-1]
    fn check_sections(&self, limits: &Limits) -> Result<()> {
        let own = || self.tensors.iter().filter_map(|t| if let DeltaRow::Own(o) = t.delta { Some(o) } else { None });
        check_rows("payload", &self.payloads, own().map(|o| o.payload_len), false, limits)?;
        check_rows("table", &self.tables, own().map(|o| o.table_len), true, limits)?;
        self.check_files(limits)
    }

    /// Names of carried files are joined to a path, so they must not lead anywhere else. [FIL-1]
    fn check_files(&self, limits: &Limits) -> Result<()> {
        Limits::check("number of carried files", self.files.len() as u64, limits.files)?;
        let mut previous = "";
        for file in &self.files {
            let place = || format!("file \"{}\"", crate::error::Escaped(&file.name));
            if !is_plain_name(&file.name) || file.name.as_str() <= previous {
                let detail = "is not a plain file name, or not after the one before it";
                return Err(Error::malformed("FIL-1", place(), detail));
            }
            previous = &file.name;
            Limits::check("section size in bytes", file.section.raw_len, limits.section_bytes)?;
            check_ratio(&file.section).map_err(|e| e.within(&place()))?;
        }
        let total = self.files.iter().fold(0u64, |sum, f| sum.saturating_add(f.section.raw_len));
        Limits::check("size of carried files in bytes", total, limits.files_bytes)
    }
}

fn check_own(own: &OwnDelta, info: &TensorInfo, all_steps: bool, block_log2: u8) -> Result<()> {
    let bad = |rule, detail: String| Err(Error::malformed(rule, "delta", detail));
    let (kind, groups) = (own.kind()?, own.groups()?);
    let carried = own.base.is_none();
    if own.kept > info.units() || (carried && own.kept != info.units()) || (!carried && own.kept == 0) {
        return bad("TEN-8", format!("keeps {} of {} units", own.kept, info.units()));
    }
    if kind != ValueKind::Step && (all_steps || carried || !info.dtype.is_float()) {
        return bad("TEN-9", format!("has {kind} values, but only steps can be exact, carried or on {}", info.dtype));
    }
    if groups == Groups::Row && !kind.has_scale() {
        return bad("TEN-7", format!("has a scale a row, but {kind} values have no scale"));
    }
    table::check_len(own.table_len, table::table_len(info, kind, groups, block_log2))
}

/// Decoding never shrinks, and memory has to be earned. [SEC-2]
fn check_ratio(row: &SectionRow) -> Result<()> {
    if row.len <= row.raw_len && row.raw_len <= row.len.saturating_mul(MOST_PER_BYTE) {
        return Ok(());
    }
    let detail = format!(
        "has {} stored and {} decoded bytes, must have from one to {MOST_PER_BYTE} decoded for each",
        row.len, row.raw_len
    );
    Err(Error::malformed("SEC-2", "length", detail))
}

fn check_rows(
    what: &str,
    rows: &[SectionRow],
    parts: impl Iterator<Item = u64>,
    packed: bool,
    limits: &Limits,
) -> Result<()> {
    let mut parts = parts;
    let sections = rows.iter().try_fold(0u64, |sum, row| sum.checked_add(row.raw_len));
    let tensors = parts.try_fold(0u64, u64::checked_add);
    if sections.is_none() || sections != tensors {
        let detail = format!("sections have {} bytes, the tensors need {}", bytes(sections), bytes(tensors));
        return Err(Error::malformed("SEC-1", format!("{what} sections"), detail));
    }
    for (i, row) in rows.iter().enumerate() {
        Limits::check("section size in bytes", row.raw_len, limits.section_bytes)?;
        if row.len == 0 || (!packed && row.len != row.raw_len) {
            let detail = format!("has {} stored and {} decoded bytes", row.len, row.raw_len);
            return Err(Error::malformed("SEC-2", format!("{what} section {i}"), detail));
        }
        check_ratio(row).map_err(|e| e.within(&format!("{what} section {i}")))?;
    }
    Ok(())
}

/// A sum of lengths, for people.
fn bytes(sum: Option<u64>) -> String {
    sum.map_or_else(|| "2^64 or more".into(), |n| n.to_string())
}

/// A plain name, and nothing that is weights, code or ours: a pack must not bring those in beside its deltas. [FIL-1]
pub(crate) fn is_plain_name(name: &str) -> bool {
    let reserved = is_safetensors(name) || is_foreign_weight(name) || name.ends_with(".py") || name == "stitch.json";
    is_plain(name) && !reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_differ_are_told_as_numbers() {
        let rows = [SectionRow { len: 12, raw_len: 12, digest: [0; 32] }];
        let told = |parts: &[u64]| {
            check_rows("table", &rows, parts.iter().copied(), false, &Limits::default()).unwrap_err().to_string()
        };
        assert_eq!(told(&[5, 6]), "table sections: sections have 12 bytes, the tensors need 11 [SEC-1]");
        assert_eq!(
            told(&[u64::MAX, 1]),
            "table sections: sections have 12 bytes, the tensors need 2^64 or more [SEC-1]"
        );
    }
}
