//! Weight patches and deltas: for each tensor flat positions, and the new value or the number to add. [EXP-3] [EXP-4]

use std::fs::File;
use std::path::Path;

use crate::checkpoint::output::OutputFile;
use crate::error::{Error, Escaped, Result};
use crate::export::changes::Changes;
use crate::export::layout::Layout;
use crate::export::number::{narrow, wide};
use crate::export::{Exported, Format};
use crate::live::Staged;
use crate::merge::{Buffers, StitchedModel};
use crate::method::float::load_unit;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// Bytes of a whole tensor that are made at a time.
const PIECE: u64 = 1 << 20;

/// One tensor of which positions and values are written.
struct Entry<'a> {
    info: &'a TensorInfo,
    changed: u64,
    /// Of the values: the tensor's own, or that of the numbers to add.
    dtype: Dtype,
}

/// What a file will hold.
struct Contents<'a> {
    entries: Vec<Entry<'a>>,
    /// Tensors that are written whole.
    whole: Vec<TensorInfo>,
}

/// Writes a weight patch or a delta as one file.
pub(super) fn write(changes: &Changes, out: &Path) -> Result<Exported> {
    let output = OutputFile::create(out, changes.options.force)?;
    let contents = contents(changes)?;
    let result = changes.result_digest()?;
    let layout = Layout::new(&contents.tensors(), &changes.metadata(result))?;
    output.reserve(layout.len)?;
    layout.write_head(output.file(), out)?;
    write_entries(changes, &contents, &layout, output.file(), out)?;
    write_whole(changes.model, &contents, &layout, output.file(), out)?;
    output.commit()?;
    Ok(Exported {
        bytes: layout.len,
        tensors: contents.entries.len() + contents.whole.len(),
        changed: contents.entries.iter().map(|e| e.changed).sum(),
        whole: contents.whole.into_iter().map(|t| t.name).collect(),
        base: changes.base_digest(),
        result,
        rank: None,
    })
}

/// Counts what changed, and refuses what cannot be written.
fn contents<'a>(changes: &Changes<'a>) -> Result<Contents<'a>> {
    let by_element = |t: &&TensorInfo| t.dtype.unit_bytes() * 8 == t.dtype.bits() as usize;
    let (sparse, bytewise): (Vec<&TensorInfo>, Vec<&TensorInfo>) = changes.touched().partition(by_element);
    let carried = changes.model.carried();
    let mut whole: Vec<TensorInfo> = bytewise.into_iter().chain(carried.values()).cloned().collect();
    whole.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let delta = changes.options.format == Format::SafetensorsDelta;
    if delta && let Some(odd) = whole.iter().chain(sparse.iter().copied()).find(|t| !is_summand(t, changes.model)) {
        return Err(Error::Refused(format!(
            "tensor \"{}\" ({}) has no numbers that could be added to the base's; use weight-patch",
            Escaped(&odd.name),
            odd.dtype
        )));
    }
    let mut entries = Vec::new();
    changes.each("counting", &sparse, |i, staged| {
        let Some(info) = sparse.get(i).copied() else { return Ok(()) };
        let (changed, dtype) =
            if delta { count_numbers(info, staged)? } else { (staged.changed(info).count() as u64, info.dtype) };
        entries.extend((changed > 0).then_some(Entry { info, changed, dtype }));
        Ok(())
    })?;
    Ok(Contents { entries, whole })
}

/// Whether there are numbers in the base that something can be added to.
fn is_summand(tensor: &TensorInfo, model: &StitchedModel) -> bool {
    tensor.dtype.is_float() && model.base().info(&tensor.name) == Some(tensor)
}

/// How many elements changed, and the narrowest dtype whose numbers give back the bits of each.
fn count_numbers(info: &TensorInfo, staged: &Staged) -> Result<(u64, Dtype)> {
    let (mut changed, mut not_narrow, mut not_wide) = (0u64, 0u64, 0u64);
    for unit in staged.changed(info) {
        let (base, stitched) = (load_unit(unit.base), load_unit(unit.stitched));
        changed += 1;
        not_narrow += u64::from(narrow(info.dtype, base, stitched).is_none());
        not_wide += u64::from(wide(info.dtype, base, stitched).is_none());
    }
    match (not_narrow, not_wide) {
        (0, _) => Ok((changed, Dtype::F32)),
        (_, 0) => Ok((changed, Dtype::F64)),
        (_, lost) => Err(Error::Refused(format!(
            "tensor \"{}\": no number added to the base gives back the bits of {lost} elements (NaN, infinite, a zero of the \
             other sign, or too far apart); use weight-patch",
            Escaped(&info.name)
        ))),
    }
}

impl Contents<'_> {
    /// The tensors of the file: positions and values of each entry, then the whole ones.
    fn tensors(&self) -> Vec<TensorInfo> {
        let named = |info: &TensorInfo, what: &str, dtype, shape| {
            let name = format!("{}.{what}", info.name);
            TensorInfo { name, dtype, shape }
        };
        let entries = self.entries.iter().flat_map(|e| {
            let positions = if is_narrow(e.info) { Dtype::I32 } else { Dtype::I64 };
            let shape = vec![e.changed];
            [named(e.info, "indices", positions, shape.clone()), named(e.info, "values", e.dtype, shape)]
        });
        let whole = self.whole.iter().map(|t| named(t, "values", t.dtype, t.shape.clone()));
        entries.chain(whole).collect()
    }
}

/// Whether every position of a tensor fits an I32.
fn is_narrow(info: &TensorInfo) -> bool {
    info.units() <= 1 << 31
}

fn write_entries<'a>(
    changes: &Changes<'a>,
    contents: &Contents<'a>,
    layout: &Layout,
    file: &File,
    path: &Path,
) -> Result<()> {
    let infos: Vec<&TensorInfo> = contents.entries.iter().map(|e| e.info).collect();
    changes.each("writing", &infos, |i, staged| {
        let Some(entry) = contents.entries.get(i) else { return Ok(()) };
        let mut positions = layout.run(2 * i, 0, file, path);
        let mut values = layout.run(2 * i + 1, 0, file, path);
        let mut written = 0;
        for unit in staged.changed(entry.info) {
            match is_narrow(entry.info) {
                true => positions.push(&(unit.position as u32).to_le_bytes())?,
                false => positions.push(&unit.position.to_le_bytes())?,
            }
            let (base, stitched) = (load_unit(unit.base), load_unit(unit.stitched));
            match (changes.options.format, entry.dtype) {
                (Format::SafetensorsDelta, Dtype::F32) => {
                    let number = narrow(entry.info.dtype, base, stitched).ok_or_else(changed_meanwhile)?;
                    values.push(&number.to_le_bytes())?;
                }
                (Format::SafetensorsDelta, _) => {
                    let number = wide(entry.info.dtype, base, stitched).ok_or_else(changed_meanwhile)?;
                    values.push(&number.to_le_bytes())?;
                }
                _ => values.push(unit.stitched)?,
            }
            written += 1;
        }
        if written != entry.changed {
            return Err(changed_meanwhile());
        }
        positions.finish()?;
        values.finish()
    })
}

/// Twice the same computation gave two answers.
pub(super) fn changed_meanwhile() -> Error {
    Error::Internal("what was counted is not what is written; did the base change meanwhile?".into())
}

fn write_whole(model: &StitchedModel, contents: &Contents, layout: &Layout, file: &File, path: &Path) -> Result<()> {
    let (mut piece, mut buffers) = (Vec::new(), Buffers::default());
    for (i, info) in contents.whole.iter().enumerate() {
        let mut values = layout.run(2 * contents.entries.len() + i, 0, file, path);
        let reader = model.reader(&info.name)?;
        for start in (0..info.byte_len()).step_by(PIECE as usize) {
            piece.resize(PIECE.min(info.byte_len() - start) as usize, 0);
            reader.read_into(start, &mut piece, &mut buffers)?;
            values.push(&piece)?;
        }
        values.finish()?;
    }
    model.base().unchanged()
}
