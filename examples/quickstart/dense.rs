//! What people do without packs: merges of whole models, in plain f32.

use crate::checkpoint::Tensors;

/// The factor that task arithmetic is commonly run with.
pub const LAMBDA: f32 = 0.3;

/// The mean of the fine-tuned models.
pub fn averaging(base: &Tensors, fine_tuned: &[Tensors]) -> Tensors {
    task_arithmetic(base, fine_tuned, 1.0 / fine_tuned.len() as f32)
}

/// Base + λ × the sum of (fine-tuned − base).
pub fn task_arithmetic(base: &Tensors, fine_tuned: &[Tensors], lambda: f32) -> Tensors {
    let mut merged = base.clone();
    for (name, tensor) in &mut merged {
        let from = &base[name].values;
        for (i, value) in tensor.values.iter_mut().enumerate() {
            let sum: f32 = fine_tuned.iter().map(|model| model[name].values[i] - from[i]).sum();
            *value += lambda * sum;
        }
    }
    merged
}
