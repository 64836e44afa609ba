//! A SHiRA adapter, as PEFT loads it: for each module rows, columns and the numbers to add. [EXP-5]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::checkpoint::output::{OutputFolder, reserve};
use crate::error::{Error, Escaped, Result};
use crate::export::Exported;
use crate::export::changes::Changes;
use crate::export::layout::{Layout, Run};
use crate::export::number::narrow;
use crate::export::sparse::changed_meanwhile;
use crate::live::Staged;
use crate::method::float::load_unit;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// The adapter's files.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// What to do about a tensor that an adapter cannot hold.
const ADVICE: &str = "use weight-patch, or make the pack without such tensors (create --include, --exclude)";

/// The weight of one linear module.
struct Module<'a> {
    info: &'a TensorInfo,
    /// Its name, without `.weight`.
    name: &'a str,
    rows: u64,
    columns: u64,
    changed: u64,
}

/// Writes the folder of an adapter.
pub(super) fn write(changes: &Changes, out: &Path) -> Result<Exported> {
    let output = OutputFolder::create(out, changes.options.force)?;
    let modules = modules(changes)?;
    let rank = rank(&modules)?;
    let result = changes.result_digest()?;
    let layout = Layout::new(&tensors(&modules, rank), &changes.metadata(result))?;
    let path = output.path_of(WEIGHTS);
    let file = output.file(WEIGHTS)?;
    reserve(&file, &path, layout.len)?;
    layout.write_head(&file, &path)?;
    write_modules(changes, &modules, rank, &layout, &file, &path)?;
    let config = output.path_of(CONFIG);
    output.file(CONFIG)?.write_all_at(&config_json(&modules, rank)?, 0).map_err(|e| Error::io(&config, e))?;
    output.commit()?;
    Ok(Exported {
        bytes: layout.len,
        tensors: modules.len(),
        changed: modules.iter().map(|m| m.changed).sum(),
        whole: Vec::new(),
        base: changes.base_digest(),
        result,
        rank: Some(rank),
    })
}

/// The modules of which anything changed; what is no weight of a linear module is refused.
fn modules<'a>(changes: &Changes<'a>) -> Result<Vec<Module<'a>>> {
    if let Some(name) = changes.model.carried().keys().next() {
        let why = "is not in the base, or not in this shape";
        return Err(Error::Refused(format!("tensor \"{}\" {why}; {ADVICE}", Escaped(name))));
    }
    let all = changes.touched().map(module).collect::<Result<Vec<Module>>>()?;
    let infos: Vec<&TensorInfo> = all.iter().map(|m| m.info).collect();
    let mut modules: Vec<Module> = Vec::new();
    let mut all = all.into_iter();
    changes.each("counting", &infos, |_, staged| {
        let Some(module) = all.next() else { return Ok(()) };
        let changed = count(module.info, staged)?;
        modules.extend((changed > 0).then_some(Module { changed, ..module }));
        Ok(())
    })?;
    if modules.is_empty() {
        return Err(Error::Refused("the packs change nothing, and an adapter without modules cannot be loaded".into()));
    }
    Ok(modules)
}

/// The module that a tensor is the weight of. What an embedding is shows in its name only.
fn module(info: &TensorInfo) -> Result<Module<'_>> {
    let refused = |why: &str| Error::Refused(format!("tensor \"{}\" {why}; {ADVICE}", Escaped(&info.name)));
    let name = info.name.strip_suffix(".weight").filter(|name| !name.is_empty());
    let ([rows, columns], Some(name)) = (info.shape.as_slice(), name) else {
        return Err(refused("is not the weight of a linear module, which is all that SHiRA adapters hold"));
    };
    if !info.dtype.is_float() {
        return Err(refused(&format!("is {}, and SHiRA adapters add floats", info.dtype)));
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    if last.contains("embed") || ["wte", "wpe", "shared"].contains(&last) {
        return Err(refused("is an embedding by its name, and SHiRA adapters hold linear modules only"));
    }
    if (*rows).max(*columns) > 1 << 31 {
        return Err(refused("has rows or columns that 32 bits cannot number"));
    }
    Ok(Module { info, name, rows: *rows, columns: *columns, changed: 0 })
}

/// How many elements changed, each of which an f32 has to give back.
fn count(info: &TensorInfo, staged: &Staged) -> Result<u64> {
    let (mut changed, mut lost) = (0, 0u64);
    for unit in staged.changed(info) {
        changed += 1;
        lost += u64::from(narrow(info.dtype, load_unit(unit.base), load_unit(unit.stitched)).is_none());
    }
    if lost > 0 {
        return Err(Error::Refused(format!(
            "tensor \"{}\": no f32 added to the base gives back the bits of {lost} elements (NaN, infinite, a zero of the other \
             sign, or too far apart); use weight-patch",
            Escaped(&info.name)
        )));
    }
    Ok(changed)
}

/// SHiRA's r: each module has r × (rows + columns) positions, with one r for all.
fn rank(modules: &[Module]) -> Result<u64> {
    let rank = modules.iter().map(|m| m.changed.div_ceil(m.rows + m.columns)).max().unwrap_or(1);
    match modules.iter().find(|m| rank * (m.rows + m.columns) > m.info.units()) {
        None => Ok(rank),
        Some(full) => Err(Error::Refused(format!(
            "tensor \"{}\" has {} elements, fewer than the {rank} x ({} + {}) that every module of this adapter must have; use \
             weight-patch, or a pack that keeps less",
            Escaped(&full.info.name),
            full.info.units(),
            full.rows,
            full.columns
        ))),
    }
}

fn positions(module: &Module, rank: u64) -> u64 {
    rank * (module.rows + module.columns)
}

/// Of each module its positions and its numbers, under the names that PEFT gives them.
fn tensors(modules: &[Module], rank: u64) -> Vec<TensorInfo> {
    let of = |m: &Module| {
        let (name, n) = (format!("base_model.model.{}", m.name), positions(m, rank));
        [
            TensorInfo { name: format!("{name}.shira_indices"), dtype: Dtype::I32, shape: vec![2, n] },
            TensorInfo { name: format!("{name}.shira_weight"), dtype: Dtype::F32, shape: vec![n] },
        ]
    };
    modules.iter().flat_map(of).collect()
}

fn config_json(modules: &[Module], rank: u64) -> Result<Vec<u8>> {
    let names: Vec<&str> = modules.iter().map(|m| m.name).collect();
    // The mask of this type is drawn when the adapter is loaded, and replaced by the positions in the file.
    let config = serde_json::json!({
        "auto_mapping": null, "base_model_name_or_path": null, "fan_in_fan_out": false, "inference_mode": true,
        "mask_type": "random", "modules_to_save": null, "peft_type": "SHIRA", "r": rank, "random_seed": 0,
        "revision": null, "target_modules": names, "task_type": null,
    });
    let mut out =
        serde_json::to_vec_pretty(&config).map_err(|e| Error::Internal(format!("adapter configuration: {e}")))?;
    out.push(b'\n');
    Ok(out)
}

fn write_modules<'a>(
    changes: &Changes<'a>,
    modules: &[Module<'a>],
    rank: u64,
    layout: &Layout,
    file: &File,
    path: &Path,
) -> Result<()> {
    let infos: Vec<&TensorInfo> = modules.iter().map(|m| m.info).collect();
    changes.each("writing", &infos, |i, staged| {
        let Some(module) = modules.get(i) else { return Ok(()) };
        let n = positions(module, rank);
        let mut cells = Cells {
            columns: module.columns,
            row: layout.run(2 * i, 0, file, path),
            column: layout.run(2 * i, 4 * n, file, path),
            weight: layout.run(2 * i + 1, 0, file, path),
        };
        let padding = n.checked_sub(module.changed).ok_or_else(changed_meanwhile)?;
        write_cells(&mut cells, module, staged, padding)
    })
}

/// Where a module's rows, columns and numbers go.
struct Cells<'f> {
    columns: u64,
    row: Run<'f>,
    column: Run<'f>,
    weight: Run<'f>,
}

impl Cells<'_> {
    fn push(&mut self, position: u64, number: f32) -> Result<()> {
        self.row.push(&((position / self.columns) as u32).to_le_bytes())?;
        self.column.push(&((position % self.columns) as u32).to_le_bytes())?;
        self.weight.push(&number.to_le_bytes())
    }
}

/// What is added where nothing changes: +0 would make +0 of −0.
const NOTHING: f32 = -0.0;

/// What changed, and besides the first `padding` positions that did not, at which nothing is added; ascending.
fn write_cells(cells: &mut Cells, module: &Module, staged: &Staged, mut padding: u64) -> Result<()> {
    let (mut next, mut written) = (0, 0);
    for unit in staged.changed(module.info) {
        while padding > 0 && next < unit.position {
            cells.push(next, NOTHING)?;
            (next, padding) = (next + 1, padding - 1);
        }
        next = unit.position + 1;
        let number = narrow(module.info.dtype, load_unit(unit.base), load_unit(unit.stitched));
        cells.push(unit.position, number.ok_or_else(changed_meanwhile)?)?;
        written += 1;
    }
    for position in next..next + padding {
        cells.push(position, NOTHING)?;
    }
    if written != module.changed {
        return Err(changed_meanwhile());
    }
    [&mut cells.row, &mut cells.column, &mut cells.weight].into_iter().try_for_each(Run::finish)
}
