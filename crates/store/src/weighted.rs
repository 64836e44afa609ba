//! A location with a weight behind it: `PACK@0.6`. [PLC-7]

use stitchpack::error::Escaped;
use stitchpack::{Error, Result};

use crate::location::Location;

/// A location, and the weight that was written behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Weighted {
    /// Where the pack is.
    pub location: Location,
    /// Its weight, where one was written.
    pub weight: Option<f32>,
}

impl Weighted {
    /// Reads `LOCATION[@NUMBER]`: the last `@NUMBER` is always a weight. [PLC-7]
    ///
    /// # Errors
    /// As [`Location::parse`]; `InvalidInput` for a weight that is not finite.
    pub fn parse(text: &str) -> Result<Self> {
        let Some((before, number)) = text.rsplit_once('@').filter(|(_, tail)| is_number(tail)) else {
            return Ok(Weighted { location: Location::parse(text)?, weight: None });
        };
        let weight = number.parse::<f32>().ok().filter(|w| w.is_finite());
        let Some(weight) = weight else {
            return Err(Error::InvalidInput(format!("weight {} is not a finite number", Escaped(number))));
        };
        Ok(Weighted { location: Location::parse(before)?, weight: Some(weight) })
    }
}

/// Decimal digits with an optional sign, one point and an exponent: `1`, `-0.5`, `.5`, `2e-1`. Words such as `nan` are no numbers.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok() && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
}
