//! Two agents on one node, as in a rolling update with a surge: the next one serves, the last one stands
//! by, and serves again when the next one is killed. Pods that run notice nothing, pods that start little.

use std::{process::Child, thread};

use crate::rig::{Lab, until};

/// Starts a second agent as a container runtime would: processes of its own, and of the first one the
/// root, the command line and the environment.
const NEXT: &str = "first=$(pgrep --exact terwayd); root=/run/lab/containers/terway
    exec env -i $(tr '\\0' ' ' < /proc/$first/environ) nsenter --target $first --mount \
    unshare --mount --propagation private --pid --fork --kill-child sh -c '
        mount -t proc proc $0/proc
        exec chroot $0 /.setpriv --inh-caps=-all --bounding-set=-all,+net_admin --no-new-privs \"$@\"
    ' $root $(tr '\\0' ' ' < /proc/$first/cmdline) >> /run/lab/logs/node-1-terwayd.log 2>&1";

/// What a pod that starts during a hand-over may lose.
const LATE_MAX_MS: f64 = 1000.0;

fn start_next(lab: &Lab) -> Child {
    let mut command = lab.command_on("node-1");
    command.args(["sh", "-c", NEXT]).spawn().unwrap()
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
    for pod in ["from", "to"] {
        lab.create_pod(pod, "node-1");
    }
    let target = format!("{}:8080", lab.address_when_ready("to"));
    lab.address_when_ready("from");

    thread::scope(|scope| {
        // 20 s; both hand-overs take less than one.
        for transport in ["tcp", "udp"] {
            let (lab, target) = (&lab, &target);
            let options = ["--count", "2000", "--interval-ms", "10"];
            scope.spawn(move || {
                let stream = [&["terway-probe", transport, target], &options[..]].concat();
                lab.exec_ok("from", &stream);
            });
        }
        let mut next = start_next(&lab);
        let mut meanwhile = Vec::new();
        until("the first agent stands by", || {
            let stands = agents(&lab) == (2, 1);
            // One every 50 ms or so, so that some meet the moment when nobody serves.
            meanwhile.push(format!("meanwhile-{}", meanwhile.len()));
            lab.create_pod(meanwhile.last().unwrap(), "node-1");
            stands
        });
        for pod in &meanwhile {
            lab.address_when_ready(pod);
        }

        let newest = ["pkill", "-KILL", "--newest", "--exact", "terwayd"];
        lab.on_node("node-1", &newest);
        lab.create_pod("after", "node-1");
        lab.address_when_ready("after");
        next.wait().unwrap();
    });
    assert_eq!(agents(&lab), (1, 1), "the first agent serves again");
    assert_eq!(lab.node("node-1")["agent"]["restarts"], 0, "it never ended");

    let mut adds = lab.adds("node-1");
    println!("ADD, in ms: {adds:.1?}");
    // The first two waited for the node's first ENI.
    adds.retain(|pod, _| pod.contains("meanwhile") || pod.contains("after"));
    let late = adds.values().copied().fold(0.0, f64::max);
    assert!(adds.len() > 1 && late <= LATE_MAX_MS, "{adds:?}");
    lab.pool_is_what_the_cloud_has("node-1");
    lab.down_leaves_nothing();
}
