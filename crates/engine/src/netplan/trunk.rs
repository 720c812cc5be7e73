//! What the kernel must hold for a trunk pod: its address is a member ENI's, its packets leave by the
//! trunk ENI under the member's VLAN, and security groups apply to what passes the VPC.
//!
//! Must never know how tags come onto frames.

use std::net::IpAddr;

use ipnet::IpNet;
use model::{
    InterfaceName,
    family::host_net,
    net::{
        EniNet, Link, MARK_RETURN, PodNet, RULE_PRIORITY_FROM_MEMBER, RULE_PRIORITY_FROM_POD,
        RULE_PRIORITY_TO_POD, RULE_PRIORITY_TO_SELF, Rule, TABLE_MAIN, Tag, VethPair,
    },
};
use serde::{Deserialize, Serialize};

use super::{eni_net, eni_table, plain_rules};
use crate::ledger::{EniEntry, Member};

/// Which way packets between a trunk pod and another pod of its node take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalTraffic {
    /// Through the VPC, so that the security groups of both hold. What the node itself asks of its pods,
    /// and their answers, stay on the node: probes must work whatever the groups say.
    #[default]
    Strict,
    /// Straight across the node, as between ordinary pods; no security group is asked.
    Standard,
}

/// Adds what `address` of `member`'s interface needs on the node beside its route: a tag, and the rules.
/// Without the trunk's link the plan still names everything that must be removed.
pub(super) fn plan(
    net: &mut PodNet,
    member: &Member,
    pair: &VethPair,
    address: IpAddr,
    trunk: Option<&Link>,
) {
    net.tags.extend(member.vlan().map(|vlan| Tag {
        vlan,
        address,
        link: pair.host.clone(),
        link_mac: pair.host_mac,
    }));
    let own = host_net(address);
    match member.local {
        LocalTraffic::Strict => net.host_rules.extend(strict_rules(&pair.host, own, trunk)),
        LocalTraffic::Standard => net.host_rules.extend(plain_rules(own, trunk)),
    }
}

/// What comes to `own` is let to the pod only from the trunk and from the node; whatever else wants to
/// get there falls through to the rules of its own pod, and so to the VPC. An answer to what came in by
/// the node's own ENI bears [`MARK_RETURN`] and goes on to the rule for that.
fn strict_rules(pod: &InterfaceName, own: IpNet, trunk: Option<&Link>) -> [Rule; 5] {
    let table = trunk.map_or(TABLE_MAIN, eni_table);
    let to_own = |priority, came_by| Rule {
        came_by,
        ..Rule::new(priority, None, Some(own), TABLE_MAIN)
    };
    let of_pod = Some(pod.clone());
    let of_trunk = trunk.map(|trunk| trunk.name.clone());
    [
        to_own(RULE_PRIORITY_TO_SELF, of_pod.clone()),
        Rule {
            came_by: of_pod,
            unmarked: MARK_RETURN,
            ..Rule::new(RULE_PRIORITY_FROM_MEMBER, Some(own), None, table)
        },
        // In this order: without the trunk's name a removal takes whichever rule it finds first.
        to_own(RULE_PRIORITY_TO_POD, lo()),
        to_own(RULE_PRIORITY_TO_POD, of_trunk),
        Rule::new(RULE_PRIORITY_FROM_POD, Some(own), None, table),
    ]
}

/// The link the kernel names for packets of the node itself.
fn lo() -> Option<InterfaceName> {
    InterfaceName::new("lo").ok()
}

/// What the trunk ENI needs: what every ENI needs, and the tags of `pods`, all that are on the node.
pub fn trunk_net<'a>(
    trunk: &EniEntry,
    link: &Link,
    mtu: u32,
    pods: impl IntoIterator<Item = &'a PodNet>,
) -> EniNet {
    let tags = pods.into_iter().flat_map(|pod| pod.tags.clone());
    EniNet {
        tags: Some(tags.collect()),
        ..eni_net(trunk, link, mtu)
    }
}

#[cfg(test)]
mod tests {
    use model::Family;

    use super::super::{
        pod_net,
        tests::{attachment, link, member},
    };
    use super::*;

    type Shape = (u32, Option<String>, u32, u32);

    fn shape(net: &PodNet, family: Family) -> Vec<Shape> {
        let of = |rule: &&Rule| {
            let net = rule.from.or(rule.to);
            net.is_some_and(|net| Family::of(net.addr()) == family)
        };
        let rules = net.host_rules.iter().filter(of);
        rules
            .map(|rule| {
                let came_by = rule.came_by.as_ref().map(ToString::to_string);
                (rule.priority, came_by, rule.unmarked, rule.table)
            })
            .collect()
    }

    #[test]
    fn strict_keeps_only_the_nodes_own_packets_on_the_node() {
        let attachment = member("c1", LocalTraffic::Strict);
        let net = pod_net(&attachment, Some(&link()));
        let pod = || Some(attachment.host_link.to_string());
        let expected = [
            (510, pod(), 0, 254),
            (511, pod(), MARK_RETURN, 1007),
            (512, Some("lo".into()), 0, 254),
            (512, Some("eth1".into()), 0, 254),
            (2048, None, 0, 1007),
        ];
        for family in Family::BOTH {
            assert_eq!(shape(&net, family), expected, "{family:?}");
        }
        let vlans: Vec<_> = net.tags.iter().map(|tag| (tag.vlan, tag.address)).collect();
        let addresses = attachment.addresses.iter();
        assert_eq!(vlans, Vec::from_iter(addresses.map(|(_, ip)| (101, *ip))));
    }

    #[test]
    fn standard_is_an_ordinary_pod_with_tags() {
        let mut net = pod_net(&member("c1", LocalTraffic::Standard), Some(&link()));
        assert_eq!(std::mem::take(&mut net.tags).len(), 2);
        assert_eq!(net, pod_net(&attachment("c1"), Some(&link())));
    }

    #[test]
    fn the_plan_without_the_trunk_names_every_rule() {
        let attachment = member("c1", LocalTraffic::Strict);
        let [with, without] = [Some(link()), None].map(|trunk| {
            let net = pod_net(&attachment, trunk.as_ref());
            Vec::from_iter(
                net.host_rules
                    .iter()
                    .map(|rule| (rule.priority, rule.from, rule.to)),
            )
        });
        assert_eq!(with, without);
    }
}
