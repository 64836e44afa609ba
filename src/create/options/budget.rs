//! How large a pack may be.

use std::str::FromStr;

use crate::create::options::lossy::Lossy;
use crate::error::{Error, Result};

/// How large a pack may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Size {
    /// A share of the bytes of the fine-tuned checkpoint's safetensors files, in millionths of a percent.
    Share(u64),
    /// Bytes.
    Bytes(u64),
}

/// A budget, and how a lossy pack spends it.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Bytes that the pack may have.
    pub size: Size,
    /// What chooses positions, and which scales are shared; density and, where none is said, the rule for the gain are chosen here.
    pub lossy: Lossy,
    /// The value kind is the one in `lossy`, rather than the one that suits the budget.
    pub keep_values: bool,
    /// A lossy pack is an error.
    pub require_exact: bool,
}

impl Default for Budget {
    /// 1 % of the fine-tuned checkpoint.
    fn default() -> Self {
        Budget { size: Size::Share(1_000_000), lossy: Lossy::default(), keep_values: false, require_exact: false }
    }
}

impl Size {
    /// The bytes allowed for a checkpoint of `whole` bytes.
    pub fn of(self, whole: u64) -> u64 {
        match self {
            Size::Share(millionths) => (u128::from(whole) * u128::from(millionths) / 100_000_000) as u64,
            Size::Bytes(bytes) => bytes,
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    /// Reads a percentage (`1%`) or bytes (`20MB`, `512KiB`, `1000000`).
    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::InvalidInput(format!("size \"{text}\" is neither a share such as 1% nor bytes such as 20MB"));
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%').trim_end();
        let number: f64 = digits.parse().map_err(|_| bad())?;
        let unit = text.get(digits.len()..).unwrap_or("").trim_start();
        if !(number.is_finite() && number > 0.0) {
            return Err(bad());
        }
        let factor = match unit.to_ascii_lowercase().as_str() {
            "%" => return Ok(Size::Share((number * 1e6).round() as u64)),
            "" | "b" => 1.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            "kib" => 1024.0,
            "mib" => 1024.0 * 1024.0,
            "gib" => 1024.0 * 1024.0 * 1024.0,
            _ => return Err(bad()),
        };
        Ok(Size::Bytes((number * factor) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        let of = |text: &str| text.parse::<Size>().unwrap().of(29_870_208);
        assert_eq!(of("1%"), 298_702);
        assert_eq!(of("0.25 %"), 74_675);
        assert_eq!((of("20MB"), of("1KiB"), of("77"), of("1.5 kB")), (20_000_000, 1024, 77, 1500));
        for bad in ["", "%", "-1%", "1%%", "5 parsecs", "NaN%", "0"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
