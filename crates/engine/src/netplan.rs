//! What the kernel must hold for an ENI and for an attachment, in the mode ENIIP with veth and
//! policy routing: a packet from a pod is sent by its address to the table of its ENI, a packet to
//! a pod by its address to the pod's veth.
//!
//! What a pod has inside is in `netplan/inside.rs`, what a trunk pod has beside on the node in
//! `netplan/trunk.rs`, and what a pod with ENIs wholly its own has in `netplan/own.rs`. Names, priorities and the next hop are what
//! other software on a node looks for. Must never know netlink.

mod inside;
mod ipvlan;
mod own;
mod trunk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::{
    AttachmentKey, Family, InterfaceName, KeyError, Mac, PodKey,
    family::host_net,
    net::{
        ENI_TABLE_BASE, EniNet, Link, POD_TABLE_BASE, PodNet, RULE_PRIORITY_FROM_POD,
        RULE_PRIORITY_TO_POD, ReturnPath, Route, Rule, Sysctl, SysctlScope, TABLE_MAIN, VethPair,
    },
};
use sha1::{Digest, Sha1};

pub use self::{
    ipvlan::{SLAVE_PREFIX, ipvlan_eni, ipvlan_pod, ipvlan_sysctls, slave_name},
    own::{HOST_PEER, service_path},
    trunk::{LocalTraffic, trunk_net},
};
use crate::ledger::{Attachment, EniEntry, Wire};

/// Where a pod sends everything: an address that lies on its own link and is nobody's.
pub const fn next_hop(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    }
}

fn everything(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(Ipv4Net::default()),
        Family::V6 => IpNet::V6(Ipv6Net::default()),
    }
}

/// How the node's end of every pod's link is called, here and in the projects we stand in for.
pub const POD_LINK_PREFIX: &str = "cali";

/// The name of a pod's veth on the node: `cali` and the first eleven hexadecimal digits of
/// SHA-1(`namespace.name`), fifteen characters, the kernel's limit; policy engines find the pod by it. That
/// of a further interface is nobody's to find: its text ends in `/` and the interface, which no
/// pod's name can, so that `eth1` of pod `a` and `eth0` of pod `aeth1` are two links.
///
/// # Errors
/// Never for the names this makes; the type cannot show it.
pub fn host_link_name(pod: &PodKey, interface: &InterfaceName) -> Result<InterfaceName, KeyError> {
    let suffix = match interface.as_str() {
        "eth0" => String::new(),
        further => format!("/{further}"),
    };
    let digest = Sha1::digest(format!("{}.{}{suffix}", pod.namespace, pod.name));
    let mut name = String::from(POD_LINK_PREFIX);
    for byte in digest.iter().take(6) {
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate(15);
    InterfaceName::new(name)
}

/// The MAC of one end of an attachment's veth. Computed from the sandbox, so that the ends of an old
/// and a new sandbox of one pod, which share the name of the link, can be told apart.
fn end_mac(key: &AttachmentKey, end: &str) -> Mac {
    let digest = Sha1::digest(format!("{key} {end}"));
    let mut octets = [0; 6];
    for (octet, byte) in octets.iter_mut().zip(digest.iter()) {
        *octet = *byte;
    }
    Mac::locally_administered(octets)
}

/// The routing table of an ENI.
pub fn eni_table(link: &Link) -> u32 {
    ENI_TABLE_BASE + link.index
}

/// The veth of one interface of an attachment.
fn pair(attachment: &Attachment, wire: &Wire<'_>) -> VethPair {
    let key = AttachmentKey {
        container: attachment.key.container.clone(),
        interface: wire.interface.clone(),
    };
    VethPair {
        host: wire.host_link.clone(),
        host_mac: end_mac(&key, "node"),
        pod: match attachment.is_whole() {
            true => own::host_peer(),
            false => key.interface.clone(),
        },
        pod_mac: end_mac(&key, "pod"),
        mtu: attachment.mtu,
        group: 0,
    }
}

/// What an attachment needs, with `eni_link` as the link its packets leave by: the trunk's for a trunk
/// pod. Without it (the ENI is gone) the plan still names everything that must be removed.
pub fn pod_net(attachment: &Attachment, eni_link: Option<&Link>) -> PodNet {
    let first = pair(attachment, &attachment.first());
    if attachment.is_whole() {
        return own::plan(attachment, first);
    }
    let mut net = PodNet::new(first);
    let further = attachment.wires().skip(1);
    net.further = further.map(|wire| pair(attachment, &wire)).collect();
    let pairs: Vec<_> = net.pairs().cloned().collect();
    for ((wire, pair), place) in attachment.wires().zip(&pairs).zip(1..) {
        let table = (pairs.len() > 1).then_some(POD_TABLE_BASE + place);
        inside::on_pair(&mut net, &wire, pair, table);
        let addresses = wire.addresses.iter().map(|(_, address)| *address);
        for address in addresses {
            let own = host_net(address);
            net.host_routes.push(Route {
                table: TABLE_MAIN,
                destination: own,
                gateway: None,
                link: pair.host.clone(),
                onlink: false,
            });
            match wire.member {
                Some(member) => trunk::plan(&mut net, member, pair, address, eni_link),
                None => net.host_rules.extend(plain_rules(own, eni_link)),
            }
        }
    }
    net
}

/// What an attachment of mode VPC needs: its route. Its packets go by the node's own routes like the node's.
pub fn routed_net(attachment: &Attachment) -> PodNet {
    let mut net = pod_net(attachment, None);
    net.host_rules.clear();
    net
}

/// Whatever comes to `own` goes to the pod, whatever comes from it goes to the table of its ENI.
fn plain_rules(own: IpNet, eni_link: Option<&Link>) -> [Rule; 2] {
    let table = eni_link.map_or(TABLE_MAIN, eni_table);
    [
        Rule::new(RULE_PRIORITY_TO_POD, None, Some(own), TABLE_MAIN),
        Rule::new(RULE_PRIORITY_FROM_POD, Some(own), None, table),
    ]
}

/// What an ENI needs before a pod can use an address of it: it is up and its table leads to the
/// vSwitch's gateway. It carries no address of its own: all of them are the pods', and the kernel
/// asks for the gateway with the node's address, as every node of this cloud does today.
pub fn eni_net(eni: &EniEntry, link: &Link, mtu: u32) -> EniNet {
    let routes = eni.gateway.iter().map(|(family, gateway)| Route {
        table: eni_table(link),
        destination: everything(family),
        gateway: Some(*gateway),
        link: link.name.clone(),
        onlink: true,
    });
    EniNet {
        link: link.name.clone(),
        mtu,
        addresses: Vec::new(),
        routes: routes.collect(),
        tags: None,
        rules: Vec::new(),
        ipvlan: None,
    }
}

/// What the node needs so that answers of pods find back the way the question came. `primary` is the
/// link of the node's own ENI.
pub fn return_path(primary: &Link) -> ReturnPath {
    ReturnPath {
        uplink: primary.name.clone(),
        pod_links: POD_LINK_PREFIX.into(),
        families: vec![Family::V4],
    }
}

/// The values under `/proc/sys` an attachment relies on. Forwarding is on and the reverse-path check
/// off where packets pass (a pod's packet leaves by an ENI the main table does not know), and the
/// check is strict on the pod's own link: a source that is not the pod's is dropped there
/// (Documentation/networking/ip-sysctl.rst, `rp_filter`: the higher of `all` and the link counts). On the
/// node's own ENI it is loose: what came in there for a pod is judged by the pod's way out, which is
/// another ENI until the answer is marked.
pub fn sysctls(
    attachment: &Attachment,
    eni_link: Option<&Link>,
    primary: Option<&Link>,
) -> Vec<Sysctl> {
    let node = |path: String, value: &str| Sysctl {
        scope: SysctlScope::Node,
        path,
        value: value.into(),
    };
    let mut list = Vec::new();
    let has = |family| {
        attachment
            .wires()
            .any(|wire| wire.addresses.get(family).is_some())
    };
    if has(Family::V4) {
        list.push(node("net/ipv4/ip_forward".into(), "1"));
        list.push(node("net/ipv4/conf/all/rp_filter".into(), "0"));
        for (link, check) in [(eni_link, "0"), (primary, "2")] {
            let path = link.map(|link| format!("net/ipv4/conf/{}/rp_filter", link.name));
            list.extend(path.map(|path| node(path, check)));
        }
        let net = pod_net(attachment, None);
        let links = net.pairs().map(|pair| &pair.host);
        list.extend(links.map(|link| node(format!("net/ipv4/conf/{link}/rp_filter"), "1")));
        // What a pod beside it serves is led back by its mark, so the check must see the mark too: without, it would
        // look up where that pod's own packets go (`src_valid_mark`, the same page).
        if attachment.is_whole() {
            let path = format!("net/ipv4/conf/{}/src_valid_mark", net.veth.host);
            list.push(node(path, "1"));
        }
    }
    if has(Family::V6) {
        list.push(node("net/ipv6/conf/all/forwarding".into(), "1"));
        list.extend(attachment.wires().map(|wire| Sysctl {
            scope: SysctlScope::Pod,
            path: format!("net/ipv6/conf/{}/accept_ra", wire.interface),
            value: "0".into(),
        }));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Further, Joint, Member, Reach};
    use model::{ContainerId, DualStack, EniId, Timestamp};

    pub(super) fn attachment(container: &str) -> Attachment {
        let pod = PodKey::new("default", "web-0").unwrap();
        let interface = InterfaceName::new("eth0").unwrap();
        Attachment {
            key: AttachmentKey {
                container: ContainerId::new(container).unwrap(),
                interface: interface.clone(),
            },
            host_link: host_link_name(&pod, &interface).unwrap(),
            pod,
            uid: None,
            netns: "/run/netns/x".into(),
            addresses: DualStack {
                v4: Some("10.0.1.5".parse().unwrap()),
                v6: Some("2408::5".parse().unwrap()),
            },
            eni: EniId::new("eni-1").unwrap(),
            joint: Joint::Veth,
            mtu: 1500,
            created: Timestamp::EPOCH,
            superseded: false,
            sticky: false,
            member: None,
            further: Vec::new(),
        }
    }

    pub(super) fn member(container: &str, local: LocalTraffic) -> Attachment {
        let mut attachment = attachment(container);
        attachment.member = Some(Box::new(Member {
            eni: EniId::new("eni-m").unwrap(),
            reach: Reach::Vlan(101),
            subnet: DualStack::default(),
            default_route: true,
            routes: Vec::new(),
            local,
        }));
        attachment
    }

    pub(super) fn link() -> Link {
        Link {
            name: InterfaceName::new("eth1").unwrap(),
            index: 7,
            mac: Mac([2; 6]),
            up: true,
        }
    }

    #[test]
    fn the_links_name_is_the_one_policy_engines_compute() {
        // printf 'default.web-0' | sha1sum
        let name = attachment("c1").host_link;
        assert_eq!(name.as_str(), "cali0d7763386da");
        let other = host_link_name(
            &PodKey::new("default", "web-0").unwrap(),
            &InterfaceName::new("eth1").unwrap(),
        );
        assert_ne!(
            other.unwrap(),
            name,
            "a second interface has a link of its own"
        );
    }

    #[test]
    fn both_families_take_the_same_shape() {
        let net = pod_net(&attachment("c1"), Some(&link()));
        assert_eq!(net.host_rules.len(), 4);
        let shape = |rules: &[Rule]| -> Vec<(u32, u32)> {
            rules
                .iter()
                .map(|rule| (rule.priority, rule.table))
                .collect()
        };
        assert_eq!(shape(&net.host_rules[..2]), [(512, 254), (2048, 1007)]);
        assert_eq!(shape(&net.host_rules[..2]), shape(&net.host_rules[2..]));
        assert_eq!(net.pod_routes[1].gateway, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn two_sandboxes_of_one_pod_share_the_name_but_not_the_mac() {
        let (old, new) = (attachment("c1"), attachment("c2"));
        let (old, new) = (pod_net(&old, None), pod_net(&new, None));
        assert_eq!(old.veth.host, new.veth.host);
        assert_ne!(old.veth.host_mac, new.veth.host_mac);
        assert_ne!(old.veth.host_mac, old.veth.pod_mac);
    }

    #[test]
    fn several_interfaces_answer_where_they_were_asked_and_one_is_the_way_out() {
        let mut attachment = member("c1", LocalTraffic::Strict);
        let mut second = (**attachment.member.as_ref().unwrap()).clone();
        (second.reach, second.default_route) = (Reach::Vlan(102), false);
        second.routes = vec!["10.9.0.0/16".parse().unwrap()];
        let interface = InterfaceName::new("eth1").unwrap();
        attachment.further = vec![Further {
            host_link: host_link_name(&attachment.pod, &interface).unwrap(),
            interface,
            addresses: DualStack::only(Family::V4, "10.0.2.6".parse().unwrap()),
            member: second,
        }];
        let net = pod_net(&attachment, Some(&link()));
        let routes = net
            .pod_routes
            .iter()
            .filter(|it| it.link.as_str() == "eth1");
        let routes: Vec<_> = routes
            .map(|it| (it.table, it.destination.to_string(), it.gateway.unwrap()))
            .collect();
        let next_hop = next_hop(Family::V4);
        let expected = [(254, "10.9.0.0/16"), (1002, "0.0.0.0/0")];
        let expected = expected.map(|(table, to)| (table, to.to_string(), next_hop));
        assert_eq!(routes, expected);
        let default = |it: &&Route| it.table == TABLE_MAIN && it.destination.prefix_len() == 0;
        assert!(
            net.pod_routes
                .iter()
                .filter(default)
                .all(|it| it.link.as_str() == "eth0")
        );
        let rules = net.pod_rules.iter().filter(|it| it.table == 1002);
        let rules: Vec<_> = rules
            .map(|it| (it.from.unwrap().to_string(), it.leaves_by.is_some()))
            .collect();
        assert_eq!(
            rules,
            [("10.0.2.6/32".into(), false), ("0.0.0.0/0".into(), true)]
        );
        let [tag] = &net.tags[2..] else {
            panic!("one more than the first interface's two: {:?}", net.tags)
        };
        assert_eq!((tag.vlan, &tag.link), (102, &net.further[0].host));
        assert_ne!(net.further[0].host, net.veth.host);
        assert_ne!(tag.link_mac, net.veth.host_mac);
        let links = sysctls(&attachment, None, None);
        let checked = links.iter().filter(|it| it.path.contains("cali"));
        assert_eq!(checked.count(), 2, "rp_filter at both");
    }
}
