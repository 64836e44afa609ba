//! `stitch.json`: what a merged model was made of, so that it can be made again. spec/format.md, "Recipe".

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{BaseMismatch, Error, Result};
use crate::files::read_regular;
use crate::json::{Object, distinct, objects};
use crate::method::stitch::OverlapRule;
use crate::model::digest::Digest;
use crate::model::identity::BaseIdentity;
use crate::model::numbered::names;

/// The newest version of the recipe's shape.
const FORMAT: u32 = 2;

/// The first version whose packs may have a gain a tensor. A recipe has the oldest version that can say it. [REC-2]
const TENSOR_GAINS: u32 = 2;

/// A merged model: base, packs, rule, and the digest of what comes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The version of this shape.
    pub stitch_recipe: u32,
    /// Digest of the base checkpoint, as hex.
    pub base: String,
    /// The packs, in the order in which they were named.
    #[serde(deserialize_with = "objects")]
    pub packs: Vec<RecipePack>,
    /// The overlap rule.
    pub overlap: String,
    /// λ.
    pub lambda: f32,
    /// Digest of the merged checkpoint, as hex.
    pub result: String,
}

/// One pack of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipePack {
    /// The file's name where the recipe was made; a hint where to look.
    pub file: String,
    /// The pack id, as hex.
    pub id: String,
    /// Its weight.
    pub weight: f32,
    /// The gain that it was applied with.
    pub gain: f32,
    /// Gains of tensors that were applied with another.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "distinct")]
    pub tensor_gains: BTreeMap<String, f32>,
}

/// The only part of a newer recipe that is read.
#[derive(Deserialize)]
struct Version {
    stitch_recipe: u32,
}

impl Recipe {
    pub(crate) fn new(base: Digest, packs: Vec<RecipePack>, overlap: &str, lambda: f32, result: Digest) -> Self {
        let (base, result) = (base.to_string(), result.to_string());
        Recipe { stitch_recipe: version_for(&packs), base, packs, overlap: overlap.into(), lambda, result }
    }

    /// Reads the recipe in a file.
    ///
    /// # Errors
    /// `Io` for what is no regular file or cannot be read; otherwise as [`Recipe::parse`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(&read_regular(path)?).map_err(|e| e.in_file(path))
    }

    /// Reads a recipe.
    ///
    /// # Errors
    /// `Malformed` for what is no recipe, `Unsupported` for a newer version, `UnsupportedName` for a newer overlap rule.
    pub fn parse(json: &[u8]) -> Result<Self> {
        let bad = |detail: String| Error::malformed("REC-1", "recipe", detail);
        let Object(Version { stitch_recipe }) = serde_json::from_slice(json).map_err(|e| bad(e.to_string()))?;
        if stitch_recipe > FORMAT {
            let (found, known) = (stitch_recipe.into(), FORMAT.into());
            return Err(Error::Unsupported { what: "recipe version".into(), found, known });
        }
        let Object(recipe) = serde_json::from_slice::<Object<Recipe>>(json).map_err(|e| bad(e.to_string()))?;
        if stitch_recipe == 0 {
            return Err(bad("version 0 never existed".into()));
        }
        if OverlapRule::from_name(&recipe.overlap).is_none() {
            let (found, known) = (recipe.overlap, names(OverlapRule::ALL));
            return Err(Error::UnsupportedName { what: "overlap rule".into(), found, known });
        }
        let ids = recipe.packs.iter().map(|p| &p.id);
        for hex in ids.chain([&recipe.base, &recipe.result]) {
            if Digest::from_hex(hex).is_none() {
                return Err(bad(format!("\"{}\" is not a digest of 64 hex digits", crate::error::Escaped(hex))));
            }
        }
        let weights = recipe.packs.iter().map(|p| p.weight);
        if let Some(x) = weights.chain([recipe.lambda]).find(|x| !x.is_finite()) {
            return Err(bad(format!("a weight or lambda is {x}, which is no finite number")));
        }
        for pack in &recipe.packs {
            let mut gains = pack.tensor_gains.values().chain([&pack.gain]);
            if let Some(gain) = gains.find(|g| !(g.is_finite() && **g > 0.0)) {
                return Err(bad(format!("a gain of pack {} is {gain}, must be positive and finite", pack.id)));
            }
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(pack) = recipe.packs.iter().find(|p| !seen.insert(&p.id)) {
            return Err(bad(format!("pack {} stands twice", pack.id)));
        }
        let expected = version_for(&recipe.packs);
        if stitch_recipe != expected {
            let detail = format!("version {stitch_recipe}, but what it says is said by version {expected}");
            return Err(Error::malformed("REC-2", "recipe", detail));
        }
        Ok(recipe)
    }

    /// The recipe as JSON text.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut out = serde_json::to_vec_pretty(self).map_err(|e| Error::Internal(format!("recipe: {e}")))?;
        out.push(b'\n');
        Ok(out)
    }

    /// The digest of the base.
    pub fn base_digest(&self) -> Option<Digest> {
        Digest::from_hex(&self.base)
    }

    /// Whether a base is the recipe's.
    ///
    /// # Errors
    /// `BaseMismatch` for another, and for one of which not all was read.
    pub fn check_base(&self, base: &BaseIdentity) -> Result<()> {
        let (expected, found) = (self.base_digest(), base.digest());
        if expected == found {
            return Ok(());
        }
        Err(Error::BaseMismatch(Box::new(BaseMismatch {
            diagnosis: match (expected, found) {
                (Some(expected), Some(found)) => format!("the recipe names base {expected}, this one is {found}"),
                _ => "the recipe names a base, and not all of this one was read".into(),
            },
            advice: "get the base that the recipe was made with".into(),
            tensors: Vec::new(),
            differing: 0,
            touched: 0,
            expected: expected.unwrap_or(Digest([0; 32])).0,
            found: found.map(|d| d.0),
        })))
    }

    /// The digest of the result.
    pub fn result_digest(&self) -> Option<Digest> {
        Digest::from_hex(&self.result)
    }
}

fn version_for(packs: &[RecipePack]) -> u32 {
    if packs.iter().any(|p| !p.tensor_gains.is_empty()) { TENSOR_GAINS } else { 1 }
}
