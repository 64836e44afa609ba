//! Adapters in PEFT's layout as fine-tuned models: the base with a LoRA or a SHiRA on it, computed where it is asked for and
//! never held. spec/numbers.md, "Adapters".

mod adapted;
mod config;
mod low_rank;
mod names;
mod parts;
mod sum;
mod values;

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::{Checkpoint, ModelSource};
use crate::error::{Error, Result};
use crate::model::tensor::TensorInfo;

pub use adapted::Adapted;
use config::Config;

/// The file by which an adapter's folder is known.
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Whether a path is the folder of an adapter: one with an `adapter_config.json`.
pub fn is_adapter(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// Opens an adapter as the fine-tuned model that it makes of a base. Adapters of type LORA and SHIRA are read, with all that
/// leads to one definite model: ranks and alphas by module, rank-stabilized scales, embeddings, biases and modules saved whole.
///
/// In memory are SHiRA's positions and values (12 bytes each); of a LoRA nothing stays but shapes.
///
/// # Errors
/// `Malformed` for a folder that is no adapter, or whose halves do not fit each other; `BaseMismatch` for modules that the base
/// lacks, has in another shape, or has under several names; `Refused` for adapters of other types, and for those that are no
/// change of the weights or change another base than they name (DoRA, replicated layers, PiSSA …); `LimitExceeded`; `Io`.
///
/// # Example
///
/// ```no_run
/// # use std::path::Path;
/// use stitchpack::{Checkpoint, CreateOptions, adapter};
///
/// let base = Checkpoint::open("base.safetensors")?;
/// let fine_tuned = adapter::open(&base, Path::new("my-lora"))?;
/// stitchpack::create(&base, &fine_tuned, Path::new("my.stitch"), &CreateOptions::default())?;
/// # Ok::<(), stitchpack::Error>(())
/// ```
pub fn open<'a>(base: &'a dyn ModelSource, path: &Path) -> Result<Adapted<'a>> {
    let config_path = path.join(CONFIG);
    let config = Config::read(&config_path).map_err(|e| e.in_file(&config_path))?;
    let weights = path.join(WEIGHTS);
    if !weights.exists() && path.join("adapter_model.bin").exists() {
        let why = format!("has no {WEIGHTS}, only a pickle, which stitchpack never opens; save it as safetensors");
        return Err(Error::malformed("ADP-1", "adapter folder", why).in_file(path));
    }
    let file = Checkpoint::open(&weights)?;
    let parts = parts::of(base, &file, &config).map_err(|e| e.in_file(&weights))?;
    let mut infos: BTreeMap<String, TensorInfo> =
        base.infos().into_iter().map(|info| (info.name.clone(), info.clone())).collect();
    for (name, part) in &parts {
        if let parts::Part::Whole(info) = part {
            infos.insert(name.clone(), TensorInfo { name: name.clone(), ..info.clone() });
        }
    }
    Ok(Adapted { base, config_path, file, parts, infos })
}
