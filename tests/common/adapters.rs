//! Adapters of any bytes on a small base: what opens is one definite model, in whatever pieces it is read. For the fuzz target
//! `adapter` and its corpus.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use stitchpack::checkpoint::ModelSource;
use stitchpack::create::{CreateOptions, Method, NewTensors};
use stitchpack::model::dtype::Dtype;
use stitchpack::model::source::TensorSource;
use stitchpack::{Checkpoint, Error, Result, adapter};
use tempfile::TempDir;

use super::Random;
use super::models::{Fill, Model, base_tensor};
use super::site::options;

/// Bytes of data that a header is given, where it asks for more than there are.
const MOST: u64 = 1 << 16;

/// Lengths of the configuration and of the header (u16 each), then configuration, header and data. The data are made as long as the
/// header has them, so that what lies behind the header is tried.
pub fn from_bytes(bytes: &[u8]) {
    let Some(([c0, c1, h0, h1], rest)) = bytes.split_first_chunk::<4>() else { return };
    let (config, rest) = rest.split_at(rest.len().min(u16::from_le_bytes([*c0, *c1]).into()));
    let (header, data) = rest.split_at(rest.len().min(u16::from_le_bytes([*h0, *h1]).into()));
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend(header);
    let asked = data_len(header).filter(|len| *len <= MOST).unwrap_or(data.len() as u64);
    weights.extend(data.iter().chain(std::iter::repeat(&0x3c)).take(asked as usize));
    let (folder, base) = ground();
    std::fs::write(folder.path().join("adapter_config.json"), config).unwrap();
    std::fs::write(folder.path().join("adapter_model.safetensors"), weights).unwrap();
    if let Err(e) = judge(base, folder.path()) {
        let told = e.to_string();
        assert!(matches!(e.exit_code(), 3 | 5 | 6), "{e:?}");
        assert!(!told.is_empty() && !told.chars().any(char::is_control), "{told:?}");
    }
}

/// The end of the last tensor of a header.
fn data_len(header: &[u8]) -> Option<u64> {
    let header: Value = serde_json::from_slice(header).ok()?;
    header.as_object()?.values().filter_map(|t| t["data_offsets"][1].as_u64()).max()
}

fn judge(base: &Checkpoint, folder: &Path) -> Result<()> {
    let model = adapter::open(base, folder)?;
    let touched: Vec<&str> = model.touched().collect();
    assert!(!touched.is_empty());
    let mut refused = None;
    for info in model.infos() {
        let all = match model.units(&info.name, 0, info.units()) {
            Ok(all) => all,
            Err(e @ Error::Refused(_)) => {
                refused = Some(e);
                continue;
            }
            Err(e) => return Err(e),
        };
        assert_eq!(all.len() as u64, info.byte_len(), "{}", info.name);
        if !touched.contains(&info.name.as_str()) {
            assert_eq!(all, base.units(&info.name, 0, info.units())?, "{}", info.name);
        }
        for piece in [1, 5] {
            let mut pieces = Vec::new();
            for start in (0..info.units()).step_by(piece) {
                let len = (info.units() - start).min(piece as u64);
                pieces.extend_from_slice(&model.units(&info.name, start, len)?);
            }
            assert_eq!(all, pieces, "{} in pieces of {piece}", info.name);
        }
    }
    let plan = CreateOptions { new_tensors: NewTensors::Carry, ..options(Method::Exact) };
    let made = stitchpack::create_dry(base, &model, &plan);
    match (refused, made) {
        (Some(e), Err(_)) => Err(e),
        (Some(e), Ok(_)) => panic!("a pack was made of what is refused: {e}"),
        (None, made) => made.map(|made| assert!(made.exact)),
    }
}

/// A folder to work in and the base beside it, made once. Names that end alike, every kind of float, shapes with nothing in them.
fn ground() -> &'static (TempDir, Checkpoint) {
    static GROUND: OnceLock<(TempDir, Checkpoint)> = OnceLock::new();
    GROUND.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let random = &mut Random(7);
        let tensors: [(&str, Dtype, &[u64]); 11] = [
            ("model.layers.0.proj.weight", Dtype::BF16, &[6, 4]),
            ("model.layers.0.proj.bias", Dtype::BF16, &[6]),
            ("model.layers.1.proj.weight", Dtype::F16, &[6, 4]),
            ("model.layers.0.square.weight", Dtype::F32, &[5, 5]),
            ("model.embed.weight", Dtype::F64, &[7, 3]),
            ("small.weight", Dtype::F8_E4M3, &[4, 4]),
            ("ids.weight", Dtype::I32, &[3, 2]),
            ("norm.weight", Dtype::BF16, &[4]),
            ("no_rows.weight", Dtype::F32, &[0, 4]),
            ("no_columns.weight", Dtype::F32, &[4, 0]),
            ("long.weight", Dtype::F32, &[2, 300]),
        ];
        let tensors = tensors.map(|(name, dtype, shape)| base_tensor(name, dtype, shape, Fill::Odd, random));
        Model::new(tensors.into()).write(&folder.path().join("base.safetensors"));
        let base = Checkpoint::open(folder.path().join("base.safetensors")).unwrap();
        (folder, base)
    })
}
