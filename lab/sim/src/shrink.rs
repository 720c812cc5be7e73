//! From a run that fails to the shortest one that still trips the same oracle: delta debugging over the
//! steps (Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002), then one step
//! at a time, then the world around them.

use crate::life::Life;

/// Shrinks `life`, which trips `oracle`.
pub fn shrink(life: &Life, oracle: &str) -> Life {
    let fails = |candidate: &Life| {
        let outcome = candidate.run(false);
        outcome.is_ok_and(|outcome| {
            outcome
                .violation
                .is_some_and(|found| found.oracle == oracle)
        })
    };
    let mut best = life.clone();
    let mut pieces = 2;
    while pieces <= best.steps().max(1) {
        let size = best.steps().div_ceil(pieces);
        let without = |piece: usize| best.keeping(|index| index / size != piece);
        match (0..pieces).map(without).find(|candidate| fails(candidate)) {
            Some(smaller) if smaller.steps() < best.steps() => {
                best = smaller;
                pieces = pieces.saturating_sub(1).max(2);
            }
            _ if size <= 1 => break,
            _ => pieces = (pieces * 2).min(best.steps()),
        }
    }
    for candidate in best.simpler() {
        if fails(&candidate) {
            best = candidate;
        }
    }
    for index in 0..best.steps() {
        if let Some(candidate) = best.plainer(index)
            && fails(&candidate)
        {
            best = candidate;
        }
    }
    best
}
