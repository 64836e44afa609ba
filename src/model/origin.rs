//! The words in which a manifest says how its pack was made. No reader depends on them. spec/format.md, "Manifest".

use crate::model::numbered::named;

named! {
    /// What chose the positions.
    #[non_exhaustive]
    pub enum LocalizerName, "localizer" {
        /// Nothing: every unit that differs is kept.
        Exact => "exact",
        /// The largest |fine-tuned − base|.
        Magnitude => "magnitude",
        /// The largest scores of a file.
        Scores => "scores",
        /// A mask of a file.
        Mask => "mask",
        /// The largest scores of those that were learned.
        Learned => "learned",
        /// The packs of a merge.
        Folded => "folded",
    }
}

named! {
    /// What the gain makes up for.
    #[non_exhaustive]
    pub enum RescaleName, "rescale" {
        /// Nothing: gain 1.
        None => "none",
        /// The 2-norm of the task vector.
        Energy => "energy",
        /// The 1-norm of the task vector.
        L1 => "l1",
        /// The geometric mean of both.
        Balanced => "balanced",
        /// A factor as given.
        Factor => "factor",
        /// The loss that the mask was learned with.
        Learned => "learned",
    }
}
