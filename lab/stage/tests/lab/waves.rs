//! Two hundred pods in waves over four nodes, with agents killed at random: no address has two pods at
//! any moment, and in the end nothing is left but what is idle or resting.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::rig::Lab;

/// Pods in all, and in each wave.
const PODS: usize = 200;
const WAVE: usize = 50;
const NODES: usize = 4;

/// How long one wave may take to run or to go. On two idle cores it takes about ten seconds.
const WAVE_MAX: Duration = Duration::from_secs(240);

/// A moment between two kills: long enough for an agent to come back, short enough to hit it at work.
const KILL_PAUSE: Duration = Duration::from_millis(400);

/// How long clean-up may take after the last wave: tombstones are looked for every five seconds.
const REST_MAX: Duration = Duration::from_secs(60);

/// SplitMix64; the seed is printed, so that a failing run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % limit
    }
}

fn seed() -> u64 {
    if let Ok(seed) = std::env::var("WAVES_SEED") {
        return seed.parse().expect("WAVES_SEED is a number");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::from(now.unwrap().subsec_nanos())
}

/// The pods' addresses; fails when two pods that live have one.
fn owners(status: &Value) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for pod in status["pods"].as_array().unwrap() {
        let (Some(address), Some(name)) = (pod["address"].as_str(), pod["name"].as_str()) else {
            continue;
        };
        let other = owners.insert(address.to_owned(), name.to_owned());
        assert_eq!(other, None, "{address} belongs to {name} too");
    }
    owners
}

/// Looks and kills until `done`.
fn storm(lab: &Lab, dice: &mut Dice, what: &str, done: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    // One for certain; a wave on a quick machine may be over before chance brings another.
    lab.run(&["kill-agent", &format!("node-{}", 1 + dice.below(NODES))]);
    loop {
        let status = lab.status();
        owners(&status);
        if done(&status) {
            return;
        }
        assert!(
            begun.elapsed() < WAVE_MAX,
            "{what}: not within {WAVE_MAX:?}; {status:#}"
        );
        if dice.below(2) == 0 {
            // It may be on its way up from the last kill.
            lab.run(&["kill-agent", &format!("node-{}", 1 + dice.below(NODES))]);
        }
        thread::sleep(KILL_PAUSE);
    }
}

fn counted(status: &Value, of: impl Fn(&Value) -> bool) -> usize {
    status["pods"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| of(pod))
        .count()
}

#[test]
fn two_hundred_pods_in_waves_with_agents_killed_leave_nothing() {
    let seed = seed();
    println!("WAVES_SEED={seed}");
    let mut dice = Dice(seed);
    let lab = Lab::up("waves", u32::try_from(NODES).unwrap());
    let mut made = 0;
    let mut kills_before = 0;
    while made < PODS {
        let names: Vec<String> = (made..made + WAVE)
            .map(|number| format!("p{number}"))
            .collect();
        for name in &names {
            lab.create_pod(name, &format!("node-{}", 1 + dice.below(NODES)));
        }
        made += WAVE;
        storm(&lab, &mut dice, "the wave runs", |status| {
            counted(status, |pod| pod["ready"] == true) == WAVE
        });
        let status = lab.status();
        assert_eq!(
            owners(&status).len(),
            WAVE,
            "every pod has an address of its own"
        );
        for name in &names {
            lab.delete_pod(name);
        }
        storm(&lab, &mut dice, "the wave is gone", |status| {
            counted(status, |_| true) == 0
        });
        let status = lab.status();
        let kills: u64 = status["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["agent"]["restarts"].as_u64().unwrap_or_default())
            .sum();
        println!(
            "wave of {WAVE}: {made} of {PODS} pods, {} agents killed",
            kills - kills_before
        );
        kills_before = kills;
    }
    assert!(kills_before > 0, "no agent was killed; seed {seed}");
    for node in 1..=NODES {
        let node = format!("node-{node}");
        let begun = Instant::now();
        loop {
            let left = lab.leftovers(&node);
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < REST_MAX, "{node} still has {left:#?}");
            thread::sleep(KILL_PAUSE);
        }
        let pool = lab.pool(&node);
        assert_eq!(
            (
                &pool["assigned"],
                &pool["waiting"],
                &pool["notices"]["Defect"]
            ),
            (&Value::from(0), &Value::from(0), &Value::Null),
            "{node}: {pool:#}"
        );
        lab.pool_is_what_the_cloud_has(&node);
    }
    assert_eq!(lab.status()["failures"], Value::Array(Vec::new()));
    lab.down_leaves_nothing();
}
