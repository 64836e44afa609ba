//! How the mask and the codes of a block are coded. spec/format.md, "Masks" and "Codes".

use crate::model::numbered::numbered;

numbered! {
    /// How the mask of a block is coded. [MSK-1]
    #[derive(Default, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum MaskCodec, "mask codec" {
        /// No position is kept; no bytes.
        #[default]
        Empty = 0 => "empty",
        /// Every position is kept; no bytes.
        All = 1 => "all",
        /// One bit a position.
        Bitmap = 2 => "bitmap",
        /// One or more bytes a kept position.
        Gaps = 3 => "gaps",
        /// A bitmap in a zstd frame.
        BitmapZstd = 4 => "bitmap+zstd",
        /// Gaps in a zstd frame.
        GapsZstd = 5 => "gaps+zstd",
        /// By class, with the tensor's coder. [CLS-5]
        Classes = 6 => "classes",
        /// Nothing of its own: the steps that are not 0 among those of all units. [CLS-7]
        InCodes = 7 => "in the codes",
        /// Gaps in Rice codes.
        Rice = 8 => "Rice codes",
    }
}

numbered! {
    /// How the codes of a block are coded. [VAL-2]
    #[derive(Default, PartialOrd, Ord)]
    #[non_exhaustive]
    pub enum ValueCodec, "value codec" {
        /// Packed, as they are.
        #[default]
        Stored = 0 => "stored",
        /// Packed, in a zstd frame.
        Zstd = 1 => "zstd",
        /// By class, with the tensor's coder. [CLS-6]
        Classes = 2 => "classes",
        /// By class, and with a step of 0 for each unit that is not kept. [CLS-7]
        AllUnits = 3 => "all units",
    }
}

impl MaskCodec {
    /// Whether the tensor's coder is needed.
    pub fn is_by_class(self) -> bool {
        match self {
            MaskCodec::Classes | MaskCodec::InCodes => true,
            MaskCodec::Empty
            | MaskCodec::All
            | MaskCodec::Bitmap
            | MaskCodec::Gaps
            | MaskCodec::BitmapZstd
            | MaskCodec::GapsZstd
            | MaskCodec::Rice => false,
        }
    }
}

impl ValueCodec {
    /// Whether the tensor's coder is needed.
    pub fn is_by_class(self) -> bool {
        match self {
            ValueCodec::Classes | ValueCodec::AllUnits => true,
            ValueCodec::Stored | ValueCodec::Zstd => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_known_needs_a_newer_reader() {
        assert_eq!(MaskCodec::ALL.iter().map(|codec| codec.code()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(ValueCodec::ALL.iter().map(|codec| codec.code()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(MaskCodec::ALL.iter().all(|codec| MaskCodec::known(codec.code()).is_ok_and(|back| back == *codec)));
        let told = MaskCodec::known(9).unwrap_err();
        assert_eq!(told.to_string(), "mask codec 9 needs a newer stitchpack (this one knows up to 8)");
        assert_eq!(ValueCodec::known(4).unwrap_err().exit_code(), 8);
    }
}
