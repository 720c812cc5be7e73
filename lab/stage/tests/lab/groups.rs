//! Security groups hold between trunk pods, ordinary pods and hosts, with rules that come and go under traffic.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::{
    rig::{Lab, until},
    trunk::{members, pod, trunks},
};

/// The group of nodes, ordinary pods and trunk pods of nobody else.
const DEFAULT: &str = "sg-bp1lab";
/// How long to wait for an answer that may not come. It comes within a millisecond if it does.
const SILENCE_MS: &str = "500";

/// Who asks: a pod, or a node itself.
#[derive(Debug, Clone, Copy)]
enum From<'a> {
    Pod(&'a str),
    Node(&'a str),
}

/// Whether a connection to the probe at `address` is made and answered.
fn reaches(lab: &Lab, from: From<'_>, address: &str) -> bool {
    let target = format!("{address}:8080");
    let probe = ["tcp", &target, "--count", "1", "--timeout-ms", SILENCE_MS];
    match from {
        From::Pod(pod) => {
            let asked = [&["exec", pod, "--", "terway-probe"], &probe[..]].concat();
            lab.run(&asked).status.success()
        }
        From::Node(node) => {
            let asked = [&["/run/lab/bin/terway-probe"], &probe[..]].concat();
            lab.try_on_node(node, &asked).is_ok()
        }
    }
}

fn call(lab: &Lab, action: &str, parameters: &[&str]) -> Value {
    let answer = lab.run_ok(&[&["call", action], parameters].concat());
    serde_json::from_str(&answer).unwrap()
}

/// A group, and a PodNetworking that puts pods labelled `app: NAME` into it.
fn group(lab: &Lab, name: &str) -> String {
    let made = call(lab, "CreateSecurityGroup", &["VpcId=vpc-bp1lab"]);
    let group = made["SecurityGroupId"].as_str().unwrap().to_owned();
    let networking = json!({
        "apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodNetworking",
        "metadata": { "name": name },
        "spec": {
            "allocationType": { "type": "Elastic" },
            "selector": { "podSelector": { "matchLabels": { "app": name } } },
            "vSwitchOptions": ["vsw-bp1labpodsh", "vsw-bp1labpodsi"],
            "securityGroupIDs": [group],
        },
    });
    lab.apply(&networking.to_string());
    until("its vSwitches are found", || {
        let shown = lab.kubectl(&["get", "podnetworking", name, "-o", "json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["status"]["status"] == "Ready"
    });
    group
}

/// Packets that the group of the trunk pod with `address` did not let in, and those it did.
fn let_in(lab: &Lab, address: &str) -> (u64, u64) {
    let members = members(lab, "node-1");
    let member = members.iter().find(|eni| eni["primary"] == address);
    let counters = &member.unwrap()["counters"];
    let of = |name: &str| counters[name].as_u64().unwrap();
    (of("denied_in"), of("delivered_packets"))
}

/// `front` and `back` are trunk pods of one node in a group each; `plain` is an ordinary pod beside them; the
/// other node stands for a host outside of the cluster.
#[test]
fn pods_and_hosts_reach_each_other_as_security_groups_say_and_only_so() {
    let lab = trunks("groups", 2);
    let groups = ["front", "back"].map(|name| group(&lab, name));
    for name in ["front", "back"] {
        lab.apply(&pod(name, ["any", name], Some("node-1")));
    }
    lab.create_pod("plain", "node-1");
    let [front, back, plain] = ["front", "back", "plain"].map(|pod| lab.address_when_ready(pod));
    let ways = [
        ("plain to front", From::Pod("plain"), &front),
        ("host to front", From::Node("node-2"), &front),
        ("back to front", From::Pod("back"), &front),
        ("front to back", From::Pod("front"), &back),
        ("front to plain", From::Pod("front"), &plain),
        ("host to plain", From::Node("node-2"), &plain),
    ];
    let open = || -> Vec<&str> {
        let open = ways.iter().filter(|(_, from, to)| reaches(&lab, *from, to));
        open.map(|(what, ..)| *what).collect()
    };
    // Rules are in force when the fabric has carried out the region's order, a moment after the answer.
    let only = |wanted: &[&str]| {
        let mut last = Vec::new();
        until(&format!("open are {wanted:?}"), || {
            last = open();
            last == wanted
        });
    };
    only(&["host to plain"]);
    let (denied, _) = let_in(&lab, &front);
    assert!(denied >= 3, "who asked in vain is counted: {denied}");

    let rule = |action: &str, words: &str| {
        let group = format!("SecurityGroupId={}", groups[0]);
        let words: Vec<&str> = words.split(' ').collect();
        call(&lab, action, &[&[group.as_str()], &words[..]].concat());
    };
    let from_default = format!("IpProtocol=TCP PortRange=8080/8080 SourceGroupId={DEFAULT}");
    rule("AuthorizeSecurityGroup", &from_default);
    only(&["plain to front", "host to front", "host to plain"]);
    let from_back = format!("IpProtocol=ALL PortRange=-1/-1 SourceCidrIp={back}");
    rule("AuthorizeSecurityGroup", &from_back);
    only(&[
        "plain to front",
        "host to front",
        "back to front",
        "host to plain",
    ]);
    rule("RevokeSecurityGroup", &from_default);
    only(&["back to front", "host to plain"]);
    rule("AuthorizeSecurityGroup", &from_default);
    only(&[
        "plain to front",
        "host to front",
        "back to front",
        "host to plain",
    ]);

    under_traffic(&lab, &front, &rule);

    for name in ["front", "back", "plain"] {
        lab.delete_pod(name);
    }
    until("the ENIs go with their pods", || {
        members(&lab, "node-1").is_empty() && lab.status()["detached"] == json!([])
    });
    for group in groups {
        let named = format!("SecurityGroupId={group}");
        call(&lab, "DeleteSecurityGroup", &[&named]);
    }
    assert_eq!(lab.status()["failures"], json!([]));
    lab.down_leaves_nothing();
}

/// Ends the traffic, however the test goes on.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// While `plain` asks without a pause, a rule against it comes and goes.
fn under_traffic(lab: &Lab, front: &str, rule: &dyn Fn(&str, &str)) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                reaches(lab, From::Pod("plain"), front);
            }
        });
        let _stop = Stop(&done);
        let passes = |what: &str| {
            let before = let_in(lab, front).1;
            until(what, || let_in(lab, front).1 > before + 10);
        };
        let drop = "IpProtocol=TCP PortRange=8080/8080 SourceCidrIp=10.1.0.0/16 Policy=Drop";
        passes("traffic passes");
        let before = let_in(lab, front).0;
        rule("AuthorizeSecurityGroup", drop);
        until("traffic is dropped", || let_in(lab, front).0 > before + 2);
        assert!(!reaches(lab, From::Pod("plain"), front));
        rule("RevokeSecurityGroup", drop);
        passes("traffic passes again");
    });
}
