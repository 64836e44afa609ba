//! Score and mask files: whether they speak of this checkpoint.

use crate::checkpoint::Checkpoint;
use crate::create::options::Localizer;
use crate::create::pairs::{Pair, Pairs};
use crate::error::{Error, Escaped, Result};
use crate::model::dtype::Dtype;

/// What a file gives of each tensor.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Scores,
    Mask,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Scores => "scores",
            What::Mask => "mask",
        }
    }

    fn fits(self, dtype: Dtype) -> bool {
        match self {
            What::Scores => dtype.is_float(),
            What::Mask => matches!(dtype, Dtype::BOOL | Dtype::U8),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            What::Scores => "a float dtype",
            What::Mask => "BOOL or U8",
        }
    }
}

/// Refuses scores and masks of another checkpoint.
pub(super) fn check(localizer: &Localizer, pairs: &Pairs) -> Result<()> {
    let (file, what) = match localizer {
        Localizer::Magnitude => return Ok(()),
        Localizer::Learned(learned) => return learned.check(pairs.floats().map(|(_, pair)| &pair.info)),
        Localizer::Scores(file) => (file, What::Scores),
        Localizer::Mask(file) => (file, What::Mask),
    };
    pairs.floats().try_for_each(|(_, pair)| check_tensor(file, what, pair))?;
    match file.tensors().find(|t| !pairs.all().iter().any(|p| p.info.name == t.name)) {
        Some(stray) if !pairs.is_partial() => Err(Error::InvalidInput(format!(
            "the {} file has a tensor \"{}\", which the checkpoint lacks",
            what.name(),
            Escaped(&stray.name)
        ))),
        _ => Ok(()),
    }
}

fn check_tensor(file: &Checkpoint, what: What, pair: &Pair) -> Result<()> {
    let name = Escaped(&pair.info.name);
    match file.tensor(&pair.info.name) {
        None if what == What::Mask => Ok(()),
        None => {
            let detail = format!("the scores lack tensor \"{name}\"; add it, or --exclude the tensor");
            Err(Error::InvalidInput(detail))
        }
        Some(info) if info.shape != pair.info.shape || !what.fits(info.dtype) => Err(Error::InvalidInput(format!(
            "the {} of tensor \"{name}\" is {} {:?}, must be {} {:?}",
            what.name(),
            info.dtype,
            info.shape,
            what.kind(),
            pair.info.shape
        ))),
        Some(_) => Ok(()),
    }
}
