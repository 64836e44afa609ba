//! What an inspection says. This is also the shape of `inspect --json`: fields are added to it, never renamed or removed.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a pack is, where its bytes went, and what it keeps.
///
/// Sizes are bytes of the file, counts are units (elements, for every float dtype). A share or a mean over nothing is `None`
/// (`null`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The digest that names the file, in hex.
    pub id: String,
    /// The digest of what the pack decodes to, in hex.
    pub content_id: String,
    /// The format version, `major.minor`.
    pub format: String,
    /// The program that wrote the pack.
    pub tool: String,
    /// Whether the pack, applied alone, gives the whole fine-tuned checkpoint bit for bit.
    pub exact: bool,
    /// Whether all that it touches is stored as exact steps.
    pub all_steps: bool,
    /// The factor of every delta.
    pub gain: f32,
    /// Digest of the base checkpoint, in hex.
    pub base: String,
    /// Digest of the touched tensors when the pack is applied alone, in hex.
    pub result: Option<String>,
    /// How the pack was made, as its maker says.
    pub origin: Origin,
    /// What the maker wrote on it.
    pub notes: BTreeMap<String, String>,
    /// Companion files that are carried along.
    pub files: Vec<CarriedFile>,
    /// Where the bytes of the file went.
    pub bytes: Bytes,
    /// The whole pack in a few numbers.
    pub totals: Totals,
    /// What a kept weight costs.
    pub cost: Cost,
    /// The touched tensors, by name.
    pub tensors: Vec<TensorReport>,
    /// The touched tensors added up by layer and kind of module.
    pub modules: Vec<ModuleReport>,
    /// Kept |delta| after scale and gain, in bins of ascending magnitude.
    pub magnitudes: Distribution<f64>,
    /// Kept |step| of tensors that are stored as steps and not carried whole.
    pub steps: Distribution<u64>,
    /// Deltas that are coded by what the base has and were not decoded, because no base was given.
    pub not_decoded: u64,
}

/// How a pack was made. Nobody checked it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// The name of a [`LocalizerName`](crate::model::origin::LocalizerName).
    pub localizer: String,
    /// `global`, `tensor`, or empty.
    pub scope: String,
    /// The density that was asked for.
    pub density: Option<f64>,
    /// n: elements that could have been kept.
    pub candidates: u64,
    /// The name of a [`RescaleName`](crate::model::origin::RescaleName).
    pub rescale: String,
    /// The share of the task vector's squared norm that the kept elements hold.
    pub energy: Option<f64>,
    /// Globs that tensors had to match.
    pub include: Vec<String>,
    /// Globs that tensors had not to match.
    pub exclude: Vec<String>,
}

/// A companion file in the pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CarriedFile {
    /// Its name.
    pub name: String,
    /// Bytes that it takes in the pack.
    pub stored: u64,
    /// Bytes of the file itself.
    pub bytes: u64,
}

/// Where the bytes of the file went. The parts add up to `file`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bytes {
    /// The whole file.
    pub file: u64,
    /// The header, with the two digests in it.
    pub header: u64,
    /// Masks, by codec.
    pub masks: Vec<NamedBytes>,
    /// Codes, by value kind; `carried` for tensors that are carried whole.
    pub values: Vec<NamedBytes>,
    /// Tables as stored: where each block is, scales and levels.
    pub tables: u64,
    /// Companion files as stored.
    pub files: u64,
    /// The manifest as stored, without the digests in it.
    pub manifest: u64,
    /// Digests in the manifest, 32 bytes each; where the manifest is stored compressed, equal ones count once.
    pub digests: u64,
    /// Bytes that hold nothing: always 0, the format has none.
    pub padding: u64,
    /// Scales and levels before the tables were compressed: a part of what became `tables`, and no part of the sum.
    pub scales_decoded: u64,
}

/// Bytes of one sort.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct NamedBytes {
    /// The codec or the value kind.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
}

/// The whole pack in a few numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Touched tensors.
    pub tensors: u64,
    /// Of those, tensors that borrow the delta of another one.
    pub same_as: u64,
    /// Of those, tensors that are carried whole.
    pub carried: u64,
    /// Units kept; tensors that borrow or are carried whole not counted.
    pub kept: u64,
    /// Units of the tensors in which those are.
    pub units: u64,
    /// Units carried whole.
    pub carried_units: u64,
    /// n: elements that could have been kept.
    pub candidates: u64,
    /// Kept elements of float tensors ÷ candidates.
    pub density: Option<f64>,
}

/// What a kept weight costs, in bits. Carried tensors and files are left out.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// Its place in the mask.
    pub mask: Option<f64>,
    /// Its code.
    pub values: Option<f64>,
    /// Its share of the tables.
    pub tables: Option<f64>,
    /// Its share of header, manifest and digests.
    pub rest: Option<f64>,
    /// H(p) ÷ p: what no coder can beat that knows only the density of the whole pack.
    pub floor_one_density: Option<f64>,
    /// Σ n·H(p) ÷ kept over the tensors: what no coder can beat that knows only each tensor's density.
    pub floor_by_tensor: Option<f64>,
}

/// One touched tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: String,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// Its value kind.
    pub kind: String,
    /// Units kept.
    pub kept: u64,
    /// Units in all.
    pub units: u64,
    /// Kept ÷ units.
    pub density: Option<f64>,
    /// Bytes of its mask; 0 where it borrows.
    pub mask_bytes: u64,
    /// Bytes of its codes; 0 where it borrows.
    pub value_bytes: u64,
    /// How many scales it has.
    pub scales: u64,
    /// The mean of those that are not 0, before the gain.
    pub mean_scale: Option<f64>,
    /// Whether it is carried whole.
    pub carried: bool,
    /// The tensor whose delta it borrows.
    pub same_as: Option<String>,
}

/// Touched tensors of one layer and one kind. A tensor that borrows a delta counts like the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModuleReport {
    /// What stands before the layer number in the name; empty outside the layers.
    pub prefix: String,
    /// The layer number.
    pub layer: Option<u32>,
    /// What stands after it, with `*` for further numbers; the whole name outside the layers.
    pub module: String,
    /// Touched tensors.
    pub tensors: u64,
    /// Units kept.
    pub kept: u64,
    /// Units of the touched tensors.
    pub units: u64,
    /// Kept ÷ units.
    pub density: Option<f64>,
}

/// How often which sizes occur.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Distribution<T> {
    /// Kept units whose size is 0: a code of 0 after quantizing.
    pub zeros: u64,
    /// At most 48 bins, ascending, without a gap between them.
    pub bins: Vec<Bin<T>>,
}

/// A run of sizes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bin<T> {
    /// The smallest size in it.
    pub from: T,
    /// For steps the largest size in it; for magnitudes the size below which all in it lie.
    pub to: T,
    /// Kept units.
    pub count: u64,
}

impl<T> Distribution<T> {
    /// Kept units in all.
    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.count).sum::<u64>() + self.zeros
    }
}

impl Bytes {
    /// All masks.
    pub fn mask_bytes(&self) -> u64 {
        self.masks.iter().map(|m| m.bytes).sum()
    }

    /// All codes.
    pub fn value_bytes(&self) -> u64 {
        self.values.iter().map(|v| v.bytes).sum()
    }

    /// Every part with a name for people, in the order of the file; what takes no bytes is left out.
    pub fn parts(&self) -> Vec<(String, u64)> {
        let named = |what: &str, list: &[NamedBytes]| -> Vec<(String, u64)> {
            list.iter().map(|n| (format!("{what}, {}", n.name), n.bytes)).collect()
        };
        let mut parts = vec![("header".to_string(), self.header)];
        parts.extend(named("masks", &self.masks));
        parts.extend(named("values", &self.values));
        let rest = [("tables", self.tables), ("files", self.files), ("manifest", self.manifest)];
        parts.extend(rest.map(|(name, bytes)| (name.to_string(), bytes)));
        parts.extend([("digests".to_string(), self.digests), ("padding".to_string(), self.padding)]);
        parts.retain(|(_, bytes)| *bytes > 0);
        parts
    }
}
