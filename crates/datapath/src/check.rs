//! Plans against observations: every difference, as a value and as a sentence.
//!
//! The comparisons are pure; [`check_pod`] only adds the two observations. What is there and in no
//! plan is no difference of this plan (see `leftovers`), except a rule that takes its packets away.

use std::fmt;

use model::{
    InterfaceName, Mac,
    net::{EniNet, LinkAddress, Neighbour, PodNet, Route, Rule, Tag, VethPair},
};

use crate::{
    error::Result,
    mend::diff_on_node,
    netlink::Netlink,
    object::Object,
    observe::{Observed, observe},
    pod::node_neighbours,
    rules::same_packets,
    trunk::Trunk,
};

/// In which namespace a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The node's.
    Node,
    /// The pod's.
    Pod,
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Side::Node => "on the node",
            Side::Pod => "in the pod",
        })
    }
}

/// One way in which the kernel is not as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields repeat the variant's sentence")]
pub enum Difference {
    /// The link does not exist.
    LinkMissing { side: Side, link: InterfaceName },
    /// The link is down.
    LinkDown { side: Side, link: InterfaceName },
    /// The link has another MAC.
    LinkMac {
        side: Side,
        link: InterfaceName,
        found: Mac,
        planned: Mac,
    },
    /// The link has another MTU.
    LinkMtu {
        side: Side,
        link: InterfaceName,
        found: u32,
        planned: u32,
    },
    /// The link is in another group.
    LinkGroup {
        side: Side,
        link: InterfaceName,
        found: u32,
        planned: u32,
    },
    /// The address is not there.
    AddressMissing { side: Side, address: LinkAddress },
    /// The neighbour is not there, not permanent or has another MAC.
    NeighbourMissing { side: Side, neighbour: Neighbour },
    /// The route is not there, is different or is not ours.
    RouteMissing { side: Side, route: Route },
    /// The rule is not there or is not ours.
    RuleMissing { side: Side, rule: Rule },
    /// The tag is not there or is another pod's.
    TagMissing { tag: Tag },
    /// A rule of ours leads the same packets to another table.
    RuleElsewhere { side: Side, rule: Rule, found: u32 },
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Difference as D;
        match self {
            D::LinkMissing { side, link } => write!(out, "{side}, link {link} is missing"),
            D::LinkDown { side, link } => write!(out, "{side}, link {link} is down"),
            D::LinkMac {
                side,
                link,
                found,
                planned,
            } => {
                write!(
                    out,
                    "{side}, link {link} has MAC {found} instead of {planned}"
                )
            }
            D::LinkMtu {
                side,
                link,
                found,
                planned,
            } => {
                write!(
                    out,
                    "{side}, link {link} has MTU {found} instead of {planned}"
                )
            }
            D::LinkGroup {
                side,
                link,
                found,
                planned,
            } => {
                write!(
                    out,
                    "{side}, link {link} is in group {found} instead of {planned}"
                )
            }
            D::AddressMissing { side, address } => {
                write!(out, "{side}, {} is missing", Object::Address(address))
            }
            D::NeighbourMissing { side, neighbour } => {
                write!(out, "{side}, {} is missing", Object::Neighbour(neighbour))
            }
            D::RouteMissing { side, route } => {
                write!(out, "{side}, {} is missing", Object::Route(route))
            }
            D::RuleMissing { side, rule } => {
                write!(out, "{side}, {} is missing", Object::Rule(rule))
            }
            D::TagMissing { tag } => {
                write!(out, "{}, {} is missing", Side::Node, Object::Tag(tag))
            }
            D::RuleElsewhere { side, rule, found } => write!(
                out,
                "{side}, {} leads to table {found} instead of {}",
                Object::RuleInAnyTable(rule),
                rule.table
            ),
        }
    }
}

/// What a link should be like.
pub(crate) struct LinkPlan<'a> {
    pub(crate) name: &'a InterfaceName,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
}

/// Compares the node's part of a plan with an observation of the node.
pub fn diff_pod(plan: &PodNet, node: &Observed) -> Vec<Difference> {
    let mut differences = Vec::new();
    for pair in plan.pairs() {
        let link = LinkPlan {
            name: &pair.host,
            mac: Some(pair.host_mac),
            mtu: pair.mtu,
        };
        differences.extend(diff_link(Side::Node, &link, node));
        differences.extend(diff_group(pair, node));
    }
    differences.extend(diff_neighbours(Side::Node, &node_neighbours(plan), node));
    differences.extend(diff_routes(Side::Node, &plan.host_routes, node));
    differences.extend(diff_rules(Side::Node, &plan.host_rules, node));
    differences
}

/// Compares the pod's part of a plan with an observation of the pod.
fn diff_inside(plan: &PodNet, inside: &Observed) -> Vec<Difference> {
    let mut differences = Vec::new();
    for pair in plan.pairs() {
        let link = LinkPlan {
            name: &pair.pod,
            mac: Some(pair.pod_mac),
            mtu: pair.mtu,
        };
        differences.extend(diff_link(Side::Pod, &link, inside));
    }
    for device in &plan.devices {
        let link = LinkPlan {
            name: &device.pod,
            mac: Some(device.mac),
            mtu: device.mtu,
        };
        differences.extend(diff_link(Side::Pod, &link, inside));
    }
    differences.extend(diff_addresses(Side::Pod, &plan.pod_addresses, inside));
    differences.extend(diff_neighbours(Side::Pod, &plan.pod_neighbours, inside));
    differences.extend(diff_routes(Side::Pod, &plan.pod_routes, inside));
    differences.extend(diff_rules(Side::Pod, &plan.pod_rules, inside));
    differences
}

fn diff_rules(side: Side, planned: &[Rule], observed: &Observed) -> Vec<Difference> {
    let mut differences = Vec::new();
    for rule in planned {
        if observed.rules.binary_search(rule).is_err() {
            let rule = rule.clone();
            differences.push(Difference::RuleMissing { side, rule });
        }
        let elsewhere = observed
            .rules
            .iter()
            .filter(|found| same_packets(found, rule) && found.table != rule.table);
        differences.extend(elsewhere.map(|found| Difference::RuleElsewhere {
            side,
            rule: rule.clone(),
            found: found.table,
        }));
    }
    differences
}

/// Compares the plan of an ENI with an observation of the node.
pub fn diff_eni(plan: &EniNet, node: &Observed) -> Vec<Difference> {
    let link = LinkPlan {
        name: &plan.link,
        mac: None,
        mtu: plan.mtu,
    };
    let mut differences = diff_link(Side::Node, &link, node);
    differences.extend(diff_addresses(Side::Node, &plan.addresses, node));
    differences.extend(diff_routes(Side::Node, &plan.routes, node));
    differences
}

/// Observes node and pod and compares both with the plan: CNI's CHECK.
///
/// # Errors
/// When either cannot be observed.
pub fn check_pod(
    host: &mut Netlink,
    trunk: &Trunk,
    pod: &mut Netlink,
    plan: &PodNet,
) -> Result<Vec<Difference>> {
    let mut differences = diff_on_node(trunk, plan, &observe(host)?)?;
    differences.extend(diff_inside(plan, &observe(pod)?));
    Ok(differences)
}

/// The group of the node's end, which the way to Services goes by.
fn diff_group(pair: &VethPair, node: &Observed) -> Option<Difference> {
    let mut links = node.links.iter();
    let found = links.find(|found| found.link.name == pair.host)?;
    (found.group != pair.group).then(|| Difference::LinkGroup {
        side: Side::Node,
        link: pair.host.clone(),
        found: found.group,
        planned: pair.group,
    })
}

pub(crate) fn diff_link(side: Side, plan: &LinkPlan<'_>, observed: &Observed) -> Vec<Difference> {
    let link = || plan.name.clone();
    let found = observed
        .links
        .iter()
        .find(|found| found.link.name == *plan.name);
    let Some(found) = found else {
        return vec![Difference::LinkMissing { side, link: link() }];
    };
    let mut differences = Vec::new();
    if !found.link.up {
        differences.push(Difference::LinkDown { side, link: link() });
    }
    if let Some(planned) = plan.mac.filter(|mac| *mac != found.link.mac) {
        let found = found.link.mac;
        differences.push(Difference::LinkMac {
            side,
            link: link(),
            found,
            planned,
        });
    }
    if found.mtu != plan.mtu {
        let (found, planned) = (found.mtu, plan.mtu);
        differences.push(Difference::LinkMtu {
            side,
            link: link(),
            found,
            planned,
        });
    }
    differences
}

pub(crate) fn diff_addresses(
    side: Side,
    planned: &[LinkAddress],
    observed: &Observed,
) -> impl Iterator<Item = Difference> {
    planned
        .iter()
        .filter(|address| !observed.addresses.contains(address))
        .map(move |address| Difference::AddressMissing {
            side,
            address: address.clone(),
        })
}

fn diff_neighbours(
    side: Side,
    planned: &[Neighbour],
    observed: &Observed,
) -> impl Iterator<Item = Difference> {
    planned
        .iter()
        .filter(|neighbour| !observed.neighbours.contains(neighbour))
        .map(move |neighbour| Difference::NeighbourMissing {
            side,
            neighbour: neighbour.clone(),
        })
}

pub(crate) fn diff_routes(
    side: Side,
    planned: &[Route],
    observed: &Observed,
) -> impl Iterator<Item = Difference> {
    planned
        .iter()
        .filter(|route| observed.routes.binary_search(route).is_err())
        .map(move |route| Difference::RouteMissing {
            side,
            route: route.clone(),
        })
}

#[cfg(test)]
mod tests {
    use model::net::Link;

    use super::*;
    use crate::observe::ObservedLink;

    fn eni() -> EniNet {
        let link = InterfaceName::new("eth1").unwrap();
        EniNet {
            mtu: 1500,
            addresses: vec![LinkAddress {
                address: "10.0.0.9/32".parse().unwrap(),
                link: link.clone(),
            }],
            routes: vec![Route {
                table: 1007,
                destination: "0.0.0.0/0".parse().unwrap(),
                gateway: Some("10.0.0.253".parse().unwrap()),
                link: link.clone(),
                onlink: true,
            }],
            tags: None,
            rules: Vec::new(),
            ipvlan: None,
            link,
        }
    }

    fn as_planned(plan: &EniNet) -> Observed {
        Observed {
            links: vec![ObservedLink {
                link: Link {
                    name: plan.link.clone(),
                    index: 7,
                    mac: Mac([2; 6]),
                    up: true,
                },
                mtu: plan.mtu,
                group: 0,
            }],
            addresses: plan.addresses.clone(),
            routes: plan.routes.clone(),
            ..Observed::default()
        }
    }

    #[test]
    fn nothing_differs_from_what_was_planned() {
        assert_eq!(diff_eni(&eni(), &as_planned(&eni())), []);
    }

    #[test]
    fn an_empty_observation_lacks_everything() {
        let sentences: Vec<_> = diff_eni(&eni(), &Observed::default())
            .iter()
            .map(Difference::to_string)
            .collect();
        let expected = [
            "on the node, link eth1 is missing",
            "on the node, address 10.0.0.9/32 dev eth1 is missing",
            "on the node, route 0.0.0.0/0 via 10.0.0.253 dev eth1 table 1007 onlink is missing",
        ];
        assert_eq!(sentences, expected);
    }

    #[test]
    fn another_mac_is_told_with_both() {
        let plan = LinkPlan {
            name: &eni().link,
            mac: Some(Mac([3; 6])),
            mtu: 1500,
        };
        let found = diff_link(Side::Pod, &plan, &as_planned(&eni()));
        let sentence =
            "in the pod, link eth1 has MAC 02:02:02:02:02:02 instead of 03:03:03:03:03:03";
        assert_eq!(
            found.iter().map(Difference::to_string).collect::<Vec<_>>(),
            [sentence]
        );
    }
}
