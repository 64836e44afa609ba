//! What each pack brings to an element of a merge: spec/numbers.md, "Calibrating".

use crate::method::stitch::OverlapRule;

/// The share that each d, in the order of the packs, has in f: together they are f, up to rounding. A rule is linear in the d
/// around almost every point, so that a share is also the slope of f by the logarithm of a pack's gain. [CAL-2]
pub(crate) fn shares(rule: OverlapRule, deltas: &mut [f64], weights: &[f32]) {
    let total = match rule {
        OverlapRule::Sum => return,
        OverlapRule::Average | OverlapRule::Refuse => deltas.len() as f64,
        OverlapRule::WeightedAverage => weights.iter().map(|w| f64::from(*w)).sum(),
        OverlapRule::Priority => return keep_one(deltas, 0),
        OverlapRule::Max => return keep_one(deltas, largest(deltas)),
        OverlapRule::Elect => elect(deltas),
    };
    if total != 0.0 {
        deltas.iter_mut().for_each(|d| *d /= total);
    }
}

fn keep_one(deltas: &mut [f64], kept: usize) {
    deltas.iter_mut().enumerate().filter(|(i, _)| *i != kept).for_each(|(_, d)| *d = 0.0);
}

/// On a tie the positive.
fn largest(deltas: &[f64]) -> usize {
    let order = |a: &f64, b: &f64| a.abs().total_cmp(&b.abs()).then(a.total_cmp(b));
    deltas.iter().enumerate().max_by(|(_, a), (_, b)| order(a, b)).map_or(0, |(i, _)| i)
}

/// Leaves those of the elected sign, and gives their number.
fn elect(deltas: &mut [f64]) -> f64 {
    let minus = deltas.iter().sum::<f64>() < 0.0;
    let mut count = 0.0;
    for d in deltas {
        let agrees = if minus { *d < 0.0 } else { *d > 0.0 };
        if agrees {
            count += 1.0;
        } else {
            *d = 0.0;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::stitch::combine;

    #[test]
    fn shares_are_together_what_the_packs_make() {
        let cases: [&[f64]; 6] =
            [&[2.0], &[-1.5, 4.0], &[1.0, -1.0], &[-3.0, 1.0, -0.5], &[0.0, 2.0, 2.0], &[-0.5, 0.0]];
        for rule in OverlapRule::ALL.iter().copied() {
            for deltas in cases {
                let weights: Vec<f32> = deltas.iter().enumerate().map(|(i, _)| 1.0 + i as f32).collect();
                let f = combine::<f64>(rule, &mut deltas.to_vec(), &mut weights.clone());
                let mut found = deltas.to_vec();
                shares(rule, &mut found, &weights);
                assert!((found.iter().sum::<f64>() - f).abs() < 1e-12, "{rule}: {deltas:?} gives {found:?}, not {f}");
            }
        }
    }

    /// By differences, away from where a rule changes its mind.
    #[test]
    fn a_share_is_the_slope_by_the_logarithm_of_a_gain() {
        let (deltas, weights) = ([-3.0, 1.0, -0.5], [1.0, 2.0, 3.0]);
        for rule in OverlapRule::ALL.iter().copied() {
            let mut found = deltas;
            shares(rule, &mut found, &weights);
            for (i, share) in found.iter().enumerate() {
                let at = |factor: f64| {
                    let mut moved = deltas;
                    moved[i] *= factor;
                    combine::<f64>(rule, &mut moved, &mut weights.clone())
                };
                let slope = (at(1.0 + 1e-6) - at(1.0 - 1e-6)) / 2e-6;
                assert!((slope - share).abs() < 1e-6, "{rule}, pack {i}: {slope} {share}");
            }
        }
    }
}
