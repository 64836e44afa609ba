//! The dtypes of safetensors, and how this crate looks at each: spec/numbers.md, "Units".

use std::fmt;

/// A dtype of safetensors 0.8, with the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, missing_docs)]
#[non_exhaustive]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

/// Every dtype with its code in a pack and its name in safetensors. Codes are never reused. [DTY-1]
const TABLE: [(Dtype, u8, &str, u32); 22] = [
    (Dtype::F64, 1, "F64", 64),
    (Dtype::F32, 2, "F32", 32),
    (Dtype::F16, 3, "F16", 16),
    (Dtype::BF16, 4, "BF16", 16),
    (Dtype::F8_E4M3, 5, "F8_E4M3", 8),
    (Dtype::F8_E5M2, 6, "F8_E5M2", 8),
    (Dtype::F8_E4M3FNUZ, 7, "F8_E4M3FNUZ", 8),
    (Dtype::F8_E5M2FNUZ, 8, "F8_E5M2FNUZ", 8),
    (Dtype::F8_E8M0, 9, "F8_E8M0", 8),
    (Dtype::F6_E2M3, 10, "F6_E2M3", 6),
    (Dtype::F6_E3M2, 11, "F6_E3M2", 6),
    (Dtype::F4, 12, "F4", 4),
    (Dtype::BOOL, 13, "BOOL", 8),
    (Dtype::U8, 14, "U8", 8),
    (Dtype::I8, 15, "I8", 8),
    (Dtype::U16, 16, "U16", 16),
    (Dtype::I16, 17, "I16", 16),
    (Dtype::U32, 18, "U32", 32),
    (Dtype::I32, 19, "I32", 32),
    (Dtype::U64, 20, "U64", 64),
    (Dtype::I64, 21, "I64", 64),
    (Dtype::C64, 22, "C64", 64),
];

impl Dtype {
    /// Every dtype, by code.
    pub fn all() -> impl Iterator<Item = Dtype> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Dtype, u8, &'static str, u32) {
        // The table names every variant (tested), so the fallback is never taken.
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }

    /// The code of the dtype in a pack.
    pub fn code(self) -> u8 {
        self.row().1
    }

    /// The dtype with this code in a pack.
    pub fn from_code(code: u8) -> Option<Dtype> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The name that safetensors uses.
    pub fn name(self) -> &'static str {
        self.row().2
    }

    /// The dtype of this name in safetensors.
    pub fn from_name(name: &str) -> Option<Dtype> {
        TABLE.iter().find(|row| row.2 == name).map(|row| row.0)
    }

    /// Bits of one element.
    pub fn bits(self) -> u32 {
        self.row().3
    }

    /// Bytes of one unit: the thing that an exact delta counts and steps. An element, but a byte for the complex and the
    /// sub-byte kinds. [DTY-2]
    pub fn unit_bytes(self) -> usize {
        match self {
            Dtype::C64 | Dtype::F4 | Dtype::F6_E2M3 | Dtype::F6_E3M2 => 1,
            other => other.bits() as usize / 8,
        }
    }

    /// Whether elements are numbers that a lossy delta can be added to: the floats with a sign, from 8 to 64 bits.
    /// Everything else is carried exactly or not at all. [DTY-3]
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Dtype::F64
                | Dtype::F32
                | Dtype::F16
                | Dtype::BF16
                | Dtype::F8_E4M3
                | Dtype::F8_E5M2
                | Dtype::F8_E4M3FNUZ
                | Dtype::F8_E5M2FNUZ
        )
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_bijective() {
        for (i, d) in Dtype::all().enumerate() {
            assert_eq!(usize::from(d.code()), i + 1);
            assert_eq!(Dtype::from_code(d.code()), Some(d));
            assert_eq!(Dtype::from_name(d.name()), Some(d));
        }
        assert_eq!(Dtype::from_code(0), None);
        assert_eq!(Dtype::from_code(23), None);
    }
}
