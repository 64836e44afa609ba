//! Checkpoint folders: `config.json` beside `model.safetensors`, in BF16.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use half::bf16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::network::WIDTHS;

/// Bytes of one BF16 value.
const VALUE_BYTES: usize = 2;

/// One tensor, its values in row-major order.
#[derive(Clone)]
pub struct Tensor {
    /// Rows, then columns; a bias has one dimension.
    pub shape: Vec<usize>,
    /// As many as the product of the shape.
    pub values: Vec<f32>,
}

/// Tensors by checkpoint name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Writes `tensors`, rounded to BF16, as a checkpoint folder.
pub fn write(folder: &Path, tensors: &Tensors) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let config = serde_json::to_string_pretty(&config())?;
    fs::write(folder.join("config.json"), config + "\n")?;
    let bytes: Vec<_> = tensors.values().map(to_bytes).collect();
    let mut views = Vec::new();
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let view = TensorView::new(Dtype::BF16, tensor.shape.clone(), bytes)?;
        views.push((name, view));
    }
    // Other tools look for this entry to learn where the tensors came from.
    let metadata = [("format".to_string(), "pt".to_string())].into();
    let file = safetensors::serialize(views, Some(metadata))?;
    fs::write(folder.join("model.safetensors"), file)?;
    Ok(())
}

/// Reads `model.safetensors` of a checkpoint folder.
pub fn read(folder: &Path) -> Result<Tensors, Box<dyn Error>> {
    let bytes = fs::read(folder.join("model.safetensors"))?;
    let mut tensors = Tensors::new();
    for (name, view) in SafeTensors::deserialize(&bytes)?.iter() {
        if view.dtype() != Dtype::BF16 {
            return Err(format!("{name} is {:?}, not BF16", view.dtype()).into());
        }
        let tensor = Tensor { shape: view.shape().to_vec(), values: from_bytes(view.data()) };
        tensors.insert(name.to_string(), tensor);
    }
    Ok(tensors)
}

/// What a Hugging Face `config.json` would say about this network.
fn config() -> serde_json::Value {
    json!({
        "architectures": ["DigitsMlp"],
        "model_type": "digits-mlp",
        "hidden_act": "relu",
        "layer_widths": WIDTHS,
        "torch_dtype": "bfloat16",
    })
}

/// The values as BF16, little-endian as safetensors wants them.
fn to_bytes(tensor: &Tensor) -> Vec<u8> {
    let values = tensor.values.iter();
    values.flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
}

/// The reverse of `to_bytes`.
fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    let values = bytes.chunks_exact(VALUE_BYTES);
    values.map(|value| bf16::from_le_bytes([value[0], value[1]]).to_f32()).collect()
}
