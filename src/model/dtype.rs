//! The dtypes of safetensors, and how this crate looks at each: spec/numbers.md, "Units".

use crate::model::numbered::numbered;

numbered! {
    /// A dtype of safetensors 0.8, with the same names. [DTY-1]
    #[derive(PartialOrd, Ord)]
    #[allow(non_camel_case_types, missing_docs)]
    #[non_exhaustive]
    pub enum Dtype, "dtype code" {
        F64 = 1 => "F64",
        F32 = 2 => "F32",
        F16 = 3 => "F16",
        BF16 = 4 => "BF16",
        F8_E4M3 = 5 => "F8_E4M3",
        F8_E5M2 = 6 => "F8_E5M2",
        F8_E4M3FNUZ = 7 => "F8_E4M3FNUZ",
        F8_E5M2FNUZ = 8 => "F8_E5M2FNUZ",
        F8_E8M0 = 9 => "F8_E8M0",
        F6_E2M3 = 10 => "F6_E2M3",
        F6_E3M2 = 11 => "F6_E3M2",
        F4 = 12 => "F4",
        BOOL = 13 => "BOOL",
        U8 = 14 => "U8",
        I8 = 15 => "I8",
        U16 = 16 => "U16",
        I16 = 17 => "I16",
        U32 = 18 => "U32",
        I32 = 19 => "I32",
        U64 = 20 => "U64",
        I64 = 21 => "I64",
        C64 = 22 => "C64",
    }
}

impl Dtype {
    /// Bits of one element.
    pub fn bits(self) -> u32 {
        match self {
            Dtype::F4 => 4,
            Dtype::F6_E2M3 | Dtype::F6_E3M2 => 6,
            Dtype::BOOL
            | Dtype::U8
            | Dtype::I8
            | Dtype::F8_E4M3
            | Dtype::F8_E5M2
            | Dtype::F8_E4M3FNUZ
            | Dtype::F8_E5M2FNUZ
            | Dtype::F8_E8M0 => 8,
            Dtype::F16 | Dtype::BF16 | Dtype::U16 | Dtype::I16 => 16,
            Dtype::F32 | Dtype::U32 | Dtype::I32 => 32,
            Dtype::F64 | Dtype::U64 | Dtype::I64 | Dtype::C64 => 64,
        }
    }

    /// Bytes of one unit: the thing that an exact delta counts and steps. An element, but a byte for the complex and the
    /// sub-byte kinds. [DTY-2]
    pub fn unit_bytes(self) -> usize {
        if self == Dtype::C64 || self.bits() < 8 { 1 } else { self.bits() as usize / 8 }
    }

    /// Which float it is, where elements are numbers that a lossy delta can be added to: the floats with a sign, from 8 to
    /// 64 bits. Everything else is carried exactly or not at all. [DTY-3]
    #[inline]
    pub fn float(self) -> Option<Float> {
        match self {
            Dtype::F64 => Some(Float::F64),
            Dtype::F32 => Some(Float::F32),
            Dtype::F16 => Some(Float::F16),
            Dtype::BF16 => Some(Float::Bf16),
            Dtype::F8_E4M3 => Some(Float::E4m3),
            Dtype::F8_E5M2 => Some(Float::E5m2),
            Dtype::F8_E4M3FNUZ => Some(Float::E4m3Fnuz),
            Dtype::F8_E5M2FNUZ => Some(Float::E5m2Fnuz),
            Dtype::F8_E8M0 | Dtype::F6_E2M3 | Dtype::F6_E3M2 | Dtype::F4 | Dtype::BOOL | Dtype::C64 => None,
            Dtype::U8 | Dtype::I8 | Dtype::U16 | Dtype::I16 => None,
            Dtype::U32 | Dtype::I32 | Dtype::U64 | Dtype::I64 => None,
        }
    }

    /// Whether [`Dtype::float`] is one. [DTY-3]
    pub fn is_float(self) -> bool {
        self.float().is_some()
    }
}

/// The dtypes that lossy deltas are for, each an `Element` of `method/float.rs`. [DTY-3]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Float {
    F64,
    F32,
    F16,
    Bf16,
    E4m3,
    E5m2,
    E4m3Fnuz,
    E5m2Fnuz,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_bijective() {
        for (i, d) in Dtype::ALL.iter().copied().enumerate() {
            assert_eq!(usize::from(d.code()), i + 1);
            assert_eq!(Dtype::from_code(d.code()), Some(d));
            assert_eq!(Dtype::from_name(d.name()), Some(d));
        }
        assert_eq!(Dtype::from_code(0), None);
        assert_eq!(Dtype::from_code(Dtype::NEWEST + 1), None);
        assert_eq!((Dtype::NEWEST, Dtype::ALL.len()), (22, 22));
    }
}
