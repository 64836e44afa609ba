//! Which classes there are: whether the base counts, where rows begin, from which class to which.

use crate::codec::classes::coder::{FEWEST_IN_ROW, LEVEL_MAX, row_len};
use crate::codec::classes::model::MOST_CLASSES;
use crate::create::fit::sample::Sample;
use crate::model::tensor::TensorInfo;

/// The dimension at which a row begins: rows must be long enough to say something.
pub(super) fn axis_of(info: &TensorInfo) -> u8 {
    let long = |axis: &usize| info.shape.iter().skip(*axis).product::<u64>() >= 32;
    let axis = (1..info.shape.len()).rev().find(long).unwrap_or(usize::from(info.shape.len() > 1)) as u8;
    if row_len(info, axis) >= FEWEST_IN_ROW { axis } else { 0 }
}

/// Bits of `kept` among `members`.
fn mask_bits(kept: u64, members: u64) -> f64 {
    let term = |part: u64| if part == 0 { 0.0 } else { part as f64 * (members as f64 / part as f64).log2() };
    term(kept) + term(members - kept)
}

/// Whether knowing the exponents saves more than what it costs to say how they matter.
pub(super) fn base_pays(samples: &[Sample], part: f64) -> bool {
    let mut members = [0u64; 256];
    let mut symbols = vec![0u32; 256 * 256];
    let mut all = vec![0u64; 256];
    for s in samples {
        members.iter_mut().zip(&s.members).for_each(|(n, more)| *n += more);
        for (p, symbol) in s.positions.iter().zip(&s.symbols) {
            symbols[usize::from(s.exponents[*p as usize]) << 8 | usize::from(*symbol & 255)] += 1;
            all[usize::from(*symbol & 255)] += 1;
        }
    }
    let entropy = |counts: &mut dyn Iterator<Item = u64>| {
        let counts: Vec<u64> = counts.filter(|n| *n > 0).collect();
        let total: u64 = counts.iter().sum();
        (counts.iter().map(|n| *n as f64 * (total as f64 / *n as f64).log2()).sum::<f64>(), total, counts.len())
    };
    let (values, kept, _) = entropy(&mut all.iter().copied());
    let without = values + mask_bits(kept, members.iter().sum());
    let (mut with, mut parameters) = (0.0, 0.0);
    for (row, members) in symbols.chunks_exact(256).zip(members).filter(|(_, n)| *n > 0) {
        let (values, kept, distinct) = entropy(&mut row.iter().map(|n| u64::from(*n)));
        with += values + mask_bits(kept, members);
        parameters += 8.0 + 6.0 * distinct as f64;
    }
    with + parameters * part < without
}

/// The origin, and how many classes: from the exponents at which anything is kept, with room for rows and columns on both sides.
pub(super) fn range_of(samples: &[Sample], uses_base: bool) -> (i16, usize) {
    const ROOM: i16 = 8;
    if !uses_base {
        // Classes stand for densities then, so that a model can serve tensors of different ones.
        let kept: usize = samples.iter().map(|s| s.positions.len()).sum();
        let units: u64 = samples.iter().map(|s| u64::from(s.len)).sum();
        let density = kept as f64 / units.max(1) as f64;
        let centre = 44 + (2.0 * density.log2()).round() as i16;
        return (centre.clamp(LEVEL_MAX, 63 - LEVEL_MAX), MOST_CLASSES);
    }
    let (mut kept, mut members) = ([0u64; 256], [0u64; 256]);
    for s in samples {
        members.iter_mut().zip(&s.members).for_each(|(n, more)| *n += more);
        s.positions.iter().for_each(|p| kept[usize::from(s.exponents[*p as usize])] += 1);
    }
    let (all_kept, all): (u64, u64) = (kept.iter().sum(), members.iter().sum());
    // The last two in a thousand that are kept share the lowest class with all above them, the smallest of all the highest.
    let mut above = 0;
    let top = (0..256).rev().find(|e| {
        above += kept[*e];
        above * 500 > all_kept
    });
    let mut below = 0;
    let bottom = (0..256).find(|e| {
        below += members[*e];
        below * 2000 > all
    });
    let (top, bottom) = (top.unwrap_or(255) as i16, bottom.unwrap_or(0) as i16);
    let origin = 2 * top + ROOM;
    let classes = origin - 2 * bottom + ROOM + 1;
    (origin, usize::try_from(classes).unwrap_or(1).clamp(1, MOST_CLASSES))
}
