//! The fabric with real packets: what it carries, what it refuses, and that it counts both exactly.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails; clippy exempts test functions, not their helpers"
)]

mod rig;
mod trunk;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use rig::{ARP, DATAGRAM, Node, near_ends, port};
use stage::fabric::{Fabric, FabricError, PortCounters};

/// The kernel destroys namespaces in batches, one after the other, after an RCU grace period each.
const NAMESPACE_DEATH_MAX: Duration = Duration::from_secs(30);

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two nodes, each with one ENI that owns its address: `eni-1` .10 and `eni-2` .20.
pub(crate) struct Pair {
    pub(crate) fabric: Fabric,
    pub(crate) one: Node,
    pub(crate) two: Node,
}

impl Pair {
    pub(crate) fn start(name: &str) -> Self {
        let fabric = Fabric::start(name).unwrap();
        fabric.own(ip("192.168.1.10"), "eni-1").unwrap();
        let one = Node::with_eni(&fabric, "eni-1", 10, true);
        let two = Node::with_eni(&fabric, "eni-2", 20, true);
        fabric.own(ip("192.168.1.20"), "eni-2").unwrap();
        Self { fabric, one, two }
    }

    pub(crate) fn counters(&self, eni: &str) -> PortCounters {
        self.fabric.counters().unwrap()[eni]
    }

    /// Every packet that came in is accounted for exactly once.
    fn assert_conserved(&self) {
        let all = self.fabric.counters().unwrap();
        let came: u64 = all.values().map(|port| port.received_packets).sum();
        let went: u64 = all
            .values()
            .map(|port| port.delivered_packets + port.arp_answered + port.dropped())
            .sum();
        assert_eq!(came, went, "{all:?}");
    }
}

#[test]
fn packets_between_owners_pass_and_nothing_else_moves() {
    let pair = Pair::start("pass");
    assert_eq!(pair.counters("eni-1"), PortCounters::default());
    let _server = pair.two.serve();
    assert!(pair.one.reaches("192.168.1.20", 3));
    // Each node asked for the gateway once; then three datagrams went each way.
    let wanted = PortCounters {
        received_packets: 1 + 3,
        received_bytes: ARP + 3 * DATAGRAM,
        delivered_packets: 3,
        delivered_bytes: 3 * DATAGRAM,
        arp_answered: 1,
        ..PortCounters::default()
    };
    assert_eq!(pair.counters("eni-1"), wanted);
    assert_eq!(pair.counters("eni-2"), wanted);
}

#[test]
fn a_foreign_source_is_dropped_while_the_check_is_on() {
    let pair = Pair::start("spoof");
    let _server = pair.two.serve();
    assert!(pair.one.reaches("192.168.1.20", 1));
    let before = (pair.counters("eni-1"), pair.counters("eni-2"));
    pair.one.ip("addr add 10.9.9.9/32 dev lo");
    pair.one
        .ip("route replace default via 192.168.1.253 dev eth1 onlink src 10.9.9.9");

    assert!(pair.one.misses("192.168.1.20"));
    assert_eq!(pair.counters("eni-1").spoofed, 1);
    assert_eq!(pair.counters("eni-2"), before.1, "nothing may have arrived");

    // With the check off the packet arrives; its answer goes to an address nobody owns.
    pair.fabric.source_dest_check("eni-1", false).unwrap();
    assert!(pair.one.misses("192.168.1.20"));
    let (one, two) = (pair.counters("eni-1"), pair.counters("eni-2"));
    assert_eq!(one.spoofed, 1);
    assert_eq!(two.delivered_packets, before.1.delivered_packets + 1);
    assert_eq!((two.unowned, one.unowned), (1, 0));

    // A route makes the address reachable, as long as the ENI takes what is not its own.
    pair.fabric
        .route("10.9.9.0/24".parse().unwrap(), "eni-1")
        .unwrap();
    assert!(pair.one.reaches("192.168.1.20", 2));
    pair.fabric.source_dest_check("eni-1", true).unwrap();
    assert!(pair.one.misses("192.168.1.20"));
    assert_eq!(pair.counters("eni-1").spoofed, 2);
    pair.fabric.source_dest_check("eni-1", false).unwrap();
    pair.fabric.unroute("10.9.9.0/24".parse().unwrap()).unwrap();
    assert!(pair.one.misses("192.168.1.20"));
    pair.assert_conserved();
}

#[test]
fn what_nobody_owns_is_dropped() {
    let pair = Pair::start("unowned");
    let _server = pair.two.serve();
    assert!(pair.one.misses("192.168.1.99"));
    let one = pair.counters("eni-1");
    assert_eq!((one.unowned, one.dropped()), (1, 1));

    assert!(pair.one.reaches("192.168.1.20", 1));
    pair.fabric.disown(ip("192.168.1.20"), "eni-1").unwrap();
    assert!(pair.one.reaches("192.168.1.20", 1), "eni-1 never owned it");
    pair.fabric.disown(ip("192.168.1.20"), "eni-2").unwrap();
    assert!(pair.one.misses("192.168.1.20"));
    assert_eq!(pair.counters("eni-1").unowned, 2);
    pair.fabric.own(ip("192.168.1.20"), "eni-2").unwrap();
    assert!(pair.one.reaches("192.168.1.20", 1));
    pair.assert_conserved();
}

#[test]
fn announcements_are_refused() {
    let pair = Pair::start("garp");
    pair.one.sysctl("conf/eth1/arp_notify", "1");
    pair.one.ip("link set eth1 down");
    pair.one.ip("link set eth1 up");
    let one = pair.counters("eni-1");
    assert_eq!((one.refused, one.arp_answered), (1, 0), "{one:?}");
    assert_eq!(pair.counters("eni-2"), PortCounters::default());
}

#[test]
fn an_eni_moves_to_another_node_and_keeps_its_addresses() {
    let pair = Pair::start("move");
    let other = Node::new();
    let again = pair.fabric.plug(port("eni-2", 20, true), other.netns());
    assert!(matches!(again, Err(FabricError::AlreadyPlugged { .. })));

    pair.fabric.unplug("eni-2").unwrap();
    assert!(!pair.two.has_link("eth1"));
    assert!(pair.one.misses("192.168.1.20"));
    let twice = pair.fabric.unplug("eni-2");
    assert!(matches!(twice, Err(FabricError::NotPlugged { .. })));

    pair.fabric
        .plug(port("eni-2", 20, true), other.netns())
        .unwrap();
    other.bring_up(&pair.fabric, "eni-2", "192.168.1.20");
    let _server = other.serve();
    assert!(pair.one.reaches("192.168.1.20", 1));
    let owners = pair.fabric.owners().unwrap();
    assert_eq!(owners[&ip("192.168.1.20")], "eni-2");
    let stolen = pair.fabric.own(ip("192.168.1.20"), "eni-1");
    assert!(matches!(stolen, Err(FabricError::Owned { .. })));
}

#[test]
fn a_new_link_is_down_bare_and_as_ordered() {
    let fabric = Fabric::start("bare").unwrap();
    let node = Node::new();
    fabric.plug(port("eni-1", 10, true), node.netns()).unwrap();
    let shown = node.try_ip("-o addr show dev eth1").stdout;
    assert!(shown.is_empty(), "{}", String::from_utf8_lossy(&shown));
    let shown = node.try_ip("-o link show dev eth1").stdout;
    let shown = String::from_utf8_lossy(&shown);
    for wanted in ["state DOWN", "mtu 1500", "link/ether 00:16:3e:00:00:0a"] {
        assert!(shown.contains(wanted), "{wanted} in {shown}");
    }
    assert!(!shown.contains("UP>") && !shown.contains("UP,"), "{shown}");

    // A name that is taken or impossible leaves nothing behind, and the ENI may be plugged later.
    let taken = fabric.plug(port("eni-2", 20, true), node.netns());
    assert!(
        matches!(taken, Err(FabricError::IpRefused { .. })),
        "{taken:?}"
    );
    let mut bad = port("eni-2", 20, true);
    bad.link = "a/b".into();
    let refused = fabric.plug(bad, node.netns());
    assert!(matches!(refused, Err(FabricError::LinkName { .. })));
    assert_eq!(fabric.counters().unwrap().len(), 1);
    let other = Node::new();
    fabric.plug(port("eni-2", 20, true), other.netns()).unwrap();
}

#[test]
fn a_node_that_dies_takes_its_links_along() {
    let pair = Pair::start("death");
    let Pair { fabric, one, two } = pair;
    assert_eq!(near_ends(&fabric).len(), 2);
    drop(two);
    // The kernel takes a namespace down some time after its last user.
    let start = Instant::now();
    while near_ends(&fabric).len() > 1 {
        assert!(
            start.elapsed() < NAMESPACE_DEATH_MAX,
            "the link of a dead node stays"
        );
    }
    assert!(one.misses("192.168.1.20"));
    fabric.unplug("eni-2").unwrap();
    let two = Node::with_eni(&fabric, "eni-2", 20, true);
    let _server = two.serve();
    assert!(one.reaches("192.168.1.20", 1));
}

#[test]
fn a_pod_behind_a_node_has_its_own_address_and_gets_every_byte() {
    let pair = Pair::start("pod");
    let pod = pod_behind(&pair.two, "192.168.1.21");
    let _server = pod.serve();
    assert!(pair.one.misses("192.168.1.21"), "nobody owns it yet");
    pair.fabric.own(ip("192.168.1.21"), "eni-2").unwrap();
    assert!(pair.one.reaches("192.168.1.21", 3));
    assert!(pair.one.fetches("192.168.1.21", 100_000_000));
    pair.assert_conserved();
    let two = pair.counters("eni-2");
    assert!(two.received_bytes > 100_000_000, "{two:?}");
    assert_eq!(two.dropped(), 0, "{two:?}");
}

/// A pod with `address`, joined to `node` by a veth pair and routed.
fn pod_behind(node: &Node, address: &str) -> Node {
    let pod = Node::new();
    node.sysctl("ip_forward", "1");
    let target = pod.netns();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&target);
    let netns = format!("/proc/{}/fd/{fd}", std::process::id());
    node.ip(&format!(
        "link add cali1 type veth peer name eth0 netns {netns}"
    ));
    node.ip("addr add 169.254.1.1/32 dev cali1");
    node.ip("link set cali1 up");
    node.ip(&format!("route add {address}/32 dev cali1"));
    pod.ip(&format!("addr add {address}/32 dev eth0"));
    pod.ip("link set eth0 up");
    pod.ip("route add default via 169.254.1.1 dev eth0 onlink");
    pod
}

#[test]
fn dropping_the_fabric_leaves_nothing() {
    let name = "drop";
    let Pair { fabric, one, two } = Pair::start(name);
    assert!(one.has_link("eth1") && two.has_link("eth1"));
    assert!(threads().contains(&format!("vpc-{name}")));
    drop(fabric);
    assert!(!one.has_link("eth1") && !two.has_link("eth1"));
    assert!(!threads().contains(&format!("vpc-{name}")));
}

fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        // A thread may end between the listing and the reading.
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
