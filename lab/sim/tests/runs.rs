//! The simulator as a test: fixed seeds, the named scenarios, the saved runs, a small scale run, and
//! that a run is the same run twice.

use std::{fs, path::Path};

use sim::Schedule;

fn text(violation: &sim::Violation) -> String {
    format!("{}: {}", violation.oracle, violation.text)
}

#[test]
fn a_schedule_is_the_same_run_to_the_byte() {
    for seed in [3, 11] {
        let schedule = sim::random(seed, 10);
        let log = || sim::run(&schedule, true).unwrap().log;
        let (one, two) = (log(), log());
        assert!(one.lines().count() > 100, "the log says what happened");
        assert!(one == two, "seed {seed}");
        let written = serde_json::to_string(&schedule).unwrap();
        let read: Schedule = serde_json::from_str(&written).unwrap();
        assert_eq!(read, schedule, "a schedule survives its file");
    }
}

#[test]
fn seeds_differ() {
    assert_ne!(sim::random(1, 20).steps, sim::random(2, 20).steps);
}

/// Every saved run holds, or trips the oracle it is known for: a defect that was mended must lose its
/// mark.
#[test]
fn the_corpus_ends_as_it_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> = fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let schedule: Schedule = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let outcome = sim::run(&schedule, false).unwrap();
        let found = outcome
            .violation
            .as_ref()
            .map(|violation| violation.oracle.to_owned());
        let words = outcome.violation.as_ref().map(text);
        assert_eq!(found, schedule.known, "{}: {words:?}", file.display());
    }
}

#[test]
fn the_named_scenarios_hold() {
    for schedule in sim::scenario::all() {
        let found = sim::run(&schedule, false).unwrap().violation;
        assert_eq!(found.as_ref().map(text), None, "{}", schedule.title);
    }
}

#[test]
fn many_nodes_start_churn_restart_and_outlive_an_outage() {
    let scale = sim::scale::run(10, 30, 1, false).unwrap();
    assert_eq!(scale.violation.as_ref().map(text), None);
    assert!(scale.ready.as_secs() > 0, "every pod got its address");
    assert_eq!(
        scale.outage.0, scale.outage.1,
        "pods start from the pool while the API is away"
    );
}

#[test]
fn what_fails_is_cut_down_to_what_is_needed() {
    // A full vSwitch that never empties would starve a pod; here an impossible bound stands for it.
    let mut schedule = sim::random(5, 10);
    schedule.steps.push(sim::Planned {
        at: 1,
        step: sim::Step::Tenants(1000),
    });
    schedule.steps.sort_by_key(|planned| planned.at);
    schedule.setup.calls_a_minute = 1;
    let outcome = sim::run(&schedule, false).unwrap();
    let oracle = outcome
        .violation
        .expect("one call a minute is not enough")
        .oracle;
    let small = sim::shrink(&schedule, oracle);
    assert!(small.steps.len() < schedule.steps.len());
    let again = sim::run(&small, false).unwrap().violation;
    assert_eq!(again.map(|violation| violation.oracle), Some(oracle));
}
