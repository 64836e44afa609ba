//! Two checkpoints, matched.

use crate::checkpoint::ModelSource;
use crate::create::options::CreateOptions;
use crate::create::pairs::Pairs;
use crate::error::Result;
use crate::model::identity::BaseIdentity;

/// What every attempt at a pack starts from.
pub(crate) struct Prepared<'a> {
    pub base: &'a dyn ModelSource,
    pub fine_tuned: &'a dyn ModelSource,
    pub identity: BaseIdentity,
    pub pairs: Pairs<'a>,
}

impl<'a> Prepared<'a> {
    pub fn of(base: &'a dyn ModelSource, fine_tuned: &'a dyn ModelSource, options: &CreateOptions) -> Result<Self> {
        options.check()?;
        let identity = base.identity_of(options.base_check, &|_| true, &options.workers)?;
        let pairs = Pairs::of(base, fine_tuned, &identity, options)?;
        Ok(Prepared { base, fine_tuned, identity, pairs })
    }
}
