//! Float dtypes as numbers: bits ↔ f32 (f64 for F64), rounded to nearest even. spec/numbers.md, "Floats".

use half::f16;

use crate::method::stitch::lanes;
use crate::model::dtype::Dtype;

/// The arithmetic that deltas are computed in: f32, or f64 for F64 tensors.
pub(crate) trait Real: Copy + PartialOrd + Send + Sync {
    const ZERO: Self;
    fn from_f32(x: f32) -> Self;
    fn from_f64(x: f64) -> Self;
    fn to_f64(self) -> f64;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn is_finite(self) -> bool;
    fn total_cmp(&self, other: &Self) -> std::cmp::Ordering;
}

macro_rules! real {
    ($t:ty) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            fn from_f32(x: f32) -> Self {
                x as $t
            }
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn add(self, other: Self) -> Self {
                self + other
            }
            fn sub(self, other: Self) -> Self {
                self - other
            }
            fn mul(self, other: Self) -> Self {
                self * other
            }
            fn div(self, other: Self) -> Self {
                self / other
            }
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
            fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
                <$t>::total_cmp(self, other)
            }
        }
    };
}
real!(f32);
real!(f64);

/// One float dtype. [FLT-1]
pub(crate) trait Element: Copy + Send + Sync + 'static {
    type Real: Real;
    const BYTES: usize;
    /// The number that the bits stand for; exact.
    fn decode(bits: u64) -> Self::Real;
    /// The nearest element, ties to even; what is too large becomes an infinity or NaN, and a NaN stays a NaN.
    fn encode(x: Self::Real) -> u64;
    /// [`Element::encode`] of a number that may need f64; rounded once all the same.
    fn nearest(x: f64) -> u64;
    /// Whether [`Element::add_in_lanes`] is there: it is faster than one element after another.
    const HAS_LANES: bool = false;
    /// Adds one of two finite numbers to the kept elements among 64, the second where the bit in `minus` is set; gives how many
    /// sums of finite elements are not finite any more.
    #[inline(always)]
    fn add_in_lanes(_elements: &mut [u8], _kept: u64, _minus: u64, _added: [Self::Real; 2]) -> u32 {
        0
    }
}

/// Runs `$body` with `$E` bound to the [`Element`] of a float dtype, or `$other` where it is none.
macro_rules! with_element {
    ($dtype:expr, $E:ident => $body:expr, $other:expr) => {
        match $dtype.float() {
            Some($crate::model::dtype::Float::F64) => {
                type $E = $crate::method::float::F64;
                $body
            }
            Some($crate::model::dtype::Float::F32) => {
                type $E = $crate::method::float::F32;
                $body
            }
            Some($crate::model::dtype::Float::F16) => {
                type $E = $crate::method::float::F16;
                $body
            }
            Some($crate::model::dtype::Float::Bf16) => {
                type $E = $crate::method::float::Bf16;
                $body
            }
            Some($crate::model::dtype::Float::E4m3) => {
                type $E = $crate::method::float::E4m3;
                $body
            }
            Some($crate::model::dtype::Float::E5m2) => {
                type $E = $crate::method::float::E5m2;
                $body
            }
            Some($crate::model::dtype::Float::E4m3Fnuz) => {
                type $E = $crate::method::float::E4m3Fnuz;
                $body
            }
            Some($crate::model::dtype::Float::E5m2Fnuz) => {
                type $E = $crate::method::float::E5m2Fnuz;
                $body
            }
            None => $other,
        }
    };
}
pub(crate) use with_element;

#[derive(Clone, Copy)]
pub(crate) struct F64;
#[derive(Clone, Copy)]
pub(crate) struct F32;
#[derive(Clone, Copy)]
pub(crate) struct F16;
#[derive(Clone, Copy)]
pub(crate) struct Bf16;
#[derive(Clone, Copy)]
pub(crate) struct E4m3;
#[derive(Clone, Copy)]
pub(crate) struct E5m2;
#[derive(Clone, Copy)]
pub(crate) struct E4m3Fnuz;
#[derive(Clone, Copy)]
pub(crate) struct E5m2Fnuz;

impl Element for F64 {
    type Real = f64;
    const BYTES: usize = 8;
    fn decode(bits: u64) -> f64 {
        f64::from_bits(bits)
    }
    fn encode(x: f64) -> u64 {
        x.to_bits()
    }
    fn nearest(x: f64) -> u64 {
        x.to_bits()
    }
}

impl Element for F32 {
    type Real = f32;
    const BYTES: usize = 4;
    fn decode(bits: u64) -> f32 {
        f32::from_bits(bits as u32)
    }
    fn encode(x: f32) -> u64 {
        u64::from(x.to_bits())
    }
    fn nearest(x: f64) -> u64 {
        u64::from((x as f32).to_bits())
    }
    const HAS_LANES: bool = true;
    #[inline(always)]
    fn add_in_lanes(elements: &mut [u8], kept: u64, minus: u64, added: [f32; 2]) -> u32 {
        lanes::add_f32(elements, kept, minus, added)
    }
}

impl Element for F16 {
    type Real = f32;
    const BYTES: usize = 2;
    fn decode(bits: u64) -> f32 {
        f16::from_bits(bits as u16).to_f32()
    }
    fn encode(x: f32) -> u64 {
        u64::from(f16::from_f32(x).to_bits())
    }
    fn nearest(x: f64) -> u64 {
        L_F16.encode(x)
    }
}

impl Element for Bf16 {
    type Real = f32;
    const BYTES: usize = 2;
    fn decode(bits: u64) -> f32 {
        f32::from_bits((bits as u32) << 16)
    }
    fn encode(x: f32) -> u64 {
        let bits = x.to_bits();
        if x.is_nan() {
            return u64::from(bits >> 16 | 0x40);
        }
        // No branch on what is rounded off, which is as good as random.
        u64::from((bits + 0x7fff + (bits >> 16 & 1)) >> 16)
    }
    fn nearest(x: f64) -> u64 {
        L_BF16.encode(x)
    }
    const HAS_LANES: bool = true;
    #[inline(always)]
    fn add_in_lanes(elements: &mut [u8], kept: u64, minus: u64, added: [f32; 2]) -> u32 {
        lanes::add_bf16(elements, kept, minus, added)
    }
}

/// How a small float is laid out.
#[derive(Clone, Copy)]
struct Layout {
    /// All bits.
    bits: u32,
    /// Mantissa bits.
    man: u32,
    /// Exponent bias.
    bias: i32,
    /// The largest finite magnitude, as bits.
    max: u64,
    /// What a magnitude above `max` becomes: an infinity where the format has one, else its NaN.
    above: u64,
    /// The NaN that arithmetic gives.
    nan: u64,
    /// Whether there is one zero only, and 1000…0 is the NaN.
    fnuz: bool,
}

const L_F16: Layout = Layout { bits: 16, man: 10, bias: 15, max: 0x7bff, above: 0x7c00, nan: 0x7e00, fnuz: false };
const L_BF16: Layout = Layout { bits: 16, man: 7, bias: 127, max: 0x7f7f, above: 0x7f80, nan: 0x7fc0, fnuz: false };
const L_E4M3: Layout = Layout { bits: 8, man: 3, bias: 7, max: 0x7e, above: 0x7f, nan: 0x7f, fnuz: false };
const L_E5M2: Layout = Layout { bits: 8, man: 2, bias: 15, max: 0x7b, above: 0x7c, nan: 0x7e, fnuz: false };
const L_E4M3FNUZ: Layout = Layout { bits: 8, man: 3, bias: 8, max: 0x7f, above: 0x80, nan: 0x80, fnuz: true };
const L_E5M2FNUZ: Layout = Layout { bits: 8, man: 2, bias: 16, max: 0x7f, above: 0x80, nan: 0x80, fnuz: true };

impl Layout {
    fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }

    fn decode(self, bits: u64) -> f64 {
        let magnitude = bits & (self.sign() - 1);
        if self.fnuz && bits == self.nan {
            return f64::NAN;
        }
        if magnitude > self.max {
            let infinite = magnitude == self.above && self.above != self.nan;
            let x = if infinite { f64::INFINITY } else { f64::NAN };
            return if bits & self.sign() != 0 { -x } else { x };
        }
        let man = magnitude & ((1 << self.man) - 1);
        let exp = (magnitude >> self.man) as i32;
        let (significand, exp) = if exp == 0 { (man, 1) } else { (man | 1 << self.man, exp) };
        let x = significand as f64 * 2f64.powi(exp - self.bias - self.man as i32);
        if bits & self.sign() != 0 { -x } else { x }
    }

    fn encode(self, x: f64) -> u64 {
        if x.is_nan() {
            return self.nan;
        }
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        let a = x.abs();
        let magnitude = if a.is_infinite() { self.max + 1 } else { self.round(a) };
        match magnitude {
            0 if self.fnuz => 0,
            m if m > self.max => {
                if self.fnuz {
                    self.nan
                } else {
                    sign | self.above
                }
            }
            m => sign | m,
        }
    }

    /// The magnitude bits nearest to `a`; above `max` when it overflows.
    fn round(self, a: f64) -> u64 {
        let exponent = ((a.to_bits() >> 52) as i32 - 1023).clamp(1 - self.bias, 1023);
        // Scaling by a power of two is exact, so this rounds once. A mantissa that rounds up to the next power of two
        // carries into the exponent field by the addition below.
        let quantum = 2f64.powi(-(exponent - self.man as i32));
        let significand = (a * quantum).round_ties_even() as u64;
        (((exponent + self.bias - 1) as u64) << self.man) + significand
    }
}

macro_rules! small_float {
    ($t:ty, $layout:expr) => {
        impl Element for $t {
            type Real = f32;
            const BYTES: usize = 1;
            fn decode(bits: u64) -> f32 {
                $layout.decode(bits) as f32
            }
            fn encode(x: f32) -> u64 {
                $layout.encode(f64::from(x))
            }
            fn nearest(x: f64) -> u64 {
                $layout.encode(x)
            }
        }
    };
}
small_float!(E4m3, L_E4M3);
small_float!(E5m2, L_E5M2);
small_float!(E4m3Fnuz, L_E4M3FNUZ);
small_float!(E5m2Fnuz, L_E5M2FNUZ);

/// The number of an element of any float dtype, exactly. NaN for a dtype that is no float.
#[inline]
pub(crate) fn decode_f64(dtype: Dtype, bits: u64) -> f64 {
    with_element!(dtype, E => E::decode(bits).to_f64(), f64::NAN)
}

/// The element of a float dtype nearest to a number, rounded once, ties to even; 0 for a dtype that is no float.
#[inline]
pub(crate) fn encode_f64(dtype: Dtype, x: f64) -> u64 {
    with_element!(dtype, E => E::nearest(x), 0)
}

/// A little-endian unit of 1, 2, 4 or 8 bytes, zero-extended.
#[inline(always)]
pub(crate) fn load_unit(bytes: &[u8]) -> u64 {
    // Spelled out by length, so that a loop over chunks of a fixed length is free of copies and branches.
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => 0,
    }
}

/// Writes the low bytes of `bits` over `bytes`.
#[inline(always)]
pub(crate) fn store_unit(bytes: &mut [u8], bits: u64) {
    let [a, b, c, d, ..] = bits.to_le_bytes();
    match bytes {
        [one] => *one = a,
        [_, _] => bytes.copy_from_slice(&[a, b]),
        [_, _, _, _] => bytes.copy_from_slice(&[a, b, c, d]),
        [_, _, _, _, _, _, _, _] => bytes.copy_from_slice(&bits.to_le_bytes()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: [Dtype; 6] =
        [Dtype::F16, Dtype::BF16, Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ, Dtype::F8_E5M2FNUZ];

    #[test]
    fn every_code_survives() {
        for d in SMALL {
            for bits in 0..1u64 << d.bits() {
                let x = decode_f64(d, bits);
                if !x.is_nan() {
                    assert_eq!(encode_f64(d, x), bits, "{d} {bits:#x} {x}");
                    with_element!(d, E => assert_eq!(E::encode(Real::from_f64(x)), bits), unreachable!());
                }
            }
        }
    }

    /// Halfway between neighbours goes to the even code, and a hair beside it to the nearer.
    #[test]
    fn midpoints_go_to_even() {
        for d in SMALL {
            for bits in 0..(1u64 << (d.bits() - 1)) - 1 {
                let (a, b) = (decode_f64(d, bits), decode_f64(d, bits + 1));
                if !(a.is_finite() && b.is_finite()) {
                    continue;
                }
                let mid = (a + b) / 2.0;
                let even = if bits % 2 == 0 { bits } else { bits + 1 };
                assert_eq!(encode_f64(d, mid), even, "{d} {bits:#x}");
                assert_eq!(encode_f64(d, mid.next_down()), bits, "{d} {bits:#x}");
                assert_eq!(encode_f64(d, mid.next_up()), bits + 1, "{d} {bits:#x}");
                with_element!(d, E => assert_eq!(E::encode(Real::from_f64(mid)), even), unreachable!());
            }
        }
    }

    #[test]
    fn known_values() {
        for (d, max) in [(Dtype::F8_E4M3, 448.0), (Dtype::F8_E5M2, 57344.0), (Dtype::F8_E4M3FNUZ, 240.0)] {
            assert!(!decode_f64(d, encode_f64(d, max * 1.1)).is_finite(), "{d}");
            assert_eq!(decode_f64(d, encode_f64(d, max)), max);
        }
        assert_eq!(decode_f64(Dtype::F8_E5M2FNUZ, 0x7f), 57344.0);
        assert!(decode_f64(Dtype::F8_E4M3FNUZ, 0x80).is_nan());
        assert_eq!(encode_f64(Dtype::F8_E4M3FNUZ, -0.0), 0);
        assert_eq!(decode_f64(Dtype::F8_E4M3, 0x01), 2f64.powi(-9));
    }
}
