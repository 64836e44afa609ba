//! Numbers as integers of the same order, so that a top-k is a search among integers.

use crate::method::float::{Element, Real, load_unit, with_element};
use crate::model::dtype::Dtype;

/// How many bits of key are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// f32 numbers.
    Narrow,
    /// f64 numbers: needed as soon as one F64 tensor takes part.
    Wide,
}

impl Width {
    /// Bits of a key.
    pub fn bits(self) -> u32 {
        match self {
            Width::Narrow => 32,
            Width::Wide => 64,
        }
    }

    /// A key in the order of |x|. A zero, of either sign, has key 0.
    pub fn magnitude(self, x: f64) -> u64 {
        match self {
            Width::Narrow => u64::from((x as f32).abs().to_bits()),
            Width::Wide => x.abs().to_bits(),
        }
    }

    /// A key in the order of x, minus below plus; −0 and +0 have the same.
    pub fn signed(self, x: f64) -> u64 {
        let x = x + 0.0; // −0 becomes +0
        let (bits, sign) = match self {
            Width::Narrow => (u64::from((x as f32).to_bits()), 1u64 << 31),
            Width::Wide => (x.to_bits(), 1u64 << 63),
        };
        if bits & sign != 0 { !bits & (sign | (sign - 1)) } else { bits | sign }
    }
}

/// fine-tuned − base for a run of elements of a float dtype, in f32 (f64 for F64); exactly 0 where the bits agree. [TSK-1]
///
/// Both runs hold whole elements, equally many. Results are f32 numbers unless the dtype is F64.
pub(crate) fn task_vector(dtype: Dtype, base: &[u8], fine_tuned: &[u8], out: &mut Vec<f64>) {
    out.clear();
    with_element!(dtype, E => subtract::<E>(base, fine_tuned, out), ());
}

fn subtract<E: Element>(base: &[u8], fine_tuned: &[u8], out: &mut Vec<f64>) {
    let pairs = base.chunks_exact(E::BYTES).zip(fine_tuned.chunks_exact(E::BYTES));
    out.extend(pairs.map(|(b, f)| {
        let (b, f) = (load_unit(b), load_unit(f));
        // Equal bits are no change, also where the number is an infinity or NaN and the difference would be NaN.
        if b == f { 0.0 } else { E::decode(f).sub(E::decode(b)).to_f64() }
    }));
}

/// The numbers of a run of elements of a float dtype.
pub(crate) fn numbers(dtype: Dtype, bytes: &[u8], out: &mut Vec<f64>) {
    out.clear();
    with_element!(dtype, E => {
        out.extend(bytes.chunks_exact(E::BYTES).map(|b| E::decode(load_unit(b)).to_f64()));
    }, ());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_keys_ascend() {
        let xs = [f64::NEG_INFINITY, -3.0, -1.0, -1e-30, 0.0, 1e-30, 1.0, 3.0, f64::INFINITY];
        for w in [Width::Narrow, Width::Wide] {
            let keys: Vec<u64> = xs.iter().map(|x| w.signed(*x)).collect();
            assert!(keys.windows(2).all(|p| p[0] < p[1]));
            assert_eq!(w.signed(-0.0), w.signed(0.0));
        }
    }
}
