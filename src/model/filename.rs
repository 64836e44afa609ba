//! Names of files that an untrusted file gives: they are joined to a path, so they must not lead anywhere else.

/// Endings of weights in formats that are neither read nor taken along.
const FOREIGN_WEIGHTS: [&str; 11] =
    [".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".pkl", ".npz", ".tflite"];

/// From 1 to 255 letters, digits, `.`, `_` and `-`, not beginning with a dot. [CKP-4] [FIL-1]
pub(crate) fn is_plain(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    plain && !name.is_empty() && name.len() <= 255 && !name.starts_with('.')
}

/// Whether this is a safetensors file or the index of several.
pub(crate) fn is_safetensors(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".index.json")
}

/// Whether these are weights in another format.
pub(crate) fn is_foreign_weight(name: &str) -> bool {
    FOREIGN_WEIGHTS.iter().any(|ending| name.ends_with(ending))
}
