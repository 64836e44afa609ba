//! A budget instead of knobs: the pack that makes the best model for so many bytes.

use crate::create::assemble::{Counting, write};
use crate::create::options::{Budget, CreateOptions, Lossy, Method, Rescale};
use crate::create::prepared::Prepared;
use crate::error::{Error, Result};
use crate::method::density::Density;
use crate::model::delta::ValueKind;

/// Value kinds from small to exact: a better one is taken when all that changed fits in a lesser one.
const LADDER: [ValueKind; 3] = [ValueKind::Sign, ValueKind::Codebook, ValueKind::Int8];

/// A pack is near enough to its budget from this share of it on.
const NEAR: f64 = 0.985;

/// Most packs that are tried to find a density.
const MOST_TRIES: usize = 16;

/// Options that say how the pack is made, where they may say only how large it may be.
///
/// # Errors
/// `Refused` where no pack is that small, or the exact one is not and was required.
pub(super) fn resolve(prepared: &Prepared, options: &CreateOptions) -> Result<CreateOptions> {
    match &options.method {
        Method::Sized(budget) => within(prepared, budget, options),
        Method::Exact | Method::Lossy(_) => Ok(options.clone()),
    }
}

/// Options of the best pack that a budget allows.
fn within(prepared: &Prepared, budget: &Budget, options: &CreateOptions) -> Result<CreateOptions> {
    let limit = budget.size.of(prepared.fine_tuned.weight_bytes()?);
    let search = Search { prepared, budget, options, limit };
    let smallest = search.lossy(budget.lossy.values, 1)?;
    let (changed, mut least) = (smallest.changed, smallest.pack_bytes);
    // Every step has a sign, which nothing predicts: the exact pack cannot be smaller than a bit for each.
    if changed / 8 <= limit || budget.require_exact {
        let exact = CreateOptions { method: Method::Exact, ..options.clone() };
        let size = search.size(&exact)?.pack_bytes;
        if size <= limit {
            return Ok(exact);
        }
        least = least.min(size);
        if budget.require_exact {
            let detail =
                format!("the exact pack has {size} bytes, the budget is {limit}; allow it more, or a lossy one");
            return Err(Error::Refused(detail));
        }
    }
    if smallest.pack_bytes > limit {
        return Err(Error::Refused(format!(
            "no pack of these checkpoints is smaller than {least} bytes, the budget is {limit}"
        )));
    }
    search.best(changed)
}

struct Search<'a> {
    prepared: &'a Prepared<'a>,
    budget: &'a Budget,
    options: &'a CreateOptions,
    limit: u64,
}

/// What a trial came to.
struct Tried {
    pack_bytes: u64,
    changed: u64,
}

impl Search<'_> {
    fn best(&self, changed: u64) -> Result<CreateOptions> {
        let only = [self.budget.lossy.values];
        let ladder = if self.budget.keep_values { &only[..] } else { &LADDER };
        let mut best = self.with(ladder[0], 1)?;
        for kind in ladder {
            let (kept, size) = self.density(*kind, changed)?;
            best = self.with(*kind, kept)?;
            if kept < changed || size as f64 >= self.limit as f64 * NEAR {
                break;
            }
        }
        Ok(best)
    }

    /// The most that can be kept within the budget, and the size of that.
    fn density(&self, kind: ValueKind, changed: u64) -> Result<(u64, u64)> {
        let limit = self.limit as f64;
        // What is known to fit, and what is known not to.
        let (mut fits, mut too_large) = ((0u64, 0u64), changed.saturating_add(1));
        let bits = if kind == ValueKind::Sign { 7.0 } else { 10.0 };
        let mut kept = ((limit * 8.0 / bits) as u64).clamp(1, changed.max(1));
        for _ in 0..MOST_TRIES {
            let size = self.lossy(kind, kept)?.pack_bytes;
            if size <= self.limit {
                fits = (kept, size);
                if kept >= changed || size as f64 >= limit * NEAR {
                    break;
                }
            } else {
                too_large = kept;
            }
            if too_large - fits.0 <= 1 {
                break;
            }
            // A mask costs a little less a unit the denser it is.
            let next = kept as f64 * ((limit * (1.0 + NEAR) / 2.0) / size as f64).powf(1.1);
            kept = (next as u64).clamp(fits.0 + 1, too_large - 1);
        }
        Ok(fits)
    }

    fn lossy(&self, kind: ValueKind, kept: u64) -> Result<Tried> {
        self.size(&self.with(kind, kept)?)
    }

    fn with(&self, kind: ValueKind, kept: u64) -> Result<CreateOptions> {
        let n = self.prepared.pairs.candidates().max(1);
        let lossy = &self.budget.lossy;
        let rescale = lossy.rescale.or((!lossy.localizer.is_learned()).then_some(Rescale::Balanced));
        let density = Density::new(kept.min(n), n)?;
        let lossy = Lossy { density, values: kind, rescale, ..lossy.clone() };
        Ok(CreateOptions { method: Method::Lossy(lossy), ..self.options.clone() })
    }

    fn size(&self, options: &CreateOptions) -> Result<Tried> {
        let (_, created) = write(self.prepared, Counting::default(), std::path::Path::new("-"), options)?;
        Ok(Tried { pack_bytes: created.pack_bytes, changed: created.changed })
    }
}
