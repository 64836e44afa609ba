//! Adding numbers to elements of the base, each rounded once. [ADP-4] [ADP-5]

use crate::error::{Error, Escaped, Result};
use crate::method::float::{Element, Real, decode_f64, load_unit, store_unit, with_element};
use crate::model::dtype::Dtype;
use crate::model::tensor::TensorInfo;

/// base + x where base is finite; else its bits stay. Whether a number came out.
fn add_to<E: Element>(element: &mut [u8], x: f32) -> bool {
    let base = E::decode(load_unit(element));
    if !base.to_f64().is_finite() {
        return true;
    }
    let bits = E::encode(base.add(E::Real::from_f32(x)));
    store_unit(element, bits);
    E::decode(bits).to_f64().is_finite()
}

/// Adds a number to each of some elements that lie side by side; gives how many became infinite or NaN.
pub(super) fn add_row(dtype: Dtype, elements: &mut [u8], numbers: impl Iterator<Item = f32>) -> u64 {
    with_element!(dtype, E => {
        let pairs = elements.chunks_exact_mut(E::BYTES).zip(numbers);
        pairs.map(|(element, x)| u64::from(!add_to::<E>(element, x))).sum()
    }, 0)
}

/// Adds a number to one element.
pub(super) fn add_one(dtype: Dtype, element: &mut [u8], number: f32) -> u64 {
    add_row(dtype, element, std::iter::once(number))
}

/// A number of an adapter, exactly.
pub(super) fn number(dtype: Dtype, element: &[u8]) -> f32 {
    decode_f64(dtype, load_unit(element)) as f32
}

/// What an adapter's numbers may be: floats that an f32 holds.
pub(super) fn check_numbers(tensor: &TensorInfo) -> Result<()> {
    if tensor.dtype.is_float() && tensor.dtype != Dtype::F64 {
        return Ok(());
    }
    let detail = format!("has dtype {}, must be a float of at most 32 bits", tensor.dtype);
    Err(Error::malformed("ADP-3", format!("tensor \"{}\"", Escaped(&tensor.name)), detail))
}

/// The error for elements that are no numbers any more.
pub(super) fn refuse_nonfinite(count: u64, tensor: &TensorInfo) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{count} finite elements of a run of tensor \"{}\" would become infinite or NaN with the adapter on them; is it damaged, or \
         of another base?",
        Escaped(&tensor.name)
    )))
}
