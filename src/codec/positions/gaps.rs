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
    let bad = |rule, detail: String| Err(Error::malformed(rule, "gaps", detail));
    if bytes.last().is_none_or(|last| *last == SKIP) {
        return bad("MSK-5", "end before a position".into());
    }
    let found = bytes.iter().filter(|byte| **byte != SKIP).count();
    if found != kept as usize {
        return bad("MSK-2", format!("hold {found} positions, must hold {kept}"));
    }
    let all = bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>().saturating_add(kept.into());
    if all > u64::from(len) {
        return bad("MSK-2", format!("lead to position {} of {len}", all.saturating_sub(1)));
    }
    // Counted and bounded above, so that nothing has to be asked here. A skip is written too, and then written over.
    out.resize(found, 0);
    let (mut next, mut n) = (0u32, 0usize);
    for byte in bytes {
        next = next.wrapping_add(u32::from(*byte));
        if let Some(slot) = out.get_mut(n) {
            *slot = next;
        }
        let ends = *byte != SKIP;
        next = next.wrapping_add(ends.into());
        n = n.wrapping_add(ends.into());
    }
    Ok(())
}
