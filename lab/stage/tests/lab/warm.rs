//! A rolling restart whose pods find their ENIs ready.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    rig::{Lab, until},
    trunk::{STATELESS, get, members, network, pod, trunks},
};

const NODES: [&str; 2] = ["node-1", "node-2"];
/// Pods that are replaced, one after the other, on the two nodes in turn.
const PODS: usize = 50;
/// Members kept ready on each: what the restart draws in the minute that an address rests, less what is made
/// meanwhile. With the pods' 25 they are 40 of the 52 its trunk takes.
const WARM: usize = 15;
/// What half of the pods must be faster than.
const P50: Duration = Duration::from_secs(1);

#[test]
fn a_rolling_restart_finds_its_enis_ready() {
    let lab = trunks("warm", 2);
    network(&lab, STATELESS);
    let name = get(&lab, &["podnetworkings"])[0]["metadata"]["name"].clone();
    let warm = format!("k8s.aliyun.com/warm-members-per-node={WARM}");
    let name = name.as_str().unwrap();
    lab.kubectl(&["annotate", "podnetworking", name, &warm]);
    let place = |at: usize| NODES[at % NODES.len()];
    for at in 0..PODS {
        lab.apply(&pod(
            &format!("old-{at}"),
            ["front", "nginx"],
            Some(place(at)),
        ));
    }
    for at in 0..PODS {
        lab.address_when_ready(&format!("old-{at}"));
    }
    // One after the other: each step has its own patience.
    for spares in 1..=WARM {
        until("its ENIs are kept ready", || {
            NODES
                .iter()
                .all(|node| attached(&lab, node) >= PODS / NODES.len() + spares)
        });
    }
    let mut took: Vec<Duration> = (0..PODS)
        .map(|at| {
            let name = format!("new-{at}");
            let began = Instant::now();
            lab.apply(&pod(&name, ["front", "nginx"], Some(place(at))));
            lab.address_when_ready(&name);
            let took = began.elapsed();
            lab.delete_pod(&format!("old-{at}"));
            took
        })
        .collect();
    took.sort();
    let at = |percent: usize| took[(PODS * percent / 100).min(PODS - 1)];
    println!(
        "pod ready, of {PODS}: p50 {:?}, p90 {:?}, slowest {:?}",
        at(50),
        at(90),
        at(100)
    );
    assert!(at(50) < P50, "{took:?}");
    lab.kubectl(&[
        "annotate",
        "podnetworking",
        name,
        &format!("{}-", warm.split('=').next().unwrap()),
    ]);
    for at in 0..PODS {
        lab.delete_pod(&format!("new-{at}"));
    }
    until("nothing is left over", || {
        let none = NODES.iter().all(|node| members(&lab, node).is_empty());
        none && lab.status()["detached"] == serde_json::json!([])
    });
    lab.down_leaves_nothing();
}

fn attached(lab: &Lab, node: &str) -> usize {
    let in_use = |eni: &&Value| eni["status"] == "InUse";
    members(lab, node).iter().filter(in_use).count()
}
