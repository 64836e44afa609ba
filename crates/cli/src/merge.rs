//! Packs on a base, as several commands take them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use stitchpack::checkpoint::BaseCheck;
use stitchpack::merge::OpenOptions;
use stitchpack::merge::named::NamedPack;
use stitchpack::merge::recipe::Recipe;
use stitchpack::method::stitch::OverlapRule;
use stitchpack::model::identity::BaseIdentity;
use stitchpack::model::origin::LocalizerName;
use stitchpack::{Checkpoint, Error, GainChoice, MergeOptions, Result, StitchedModel, VerifiedPack};

use super::console::Console;
use super::global::{Global, open_packs};
use super::text::names;

#[derive(clap::Args)]
pub struct Merge {
    /// The base: a .safetensors file or a Hugging Face folder
    base: PathBuf,
    /// Packs, each with an optional weight: PACK or PACK@0.6. A pack made after others is applied to their result
    #[arg(value_name = "PACK[@WEIGHT]")]
    packs: Vec<OsString>,
    /// The base (alternative to the first argument, which is then a pack)
    #[arg(long = "base", value_name = "BASE")]
    named_base: Option<PathBuf>,
    /// Factor of everything that is added to the base [default: 1]
    #[arg(long, help_heading = "Merging", allow_negative_numbers = true)]
    lambda: Option<f32>,
    /// Where packs keep the same position: average, weighted-average, sum, elect, max, priority or refuse [default: average]
    #[arg(long, help_heading = "Merging", value_name = "RULE")]
    overlap: Option<String>,
    /// Gain of lossy packs: stored (or auto, the same), none or a number
    #[arg(long, help_heading = "Merging", default_value = "stored")]
    gain: String,
    /// How much of the base to read: full, touched or cached
    #[arg(long, value_name = "HOW", default_value = "cached")]
    base_check: String,
}

impl Merge {
    /// How much of the base is to be read.
    pub fn base_check(&self) -> Result<BaseCheck> {
        self.base_check.parse()
    }

    /// The base, and the packs as they were named.
    fn parts(&self) -> (PathBuf, Vec<OsString>) {
        let first = self.base.clone().into_os_string();
        match &self.named_base {
            Some(base) => (base.clone(), std::iter::once(first).chain(self.packs.iter().cloned()).collect()),
            None => (self.base.clone(), self.packs.clone()),
        }
    }
}

/// Packs, each with its weight.
pub type Packs = Vec<(VerifiedPack, f32)>;

/// What the arguments name.
pub struct Parts {
    pub base: Checkpoint,
    pub packs: Packs,
    pub options: OpenOptions,
    pub recipe: Option<Recipe>,
}

/// An average of averages is not the average of all.
pub fn warn_of_folded(packs: &Packs, console: &Console) {
    let folded: Vec<String> = packs
        .iter()
        .filter(|(pack, weight)| *weight != 0.0 && pack.manifest().origin.localizer == LocalizerName::Folded.name())
        .map(|(pack, _)| pack.path().map_or("-".into(), |p| p.to_string_lossy().into_owned()))
        .collect();
    if packs.len() > 1 && !folded.is_empty() {
        let why = "merging it with others is not merging all packs at once";
        console.warn(format!("already a merge: {}; {why}", names(&folded)));
    }
}

/// The packs on the base, which is read as far as they need it, or on each other.
pub fn model(args: &Merge, global: &Global) -> Result<(StitchedModel<'static>, BaseIdentity)> {
    let Parts { base, packs, options, .. } = parts(args, None, global)?;
    StitchedModel::from_packs(base, packs, &options)
}

/// Opens what the arguments name.
pub fn parts(args: &Merge, recipe: Option<&Path>, global: &Global) -> Result<Parts> {
    let mut check: BaseCheck = args.base_check.parse()?;
    let (base, named) = args.parts();
    let named = named.iter().map(|p| NamedPack::parse(p)).collect::<Result<Vec<_>>>()?;
    let mut merge = MergeOptions {
        overlap: args.overlap.as_deref().map(str::parse::<OverlapRule>).transpose()?,
        lambda: args.lambda.unwrap_or(1.0),
        gain: args.gain.parse::<GainChoice>()?,
        gains: None,
    };
    let found = recipe.map(Recipe::open).transpose()?;
    if let Some(recipe) = &found {
        merge = recipe.merge_options()?;
        // A recipe is a promise about the whole model.
        check = if check == BaseCheck::Touched { BaseCheck::Full } else { check };
    } else if named.is_empty() {
        return Err(Error::InvalidInput("name at least one pack".into()));
    }
    let base = global.checkpoint(&base)?;
    let paths: Vec<PathBuf> = named.iter().map(|pack| pack.path.clone()).collect();
    let at_hand = open_packs(&paths)?.into_iter().zip(named.into_iter().map(|pack| pack.weight));
    let packs: Packs = match (&found, recipe) {
        (Some(recipe), Some(path)) => {
            let beside = path.parent().unwrap_or(Path::new(""));
            recipe.find_packs(at_hand.collect(), &[beside, Path::new("")])?
        }
        _ => at_hand.map(|(pack, weight)| (pack, weight.unwrap_or(1.0))).collect(),
    };
    let options = OpenOptions { merge, base_check: check, workers: global.workers() };
    Ok(Parts { base, packs, options, recipe: found })
}
