//! A budget instead of knobs: the pack that makes the best model for so many bytes.

use std::str::FromStr;

use crate::create::options::{CreateOptions, Lossy, Method, Rescale};
use crate::create::{Prepared, write};
use crate::error::{Error, Result};
use crate::method::density::Density;
use crate::model::delta::ValueKind;

/// How large a pack may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// A share of the bytes of the fine-tuned checkpoint's safetensors files, in millionths of a percent.
    Share(u64),
    /// Bytes.
    Bytes(u64),
}

/// A budget, and how a lossy pack spends it.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Bytes that the pack may have.
    pub size: Size,
    /// What chooses positions, and which scales are shared; density and, where none is said, the rule for the gain are chosen here.
    pub lossy: Lossy,
    /// The value kind is the one in `lossy`, rather than the one that suits the budget.
    pub keep_values: bool,
    /// A lossy pack is an error.
    pub require_exact: bool,
}

impl Default for Budget {
    /// 1 % of the fine-tuned checkpoint.
    fn default() -> Self {
        Budget { size: Size::Share(1_000_000), lossy: Lossy::default(), keep_values: false, require_exact: false }
    }
}

impl Size {
    /// The bytes allowed for a checkpoint of `whole` bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Size::Share(millionths) => (u128::from(whole) * u128::from(millionths) / 100_000_000) as u64,
            Size::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Reads a percentage (`1%`) or bytes (`20MB`, `512KiB`, `1000000`).
    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::InvalidInput(format!("size \"{text}\" is neither a share such as 1% nor bytes such as 20MB"));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%').trim_end();
        let number: f64 = digits.parse().map_err(|_| bad())?;
        let unit = text.get(digits.len()..).unwrap_or("").trim_start();
        if !(number.is_finite() && number > 0.0) {
            return Err(bad());
        }
        let factor = match unit.to_ascii_lowercase().as_str() {
            "%" => return Ok(Size::Share((number * 1e6).round() as u64)),
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(bad()),
        };
        Ok(Size::Bytes((number * factor) as u64))
    }
}

/// Value kinds from small to exact: a better one is taken when all that changed fits in a lesser one.
const LADDER: [ValueKind; 3] = [ValueKind::Sign, ValueKind::Codebook, ValueKind::Int8];

/// A pack is near enough to its budget from this share of it on.
const NEAR: f64 = 0.985;

/// Most packs that are tried to find a density.
const MOST_TRIES: usize = 16;

/// Options of the best pack that a budget allows.
///
/// # Errors
/// `Refused` where no pack is that small, or the exact one is not and was required.
pub(super) fn resolve(prepared: &Prepared, budget: &Budget, options: &CreateOptions) -> Result<CreateOptions> {
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
struct Trial {
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

    fn lossy(&self, kind: ValueKind, kept: u64) -> Result<Trial> {
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

    fn size(&self, options: &CreateOptions) -> Result<Trial> {
        let (_, created) = write(self.prepared, super::Counting::default(), std::path::Path::new("-"), options)?;
        Ok(Trial { pack_bytes: created.pack_bytes, changed: created.changed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let of = |text: &str| text.parse::<Size>().unwrap().of(29_870_208);
        assert_eq!(of("1%"), 298_702);
        assert_eq!(of("0.25 %"), 74_675);
        assert_eq!((of("20MB"), of("1KiB"), of("77"), of("1.5 kB")), (20_000_000, 1024, 77, 1500));
        for bad in ["", "%", "-1%", "1%%", "5 parsecs", "NaN%", "0"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
