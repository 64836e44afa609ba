//! Which tensor of the fine-tuned checkpoint belongs to which of the base.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::checkpoint::{BaseCheck, ModelSource};
use crate::create::options::{CreateOptions, NewTensors};
use crate::error::{Error, Escaped, Result};
use crate::format::check::is_plain_name;
use crate::limits::Limits;
use crate::method::float::{decode_f64, encode_f64, load_unit, store_unit};
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::tensor::TensorInfo;

/// Tensors that both checkpoints have and that take part, by name.
pub(crate) struct Pairs<'a> {
    base: &'a dyn ModelSource,
    fine_tuned: &'a dyn ModelSource,
    pub all: Vec<Pair>,
    /// Tensors of the fine-tuned checkpoint that go into the pack whole.
    pub carried: Vec<TensorInfo>,
    pub skipped: Vec<String>,
    pub only_in_base: Vec<String>,
    excluded: usize,
}

/// One tensor on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// As the base has it.
    pub info: TensorInfo,
    pub digest: Digest,
    /// Fine-tuned values are rounded from this dtype.
    cast_from: Option<crate::model::dtype::Dtype>,
    /// The earlier pair that has the same bytes on both sides.
    pub same_as: Option<usize>,
}

impl<'a> Pairs<'a> {
    pub fn of(
        base: &'a dyn ModelSource,
        fine_tuned: &'a dyn ModelSource,
        identity: &BaseIdentity,
        options: &CreateOptions,
    ) -> Result<Self> {
        let chosen = Chosen::new(options)?;
        let (mut all, mut odd, mut new, mut excluded) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut matched = 0usize;
        for tuned in fine_tuned.infos() {
            if !chosen.includes(&tuned.name) {
                excluded += 1;
                continue;
            }
            matched += 1;
            let Some((info, digest)) = identity.tensor(&tuned.name) else {
                new.push(tuned.clone());
                continue;
            };
            let castable = options.cast && info.dtype.is_float() && tuned.dtype.is_float();
            if info.shape != tuned.shape {
                new.push(tuned.clone());
            } else if info.dtype != tuned.dtype && !castable {
                odd.push(format!(
                    "\"{}\" is {} in the base and {} in the fine-tuned checkpoint",
                    Escaped(&info.name),
                    info.dtype,
                    tuned.dtype
                ));
            } else {
                let digest = digest.ok_or_else(|| Error::Internal("a base tensor without a digest".into()))?;
                let cast_from = (info.dtype != tuned.dtype).then_some(tuned.dtype);
                all.push(Pair { info: info.clone(), digest, cast_from, same_as: None });
            }
        }
        if !odd.is_empty() {
            let hint = "--cast rounds the fine-tuned values to the base's dtype where both are floats";
            return Err(Error::Refused(format!("{}; {hint}", listed("the dtype differs", &odd))));
        }
        chosen.check_used(base, fine_tuned)?;
        if matched == 0 && (!options.include.is_empty() || !options.exclude.is_empty()) {
            return Err(Error::InvalidInput("--include and --exclude leave no tensor".into()));
        }
        let only_in_base: Vec<String> = base
            .infos()
            .into_iter()
            .filter(|t| chosen.includes(&t.name) && fine_tuned.info(&t.name).is_none())
            .map(|t| t.name.clone())
            .collect();
        let (carried, skipped) = decide_new(base, new, &only_in_base, options.new_tensors)?;
        let mut pairs = Pairs { base, fine_tuned, all, carried, skipped, only_in_base, excluded };
        pairs.find_duplicates(options)?;
        Ok(pairs)
    }

    /// Tied and duplicate tensors: of rank 2 or more, with the same dtype, shape and bytes on both sides. [LOC-4]
    fn find_duplicates(&mut self, options: &CreateOptions) -> Result<()> {
        let mut by_base: HashMap<(Digest, u8, &[u64]), Vec<usize>> = HashMap::new();
        for (i, pair) in self.all.iter().enumerate() {
            if pair.info.shape.len() >= 2 && pair.info.units() > 0 {
                by_base.entry((pair.digest, pair.info.dtype.code(), &pair.info.shape)).or_default().push(i);
            }
        }
        let groups: Vec<Vec<usize>> = by_base.into_values().filter(|g| g.len() > 1).collect();
        if groups.is_empty() {
            return Ok(());
        }
        let names: HashSet<&str> =
            groups.iter().flatten().filter_map(|i| self.all.get(*i)).map(|p| p.info.name.as_str()).collect();
        let check = BaseCheck::Touched;
        let tuned = self.fine_tuned.identity_of(check, &|name| names.contains(name), &options.workers)?;
        let mut same = Vec::new();
        for group in &groups {
            let mut firsts: BTreeMap<(Digest, u8), usize> = BTreeMap::new();
            for i in group {
                let Some(pair) = self.all.get(*i) else { continue };
                let Some((info, Some(digest))) = tuned.tensor(&pair.info.name) else { continue };
                let first = *firsts.entry((digest, info.dtype.code())).or_insert(*i);
                if first != *i {
                    same.push((*i, first));
                }
            }
        }
        for (i, first) in same {
            if let Some(pair) = self.all.get_mut(i) {
                pair.same_as = Some(first);
            }
        }
        Ok(())
    }

    /// Pairs that a lossy delta can be taken of: floats, each duplicate once.
    pub fn floats(&self) -> impl Iterator<Item = (usize, &Pair)> {
        self.all.iter().enumerate().filter(|(_, p)| p.info.dtype.is_float() && p.same_as.is_none())
    }

    /// n: elements of the included float tensors.
    pub fn candidates(&self) -> u64 {
        self.floats().map(|(_, p)| p.info.elements()).sum()
    }

    /// Whether every tensor of the fine-tuned checkpoint takes part as it is, and there is no other in the base.
    pub fn is_whole(&self) -> bool {
        let cast = self.all.iter().any(|p| p.cast_from.is_some());
        let in_both = self.base.infos().iter().all(|t| self.fine_tuned.info(&t.name).is_some());
        self.excluded == 0 && self.skipped.is_empty() && in_both && !cast
    }

    /// Whether globs leave tensors out.
    pub fn is_partial(&self) -> bool {
        self.excluded > 0
    }

    /// The base's bytes of units `start..start + len`.
    pub fn base_units(&self, pair: &Pair, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        self.base.units(&pair.info.name, start, len)
    }

    /// The fine-tuned bytes of units `start..start + len`, in the base's dtype.
    pub fn tuned_units(&self, pair: &Pair, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        let from = pair.cast_from.unwrap_or(pair.info.dtype);
        let bytes = self.fine_tuned.units(&pair.info.name, start, len)?;
        if pair.cast_from.is_none() {
            return Ok(bytes);
        }
        let (to, width) = (pair.info.dtype, pair.info.dtype.unit_bytes());
        let mut out = vec![0; len as usize * width];
        for (to_bytes, from_bytes) in out.chunks_exact_mut(width).zip(bytes.chunks_exact(from.unit_bytes())) {
            let x = decode_f64(from, load_unit(from_bytes));
            let bits = encode_f64(to, x);
            if x.is_finite() && !decode_f64(to, bits).is_finite() {
                let name = Escaped(&pair.info.name);
                return Err(Error::Refused(format!(
                    "tensor \"{name}\": {x:e} does not fit {to}, so --cast is not possible"
                )));
            }
            store_unit(to_bytes, bits);
        }
        Ok(Cow::Owned(out))
    }

    /// The bytes of a carried tensor.
    pub fn carried_units(&self, info: &TensorInfo, start: u64, len: u64) -> Result<Cow<'a, [u8]>> {
        self.fine_tuned.units(&info.name, start, len)
    }

    /// Names and bytes of the companion files that are new or differ. Files whose names a pack cannot hold are refused.
    pub fn carried_files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut out = Vec::new();
        for name in self.differing_companions()? {
            if !is_plain_name(&name) {
                return Err(Error::Refused(format!("file \"{}\" has a name that no pack can carry", Escaped(&name))));
            }
            let bytes = self.fine_tuned.companion_bytes(&name)?;
            Limits::check("carried file size in bytes", bytes.len() as u64, Limits::default().section_bytes)?;
            out.push((name, bytes));
        }
        Ok(out)
    }

    /// Companion files that are new or differ from the base's; none where only one side is a folder.
    pub fn differing_companions(&self) -> Result<Vec<String>> {
        if self.base.has_companions() != self.fine_tuned.has_companions() {
            return Ok(Vec::new());
        }
        let base: HashSet<String> = self.base.companion_names()?.into_iter().collect();
        let mut out = Vec::new();
        for name in self.fine_tuned.companion_names()? {
            if !base.contains(&name) || self.base.companion_bytes(&name)? != self.fine_tuned.companion_bytes(&name)? {
                out.push(name);
            }
        }
        Ok(out)
    }
}

/// What happens to tensors without a partner.
fn decide_new(
    base: &dyn ModelSource,
    new: Vec<TensorInfo>,
    only_in_base: &[String],
    choice: NewTensors,
) -> Result<(Vec<TensorInfo>, Vec<String>)> {
    match choice {
        NewTensors::Carry => Ok((new, Vec::new())),
        NewTensors::Skip => Ok((Vec::new(), new.into_iter().map(|t| t.name).collect())),
        NewTensors::Refuse if new.is_empty() && only_in_base.is_empty() => Ok((new, Vec::new())),
        NewTensors::Refuse => {
            let describe = |t: &TensorInfo| match base.info(&t.name) {
                Some(b) => format!(
                    "\"{}\" has shape {:?} in the base and {:?} in the fine-tuned checkpoint",
                    Escaped(&t.name),
                    b.shape,
                    t.shape
                ),
                None => format!("\"{}\" is only in the fine-tuned checkpoint", Escaped(&t.name)),
            };
            let missing = only_in_base.iter().map(|name| format!("\"{}\" is only in the base", Escaped(name)));
            let all: Vec<String> = new.iter().map(describe).chain(missing).collect();
            let hint = "--new-tensors carry takes new and resized tensors along whole, --new-tensors skip leaves them out; tensors that only the base has stay as they are";
            Err(Error::Refused(format!("{}; {hint}", listed("the checkpoints have different tensors", &all))))
        }
    }
}

fn listed(what: &str, items: &[String]) -> String {
    let more = items.len().saturating_sub(5);
    let first = items.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{what}: {first} and {more} more") } else { format!("{what}: {first}") }
}

/// Which names the include and exclude globs leave.
struct Chosen {
    include: Option<GlobSet>,
    exclude: GlobSet,
    patterns: Vec<(String, GlobSet)>,
}

impl Chosen {
    fn new(options: &CreateOptions) -> Result<Self> {
        let set = |globs: &[String]| -> Result<GlobSet> {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                let bad = |e: globset::Error| Error::InvalidInput(format!("glob \"{}\": {e}", Escaped(glob)));
                builder.add(Glob::new(glob).map_err(bad)?);
            }
            builder.build().map_err(|e| Error::InvalidInput(e.to_string()))
        };
        let include = if options.include.is_empty() { None } else { Some(set(&options.include)?) };
        let each = options.include.iter().chain(&options.exclude);
        let patterns = each.map(|g| Ok((g.clone(), set(std::slice::from_ref(g))?))).collect::<Result<Vec<_>>>()?;
        Ok(Chosen { include, exclude: set(&options.exclude)?, patterns })
    }

    fn includes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(name)) && !self.exclude.is_match(name)
    }

    /// A glob that matches nothing is a mistake that would pass unseen.
    fn check_used(&self, base: &dyn ModelSource, fine_tuned: &dyn ModelSource) -> Result<()> {
        for (glob, set) in &self.patterns {
            if !base.infos().iter().chain(&fine_tuned.infos()).any(|t| set.is_match(&t.name)) {
                return Err(Error::InvalidInput(format!("glob \"{}\" matches no tensor", Escaped(glob))));
            }
        }
        Ok(())
    }
}
