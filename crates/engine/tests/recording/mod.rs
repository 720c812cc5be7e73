//! What is recorded of a machine, run again; every random life is run again as well.

use engine::recording::{Seen, is_recording, replay};

use crate::world::{Step, World};

/// What was recorded while one pod came.
fn recording() -> String {
    let mut world = World::new();
    world.calm();
    world.step(Step::Add(1));
    world.settle();
    world.recording()
}

#[test]
fn a_recording_runs_to_the_same_decisions() {
    let (mut took, mut did) = (0, 0);
    let machine = replay(&recording(), |_, seen| match seen {
        Seen::Took(_) => took += 1,
        Seen::Did(_) => did += 1,
    });
    assert_eq!(machine.unwrap().ledger().attachments().count(), 1);
    assert!(took > 3 && did > 3, "{took} inputs, {did} actions");
    assert!(is_recording(&recording()) && !is_recording("{\"setup\":{}}"));
}

#[test]
fn what_is_not_as_recorded_is_named() {
    let whole = recording();
    let run = |text: &str| replay(text, |_, _| {}).unwrap_err().to_string();
    let (head, steps) = whole.split_once('\n').unwrap();
    let other = format!("{head}\n{}", steps.replace("\"pod-1\"", "\"pod-2\""));
    assert!(run(&other).contains("another action was recorded"));
    let version = format!("\"release\":\"{}", env!("CARGO_PKG_VERSION"));
    assert!(run(&whole.replacen(&version, "\"release\":\"0.0.1", 1)).contains("of build 0.0.1"));
    assert!(run(&whole[..whole.len() - 3]).contains("is no step"));
    assert!(run("").contains("first line"));
}
