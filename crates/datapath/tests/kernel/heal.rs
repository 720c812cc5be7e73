//! The node's side of a pod that stands: what somebody else does to it is announced, found, and put back
//! from outside the pod; and what is nobody's of ours is neither news nor touched.

use std::time::{Duration, Instant};

use model::net::{Sysctl, SysctlScope};
use terway_datapath::{
    Difference, Error, News, Watch, diff_on_node, is_cut_off, mend_pod, observe, write_sysctl,
    wrong_sysctls,
};

use crate::stage::{Namespace, Node, Pod};

const WINDOW: Duration = Duration::from_millis(20);
/// What is announced is there at once; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What must not be announced would be there by then.
const SILENCE: Duration = Duration::from_millis(200);

/// A node with one pod, beside foreign routes and rules, and who listens there.
fn scene() -> (Node, Pod, Namespace, Watch) {
    let (mut node, mut pod, outside) = (Node::new(), Pod::numbered(5, 42), Namespace::new());
    node.add_eni("eth1", &outside, "far1");
    for line in [
        "link set eth1 up",
        "route add 192.0.2.0/24 dev eth1",
        "route add 198.51.100.0/24 dev eth1 table 77",
        "rule add priority 300 from 192.0.2.7 table 77",
        "-6 rule add priority 300 from 2001:db8::7 table 77",
    ] {
        node.namespace.ip(line);
    }
    node.apply(&mut pod).unwrap();
    let watch = node.namespace.run(|| Watch::open().unwrap());
    (node, pod, outside, watch)
}

fn silence(watch: &mut Watch) {
    while watch.wait(SILENCE, WINDOW).unwrap().is_some() {}
}

#[test]
fn what_is_taken_from_the_nodes_side_is_announced_and_put_back() {
    const DAMAGES: [(&str, &str); 14] = [
        (
            "ip link set cali00000000005 down",
            "link cali00000000005 is down",
        ),
        (
            "ip link set cali00000000005 mtu 1300",
            "has MTU 1300 instead of 1400",
        ),
        (
            "ip link set cali00000000005 address 02:00:00:00:00:09",
            "has MAC 02:00:00:00:00:09 instead of",
        ),
        (
            "ip link set cali00000000005 group 7",
            "is in group 7 instead of 0",
        ),
        (
            "ip link set cali00000000005 down; ip link set cali00000000005 name other",
            "link cali00000000005 is missing",
        ),
        (
            "ip route del 10.0.0.5",
            "route 10.0.0.5/32 dev cali00000000005 table 254",
        ),
        ("ip route replace 10.0.0.5 dev lo", "route 10.0.0.5/32"),
        ("ip -6 route del fd00::5", "route fd00::5/128"),
        (
            "ip neigh del 10.0.0.5 dev cali00000000005",
            "neighbour 10.0.0.5 lladdr",
        ),
        (
            "ip neigh replace fd00::5 lladdr 02:00:00:00:00:09 nud permanent dev cali00000000005",
            "neighbour fd00::5 lladdr ee:00:00:00:02:05",
        ),
        (
            "ip rule del priority 512 to 10.0.0.5",
            "rule priority 512 to 10.0.0.5/32",
        ),
        (
            "ip -6 rule del priority 2048 from fd00::5",
            "rule priority 2048 from fd00::5/128",
        ),
        ("ip rule flush", "rule priority 2048 from 10.0.0.5/32"),
        (
            "ip route flush table main proto 157; ip rule del priority 2048 from 10.0.0.5; \
             ip rule add priority 2048 from 10.0.0.5 table 43 protocol 157",
            "leads to table 43 instead of 1042",
        ),
    ];
    for (command, named) in DAMAGES {
        let (mut node, pod, _outside, mut watch) = scene();
        let whole = node.namespace.snapshot();
        silence(&mut watch);
        let began = Instant::now();
        node.namespace.shell(command);
        if command == "ip rule flush" {
            // Which takes the node's own and foreign rules too; those are for whoever made them.
            node.namespace.shell(
                "ip rule add priority 300 from 192.0.2.7 table 77; \
                 ip rule add priority 32766 table main; ip rule add priority 32767 table default",
            );
        }
        let news = watch.wait(PATIENCE, WINDOW).unwrap();
        assert_eq!(news, Some(News::Changed), "{command}");
        let lacked = mend_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap();
        println!("{command}: put back after {:?}", began.elapsed());
        let sentences: Vec<_> = lacked.iter().map(Difference::to_string).collect();
        assert!(
            sentences.iter().any(|found| found.contains(named)),
            "{command}: {sentences:#?}"
        );
        assert_eq!(node.namespace.snapshot(), whole, "after {command}");
        assert_eq!(
            mend_pod(&mut node.netlink, &node.trunk, &pod.plan).unwrap(),
            []
        );
    }
}

#[test]
fn what_is_not_ours_is_no_news() {
    let (node, _pod, _outside, mut watch) = scene();
    silence(&mut watch);
    for line in [
        "route add 203.0.113.0/24 dev eth1",
        "route del 203.0.113.0/24",
        "rule add priority 301 from 192.0.2.8 table 77",
        "rule del priority 301",
        "-6 rule del priority 300",
        "addr add 192.0.2.1/24 dev eth1",
    ] {
        node.namespace.ip(line);
        let news = watch.wait(SILENCE, WINDOW).unwrap();
        assert_eq!(news, None, "{line}");
    }
    node.namespace.ip("addr del 192.0.2.1/24 dev eth1");
    let news = watch.wait(PATIENCE, WINDOW).unwrap();
    assert_eq!(
        news,
        Some(News::Changed),
        "whose address, only a look tells"
    );
}

#[test]
fn a_pod_whose_link_is_gone_gets_nothing_made() {
    let (mut node, pod, _outside, mut watch) = scene();
    silence(&mut watch);
    node.namespace.ip("link del cali00000000005");
    node.namespace.ip("rule del priority 512 to 10.0.0.5");
    assert_eq!(watch.wait(PATIENCE, WINDOW).unwrap(), Some(News::Changed));
    let before = node.namespace.snapshot();
    let seen = observe(&mut node.netlink).unwrap();
    assert!(is_cut_off(&pod.plan, &seen));
    let refused = mend_pod(&mut node.netlink, &node.trunk, &pod.plan);
    assert!(matches!(refused, Err(Error::NoLink { .. })), "{refused:?}");
    assert_eq!(node.namespace.snapshot(), before);
}

#[test]
fn somebody_elses_link_of_the_name_is_not_taken_for_the_pods() {
    let (mut node, pod, _outside, _watch) = scene();
    node.namespace.ip("link del cali00000000005");
    node.namespace
        .ip("tuntap add name cali00000000005 mode tap");
    let before = node.namespace.snapshot();
    let refused = mend_pod(&mut node.netlink, &node.trunk, &pod.plan);
    assert!(
        matches!(refused, Err(Error::NameTaken { .. })),
        "{refused:?}"
    );
    assert_eq!(node.namespace.snapshot(), before);
}

#[test]
fn a_link_under_another_name_is_not_cut_off() {
    let (mut node, pod, _outside, _watch) = scene();
    for line in ["set cali00000000005 down", "set cali00000000005 name other"] {
        node.namespace.ip(&format!("link {line}"));
    }
    let seen = observe(&mut node.netlink).unwrap();
    assert!(!is_cut_off(&pod.plan, &seen));
    let lacked = diff_on_node(&node.trunk, &pod.plan, &seen).unwrap();
    assert!(!lacked.is_empty());
}

#[test]
fn sysctls_of_links_are_announced_and_written_without_proc() {
    let (mut node, _pod, _outside, mut watch) = scene();
    let sysctl = |name: &str, value: &str| Sysctl {
        scope: SysctlScope::Node,
        path: format!("net/ipv4/conf/cali00000000005/{name}"),
        value: value.into(),
    };
    let gone = Sysctl {
        path: "net/ipv4/conf/nobody/rp_filter".into(),
        ..sysctl("rp_filter", "1")
    };
    let plan = [
        sysctl("rp_filter", "1"),
        sysctl("forwarding", "1"),
        sysctl("src_valid_mark", "1"),
        gone,
    ];
    for planned in &plan[..3] {
        write_sysctl(&mut node.netlink, planned).unwrap();
    }
    assert_eq!(node.namespace.run(|| wrong_sysctls(&plan)), []);
    silence(&mut watch);
    for (command, path) in [
        (
            "echo 2 > /proc/sys/net/ipv4/conf/cali00000000005/rp_filter",
            "cali00000000005/rp_filter is 2 instead of 1",
        ),
        (
            "echo 0 > /proc/sys/net/ipv4/conf/cali00000000005/forwarding",
            "cali00000000005/forwarding is 0 instead of 1",
        ),
        (
            "echo 0 > /proc/sys/net/ipv4/ip_forward",
            "cali00000000005/forwarding is 0 instead of 1",
        ),
    ] {
        node.namespace.shell(command);
        let news = watch.wait(PATIENCE, WINDOW).unwrap();
        assert_eq!(news, Some(News::Changed), "{command}");
        let wrong = node.namespace.run(|| wrong_sysctls(&plan));
        let found = wrong.iter().any(|(_, text)| text.ends_with(path));
        assert!(found, "{command}: {wrong:?}");
        for (planned, _) in &wrong {
            write_sysctl(&mut node.netlink, planned).unwrap();
        }
        assert_eq!(node.namespace.run(|| wrong_sysctls(&plan)), [], "{command}");
        silence(&mut watch);
    }
    let whole = node.namespace.shell("cat /proc/sys/net/ipv4/ip_forward");
    assert_eq!(
        whole.trim(),
        "0",
        "the node's own is not written by netlink"
    );
}

#[test]
fn tables_of_ours_that_are_deleted_are_news_and_others_are_not() {
    let (node, _pod, _outside, mut watch) = scene();
    silence(&mut watch);
    for table in ["inet terway", "ip terway_own_eni"] {
        let chain = format!("nft add chain {table} c '{{ type filter hook forward priority 0; }}'");
        let table = format!("nft add table {table}; {chain}; nft add rule {table} c counter");
        node.namespace.shell(&table);
        assert_eq!(watch.wait(SILENCE, WINDOW).unwrap(), None, "{table}");
    }
    node.namespace
        .shell("nft add table ip filter; nft add chain ip filter c; nft delete table ip filter");
    assert_eq!(watch.wait(SILENCE, WINDOW).unwrap(), None);
    for line in [
        "nft flush chain inet terway c",
        "nft delete table inet terway",
        "nft flush ruleset",
    ] {
        node.namespace.shell(line);
        let news = watch.wait(PATIENCE, WINDOW).unwrap();
        assert_eq!(news, Some(News::Changed), "{line}");
        silence(&mut watch);
    }
}

#[test]
fn more_announcements_than_fit_are_told_as_missed() {
    let (node, _pod, _outside, mut watch) = scene();
    silence(&mut watch);
    // Some 10,000 of about 1 KiB each, beside 1 MiB of room.
    node.namespace.shell(
        "for i in $(seq 0 39); do for j in $(seq 0 249); do echo route add 203.$i.$j.0/24 dev eth1; done; \
         done | ip -batch -",
    );
    assert_eq!(watch.wait(PATIENCE, WINDOW).unwrap(), Some(News::Missed));
    silence(&mut watch);
    node.namespace.ip("route del 10.0.0.5");
    assert_eq!(watch.wait(PATIENCE, WINDOW).unwrap(), Some(News::Changed));
}
