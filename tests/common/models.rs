//! Tiny checkpoints of every dtype, written by hand, byte by byte, so that no writer of ours is believed.

use std::collections::BTreeMap;
use std::path::Path;

use stitchpack::model::dtype::Dtype;

use super::Random;

/// One tensor with its data.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// The floats that a lossy delta can be added to.
pub const FLOATS: [Dtype; 8] = [
    Dtype::F64,
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
];

impl Tensor {
    pub fn new(name: &str, dtype: Dtype, shape: &[u64], bytes: Vec<u8>) -> Self {
        let t = Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes };
        assert_eq!(t.bytes.len() as u64, t.elements() * u64::from(dtype.bits()) / 8, "{name}: data does not fit shape");
        t
    }

    pub fn f32s(name: &str, shape: &[u64], values: &[f32]) -> Self {
        Tensor::new(name, Dtype::F32, shape, values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// From the bits of each unit.
    pub fn of_units(name: &str, dtype: Dtype, shape: &[u64], units: &[u64]) -> Self {
        let width = unit_bytes(dtype);
        Tensor::new(name, dtype, shape, units.iter().flat_map(|u| u.to_le_bytes()[..width].to_vec()).collect())
    }

    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// The bits of each unit.
    pub fn units(&self) -> Vec<u64> {
        let unit = |b: &[u8]| b.iter().rev().fold(0u64, |x, byte| x << 8 | u64::from(*byte));
        self.bytes.chunks_exact(unit_bytes(self.dtype)).map(unit).collect()
    }

    pub fn set_units(&mut self, units: &[u64]) {
        *self = Tensor::of_units(&self.name, self.dtype, &self.shape, units);
    }
}

/// Bytes of a unit, as spec/format.md DTY-2 has them; said again here so that the crate is not its own judge.
pub fn unit_bytes(dtype: Dtype) -> usize {
    match dtype.name() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        _ => 1,
    }
}

/// Tensors in the order of their data.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    pub tensors: Vec<Tensor>,
}

impl Model {
    pub fn new(tensors: Vec<Tensor>) -> Self {
        Model { tensors }
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.iter().find(|t| t.name == name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn get_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }

    /// Length, header and `pad` spaces: with most values of `pad` the data is not aligned to anything.
    pub fn head(&self, pad: usize) -> Vec<u8> {
        let mut json = String::from("{");
        let mut at = 0;
        for t in &self.tensors {
            let comma = if at == 0 && json.len() == 1 { "" } else { "," };
            let (shape, end) = (format!("{:?}", t.shape).replace(' ', ""), at + t.bytes.len());
            let name = serde_json::to_string(&t.name).unwrap();
            json += &format!(
                "{comma}{name}:{{\"dtype\":\"{}\",\"shape\":{shape},\"data_offsets\":[{at},{end}]}}",
                t.dtype.name()
            );
            at = end;
        }
        json.push('}');
        json.push_str(&" ".repeat(pad));
        let mut out = (json.len() as u64).to_le_bytes().to_vec();
        out.extend(json.into_bytes());
        out
    }

    /// A safetensors file.
    pub fn file(&self, pad: usize) -> Vec<u8> {
        let mut out = self.head(pad);
        self.tensors.iter().for_each(|t| out.extend(&t.bytes));
        out
    }

    pub fn write(&self, path: &Path) {
        std::fs::write(path, self.file(3)).unwrap();
    }

    /// A folder with shards of `each` tensors and an index; with one shard `model.safetensors` alone.
    pub fn write_folder(&self, path: &Path, each: usize) {
        std::fs::create_dir_all(path).unwrap();
        let shards: Vec<&[Tensor]> = self.tensors.chunks(each).collect();
        if shards.len() <= 1 {
            return std::fs::write(path.join("model.safetensors"), self.file(5)).unwrap();
        }
        let mut map = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            std::fs::write(path.join(&name), Model::new(shard.to_vec()).file(i)).unwrap();
            map.extend(shard.iter().map(|t| (t.name.clone(), name.clone())));
        }
        let index = serde_json::json!({"metadata": {"total_size": 0}, "weight_map": map});
        std::fs::write(path.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    /// Reads a safetensors file back by hand.
    pub fn read(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let data = &bytes[8 + len..];
        let mut tensors: Vec<(u64, Tensor)> = Vec::new();
        for (name, entry) in header.as_object().unwrap().iter().filter(|(n, _)| *n != "__metadata__") {
            let number = |v: &serde_json::Value| v.as_u64().unwrap();
            let (from, to) = (number(&entry["data_offsets"][0]), number(&entry["data_offsets"][1]));
            let shape: Vec<u64> = entry["shape"].as_array().unwrap().iter().map(number).collect();
            let dtype = Dtype::from_name(entry["dtype"].as_str().unwrap()).unwrap();
            tensors.push((from, Tensor::new(name, dtype, &shape, data[from as usize..to as usize].to_vec())));
        }
        tensors.sort_by_key(|(from, _)| *from);
        Model { tensors: tensors.into_iter().map(|(_, t)| t).collect() }
    }

    /// All tensors of a folder's weight files, by name.
    pub fn read_folder(path: &Path) -> BTreeMap<String, Tensor> {
        let mut out = BTreeMap::new();
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                let model = Model::read(&std::fs::read(path).unwrap());
                out.extend(model.tensors.into_iter().map(|t| (t.name.clone(), t)));
            }
        }
        out
    }
}

/// Bits that are an infinity or NaN, and both zeros, of a float dtype.
pub fn special_bits(dtype: Dtype) -> Vec<u64> {
    match dtype {
        Dtype::F64 => vec![
            0,
            1 << 63,
            f64::INFINITY.to_bits(),
            f64::NEG_INFINITY.to_bits(),
            0x7ff8_0000_dead_beef,
            0xfff0_0000_0000_0001,
        ],
        Dtype::F32 => vec![0, 1 << 31, 0x7f80_0000, 0xff80_0000, 0x7fc0_beef, 0xff80_0001],
        Dtype::F16 => vec![0, 0x8000, 0x7c00, 0xfc00, 0x7e01, 0xfc01],
        Dtype::BF16 => vec![0, 0x8000, 0x7f80, 0xff80, 0x7fc1, 0xff81],
        Dtype::F8_E4M3 => vec![0, 0x80, 0x7f, 0xff, 0x7e],
        Dtype::F8_E5M2 => vec![0, 0x80, 0x7c, 0xfc, 0x7d, 0xff],
        _ => vec![0, 0x80, 0x7f, 0xff],
    }
}

/// The bits of a number of ordinary size, from few different ones so that ties are common.
pub fn ordinary_bits(dtype: Dtype, random: &mut Random) -> u64 {
    // A small integer times a power of two, exact in every dtype: 3 significant bits.
    let x = f64::from(random.below(8) as i32 - 4) * [0.125, 0.25, 0.5, 1.0][random.below(4) as usize];
    super::naive::encode(dtype, x)
}

/// Any bits of a unit's width.
pub fn any_bits(dtype: Dtype, random: &mut Random) -> u64 {
    random.next() >> (64 - 8 * unit_bytes(dtype))
}

/// What a base tensor is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Small numbers, many alike.
    Ordinary,
    /// The same with infinities, NaN payloads and −0 here and there.
    Odd,
    /// Any bits at all.
    Any,
}

/// A base tensor.
pub fn base_tensor(name: &str, dtype: Dtype, shape: &[u64], fill: Fill, random: &mut Random) -> Tensor {
    let units = shape.iter().product::<u64>() * u64::from(dtype.bits()) / 8 / unit_bytes(dtype) as u64;
    let specials = special_bits(dtype);
    let unit = |random: &mut Random| match fill {
        _ if !FLOATS.contains(&dtype) && dtype == Dtype::BOOL => random.below(2),
        _ if !FLOATS.contains(&dtype) => any_bits(dtype, random),
        Fill::Any => any_bits(dtype, random),
        Fill::Odd if random.once_in(4) => *random.pick(&specials),
        _ => ordinary_bits(dtype, random),
    };
    let all: Vec<u64> = (0..units).map(|_| unit(random)).collect();
    Tensor::of_units(name, dtype, shape, &all)
}

/// How a fine-tuned tensor differs from its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// About one unit in four becomes another ordinary number; what is no finite number stays.
    Some,
    /// Nearly every unit does.
    Most,
    /// Any bits, anywhere.
    Any,
}

/// A fine-tuned tensor.
pub fn tuned_tensor(base: &Tensor, change: Change, random: &mut Random) -> Tensor {
    let (dtype, float) = (base.dtype, FLOATS.contains(&base.dtype));
    let mut units = base.units();
    for unit in &mut units {
        let keep = match change {
            Change::Some => !random.once_in(4),
            Change::Most => random.once_in(8),
            Change::Any => random.once_in(3),
        };
        if keep {
            continue;
        }
        *unit = match change {
            _ if dtype == Dtype::BOOL => 1 - (*unit & 1),
            Change::Any if random.once_in(4) && float => *random.pick(&special_bits(dtype)),
            Change::Any => any_bits(dtype, random),
            _ if !float => any_bits(dtype, random),
            _ if !super::naive::decode(dtype, *unit).is_finite() => *unit,
            _ => ordinary_bits(dtype, random),
        };
    }
    let mut out = base.clone();
    out.set_units(&units);
    out
}
