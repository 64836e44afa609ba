//! Ship, store and load many fine-tunes of one base model as small, verified *stitch packs*.
//!
//! A pack holds what a fine-tune changed: which weights matter (a mask), by how much each moved (a quantized delta), which
//! base it belongs to, and a digest over all of it. Any combination of packs is stitched onto the base while it is loaded.
//! The method is Localize-and-Stitch (He, Hu, Lin, Zhang, Zhao, TMLR 2025, arXiv 2408.13656); the format is specified in
//! `spec/`, rule by rule, and errors cite the rule that a file breaks.
//!
//! ```text
//! base ─────┐
//!           ├─► task vector ─► localize ─► quantize ─► encode ─► pack          create
//! fine-tuned┘
//!
//! pack ─► open ─► verify ─► bind ─► decode ─┐
//!                                           ├─► stitch ─► tensors / files      apply
//! base ─────────────────────────────────────┘
//! ```
//!
//! [`create()`] makes a pack. [`OpenedPack`] → [`VerifiedPack`] → [`BoundPack`] are the states of trust in which one is read,
//! each consuming the one before. [`StitchedModel`] is a base with packs on it, [`apply()`] writes it to disk, and [`Live`] swaps it
//! for another in memory. [`DeferredModel`] is one that is only to be written, with a base that is read once. [`adapter::open`] makes a fine-tuned model of a LoRA or SHiRA adapter, and [`export()`] writes what packs
//! change for other programs.
//!
//! # Example
//!
//! ```
//! use stitchpack::{ApplyOptions, Checkpoint, CreateOptions, Layer, MergeOptions, OpenedPack, StitchedModel, Workers};
//! # use safetensors::{Dtype, serialize_to_file, tensor::TensorView};
//! # let folder = tempfile::tempdir()?;
//! # let path = |name: &str| folder.path().join(name);
//! # let write = |name: &str, values: [f32; 4]| {
//! #     let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
//! #     let view = TensorView::new(Dtype::F32, vec![2, 2], &bytes).unwrap();
//! #     serialize_to_file([("weight", view)], None, &path(name)).unwrap();
//! # };
//! # write("base.safetensors", [1.0, 2.0, 3.0, 4.0]);
//! # write("code.safetensors", [1.0, 2.5, 3.0, 4.0]);
//! let base = Checkpoint::open(path("base.safetensors"))?;
//! let fine_tuned = Checkpoint::open(path("code.safetensors"))?;
//! let exact = CreateOptions { method: stitchpack::create::Method::Exact, ..CreateOptions::default() };
//! stitchpack::create(&base, &fine_tuned, &path("code.stitch"), &exact)?;
//!
//! let identity = base.identity(&Workers::default())?;
//! let pack = OpenedPack::open(path("code.stitch"))?.verify()?.bind(&identity)?;
//! let layers = vec![Layer { pack, weight: 1.0 }];
//! let model = StitchedModel::new(&base, layers, &MergeOptions::default())?;
//! stitchpack::apply(&model, &identity, &path("merged.safetensors"), &ApplyOptions::default())?;
//! # assert_eq!(std::fs::read(path("merged.safetensors"))?, std::fs::read(path("code.safetensors"))?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod adapter;
pub mod apply;
pub mod checkpoint;
mod codec;
pub mod create;
pub mod error;
pub mod export;
mod files;
pub mod fold;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod io;
mod json;
pub mod limits;
pub mod live;
pub mod merge;
pub mod method;
pub mod model;
pub mod pack;
pub mod parallel;
pub mod report;
mod simd;

pub use apply::{Applied, ApplyOptions, DeferredModel, apply, lock};
pub use checkpoint::Checkpoint;
pub use create::{CreateOptions, Created, create, create_dry};
pub use error::{Error, Result};
pub use export::{ExportOptions, Exported, export};
pub use fold::{FoldOptions, fold};
pub use limits::Limits;
pub use live::Live;
pub use merge::calibrate::{CalibrateOptions, calibrate};
pub use merge::recipe::Recipe;
pub use merge::{GainChoice, Layer, MergeOptions, PackGain, StitchedModel};
pub use pack::{BoundPack, OpenedPack, VerifiedPack};
pub use parallel::{Progress, Quiet, Workers};
pub use report::verify::{Verification, VerifyOptions, verify};
