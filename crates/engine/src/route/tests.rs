//! A small world: a table that takes one change at a time, others who write to it, nodes that come, change
//! their instance and go, calls that are refused, throttled or lost. Whatever happens, nothing of others is
//! touched, and when it is quiet every node is reachable that can be.

mod obstacles;

use std::time::Duration;

use model::{InstanceId, NextHop};

use super::*;

const OURS: &str = "terway.c1";
/// Entries the table of the world takes.
const ROOM: usize = 12;

struct World {
    machine: Routes,
    now: Timestamp,
    dice: Dice,
    table: Vec<(RouteEntry, Timestamp)>,
    nodes: BTreeMap<String, RouteNode>,
    /// Whether calls fail at random.
    rough: bool,
    /// What the cloud refuses for good.
    refuses: fn(&Call) -> Option<FaultClass>,
    /// How many of the next looks fail, and of the next changes meet a table that is busy with what no look shows.
    dark: u32,
    busy: u32,
    /// What nodes were marked as, in order: true is unavailable.
    marks: Vec<(String, bool)>,
    /// How often people were told that a node has no route.
    told: u32,
    made: u32,
    calls: u32,
}

fn block(number: u64) -> IpNet {
    format!("172.16.{number}.0/24").parse().unwrap()
}

fn instance(name: &str) -> InstanceId {
    InstanceId::new(name).unwrap()
}

fn node(number: u64, runs_as: &str) -> RouteNode {
    RouteNode {
        instance: instance(runs_as),
        blocks: vec![block(number)],
        unavailable: Some(true),
    }
}

fn fault(class: FaultClass) -> Fault {
    let text = format!("{class}");
    Fault { class, text }
}

/// Takes one off, if there is one.
fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count -= u32::from(some);
    some
}

impl World {
    fn new(seed: u64) -> Self {
        let config = Config {
            name: OURS.into(),
            calls_per_minute: 300,
            calls_of: BTreeMap::new(),
        };
        let mut world = Self {
            machine: Routes::new(config, seed),
            now: Timestamp::from_nanos(1_000_000_000_000),
            dice: Dice::new(seed),
            table: Vec::new(),
            nodes: BTreeMap::new(),
            rough: false,
            refuses: |_| None,
            dark: 0,
            busy: 0,
            marks: Vec::new(),
            told: 0,
            made: 0,
            calls: 0,
        };
        world.tell(Input::Complete);
        world
    }

    fn set(&mut self, name: &str, node: Option<RouteNode>) {
        match &node {
            Some(node) => self.nodes.insert(name.into(), node.clone()),
            None => self.nodes.remove(name),
        };
        self.tell(Input::Node(name.into(), node.map(Box::new)));
    }

    fn put(&mut self, name: &str, destination: IpNet, to: &str, ready: Timestamp) {
        self.made += 1;
        let entry = RouteEntry {
            id: RouteEntryId::new(format!("rte-{}", self.made)).unwrap(),
            destination,
            next_hop: NextHop::Instance(instance(to)),
            name: name.into(),
            description: String::new(),
            available: true,
        };
        self.table.push((entry, ready));
    }

    fn entries(&self) -> Vec<RouteEntry> {
        let shown = |(entry, ready): &(RouteEntry, Timestamp)| RouteEntry {
            available: *ready <= self.now,
            ..entry.clone()
        };
        self.table.iter().map(shown).collect()
    }

    fn tell(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        for action in self.machine.poll_actions() {
            let input = match action {
                Action::Look if take(&mut self.dark) => {
                    Input::Looked(Err(fault(FaultClass::Unknown)))
                }
                Action::Look if self.stumbles() => Input::Looked(Err(self.mishap())),
                Action::Look => Input::Looked(Ok(self.entries())),
                Action::Call(call) => Input::Called(self.call(call)),
                Action::Mark(name, outcome) => {
                    self.marks.push((name.clone(), outcome.is_err()));
                    if let Some(node) = self.nodes.get_mut(&name) {
                        node.unavailable = Some(outcome.is_err());
                    }
                    Input::Marked(name, Ok(()))
                }
                Action::Notice(notice) => {
                    self.told += u32::from(matches!(notice, Notice::Blocked(..)));
                    continue;
                }
            };
            self.tell(input);
        }
    }

    fn stumbles(&mut self) -> bool {
        self.rough && self.dice.roll().is_multiple_of(3)
    }

    fn mishap(&mut self) -> Fault {
        let classes = [
            FaultClass::Throttled,
            FaultClass::Unknown,
            FaultClass::Denied,
        ];
        fault(classes[self.dice.roll() as usize % 3])
    }

    fn call(&mut self, call: Call) -> Result<(), Fault> {
        self.calls += 1;
        if let Some(class) = (self.refuses)(&call) {
            return Err(fault(class));
        }
        if take(&mut self.busy) {
            return Err(fault(FaultClass::Conflict));
        }
        // A lost answer may be to a call that was carried out.
        let lost = self.stumbles();
        if lost && self.dice.roll().is_multiple_of(2) {
            return Err(self.mishap());
        }
        if self.entries().iter().any(|entry| !entry.available) {
            return Err(fault(FaultClass::Conflict));
        }
        match call {
            Call::Create {
                destination,
                instance,
                ..
            } => {
                let taken = self
                    .table
                    .iter()
                    .any(|(it, _)| it.destination == destination);
                if taken {
                    return Err(fault(FaultClass::Conflict));
                }
                if self.table.len() >= ROOM {
                    return Err(fault(FaultClass::Exhausted(Exhausted::RouteTable)));
                }
                let ready = self.now.after(Duration::from_millis(700));
                self.put(OURS, destination, instance.as_str(), ready);
            }
            Call::Delete { entry, .. } => {
                let at = self.table.iter().position(|(it, _)| it.id == entry);
                let at = at.ok_or_else(|| fault(FaultClass::Gone))?;
                let (gone, _) = self.table.remove(at);
                assert_eq!(gone.name, OURS, "an entry of others was deleted");
            }
        }
        match lost {
            true => Err(fault(FaultClass::Unknown)),
            false => Ok(()),
        }
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.machine.deadline(self.now).filter(|due| *due <= until) {
            self.now = due;
            self.tell(Input::Tick);
        }
        self.now = until;
        self.tell(Input::Tick);
    }

    fn standing(&self, node: &str) -> Standing {
        self.machine.plan().standings[node].clone()
    }

    fn led_to(&self, destination: IpNet) -> Option<String> {
        let (entry, _) = self
            .table
            .iter()
            .find(|(it, _)| it.destination == destination)?;
        match &entry.next_hop {
            NextHop::Instance(instance) => Some(instance.to_string()),
            NextHop::Other(what) => Some(what.clone()),
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn nodes_come_are_replaced_and_go() {
    let mut world = World::new(1);
    for number in 0..5 {
        world.set(
            &format!("n{number}"),
            Some(node(number, &format!("i-{number}"))),
        );
    }
    world.pass(MINUTE);
    assert!((0..5).all(|number| world.led_to(block(number)) == Some(format!("i-{number}"))));
    let available = |node: &RouteNode| node.unavailable == Some(false);
    assert!(world.nodes.values().all(available));
    world.set("n1", Some(node(1, "i-9")));
    world.set("n2", None);
    world.pass(CONFIRM - Duration::from_secs(5));
    assert_eq!(
        world.led_to(block(2)).as_deref(),
        Some("i-2"),
        "one look proves nothing"
    );
    world.pass(6 * MINUTE);
    assert_eq!(world.led_to(block(1)).as_deref(), Some("i-9"));
    assert_eq!(world.led_to(block(2)), None);
    let calls = world.calls;
    world.pass(60 * MINUTE);
    assert_eq!(world.calls, calls, "at rest nothing is changed");
}

#[test]
fn what_is_not_ours_stays_and_is_said() {
    let mut world = World::new(2);
    world.put("by hand", block(1), "i-other", world.now);
    world.put("by another controller", block(2), "i-2", world.now);
    world.pass(10 * MINUTE);
    world.set("n1", Some(node(1, "i-1")));
    world.set("n2", Some(node(2, "i-2")));
    world.set("n3", Some(node(2, "i-3")));
    world.pass(10 * MINUTE);
    let conflict = |standing| matches!(standing, Standing::Blocked(Obstacle::Conflict, _));
    assert!(conflict(world.standing("n1")));
    assert_eq!(world.standing("n2"), Standing::Reachable, "whoever made it");
    assert!(conflict(world.standing("n3")), "two nodes, one block");
    assert_eq!(
        (world.calls, world.nodes["n1"].unavailable),
        (0, Some(true))
    );
    world.set("n2", None);
    world.set("n3", None);
    world.pass(10 * MINUTE);
    assert_eq!(world.table.len(), 2);
}

#[test]
fn without_a_node_nothing_is_deleted() {
    let mut world = World::new(3);
    world.put(OURS, block(1), "i-1", world.now);
    world.pass(10 * MINUTE);
    assert_eq!(world.table.len(), 1, "an empty list proves nothing");
    world.set("n2", Some(node(2, "i-2")));
    world.pass(10 * MINUTE);
    assert_eq!((world.led_to(block(1)), world.table.len()), (None, 1));
}

#[test]
fn a_full_table_is_said_and_tried_again_when_there_is_room() {
    let mut world = World::new(4);
    for number in 0..ROOM as u64 {
        world.put("by hand", block(100 + number), "i-x", world.now);
    }
    world.set("n1", Some(node(1, "i-1")));
    world.pass(MINUTE);
    assert!(matches!(
        world.standing("n1"),
        Standing::Blocked(Obstacle::Quota, _)
    ));
    assert_eq!(world.nodes["n1"].unavailable, Some(true));
    world.table.pop();
    world.pass(5 * MINUTE);
    assert_eq!(world.standing("n1"), Standing::Reachable);
    assert_eq!(world.nodes["n1"].unavailable, Some(false));
}

#[test]
fn what_cannot_be_done_for_one_holds_nobody_up() {
    let mut world = World::new(5);
    let set = |world: &mut World, number: u64| {
        let spec = node(number, &format!("i-{number}"));
        world.set(&format!("n{number}"), Some(spec));
    };
    set(&mut world, 1);
    set(&mut world, 9);
    world.pass(MINUTE);
    world.refuses = |call| matches!(call, Call::Delete { .. }).then_some(FaultClass::Denied);
    world.set("n1", None);
    world.pass(5 * MINUTE);
    set(&mut world, 2);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.standing("n2"), Standing::Reachable);
    world.refuses = |call| match call {
        Call::Create { instance, .. } if instance.as_str() == "i-3" => Some(FaultClass::Gone),
        Call::Create { instance, .. } if instance.as_str() == "i-4" => Some(FaultClass::Conflict),
        _ => None,
    };
    for number in 3..6 {
        set(&mut world, number);
    }
    world.pass(MINUTE / 2);
    assert_eq!(world.standing("n5"), Standing::Reachable);
    assert_eq!(world.told, 2);
    world.pass(20 * MINUTE);
    assert_eq!(world.told, 2, "tried again, and no news");
    assert_eq!(world.led_to(block(1)), None);
    for refused in ["n3", "n4"] {
        assert_eq!(world.nodes[refused].unavailable, Some(true));
    }
}

/// The table is what the nodes want, and what others put there is there.
fn check(world: &World, theirs: &[IpNet], seed: u64) {
    for (name, node) in &world.nodes {
        let to = world.led_to(node.blocks[0]);
        if !theirs.contains(&node.blocks[0]) {
            assert_eq!(to, Some(node.instance.to_string()), "seed {seed}: {name}");
        }
    }
    let useless = |entry: &&RouteEntry| {
        entry.name == OURS
            && !world
                .nodes
                .values()
                .any(|it| it.blocks[0] == entry.destination)
    };
    assert_eq!(world.entries().iter().find(useless), None, "seed {seed}");
    let kept = |block: &IpNet| world.led_to(*block).as_deref() == Some("i-theirs");
    assert!(theirs.iter().all(kept), "seed {seed}");
}

#[test]
fn random_lives_end_at_what_is_wanted() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        world.set("always", Some(node(0, "i-0")));
        let mut theirs = Vec::new();
        world.rough = true;
        for step in 0..60 {
            let number = 1 + world.dice.roll() % 7;
            let name = format!("n{number}");
            match world.dice.roll() % 8 {
                0..4 => {
                    let runs_as = format!("i-{}", 10 * number + world.dice.roll() % 2);
                    world.set(&name, Some(node(number, &runs_as)));
                }
                4 => world.set(&name, None),
                5 if theirs.len() < 3 && world.led_to(block(number)).is_none() => {
                    world.put("by hand", block(number), "i-theirs", world.now);
                    theirs.push(block(number));
                }
                6 if step % 9 == 0 => {
                    // Somebody deletes one of ours by hand.
                    world
                        .table
                        .retain(|(it, _)| it.name != OURS || it.destination != block(number));
                }
                _ => {}
            }
            let wait = world.dice.roll() % 20_000;
            world.pass(Duration::from_millis(wait));
        }
        world.rough = false;
        world.pass(15 * MINUTE);
        check(&world, &theirs, seed);
    }
}
