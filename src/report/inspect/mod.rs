//! What a pack is, where every byte of it went, and what it keeps: for people and for machines.
//!
//! Works block by block: what it holds is a few numbers a tensor, whatever the size of the model.

mod count;
mod grid;
mod name;
mod report;
mod spread;

use std::collections::BTreeMap;

pub use grid::{Column, Grid, GridRow, Share};
pub use report::{
    Bin, Bytes, CarriedFile, Cost, Distribution, Inspection, ModuleReport, NamedBytes, Origin, TensorReport, Totals,
};

use crate::error::Result;
use crate::format::header::VERSION;
use crate::format::manifest::{DeltaRow, FileRow, Manifest};
use crate::model::delta::ValueKind;
use crate::model::digest::Digest;
use crate::model::source::TensorSource;
use crate::model::tensor::TensorInfo;
use crate::pack::VerifiedPack;

use count::{Count, share};
use name::Place;

/// Looks at all of a pack. Without the base, deltas that are coded by what it has are measured but not decoded.
///
/// # Errors
/// `DigestMismatch` or `Malformed` where a section is not what the manifest says, `Io` where it cannot be read.
pub fn inspect(pack: &VerifiedPack, base: Option<&dyn TensorSource>) -> Result<Inspection> {
    let (manifest, header) = (pack.manifest(), &pack.body().header);
    let mut count = Count::new(f64::from(manifest.gain));
    let mut tensors = Vec::with_capacity(manifest.tensors.len());
    for ((name, own), row) in pack.rows().zip(manifest.tensors.iter()) {
        let carried = own.base.is_none();
        let mut report = describe(name, &own.info, own.kind, own.kept, carried);
        let dtype = own.info.dtype;
        if let DeltaRow::SameAs(earlier) = row.delta {
            report.same_as = manifest.tensors.get(*earlier as usize).map(|t| t.name.into());
        } else {
            count.delta(base, &pack.blocks(own)?, &mut report)?;
        }
        count.totals(&report, dtype);
        tensors.push(report);
    }
    let bytes = count.bytes(manifest, header);
    Ok(Inspection {
        id: header.id.to_string(),
        content_id: hex(&manifest.content),
        format: format!("{}.{}", VERSION.0, header.minor),
        tool: manifest.tool.clone(),
        exact: manifest.exact,
        all_steps: manifest.all_steps,
        gain: manifest.gain,
        base: hex(&manifest.base),
        result: manifest.result.as_ref().map(hex),
        origin: origin(manifest),
        notes: manifest.notes.iter().cloned().collect(),
        files: files(manifest),
        cost: count.cost(&bytes, manifest.origin.candidates),
        bytes,
        totals: count.finish_totals(manifest.origin.candidates),
        modules: modules(&tensors),
        tensors,
        magnitudes: count.magnitudes(),
        steps: count.steps(),
        not_decoded: count.not_decoded(),
    })
}

/// What a row says of a tensor, before its blocks are read.
fn describe(name: &str, info: &TensorInfo, kind: ValueKind, kept: u64, carried: bool) -> TensorReport {
    TensorReport {
        name: name.into(),
        dtype: info.dtype.name().into(),
        shape: info.shape.clone(),
        kind: kind.name().into(),
        kept,
        units: info.units(),
        density: share(kept, info.units()),
        mask_bytes: 0,
        value_bytes: 0,
        scales: 0,
        mean_scale: None,
        carried,
        same_as: None,
    }
}

fn origin(manifest: &Manifest) -> Origin {
    let from = &manifest.origin;
    Origin {
        localizer: from.localizer.clone(),
        scope: from.scope.clone(),
        density: share(from.density.0, from.density.1),
        candidates: from.candidates,
        rescale: from.rescale.clone(),
        energy: Some(from.energy).filter(|e| e.is_finite()),
        include: from.include.clone(),
        exclude: from.exclude.clone(),
    }
}

fn files(manifest: &Manifest) -> Vec<CarriedFile> {
    let file = |f: &FileRow| CarriedFile { name: f.name.clone(), stored: f.section.len, bytes: f.section.raw_len };
    manifest.files.iter().map(file).collect()
}

/// Adds the tensors up by place.
fn modules(tensors: &[TensorReport]) -> Vec<ModuleReport> {
    let mut sums: BTreeMap<Place, (u64, u64, u64)> = BTreeMap::new();
    for tensor in tensors {
        let sum = sums.entry(Place::of(&tensor.name)).or_default();
        *sum = (sum.0 + 1, sum.1 + tensor.kept, sum.2 + tensor.units);
    }
    let report = |(Place { prefix, layer, module }, (tensors, kept, units))| ModuleReport {
        prefix,
        layer,
        module,
        tensors,
        kept,
        units,
        density: share(kept, units),
    };
    sums.into_iter().map(report).collect()
}

fn hex(digest: &[u8; 32]) -> String {
    Digest(*digest).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::create::{CreateOptions, Lossy, Method, NewTensors, create};
    use crate::{Checkpoint, Limits, OpenedPack};

    /// Writes a safetensors file of F32 tensors, by name.
    fn checkpoint(path: PathBuf, tensors: &[(&str, Vec<f32>)]) -> Checkpoint {
        let mut header = serde_json::Map::new();
        let mut data: Vec<u8> = Vec::new();
        for (name, values) in tensors {
            let start = data.len();
            data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            let row = serde_json::json!({"dtype": "F32", "shape": [values.len()], "data_offsets": [start, data.len()]});
            header.insert((*name).into(), row);
        }
        let json = serde_json::to_vec(&header).unwrap();
        let bytes = [&(json.len() as u64).to_le_bytes()[..], &json, &data].concat();
        std::fs::write(&path, bytes).unwrap();
        Checkpoint::open(path).unwrap()
    }

    fn models(folder: &Path) -> (Checkpoint, Checkpoint) {
        let noise = |seed: u32, n: u32| -> Vec<f32> {
            (0..n).map(|i| (i.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 + 0.01).collect()
        };
        let names = ["m.layers.0.q.weight", "m.layers.1.q.weight", "m.head.weight"];
        let base: Vec<_> = names.iter().map(|name| (*name, noise(1, 3000))).collect();
        let mut tuned = base.clone();
        for (i, (_, values)) in tuned.iter_mut().enumerate() {
            let deltas = noise(i as u32 * 7 + 3, 3000);
            values.iter_mut().zip(deltas).step_by(i + 2).for_each(|(x, d)| *x += d / 16.0);
        }
        tuned.push(("m.new.weight", noise(9, 10)));
        (checkpoint(folder.join("base.safetensors"), &base), checkpoint(folder.join("tuned.safetensors"), &tuned))
    }

    fn inspected(method: Method) -> Inspection {
        let folder = tempfile::tempdir().unwrap();
        let (base, tuned) = models(folder.path());
        let out = folder.path().join("a.stitch");
        let options = CreateOptions { method, new_tensors: NewTensors::Carry, ..CreateOptions::default() };
        create(&base, &tuned, &out, &options).unwrap();
        let found = inspect(&OpenedPack::open(&out).unwrap().verify().unwrap(), Some(&base)).unwrap();
        assert_eq!(found.bytes.file, std::fs::metadata(&out).unwrap().len());
        found
    }

    fn lossy(values: ValueKind) -> Method {
        let density = "0.1".parse().unwrap();
        Method::Lossy(Lossy { density, values, ..Lossy::default() })
    }

    #[test]
    fn the_parts_add_up_to_the_file() {
        let kinds = [ValueKind::Sign, ValueKind::Int8, ValueKind::F16, ValueKind::Codebook];
        for method in kinds.into_iter().map(lossy).chain([Method::Exact]) {
            let found = inspected(method);
            let sum: u64 = found.bytes.parts().iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(sum, found.bytes.file);
            let stored: u64 = found.tensors.iter().map(|t| t.mask_bytes + t.value_bytes).sum();
            assert_eq!(stored, found.bytes.mask_bytes() + found.bytes.value_bytes());
        }
    }

    #[test]
    fn counts_agree_with_each_other() {
        let found = inspected(lossy(ValueKind::Sign));
        let totals = &found.totals;
        assert_eq!((totals.tensors, totals.carried, totals.carried_units), (4, 1, 10));
        assert_eq!((totals.kept, totals.candidates, totals.density), (900, 9000, Some(0.1)));
        assert_eq!((found.magnitudes.count(), found.steps.count()), (900, 0));
        let layers: Vec<_> = found.modules.iter().map(|m| (m.layer, m.module.as_str(), m.tensors)).collect();
        assert_eq!(
            layers,
            [(None, "m.head.weight", 1), (None, "m.new.weight", 1), (Some(0), "q.weight", 1), (Some(1), "q.weight", 1)]
        );
        assert_eq!(found.modules.iter().map(|m| m.kept).sum::<u64>(), 910);
        let (one, each) = (found.cost.floor_one_density.unwrap(), found.cost.floor_by_tensor.unwrap());
        assert!((one - 4.69).abs() < 0.01 && each <= one, "{one} {each}");
        assert!(found.tensors.iter().all(|t| t.carried || t.mean_scale.is_some_and(|s| s > 0.0)));
    }

    #[test]
    fn exact_packs_have_steps() {
        let found = inspected(Method::Exact);
        assert_eq!((found.magnitudes.count(), found.steps.count()), (0, found.totals.kept));
        assert_eq!(found.cost.values.is_some(), found.totals.kept > 0);
    }

    #[test]
    fn a_grid_has_every_layered_unit_once() {
        let found = inspected(lossy(ValueKind::Sign));
        let grid = found.grid(80, 80);
        assert_eq!((grid.columns.len(), grid.rows.len(), grid.rows_left_out), (2, 1, 0));
        assert_eq!(grid.total.units, 6000);
        assert_eq!(found.outside_layers().len(), 2);
        assert_eq!(found.grid(1, 0).rows_left_out, 1);
    }

    #[test]
    fn the_same_pack_gives_the_same_json() {
        let json = || serde_json::to_string(&inspected(lossy(ValueKind::Int8))).unwrap();
        assert_eq!(json(), json());
    }

    #[test]
    fn an_empty_pack_has_no_numbers_to_show() {
        let folder = tempfile::tempdir().unwrap();
        let (base, _) = models(folder.path());
        let out = folder.path().join("a.stitch");
        create(&base, &base, &out, &CreateOptions { method: Method::Exact, ..CreateOptions::default() }).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        let pack = OpenedPack::from_bytes(bytes, &Limits::default()).unwrap().verify().unwrap();
        let found = inspect(&pack, None).unwrap();
        assert_eq!((found.totals.kept, found.cost.mask, found.magnitudes.bins.len()), (0, None, 0));
    }
}
