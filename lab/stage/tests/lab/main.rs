//! The lab with the real programs: pods on two nodes, an agent killed under traffic, nothing left
//! behind; and labs that are killed, doubled and started again.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts test functions, not their helpers"
)]

mod disk;
mod groups;
mod handover;
mod heal;
mod own;
mod plugin;
mod prefix;
mod prerequisites;
mod rig;
mod scenarios;
mod several;
#[path = "../support/mod.rs"]
mod support;
mod trunk;
mod verbs;
mod vpc;
mod warm;
mod waves;

use std::{fs, thread};

use rig::{Lab, until};
use serde_json::Value;

#[test]
fn pods_talk_across_nodes_through_an_agents_death_and_leave_nothing() {
    let lab = Lab::up("path", 2);
    lab.create_pod("a", "node-1");
    lab.create_pod("b", "node-2");
    let there = lab.address_when_ready("b");
    lab.address_when_ready("a");
    let target = format!("{there}:8080");
    lab.exec_ok("a", &["terway-probe", "tcp", &target]);
    lab.exec_ok(
        "a",
        &[
            "terway-probe",
            "get",
            &format!("http://{target}/bytes?n=1000000"),
            "--digest",
        ],
    );

    thread::scope(|scope| {
        // 3 s of datagrams; the agent is back within half a second.
        let options = ["--count", "300", "--interval-ms", "10"];
        let stream = [&["terway-probe", "udp", &target], &options[..]].concat();
        let (lab, stream) = (&lab, stream);
        let traffic = scope.spawn(move || lab.exec_ok("a", &stream));
        lab.run_ok(&["kill-agent", "node-1"]);
        until("the agent runs again", || {
            lab.node("node-1")["agent"]["restarts"] == 1
        });
        traffic.join().unwrap();
    });

    lab.delete_pod("a");
    lab.delete_pod("b");
    until("both pods are gone", || {
        lab.status()["pods"] == Value::Array(Vec::new())
    });
    for node in ["node-1", "node-2"] {
        until("the agent has removed what was the pod's", || {
            lab.leftovers(node).is_empty()
        });
        let calls = lab.cni_calls(node);
        assert_eq!(
            calls,
            ["ADD", "DEL", "DEL"],
            "what the runtime called on {node}"
        );
    }
    assert_eq!(lab.status()["failures"], Value::Array(Vec::new()));
    lab.down_leaves_nothing();
}

#[test]
fn a_killed_lab_starts_again_beside_another() {
    let (one, other) = (Lab::up("one", 1), Lab::up("other", 1));
    let refused = one.run(&["up", "--detach"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("is up"),
        "{said}"
    );

    let node = one.node("node-1")["pid"].clone();
    one.kill_region();
    until("the region's nodes end with it", || {
        !fs::exists(format!("/proc/{node}")).unwrap()
    });
    let status = one.run(&["status"]);
    assert!(
        String::from_utf8_lossy(&status.stderr).contains("no lab is up"),
        "{status:?}"
    );
    one.start(1);
    one.create_pod("a", "node-1");
    one.address_when_ready("a");

    assert_eq!(
        other.node("node-1")["ready"],
        true,
        "the other lab was not disturbed"
    );
    one.down_leaves_nothing();
    other.down_leaves_nothing();
}
