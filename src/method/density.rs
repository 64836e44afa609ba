//! Densities as exact fractions, so that k does not hang on a binary rounding: spec/numbers.md, "Density".

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// A share from 0 to 1, kept as the decimal that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Density {
    numerator: u64,
    denominator: u64,
}

impl Density {
    /// Everything is kept, zeros too.
    pub const ALL: Density = Density { numerator: 1, denominator: 1 };

    /// What the method keeps unless something else is said.
    pub const ONE_PERCENT: Density = Density { numerator: 1, denominator: 100 };

    /// `numerator ÷ denominator`.
    ///
    /// # Errors
    /// `InvalidInput` where that is not a share from 0 to 1.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self> {
        if denominator == 0 || numerator > denominator {
            return Err(Error::InvalidInput(format!("density {numerator}/{denominator} is not from 0 to 1")));
        }
        // Reduced, so that 0.01 and 0.010 make the same pack.
        let divisor = gcd(numerator, denominator);
        Ok(Density { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// The fraction.
    pub fn fraction(self) -> (u64, u64) {
        (self.numerator, self.denominator)
    }

    /// Whether this is density 1.
    pub fn is_all(self) -> bool {
        self.numerator == self.denominator
    }

    /// floor(density × n). [LOC-1]
    pub fn of(self, n: u64) -> u64 {
        let k = u128::from(n) * u128::from(self.numerator) / u128::from(self.denominator);
        // At most n, because the fraction is at most 1.
        k as u64
    }
}

/// The greatest common divisor; `b` is not 0.
fn gcd(a: u64, b: u64) -> u64 {
    if a == 0 { b } else { gcd(b % a, a) }
}

impl FromStr for Density {
    type Err = Error;

    /// Reads a decimal (`0.05`) or a percentage (`5%`).
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::InvalidInput(format!("density \"{text}\" is not a decimal from 0 to 1 such as 0.05 or 5%"));
        let (number, percent) = match text.strip_suffix('%') {
            Some(rest) => (rest.trim_end(), true),
            None => (text, false),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || digits.len() > 16 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let places = fraction.len() as u32 + if percent { 2 } else { 0 };
        let numerator: u64 = digits.parse().map_err(|_| bad())?;
        let denominator = 10u64.checked_pow(places).ok_or_else(bad)?;
        Density::new(numerator, denominator).map_err(|_| bad())
    }
}

impl fmt::Display for Density {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.numerator as f64 * 100.0 / self.denominator as f64;
        let text = format!("{percent:.12}");
        write!(f, "{}%", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exactly() {
        let k = |t: &str, n| t.parse::<Density>().unwrap().of(n);
        assert_eq!(k("0.05", 14_924_928), 746_246);
        assert_eq!(k("5%", 14_924_928), 746_246);
        assert_eq!(k("0.29", 100), 29, "0.29 × 100 is 28.999… in binary");
        assert_eq!(k("1", 7), 7);
        assert_eq!(k("100%", 7), 7);
        assert_eq!(k("0", 7), 0);
        assert_eq!(k(".5", 7), 3);
        assert_eq!(k("0.9999999999", u64::MAX >> 1), 9223372035932438603);
        for bad in ["", "1.5", "-0.1", "abc", "1e-3", "101%", "0.1.2", "%", "."] {
            assert!(bad.parse::<Density>().is_err(), "{bad}");
        }
    }
}
