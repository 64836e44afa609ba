//! What an adapter does to each tensor: its keys sorted out, matched with the base and held against it. [ADP-2] [ADP-3]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::adapter::config::{Config, Lora};
use crate::adapter::low_rank::LowRank;
use crate::adapter::names::{Found, Names};
use crate::adapter::values::Values;
use crate::checkpoint::{Checkpoint, ModelSource};
use crate::error::{BaseMismatch, Error, Escaped, Result};
use crate::model::tensor::TensorInfo;

/// How every key of PEFT begins.
const PREFIX: &str = "base_model.model.";

/// What happens to one tensor of the base.
pub(super) enum Part {
    LowRank(LowRank),
    Values(Values),
    /// It is replaced, or added, by a tensor of the adapter as it stands there.
    Whole(TensorInfo),
}

/// The two tensors of a module, as far as they were met.
#[derive(Default)]
struct Halves<'f> {
    first: Option<&'f TensorInfo>,
    second: Option<&'f TensorInfo>,
}

/// What a key's end says: whose halves they are, and which.
const HALVES: [(&str, Kind, bool); 6] = [
    (".lora_A.weight", Kind::Linear, true),
    (".lora_B.weight", Kind::Linear, false),
    (".lora_embedding_A", Kind::Embedding, true),
    (".lora_embedding_B", Kind::Embedding, false),
    (".shira_indices", Kind::Shira, true),
    (".shira_weight", Kind::Shira, false),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Linear,
    Embedding,
    Shira,
}

/// The parts of an adapter by the name of the tensor.
pub(super) fn of(base: &dyn ModelSource, file: &Checkpoint, config: &Config) -> Result<BTreeMap<String, Part>> {
    let (modules, whole) = sort_out(file, config)?;
    let names = Names::of(base);
    let (mut parts, mut odd) = (BTreeMap::new(), Vec::new());
    for ((module, kind), halves) in modules {
        let wanted = format!("{module}.weight");
        let info = match names.find(&wanted) {
            Found::One(name) => base.info(name),
            Found::None => {
                odd.push((wanted, "the base has no tensor of that name or of that end".into()));
                continue;
            }
            Found::Many(some) => {
                odd.push((wanted, several(&some)));
                continue;
            }
        };
        let info = info.ok_or_else(|| Error::Internal("a name without a tensor".into()))?;
        match part(info, module, kind, &halves, file, config)? {
            Ok(part) => insert(&mut parts, &info.name, part)?,
            Err(why) => odd.push((info.name.clone(), why)),
        }
    }
    for (name, info) in whole {
        match names.find(&name) {
            Found::One(own) => insert(&mut parts, own, Part::Whole(info.clone()))?,
            Found::None => insert(&mut parts, &name, Part::Whole(info.clone()))?,
            Found::Many(some) => odd.push((name, several(&some))),
        }
    }
    if odd.is_empty() { Ok(parts) } else { Err(mismatch(odd, parts.len())) }
}

fn several(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", Escaped(name))).collect();
    format!("it may be {}", names.join(" or "))
}

fn insert(parts: &mut BTreeMap<String, Part>, name: &str, part: Part) -> Result<()> {
    match parts.entry(name.to_string()) {
        Entry::Vacant(slot) => {
            slot.insert(part);
            Ok(())
        }
        Entry::Occupied(_) => Err(Error::malformed(
            "ADP-2",
            format!("tensor \"{}\"", Escaped(name)),
            "is changed by two parts of the adapter",
        )),
    }
}

/// The adapter is of another base: parts that do not fit, and how many do.
fn mismatch(odd: Vec<(String, String)>, fitting: usize) -> Error {
    let differing = odd.len();
    Error::BaseMismatch(Box::new(BaseMismatch {
        diagnosis: "the adapter does not fit it".into(),
        advice: "give the base that the adapter was trained on".into(),
        tensors: odd.into_iter().take(5).collect(),
        differing,
        touched: differing + fitting,
        expected: [0; 32],
        found: None,
    }))
}

type Modules<'f> = BTreeMap<(&'f str, Kind), Halves<'f>>;

/// Halves by module, and tensors that are saved whole by name.
fn sort_out<'f>(file: &'f Checkpoint, config: &Config) -> Result<(Modules<'f>, Vec<(String, &'f TensorInfo)>)> {
    let (mut modules, mut whole) = (Modules::new(), Vec::new());
    for info in file.tensors() {
        let bad = |detail: &str| Error::malformed("ADP-2", format!("tensor \"{}\"", Escaped(&info.name)), detail);
        let key = info.name.strip_prefix(PREFIX);
        let key = key.ok_or_else(|| bad("has a name that does not begin with base_model.model. as PEFT saves it"))?;
        if let Some((module, kind, first)) = half_of(key) {
            let is_shira = matches!(config, Config::Shira);
            if (kind == Kind::Shira) != is_shira {
                return Err(bad("belongs to another type of adapter than the configuration says"));
            }
            let halves = modules.entry((module, kind)).or_default();
            *(if first { &mut halves.first } else { &mut halves.second }) = Some(info);
        } else if key.contains(".lora_magnitude_vector") {
            return Err(Error::Refused(
                "the adapter scales the columns of the sum (DoRA), which is not read; merge it into its base with PEFT and give \
                 the merged model"
                    .into(),
            ));
        } else if [".lora_", ".shira_"].iter().any(|part| key.contains(part)) {
            return Err(bad(
                "is no half that is known: lora_A.weight, lora_B.weight, lora_embedding_A, lora_embedding_B, \
                            shira_indices and shira_weight are",
            ));
        } else if let Some(module) = key.strip_suffix(".base_layer.bias") {
            whole.push((format!("{module}.bias"), info));
        } else if key.contains(".base_layer.") {
            return Err(Error::Refused(format!(
                "the adapter holds a layer of the base (\"{}\"); save it with save_embedding_layers=False",
                Escaped(&info.name)
            )));
        } else {
            whole.push((key.to_string(), info));
        }
    }
    if modules.is_empty() && whole.is_empty() {
        return Err(Error::malformed("ADP-2", "adapter", "holds no tensors"));
    }
    Ok((modules, whole))
}

fn half_of(key: &str) -> Option<(&str, Kind, bool)> {
    HALVES.iter().find_map(|(end, kind, first)| Some((key.strip_suffix(end)?, *kind, *first)))
}

/// One module's part, or why it does not fit the base's tensor.
fn part(
    info: &TensorInfo,
    module: &str,
    kind: Kind,
    halves: &Halves,
    file: &Checkpoint,
    config: &Config,
) -> Result<std::result::Result<Part, String>> {
    let bad = |detail: String| Error::malformed("ADP-3", format!("module \"{}\"", Escaped(module)), detail);
    let (Some(first), Some(second)) = (halves.first, halves.second) else {
        let there = halves.first.or(halves.second).map_or("", |t| &t.name);
        return Err(bad(format!("has only \"{}\", its other half is missing", Escaped(there))));
    };
    let shape = info.shape.as_slice();
    match (shape, config) {
        _ if !info.dtype.is_float() => Ok(Err(format!("is {} in the base, which nothing can be added to", info.dtype))),
        ([rows, columns], Config::Shira) => {
            Values::read(file, first, second, *rows, *columns).map(|values| Ok(Part::Values(values)))
        }
        ([_, _], Config::Lora(lora)) => low_rank(info, module, kind, (first, second), lora, bad),
        _ => Ok(Err(format!("has shape {shape:?} in the base, must have two dimensions as a linear module's weight"))),
    }
}

fn low_rank(
    info: &TensorInfo,
    module: &str,
    kind: Kind,
    (a, b): (&TensorInfo, &TensorInfo),
    lora: &Lora,
    bad: impl Fn(String) -> Error,
) -> Result<std::result::Result<Part, String>> {
    let rank = lora.rank(module)?;
    let (&[r, inputs], &[outputs, s]) = (a.shape.as_slice(), b.shape.as_slice()) else {
        return Err(bad(format!(
            "has halves of shapes {:?} and {:?}, must have two dimensions each",
            a.shape, b.shape
        )));
    };
    if (r, s) != (rank, rank) {
        let (a, b) = (&a.shape, &b.shape);
        return Err(bad(format!(
            "has halves of shapes {a:?} and {b:?}, which is not the rank {rank} of the configuration"
        )));
    }
    // Which way a module stores its weight shows in its shape, or in the configuration where that is square.
    let ways: &[bool] = match kind {
        Kind::Embedding => &[true],
        _ if lora.transposed => &[true, false],
        _ => &[false, true],
    };
    let fits = |turned: &bool| info.shape == if *turned { [inputs, outputs] } else { [outputs, inputs] };
    let Some(transposed) = ways.iter().copied().find(fits) else {
        let own = format!("{:?} in the base and {:?} in the adapter", info.shape, [outputs, inputs]);
        return Ok(Err(format!("has shape {own}")));
    };
    let scale = lora.scale(module, rank)?;
    Ok(Ok(Part::LowRank(LowRank::new(a, b, rank, scale, transposed)?)))
}
