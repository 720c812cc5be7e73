//! From a schedule that fails to the shortest one that still trips the same oracle: delta debugging
//! over the steps (Zeller, Hildebrandt, "Simplifying and isolating failure-inducing input", 2002),
//! then one step at a time, then the world around them.

use crate::schedule::{AddQuirk, DelQuirk, Planned, Schedule, Step};

/// Shrinks `schedule`, which trips `oracle`.
pub fn shrink(schedule: &Schedule, oracle: &str) -> Schedule {
    let fails = |candidate: &Schedule| {
        let outcome = crate::run(candidate, false);
        outcome.is_ok_and(|outcome| {
            outcome
                .violation
                .is_some_and(|found| found.oracle == oracle)
        })
    };
    let mut best = schedule.clone();
    let mut pieces = 2;
    while pieces <= best.steps.len().max(1) {
        let size = best.steps.len().div_ceil(pieces);
        let without = |piece: usize| {
            let kept = |(index, _): &(usize, &Planned)| index / size != piece;
            let steps = best
                .steps
                .iter()
                .enumerate()
                .filter(kept)
                .map(|(_, step)| step.clone());
            Schedule {
                steps: steps.collect(),
                ..best.clone()
            }
        };
        match (0..pieces).map(without).find(|candidate| fails(candidate)) {
            Some(smaller) if smaller.steps.len() < best.steps.len() => {
                best = smaller;
                pieces = pieces.saturating_sub(1).max(2);
            }
            _ if size <= 1 => break,
            _ => pieces = (pieces * 2).min(best.steps.len()),
        }
    }
    for candidate in simpler(&best) {
        if fails(&candidate) {
            best = candidate;
        }
    }
    for index in 0..best.steps.len() {
        let mut candidate = best.clone();
        if let Some(planned) = candidate.steps.get_mut(index)
            && plain(&mut planned.step)
            && fails(&candidate)
        {
            best = candidate;
        }
    }
    best
}

/// The same steps in smaller worlds.
fn simpler(schedule: &Schedule) -> Vec<Schedule> {
    let with = |change: fn(&mut Schedule)| {
        let mut candidate = schedule.clone();
        change(&mut candidate);
        candidate
    };
    vec![
        with(|schedule| schedule.setup.nodes = 1),
        with(|schedule| schedule.setup.foreign = 0),
        with(|schedule| {
            let last = schedule.steps.last().map_or(0, |step| step.at / 1000);
            schedule.setup.length = schedule.setup.length.min(last + 60);
        }),
    ]
}

fn plain(step: &mut Step) -> bool {
    match step {
        Step::Create(_, _, quirk) if *quirk != AddQuirk::Plain => *quirk = AddQuirk::Plain,
        Step::Delete(_, _, quirk) if *quirk != DelQuirk::Plain => *quirk = DelQuirk::Plain,
        _ => return false,
    }
    true
}
