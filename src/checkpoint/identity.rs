//! Digests of a checkpoint's tensors: all, some, or those that a cache does not remember. spec/guarantees.md, "The base".

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::checkpoint::source::ModelSource;
use crate::error::{Error, Result};
use crate::model::digest::{Digest, TensorDigester};
use crate::model::pieces::Pieces;
use crate::model::tensor::TensorInfo;
use crate::parallel::Workers;

/// How much of a base is read to know it. [BAS-3]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BaseCheck {
    /// Every byte, every time.
    Full,
    /// The touched tensors only.
    Touched,
    /// Every byte once; then a cache says that the files are as they were (device, inode, size, mtime and ctime).
    #[default]
    Cached,
}

impl BaseCheck {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            BaseCheck::Full => "full",
            BaseCheck::Touched => "touched",
            BaseCheck::Cached => "cached",
        }
    }
}

impl FromStr for BaseCheck {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "full" => Ok(BaseCheck::Full),
            "touched" => Ok(BaseCheck::Touched),
            "cached" => Ok(BaseCheck::Cached),
            _ => Err(Error::InvalidInput(format!("base check \"{text}\" is not known; use full, touched or cached"))),
        }
    }
}

/// Digests of tensors, in pieces that all threads share.
pub(crate) fn digests<'a>(
    source: &dyn ModelSource,
    infos: &[&'a TensorInfo],
    workers: &Workers,
) -> Result<BTreeMap<&'a str, Digest>> {
    let mut pieces = Vec::new();
    for (t, info) in infos.iter().enumerate() {
        pieces.extend((0..TensorDigester::new(info.byte_len()).pieces()).map(|p| (t, p)));
    }
    source.will_need(&infos.iter().map(|info| info.name.as_str()).collect::<Vec<_>>());
    workers.progress().stage("checking the base", infos.iter().map(|t| t.byte_len()).sum());
    let done = workers.for_each(pieces.len(), Pieces::default, |gathered, i| {
        let Some((t, info, p)) = pieces.get(i).and_then(|(t, p)| infos.get(*t).map(|info| (*t, info, *p))) else {
            return Ok(());
        };
        let start = p * TensorDigester::PIECE;
        let end = (start + TensorDigester::PIECE).min(info.byte_len());
        let unit = info.dtype.unit_bytes() as u64;
        let bytes = source.units(&info.name, start / unit, (end - start) / unit)?;
        gathered.add(t, info, start, &bytes);
        workers.progress().advance(end - start);
        Ok(())
    })?;
    let found = Pieces::join(done.into_iter(), infos.iter().copied().enumerate());
    Ok(infos.iter().map(|info| info.name.as_str()).zip(found).collect())
}
