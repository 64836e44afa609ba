//! Which sizes are tried.

use crate::create::by_eval::Trial;
use crate::error::Result;

/// How often the size between what keeps enough and what does not is halved, in octaves: to about a sixth of it.
const CLOSING_IN: usize = 2;

/// Sizes are doubled and halved at most this often.
const MOST: usize = 10;

/// Tries sizes, from `start` on, until one keeps `share` and one, close below it, does not. `attempt` gives none for a size that no
/// pack has.
pub(super) fn run(start: u64, share: f64, attempt: &mut dyn FnMut(u64) -> Result<Option<Trial>>) -> Result<()> {
    let mut keeps = |bytes: u64| -> Result<Option<bool>> { Ok(attempt(bytes)?.map(|trial| trial.is_enough(share))) };
    let (mut enough, mut too_little) = (None, None);
    let mut bytes = start.max(1);
    for _ in 0..MOST {
        match keeps(bytes)? {
            Some(true) => enough = Some(bytes),
            _ => too_little = Some(bytes),
        }
        match (enough, too_little) {
            (Some(_), Some(_)) => break,
            (Some(_), None) if bytes > 1 => bytes /= 2,
            (None, Some(_)) => bytes = bytes.saturating_mul(2),
            _ => break,
        }
    }
    let (Some(mut enough), Some(mut too_little)) = (enough, too_little) else { return Ok(()) };
    for _ in 0..CLOSING_IN {
        let between = (enough as f64 * too_little as f64).sqrt() as u64;
        if between <= too_little || between >= enough {
            break;
        }
        match keeps(between)? {
            Some(true) => enough = between,
            _ => too_little = between,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that are tried where every size of at least `least` keeps enough, and none below `smallest` is there.
    fn tried(start: u64, least: u64, smallest: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        let mut attempt = |bytes: u64| {
            sizes.push(bytes);
            let kept = if bytes >= least { 1.0 } else { 0.5 };
            Ok((bytes >= smallest).then_some(Trial { pack_bytes: bytes, score: kept, kept, exact: false }))
        };
        run(start, 0.9, &mut attempt).unwrap();
        sizes
    }

    #[test]
    fn the_size_is_closed_in_on_from_either_side() {
        assert_eq!(tried(1000, 3000, 0), [1000, 2000, 4000, 2828, 3363]);
        assert_eq!(tried(1000, 300, 0), [1000, 500, 250, 353, 297]);
        assert_eq!(tried(1000, 0, 400), [1000, 500, 250, 353, 420]);
        assert_eq!(tried(1000, u64::MAX, 0).len(), MOST);
    }
}
