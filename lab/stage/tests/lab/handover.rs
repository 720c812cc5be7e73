//! Two agents on one node, as in a rolling update with a surge: the next one serves, the last one stands
//! by, and serves again when the next one dies.

use std::process::{Child, Stdio};

use crate::rig::{Lab, until};

/// Starts a second agent exactly as the first was started: its namespaces, root and environment.
const SECOND: &str = "exec env -i $(tr '\\0' ' ' < /proc/$1/environ) \
    nsenter --target $1 --all --root /usr/local/bin/terwayd run \
    --config /etc/eni/eni_conf --cni-conf-dir /host/etc/cni/net.d --listen :9190";

fn second(lab: &Lab) -> Child {
    let first = lab.node("node-1")["agent"]["pid"].to_string();
    let mut command = lab.command_on("node-1");
    command.args(["sh", "-c", SECOND, "sh", &first]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Agents of the node, and how many of them stand by.
fn agents(lab: &Lab) -> (usize, usize) {
    let list = lab.on_node("node-1", &["ps", "-C", "terwayd", "-o", "args="]);
    let standby = list.lines().filter(|line| line.contains("--standby"));
    (list.lines().count(), standby.count())
}

#[test]
fn the_next_agent_takes_over_and_the_last_one_takes_back() {
    let lab = Lab::up("handover", 1);
    lab.create_pod("before", "node-1");
    lab.address_when_ready("before");

    let mut next = second(&lab);
    until("the first agent stands by", || agents(&lab) == (2, 1));
    lab.create_pod("meanwhile", "node-1");
    let meanwhile = lab.address_when_ready("meanwhile");

    lab.on_node(
        "node-1",
        &["pkill", "-KILL", "--newest", "--exact", "terwayd"],
    );
    next.wait().unwrap();
    lab.create_pod("after", "node-1");
    let after = lab.address_when_ready("after");
    assert_eq!(agents(&lab), (1, 1), "the first agent serves again");
    assert_eq!(lab.node("node-1")["agent"]["restarts"], 0, "it never ended");

    for there in [meanwhile, after] {
        lab.exec_ok("before", &["terway-probe", "tcp", &format!("{there}:8080")]);
    }
    lab.pool_is_what_the_cloud_has("node-1");
    lab.down_leaves_nothing();
}
