//! Which tensors take part.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::checkpoint::ModelSource;
use crate::create::options::CreateOptions;
use crate::error::{Error, Escaped, Result};

/// Which names the include and exclude globs leave.
pub(super) struct Chosen {
    include: Option<GlobSet>,
    exclude: GlobSet,
    patterns: Vec<(String, GlobSet)>,
}

impl Chosen {
    pub fn new(options: &CreateOptions) -> Result<Self> {
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

    pub fn includes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(name)) && !self.exclude.is_match(name)
    }

    /// A glob that matches nothing is a mistake that would pass unseen.
    pub fn check_used(&self, base: &dyn ModelSource, fine_tuned: &dyn ModelSource) -> Result<()> {
        for (glob, set) in &self.patterns {
            if !base.infos().iter().chain(&fine_tuned.infos()).any(|t| set.is_match(&t.name)) {
                return Err(Error::InvalidInput(format!("glob \"{}\" matches no tensor", Escaped(glob))));
            }
        }
        Ok(())
    }
}
