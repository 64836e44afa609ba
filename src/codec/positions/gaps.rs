//! The number of positions skipped before each kept one, in bytes; 255 skips that many and goes on. [MSK-5]

use crate::error::{Error, Result};

const SKIP: u8 = 255;

/// At least one byte a position.
pub(crate) fn encode(positions: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(positions.len());
    let mut next = 0u32;
    for p in positions {
        let mut gap = p.saturating_sub(next);
        while gap >= u32::from(SKIP) {
            out.push(SKIP);
            gap = gap.saturating_sub(u32::from(SKIP));
        }
        out.extend(u8::try_from(gap));
        next = p.saturating_add(1);
    }
    out
}

/// A claimed length, where gaps of `kept` positions below `len` can be that long.
pub(crate) fn bounded_len(claimed: u64, kept: u32, len: u32) -> Result<usize> {
    let most = u64::from(kept).saturating_add(u64::from(len.checked_div(SKIP.into()).unwrap_or(0)));
    match usize::try_from(claimed) {
        Ok(n) if claimed <= most => Ok(n),
        _ => Err(Error::malformed("MSK-5", "gaps", format!("have {claimed} bytes, at most {most} are possible"))),
    }
}

/// Reads positions from all of `bytes`.
pub(crate) fn decode(bytes: &[u8], kept: u32, len: u32, out: &mut Vec<u32>) -> Result<()> {
    let bad = |detail: String| Err(Error::malformed("MSK-5", "gaps", detail));
    out.reserve(bytes.len().min(kept as usize));
    let mut next = 0u64;
    let mut skipping = false;
    for byte in bytes {
        next = next.saturating_add(u64::from(*byte));
        skipping = *byte == SKIP;
        if !skipping {
            match u32::try_from(next) {
                Ok(p) if p < len => out.push(p),
                _ => {
                    let detail = format!("lead to position {next} of {len}");
                    return Err(Error::malformed("MSK-2", "gaps", detail));
                }
            }
            next = next.saturating_add(1);
        }
    }
    if skipping || bytes.is_empty() {
        return bad("end before a position".into());
    }
    if out.len() != kept as usize {
        let detail = format!("hold {} positions, must hold {kept}", out.len());
        return Err(Error::malformed("MSK-2", "gaps", detail));
    }
    Ok(())
}
