//! Base and packs put together before the base was read, so that it is read once.

use std::path::Path;

use crate::apply::base::Base;
use crate::apply::{Applied, ApplyOptions, lock_on, write};
use crate::checkpoint::{ModelSource, UnreadIdentity};
use crate::error::Result;
use crate::merge::recipe::Recipe;
use crate::merge::{Layer, OpenOptions, StitchedModel, check_of};
use crate::model::identity::BaseIdentity;
use crate::pack::VerifiedPack;

/// A model whose base may turn out to be another than its packs were made for: of the base it is known that names, dtypes and
/// shapes are theirs, and its bytes are digested while they are stitched.
///
/// So nothing can be read from it. What can be done is to write the model or its recipe, which both end by comparing the base,
/// and leave nothing behind where it is the wrong one.
#[derive(Debug)]
pub struct DeferredModel<'a> {
    model: StitchedModel<'a>,
    base: Known<'a>,
    recipe: Option<&'a Recipe>,
}

/// What is known of the base.
#[derive(Debug)]
enum Known<'a> {
    Proven(BaseIdentity),
    Unread(UnreadIdentity<'a>),
}

impl<'a> DeferredModel<'a> {
    /// Puts packs, each with its weight, on what they were made for, as [`StitchedModel::chain`] does; a recipe's base has to be
    /// this one besides. Packs of which some lie on the result of others, and a base whose tensors are not those of the
    /// packs, have the base read and compared at once.
    ///
    /// # Errors
    /// As [`StitchedModel::chain`]; `BaseMismatch` besides where the base is known, or read, and is not the recipe's.
    pub fn new(
        base: &'a dyn ModelSource,
        packs: Vec<(VerifiedPack, f32)>,
        recipe: Option<&'a Recipe>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let (check, chained) = check_of(packs.iter().map(|(pack, _)| pack), options.base_check);
        let unread = UnreadIdentity::new(base, check, &|name| packs.iter().any(|(pack, _)| pack.touches(name)));
        let fits = packs.iter().all(|(pack, _)| pack.fits(&|name| base.info(name)));
        if chained || !fits || unread.wanted().next().is_none() {
            let identity = unread.read(&options.workers)?;
            recipe.map_or(Ok(()), |recipe| recipe.check_base(&identity))?;
            let model = StitchedModel::chain(base, &identity, packs, &options.merge, &options.workers)?;
            return Ok(DeferredModel { model, base: Known::Proven(identity), recipe });
        }
        let layers = packs.into_iter().map(|(pack, weight)| Layer { pack: pack.bind_unproven(), weight }).collect();
        let model = StitchedModel::new(base, layers, &options.merge)?;
        Ok(DeferredModel { model, base: Known::Unread(unread), recipe })
    }

    /// Writes the model as [`apply`](crate::apply()) does, and reads every byte of the base once.
    ///
    /// # Errors
    /// As [`apply`](crate::apply()); `BaseMismatch` for the wrong base, also where it led to another error, for which the base is
    /// then read again. What the base has no part in, such as an output that exists, is said before it is read. Whatever the
    /// error, nothing is left behind.
    pub fn apply(&self, out: &Path, options: &ApplyOptions) -> Result<Applied> {
        write(&self.model, self.base(), out, options)
    }

    /// Computes the model and writes nothing, as [`lock`](crate::lock) does.
    ///
    /// # Errors
    /// As [`DeferredModel::apply`].
    pub fn lock(&self, options: &ApplyOptions) -> Result<Applied> {
        lock_on(&self.model, self.base(), options)
    }

    /// Writes a recipe that [`DeferredModel::lock`] gave, as [`write_recipe`](crate::apply::write_recipe) does.
    ///
    /// # Errors
    /// As [`write_recipe`](crate::apply::write_recipe).
    pub fn write_recipe(&self, recipe: &Recipe, out: &Path, force: bool) -> Result<()> {
        super::write_recipe(&self.model, recipe, out, force)
    }

    fn base(&self) -> Base<'_> {
        match &self.base {
            Known::Proven(identity) => Base::Proven(identity),
            Known::Unread(identity) => Base::Unread { identity, recipe: self.recipe },
        }
    }
}
