//! What the API server says of the pod.

use super::*;

pub(super) const PODS: [Case; 16] = [
    case(
        "no such pod",
        HasNot,
        &["does not exist", "namespace"],
        |f| f.pod = Seen::Absent,
    ),
    case("gone, address held", HasNot, &["still holds"], |f| {
        f.pod = Seen::Absent;
        f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"] }));
    }),
    case(
        "host network",
        Has,
        &["its node's network", "192.168.0.1"],
        |f| {
            pod(f).host_network = true;
            pod(f).addresses = vec!["192.168.0.1".into()];
        },
    ),
    case(
        "host network, not reported",
        HasNot,
        &["its node's network"],
        |f| {
            pod(f).host_network = true;
        },
    ),
    case("host network, no node", HasNot, &["no node yet"], |f| {
        pod(f).host_network = true;
        pod(f).node = None;
    }),
    case("ended", HasNot, &["has ended (Succeeded)"], |f| {
        pod(f).phase = "Succeeded".into()
    }),
    case("being deleted", HasNot, &["being deleted"], |f| {
        pod(f).deleting = true
    }),
    case(
        "unschedulable",
        HasNot,
        &["no node yet", "Insufficient cpu"],
        |f| {
            pod(f).node = None;
            pod(f).unscheduled = Some("Unschedulable: 0/3 nodes: Insufficient cpu".into());
        },
    ),
    case("no scheduler", HasNot, &["kube-scheduler"], |f| {
        pod(f).node = None
    }),
    case(
        "gated",
        HasNot,
        &["scheduling gates", "example.com/hold"],
        |f| {
            pod(f).node = None;
            pod(f).gates = vec!["example.com/hold".into()];
        },
    ),
    case("well", Has, &["has 10.0.0.1, on eni-1"], |f| {
        pod(f).addresses = vec!["10.0.0.1".into()];
        f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.1"], "eni": "eni-1" }));
    }),
    case("ipvlan", Has, &["has 10.0.0.1, on eni-1 by ipvlan"], |f| {
        pod(f).addresses = vec!["10.0.0.1".into()];
        f.agent = said(json!({
            "state": "attached", "addresses": ["10.0.0.1"], "eni": "eni-1", "link": "ipvlan",
        }));
    }),
    case(
        "several",
        Has,
        &["by eth0: 10.0.0.1 on eni-1; by eth1: 10.0.1.1"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            let interfaces = ["eth0: 10.0.0.1 on eni-1", "eth1: 10.0.1.1 on eni-2"];
            let addresses = ["10.0.0.1", "10.0.1.1"];
            f.agent = said(json!({
                "state": "attached", "addresses": addresses, "interfaces": interfaces,
            }));
        },
    ),
    case(
        "API and node differ",
        Has,
        &["10.0.0.1", "10.0.0.2", "differ"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            f.agent = said(json!({ "state": "attached", "addresses": ["10.0.0.2"] }));
        },
    ),
    case(
        "another plugin's",
        Has,
        &["not from this node's agent"],
        |f| {
            pod(f).addresses = vec!["172.17.0.2".into()];
        },
    ),
    case(
        "address, agent silent",
        Has,
        &["as the API server says", "no answer within"],
        |f| {
            pod(f).addresses = vec!["10.0.0.1".into()];
            f.agent = unknown("no answer within 15s");
            f.status = None;
        },
    ),
];
