//! The native half of the Python package `stitchpack`: what needs the library, and no more.
//!
//! The other half, in `lib/stitchpack`, gives tensors their dtype and shape and arguments their defaults. Here a tensor is
//! bytes, and whatever takes time runs without the GIL.

mod apply;
mod base;
mod buffer;
mod calibrate;
mod call;
mod create;
mod diff;
mod error;
mod fine_tuned;
mod inspect;
mod learn;
mod memory;
mod merge;
mod model;
mod overlap;
mod pack;
mod read;
mod recipe;
mod staged;
mod verify;

/// What `stitchpack` imports as `stitchpack._native`.
#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::apply::{apply, lock};
    #[pymodule_export]
    use crate::base::Base;
    #[pymodule_export]
    use crate::buffer::Buffer;
    #[pymodule_export]
    use crate::calibrate::calibrate;
    #[pymodule_export]
    use crate::create::create;
    #[pymodule_export]
    use crate::diff::diff;
    #[pymodule_export]
    use crate::fine_tuned::adapted;
    #[pymodule_export]
    use crate::inspect::inspect;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::overlap::overlap;
    #[pymodule_export]
    use crate::pack::Pack;
    #[pymodule_export]
    use crate::recipe::{parse_recipe, read_recipe};
    #[pymodule_export]
    use crate::staged::Staged;
    #[pymodule_export]
    use crate::verify::verify;

    /// The version of the library and of the package.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
