//! A node whose disk fills up: what the agent can no longer promise it refuses with the reason, and it
//! goes on by itself when space returns.

use serde_json::{Value, json};

use crate::{
    plugin::Plugin,
    rig::{Lab, until},
};

const STATE: &str = "/var/lib/cni/terway";

/// Pods whose rows do not fit the room that the file has already taken.
const PODS: usize = 40;

#[test]
fn a_full_disk_is_said_and_space_that_returns_ends_it() {
    let lab = Lab::up("disk", 1);
    // A disk of its own for the agent's state, small enough to be filled in no time. The ledger moves there
    // whole: what is in flight when a ledger is lost nobody could know of.
    until("the pool has its first addresses", || {
        lab.pool("node-1")["idle"].as_u64() > Some(0)
    });
    let mount = format!(
        "cp -a {STATE} {STATE}.before && mount -t tmpfs -o size=8m tmpfs {STATE} && \
         cp -a {STATE}.before/. {STATE} && rm -r {STATE}.before"
    );
    lab.on_node("node-1", &["sh", "-c", &mount]);
    lab.run_ok(&["kill-agent", "node-1"]);
    until("the agent serves from the small disk", || {
        lab.node("node-1")["agent"]["restarts"] == 1 && lab.node("node-1")["agent"]["ready"] == true
    });
    let pid = lab.node("node-1")["agent"]["pid"].clone();
    let fill = format!("cat /dev/zero > {STATE}/fill 2> /dev/null; true");
    lab.on_node("node-1", &["sh", "-c", &fill]);
    let pods: Vec<String> = (0..PODS).map(|number| format!("p{number}")).collect();
    for pod in &pods {
        lab.create_pod(pod, "node-1");
    }
    until("the agent says that its disk is full", || {
        let agent = &lab.node("node-1")["agent"];
        let why = agent["not_ready"].as_str().unwrap_or_default();
        why.contains("No space left") && why.contains("free space")
    });
    lab.on_node("node-1", &["ip", "netns", "add", "disk"]);
    let refusal = Plugin {
        lab: &lab,
        node: "node-1",
        verb: "ADD",
        container: "sandbox-of-the-test",
        netns: "/run/netns/disk",
        interface: "eth9",
        pod: "p0",
        config: json!({ "cniVersion": "1.1.0", "name": "terway-chainer", "type": "terway" }),
    };
    let said = refusal.call().unwrap_err();
    let details = said["details"].as_str().unwrap_or_default();
    assert!(said["code"] == 11 && details.contains("No space"), "{said}");
    lab.on_node("node-1", &["ip", "netns", "del", "disk"]);

    lab.on_node("node-1", &["rm", &format!("{STATE}/fill")]);
    for pod in &pods {
        lab.address_when_ready(pod);
    }
    let agent = lab.node("node-1")["agent"].clone();
    assert_eq!((&agent["pid"], &agent["ready"]), (&pid, &Value::Bool(true)));
    for (reason, least) in [("LedgerUnusable", 1), ("LedgerUsable", 1)] {
        let count = lab.pool("node-1")["notices"][reason].as_u64();
        assert!(count >= Some(least), "{reason}: {count:?}");
    }
    lab.pool_is_what_the_cloud_has("node-1");
    lab.down_leaves_nothing();
}
