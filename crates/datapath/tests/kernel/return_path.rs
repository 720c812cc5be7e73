//! Answers go back the way the question came.

use std::{net::IpAddr, time::Duration};

use model::{Family, net::ReturnPath};
use terway_datapath::{Nftables, apply_eni, keep_return_path};

use crate::{
    stage::{Namespace, Node, Pod, addresses, ip_address, name},
    traffic::asks,
};

/// Long enough for a loaded machine; only a failing test waits so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A few questions, of which each would be answered at once.
const SILENT_FOR: Duration = Duration::from_millis(300);

/// What kube-proxy and portmap do: an address of the node leads to the pod.
const SERVICES: &str = "nft -f - <<'E'
table inet services {
  chain prerouting {
    type nat hook prerouting priority dstnat;
    ip daddr 10.0.8.8 dnat ip to 10.0.0.1
    ip6 daddr fd00:8::8 dnat ip6 to fd00::1
  }
}
E";

pub(crate) fn plan() -> ReturnPath {
    ReturnPath {
        uplink: name("eth0"),
        pod_links: "cali".into(),
        families: Family::BOTH.into(),
    }
}

/// A node with its own ENI, behind which a client is, and a pod of another ENI, behind which nobody
/// answers. What comes to the node's address is led to the pod.
struct Scene {
    node: Node,
    nftables: Nftables,
    client: Namespace,
    pod: Pod,
    _elsewhere: Namespace,
}

const CLIENT: [&str; 2] = ["198.51.100.1", "fd99::1"];
pub(crate) const OF_NODE: [&str; 2] = ["10.0.8.8", "fd00:8::8"];

/// Gives `node` an ENI of its own, with `client` behind it, and Services that lead to pod 1.
pub(crate) fn give_own_eni(node: &mut Node, client: &Namespace) {
    node.add_eni("eth0", client, "far");
    for setup in [
        "addr add 10.0.8.8/24 dev eth0",
        "-6 addr add fd00:8::8/64 dev eth0 nodad",
        "link set eth0 up",
        "route add default via 10.0.8.253",
        "-6 route add default via fd00:8::fffd",
    ] {
        node.namespace.ip(setup);
    }
    for setup in [
        "addr add 10.0.8.253/24 dev far",
        "-6 addr add fd00:8::fffd/64 dev far nodad",
        "addr add 198.51.100.1/32 dev lo",
        "-6 addr add fd99::1/128 dev lo nodad",
    ] {
        client.ip(setup);
    }
    node.namespace.shell(SERVICES);
}

impl Scene {
    fn new() -> Self {
        let (mut node, client, elsewhere) = (Node::new(), Namespace::new(), Namespace::new());
        give_own_eni(&mut node, &client);
        let index = node.add_eni("eth1", &elsewhere, "far");
        apply_eni(&mut node.netlink, &node.trunk, &crate::eni::plan(index)).unwrap();
        let mut pod = Pod::numbered(1, index);
        node.apply(&mut pod).unwrap();
        let nftables = node.namespace.run(|| Nftables::open().unwrap());
        Self {
            node,
            nftables,
            client,
            pod,
            _elsewhere: elsewhere,
        }
    }

    fn keep(&mut self) -> Vec<String> {
        keep_return_path(&mut self.node.netlink, &mut self.nftables, &plan()).unwrap()
    }

    /// Who asks the node's address, as the pod sees it, if the answer comes back.
    fn asks_node(&self, family: usize, within: Duration) -> Option<IpAddr> {
        let to = ip_address(OF_NODE[family]);
        asks(&self.client, &self.pod.namespace, to, within)
    }
}

#[test]
fn what_came_in_by_the_nodes_own_eni_is_answered_there() {
    let mut scene = Scene::new();
    for family in [0, 1] {
        let seen = scene.asks_node(family, SILENT_FOR);
        assert_eq!(
            seen, None,
            "family {family}: the answer leaves by the pod's ENI"
        );
    }
    assert_eq!(scene.keep().len(), 3, "a table and a rule of each family");
    for family in [0, 1] {
        let seen = scene.asks_node(family, ANSWER_WITHIN);
        assert!(seen.is_some(), "family {family}");
        // What the pod asks itself leaves by its own ENI, where nobody answers.
        let to = ip_address(CLIENT[family]);
        let seen = asks(&scene.pod.namespace, &scene.client, to, SILENT_FOR);
        assert_eq!(seen, None, "family {family}");
    }
    // A strict check of sources on the node's own ENI knows only the pod's way out; a loose one passes.
    let strict = |value: &str| {
        let path = "/proc/sys/net/ipv4/conf/eth0/rp_filter";
        scene
            .node
            .namespace
            .run(|| std::fs::write(path, value).unwrap());
    };
    strict("1");
    assert_eq!(scene.asks_node(0, SILENT_FOR), None);
    strict("2");
    assert!(scene.asks_node(0, ANSWER_WITHIN).is_some());
}

#[test]
fn whatever_is_missing_is_put_back_and_nothing_else_is_touched() {
    let mut scene = Scene::new();
    let ruleset = |scene: &Scene| scene.node.namespace.shell("nft list ruleset");
    let others = ruleset(&scene);
    scene.keep();
    let whole = ruleset(&scene);
    assert!(whole.starts_with(&others), "{whole}");
    for expected in [
        "iifname \"eth0\" ct direction original ct mark set ct mark | 0x00000010",
        "iifname \"cali*\" ct direction reply ct mark & 0x00000010 == 0x00000010 meta mark set \
         meta mark | 0x00000010",
        "type filter hook prerouting priority mangle",
    ] {
        assert!(whole.contains(expected), "no {expected} in {whole}");
    }
    assert_eq!(scene.keep(), Vec::<String>::new());

    for damage in [
        "nft delete table inet terway",
        "nft flush chain inet terway return_path",
        "nft insert rule inet terway return_path drop",
    ] {
        scene.node.namespace.shell(damage);
        assert_eq!(scene.keep(), ["table inet terway"], "{damage}");
        assert_eq!(scene.keep(), Vec::<String>::new(), "{damage}");
    }
    for (family, address) in ["-4", "-6"].into_iter().zip(addresses(1)) {
        scene
            .node
            .namespace
            .ip(&format!("{family} rule del priority 600"));
        let lacked = scene.keep();
        assert_eq!(lacked.len(), 1, "{lacked:?}");
        let rules = scene.node.namespace.ip(&format!("{family} rule"));
        let rule = "600:\tfrom all fwmark 0x10/0x10 lookup main proto 157";
        assert!(rules.contains(rule), "{rules}");
        assert!(rules.contains(&address.to_string()), "{rules}");
    }
    assert!(ruleset(&scene).starts_with(&others));
}
