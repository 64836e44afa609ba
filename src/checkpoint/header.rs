//! The header of a safetensors file: the one door to the safetensors crate.
//!
//! The crate judges offsets, sizes and dtypes. It accepts a name that stands twice, of which the last wins, so names are
//! checked here: two programs must not see two models in one file.

use std::collections::{HashMap, HashSet};
use std::fmt;

use safetensors::tensor::{Dtype as StDtype, Metadata, TensorInfo as StInfo};
use serde::de::value::StringDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::error::{Error, Escaped, Result};
use crate::json::{Members, Object};
use crate::limits::Limits;
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// What a safetensors header says.
#[derive(Debug)]
pub(crate) struct Header {
    /// Tensors in the order of their data, each with its offset from the start of the data.
    pub tensors: Vec<(TensorInfo, u64)>,
    /// The free text of the file.
    pub metadata: Option<HashMap<String, String>>,
    /// Bytes of data.
    pub data_len: u64,
}

impl Header {
    /// Reads the JSON of a header. [CKP-1]
    ///
    /// # Errors
    /// `Malformed` for what the format does not allow, `LimitExceeded` for what the limits do not.
    pub fn parse(json: &[u8], limits: &Limits) -> Result<Self> {
        // What the parser says may quote the file.
        let bad = |detail: String| Error::malformed("CKP-1", "safetensors header", Escaped(&detail).to_string());
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let seed = Entries { limits };
        let (metadata, mut entries) = seed.deserialize(&mut deserializer).map_err(|e| bad(e.to_string()))?;
        deserializer.end().map_err(|e| bad(e.to_string()))?;
        entries.sort_by_key(|(_, info)| info.data_offsets);
        let mut tensors = Vec::with_capacity(entries.len());
        let mut nameless = Vec::with_capacity(entries.len());
        for (name, info) in entries {
            tensors.push(tensor(name, &info, limits)?);
            nameless.push((String::new(), info));
        }
        // Names play no part in what is judged here, and the index of names that would be made takes longer than all the rest.
        let judged = Metadata::new(None, nameless);
        let judged = judged.map_err(|e| bad(misplaced(&tensors).unwrap_or_else(|| e.to_string())))?;
        Ok(Header { tensors, metadata, data_len: judged.data_len() as u64 })
    }
}

fn tensor(name: String, info: &StInfo, limits: &Limits) -> Result<(TensorInfo, u64)> {
    let Some(dtype) = dtype(info.dtype) else {
        let detail = format!("dtype {} is not known", info.dtype);
        return Err(Error::malformed("CKP-1", format!("tensor \"{}\"", Escaped(&name)), detail));
    };
    let shape = info.shape.iter().map(|d| *d as u64).collect();
    let info = (TensorInfo { name, dtype, shape }, info.data_offsets.0 as u64);
    info.0.check(limits)?;
    Ok(info)
}

fn dtype(dtype: StDtype) -> Option<Dtype> {
    match dtype {
        // Most tensors of most models; the others take the way over their name.
        StDtype::BF16 => Some(Dtype::BF16),
        StDtype::F16 => Some(Dtype::F16),
        StDtype::F32 => Some(Dtype::F32),
        other => Dtype::from_name(&other.to_string()),
    }
}

/// The first tensor that does not begin where the one before it ends.
fn misplaced(tensors: &[(TensorInfo, u64)]) -> Option<String> {
    let ends = tensors.iter().map(|(info, start)| start.saturating_add(info.byte_len()));
    let (end, (info, start)) = std::iter::once(0).chain(ends).zip(tensors).find(|(end, (_, start))| end != start)?;
    Some(format!(
        "the data of tensor \"{}\" begins at {start}, that before it ends at {end}; data has to lie end to end",
        Escaped(&info.name)
    ))
}

/// A header for tensors laid end to end in this order, with its length before it and padded to 8 bytes. [CKP-2]
pub(crate) fn encode(tensors: &[TensorInfo], metadata: Option<&HashMap<String, String>>) -> Result<Vec<u8>> {
    let mut map = serde_json::Map::new();
    if let Some(metadata) = metadata {
        let sorted: std::collections::BTreeMap<_, _> = metadata.iter().collect();
        map.insert("__metadata__".into(), serde_json::json!(sorted));
    }
    let mut at = 0u64;
    for t in tensors {
        let end = at + t.byte_len();
        let entry = serde_json::json!({"dtype": t.dtype.name(), "shape": t.shape, "data_offsets": [at, end]});
        map.insert(t.name.clone(), entry);
        at = end;
    }
    let mut json = serde_json::to_vec(&map).map_err(|e| Error::Internal(format!("header: {e}")))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = (json.len() as u64).to_le_bytes().to_vec();
    out.extend(json);
    Ok(out)
}

type Parsed = (Option<HashMap<String, String>>, Vec<(String, StInfo)>);

/// What a header says of one tensor, with the name of its dtype as text: the crate would take `{"F32": null}` as well, and other
/// readers do not.
#[derive(serde::Deserialize)]
struct Entry {
    #[serde(deserialize_with = "named")]
    dtype: StDtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

fn named<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<StDtype, D::Error> {
    StDtype::deserialize(StringDeserializer::new(String::deserialize(deserializer)?))
}

impl From<Entry> for StInfo {
    fn from(entry: Entry) -> Self {
        StInfo { dtype: entry.dtype, shape: entry.shape, data_offsets: entry.data_offsets }
    }
}

struct Entries<'a> {
    limits: &'a Limits,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Parsed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names to tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Parsed, A::Error> {
        use serde::de::Error as _;
        let twice = |name: &str| A::Error::custom(format!("the name \"{}\" stands twice", Escaped(name)));
        let (mut metadata, mut entries) = (None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if metadata.is_some() {
                    return Err(twice(&name));
                }
                metadata = Some(map.next_value::<Members<String>>()?.0.into_iter().collect());
                continue;
            }
            if entries.len() as u64 >= self.limits.tensors {
                return Err(A::Error::custom(format!("more than {} tensors", self.limits.tensors)));
            }
            entries.push((name, map.next_value::<Object<Entry>>()?.0.into()));
        }
        let mut seen = HashSet::with_capacity(entries.len());
        if let Some((name, _)) = entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            return Err(twice(name));
        }
        Ok((metadata, entries))
    }
}
