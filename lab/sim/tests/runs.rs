//! The simulator as a test: fixed seeds, the named scenarios, the saved runs, a small scale run, and
//! that a run is the same run twice.

use std::{fs, path::Path};

use sim::{Kind, Life};

fn text(violation: &sim::Violation) -> String {
    format!("{}: {}", violation.oracle, violation.text)
}

#[test]
fn a_schedule_is_the_same_run_to_the_byte() {
    for (kind, seed) in [(Kind::Nodes, 3), (Kind::Nodes, 11), (Kind::Region, 4)] {
        let life = Life::random(kind, seed, 10);
        let log = || life.run(true).unwrap().log;
        let (one, two) = (log(), log());
        assert!(one.lines().count() > 100, "the log says what happened");
        assert!(one == two, "seed {seed}");
        let written = serde_json::to_string(&life).unwrap();
        let read: Life = serde_json::from_str(&written).unwrap();
        assert_eq!(read, life, "a schedule survives its file");
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
        let life: Life = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let found = life.run(false).unwrap().violation;
        let words = found.as_ref().map(text);
        let found = found.map(|violation| violation.oracle);
        assert_eq!(found, life.known(), "{}: {words:?}", file.display());
    }
}

#[test]
fn the_named_scenarios_hold() {
    for life in sim::scenario::lives() {
        let found = life.run(false).unwrap().violation;
        assert_eq!(found.as_ref().map(text), None, "{}", life.title());
    }
}

/// Lives of a region whose schedule is drawn: every pod is served and nothing leaks, whatever goes wrong.
#[test]
fn a_region_comes_to_rest() {
    for seed in 1..=150 {
        let found = Life::random(Kind::Region, seed, 20).run(false).unwrap();
        assert_eq!(found.violation.as_ref().map(text), None, "seed {seed}");
    }
}

fn named(title: &str) -> Life {
    let mut lives = sim::scenario::lives().into_iter();
    let found = lives.find(|life| life.title().starts_with(title));
    found.expect("a named life")
}

/// Where ENIs are kept ready, only the first pods wait for the cloud to make one.
#[test]
fn pods_that_share_find_their_enis_ready() {
    // Two writes and their watches; a detach of what makes room, and an attach.
    for (title, cold, seconds) in [("R7 ", 2, 1.0), ("R8 ", 2, 15.0)] {
        let starts = named(title).run(false).unwrap().report.starts;
        let warm = starts[cold..].iter().max().expect("more pods came");
        assert!(warm.as_secs_f64() < seconds, "{title}{starts:?}");
    }
}

#[test]
fn what_cannot_be_kept_ready_is_told_once_and_asked_rarely() {
    let report = named("R10 ").run(false).unwrap().report;
    assert_eq!(report.notices.get("SpareFailed"), Some(&1));
    // For R11: one for the first pod, two for the zone, one for that which the second pod drew, and two for
    // the zone by the next controller, which leaves what it found alone until a second list shows it.
    for (title, most) in [("R10 ", 20), ("R11 ", 6), ("R13 ", 50)] {
        let report = named(title).run(false).unwrap().report;
        let asked = report.calls["CreateNetworkInterface"];
        assert!(asked <= most, "{title}{asked} times");
    }
}

/// The control plane dies at any moment of a life in which ENIs are made ready, drawn and kept; of one whose
/// fixed address moves between nodes; and of one whose fixed address is given back.
#[test]
fn the_next_controller_goes_on_where_the_last_one_died() {
    for (title, until) in [("R7 ", 200_000), ("F21 ", 200_000), ("R1 ", 800_000)] {
        let Life::Region(life) = named(title) else {
            unreachable!("it is a region's");
        };
        let begins = life.steps.iter().map(|planned| planned.at);
        // What is done about a step is done within seconds of it.
        let busy = |at: u64| {
            begins
                .clone()
                .any(|begin| (begin..begin + 15_000).contains(&at))
        };
        for at in (0..until).step_by(500).filter(|at| busy(*at)) {
            let mut life = life.clone();
            let step = sim::region::Step::Crash;
            life.steps.push(sim::Planned { at, step });
            life.steps.sort_by_key(|planned| planned.at);
            let found = sim::region::run(&life, false).violation;
            assert_eq!(found.as_ref().map(text), None, "{title}killed at {at} ms");
        }
    }
}

/// 3,000 trunk pods at once on 100 nodes: within a tenth of what the cloud's windows allow.
#[test]
fn three_thousand_cold_pods_take_what_the_windows_allow() {
    let cold = sim::region::cold(3_000, 100);
    assert!(cold.ratio() <= sim::region::RATIO, "{cold}");
    let alone = sim::region::cold(1, 1);
    assert!(alone.took <= alone.alone.mul_f64(1.25), "{alone}");
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
    let life = Life::Nodes(schedule);
    let outcome = life.run(false).unwrap();
    let oracle = outcome
        .violation
        .expect("one call a minute is not enough")
        .oracle;
    let small = sim::shrink(&life, oracle);
    assert!(small.steps() < life.steps());
    let again = small.run(false).unwrap().violation;
    assert_eq!(again.map(|violation| violation.oracle), Some(oracle));
}
