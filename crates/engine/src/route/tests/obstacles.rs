//! What is in the way of one block, or of all for a while: nobody else is held up by it, what passes is not
//! said, and what stays is.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Nodes 1 to `count`, reachable.
fn served(seed: u64, count: u64) -> World {
    let mut world = World::new(seed);
    for number in 1..=count {
        let spec = node(number, &format!("i-{number}"));
        world.set(&format!("n{number}"), Some(spec));
    }
    world.pass(MINUTE);
    world
}

fn is_refused(world: &World, node: &str) -> bool {
    matches!(
        world.standing(node),
        Standing::Blocked(Obstacle::Refused, _)
    )
}

#[test]
fn an_entry_that_cannot_be_deleted_holds_up_no_other_and_is_said_where_it_matters() {
    for class in [
        FaultClass::Denied,
        FaultClass::Invalid,
        FaultClass::Conflict,
        FaultClass::Unknown,
    ] {
        let mut world = served(1, 9);
        world.refuses = match class {
            FaultClass::Denied => |call| refuse(call, FaultClass::Denied),
            FaultClass::Invalid => |call| refuse(call, FaultClass::Invalid),
            FaultClass::Conflict => |call| refuse(call, FaultClass::Conflict),
            _ => |call| refuse(call, FaultClass::Unknown),
        };
        world.set("n1", None);
        world.pass(10 * MINUTE);
        world.set("n9", Some(node(9, "i-99")));
        world.set("n2", Some(node(2, "i-22")));
        world.pass(MINUTE);
        assert_eq!(
            world.led_to(block(9)).as_deref(),
            Some("i-99"),
            "{class}: it moved"
        );
        assert!(is_refused(&world, "n2"), "{class}: nobody leads to it");
        assert_eq!(world.nodes["n2"].unavailable, Some(true), "{class}");
        assert_eq!(world.told, 1, "{class}");
        world.refuses = |_| None;
        world.pass(5 * MINUTE);
        assert_eq!(world.led_to(block(1)), None, "{class}");
        assert_eq!(world.standing("n2"), Standing::Reachable, "{class}");
    }
}

/// The entries of blocks 1 and 2 stay.
fn refuse(call: &Call, class: FaultClass) -> Option<FaultClass> {
    let stays = matches!(call, Call::Delete { destination, .. } if [block(1), block(2)].contains(destination));
    stays.then_some(class)
}

#[test]
fn a_route_that_fails_again_and_again_is_said_and_holds_up_no_other() {
    let mut world = World::new(2);
    world.refuses = |call| match call {
        Call::Create { instance, .. } if instance.as_str() == "i-1" => Some(FaultClass::Unknown),
        Call::Create { instance, .. } if instance.as_str() == "i-2" => {
            Some(FaultClass::TokenMismatch)
        }
        _ => None,
    };
    for number in 1..=3 {
        let spec = node(number, &format!("i-{number}"));
        world.set(&format!("n{number}"), Some(spec));
    }
    world.pass(5 * SECOND);
    assert_eq!(world.standing("n3"), Standing::Reachable);
    world.pass(MINUTE);
    assert!(is_refused(&world, "n1") && is_refused(&world, "n2"));
    assert_eq!(world.told, 2);
}

#[test]
fn what_passes_is_not_said() {
    // Looks that fail, changes that meet a busy table, whether a deletion fails all the while.
    for (dark, busy, stuck) in [
        (2, 1, false),
        (6, 2, false),
        (0, 3, false),
        (0, 1, true),
        (3, 3, true),
    ] {
        let mut world = served(3, 3);
        if stuck {
            world.refuses =
                |call| matches!(call, Call::Delete { .. }).then_some(FaultClass::Denied);
            world.set("n1", None);
            world.pass(10 * MINUTE);
        }
        (world.dark, world.busy) = (dark, busy);
        // The look that a node's going asks for is the first that fails.
        world.set("n2", None);
        world.set("n5", Some(node(5, "i-5")));
        world.pass(MINUTE);
        let case = format!("{dark} {busy} {stuck}");
        assert_eq!(world.standing("n5"), Standing::Reachable, "{case}");
        assert_eq!((world.told, world.busy, world.dark), (0, 0, 0), "{case}");
    }
}

#[test]
fn others_who_work_on_the_table_are_waited_for() {
    let mut world = served(4, 1);
    let calls = world.calls;
    for round in 0..120 {
        if round == 60 {
            world.set("n5", Some(node(5, "i-5")));
        }
        world.table.retain(|(it, _)| it.name == OURS);
        let ready = world.now.after(SECOND);
        world.put("terway.c2", block(100 + round), "i-theirs", ready);
        world.pass(SECOND + SECOND / 2);
        if round == 59 {
            assert_eq!(world.calls, calls);
        }
    }
    assert_eq!(world.standing("n5"), Standing::Reachable);
    assert_eq!(world.told, 0);
}

#[test]
fn an_entry_that_stays_in_motion_holds_nobody_up_for_ever() {
    let mut world = served(5, 1);
    let ready = world.now.after(600 * MINUTE);
    world.put("terway.c2", block(100), "i-theirs", ready);
    world.set("n5", Some(node(5, "i-5")));
    world.pass(5 * MINUTE);
    assert!(is_refused(&world, "n5"), "the cloud takes no other change");
    world.table.retain(|(it, _)| it.name == OURS);
    world.pass(5 * MINUTE);
    assert_eq!(world.standing("n5"), Standing::Reachable);
}

#[test]
fn a_node_without_a_condition_is_marked_until_its_entry_is_there() {
    // What the cloud says to every create, and what the node is marked as, in order.
    for (refuses, marked) in [
        (None, &[true, false][..]),
        (Some(FaultClass::Denied), &[true][..]),
    ] {
        let mut world = served(6, 0);
        if refuses.is_some() {
            world.refuses =
                |call| matches!(call, Call::Create { .. }).then_some(FaultClass::Denied);
        }
        let unmarked = RouteNode {
            unavailable: None,
            ..node(5, "i-5")
        };
        world.set("n5", Some(unmarked));
        world.pass(10 * SECOND);
        assert_eq!(is_refused(&world, "n5"), refuses.is_some());
        assert_eq!(
            world.told,
            u32::from(refuses.is_some()),
            "an event says why"
        );
        let marks = world.marks.iter().map(|(_, mark)| *mark);
        assert_eq!(marks.collect::<Vec<_>>(), marked);
    }
}

/// The nodes to be marked now.
fn marks(machine: &mut Routes) -> Vec<String> {
    let marks = machine.poll_actions().into_iter();
    marks
        .filter_map(|action| match action {
            Action::Mark(node, _) => Some(node),
            _ => None,
        })
        .collect()
}

#[test]
fn conditions_are_written_some_at_a_time_and_not_fought_over() {
    const NODES: u64 = 100;
    let mut world = World::new(7);
    let (now, machine) = (world.now, &mut world.machine);
    for number in 0..NODES {
        let unmarked = RouteNode {
            unavailable: None,
            ..node(number, &format!("i-{number}"))
        };
        let input = Input::Node(format!("n{number}"), Some(Box::new(unmarked)));
        machine.handle(now, input);
    }
    machine.handle(now, Input::Looked(Ok(Vec::new())));
    let (mut under_way, mut written) = (marks(machine), 0);
    while let Some(node) = under_way.pop() {
        assert!(under_way.len() < super::super::mark::WRITES_MAX);
        machine.handle(now, Input::Marked(node, Ok(())));
        written += 1;
        under_way.extend(marks(machine));
    }
    assert_eq!(written, NODES);

    let mut world = served(8, 1);
    let others = world.nodes["n1"].clone();
    let others = RouteNode {
        unavailable: Some(true),
        ..others
    };
    world.pass(10 * MINUTE);
    world.marks.clear();
    for _ in 0..120 {
        world.set("n1", Some(others.clone()));
        world.pass(SECOND / 2);
    }
    let paces = u32::try_from(world.marks.len()).unwrap();
    assert!((2..=3).contains(&paces), "{paces} writes in a minute");
}
