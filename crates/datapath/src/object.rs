//! Kernel objects in words, as errors and differences name them.
//!
//! The wording follows iproute2, so that an operator can paste it behind `ip`. Nothing here talks to
//! the kernel.

use std::fmt;

use model::{
    Family, InterfaceName,
    net::{
        LinkAddress, MARK_RETURN, Neighbour, RULE_PRIORITY_RETURN, Route, Rule, Sysctl, TABLE_MAIN,
        Tag, VethPair,
    },
};

/// A kernel object or a list of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Object<'a> {
    Link(&'a InterfaceName),
    Veth(&'a VethPair),
    /// An ipvlan device and the link it is a slave of.
    Slave(&'a InterfaceName, &'a InterfaceName),
    Address(&'a LinkAddress),
    Neighbour(&'a Neighbour),
    Route(&'a Route),
    Rule(&'a Rule),
    /// Whatever rule of ours has this priority and selector, in any table.
    RuleInAnyTable(&'a Rule),
    /// The rule of the return path.
    ReturnRule(Family),
    NamespaceId,
    Sysctl(&'a Sysctl),
    Tag(&'a Tag),
    /// Where filters of a link hang.
    Clsact(&'a InterfaceName),
    /// A filter of ours on a link: the program of this name.
    Filter(&'a InterfaceName, &'static str),
    /// All objects of one sort.
    All(&'static str),
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Link(name) => write!(out, "link {name}"),
            Object::Veth(pair) => write!(out, "veth {} with peer {}", pair.host, pair.pod),
            Object::Slave(name, link) => write!(out, "link {name} link {link} type ipvlan mode l2"),
            Object::Address(a) => write!(out, "address {} dev {}", a.address, a.link),
            Object::Neighbour(n) => {
                write!(
                    out,
                    "neighbour {} lladdr {} dev {}",
                    n.address, n.mac, n.link
                )
            }
            Object::Route(route) => route_text(out, route),
            Object::Rule(rule) => {
                rule_text(out, rule)?;
                write!(out, " table {}", rule.table)
            }
            Object::RuleInAnyTable(rule) => rule_text(out, rule),
            Object::ReturnRule(family) => write!(
                out,
                "{family:?} rule priority {RULE_PRIORITY_RETURN} fwmark {MARK_RETURN:#x}/{MARK_RETURN:#x} \
                 table {TABLE_MAIN}"
            ),
            Object::Sysctl(sysctl) => write!(out, "sysctl {}", sysctl.path),
            Object::NamespaceId => out.write_str("id of the pod's network namespace"),
            Object::Tag(tag) => write!(
                out,
                "tag vlan {} for {} of link {} ({})",
                tag.vlan, tag.address, tag.link, tag.link_mac
            ),
            Object::Clsact(link) => write!(out, "qdisc clsact dev {link}"),
            Object::Filter(link, name) => write!(out, "bpf filter {name} dev {link}"),
            Object::All(sort) => write!(out, "all {sort}"),
        }
    }
}

fn route_text(out: &mut fmt::Formatter<'_>, route: &Route) -> fmt::Result {
    write!(out, "route {}", route.destination)?;
    if let Some(gateway) = route.gateway {
        write!(out, " via {gateway}")?;
    }
    write!(out, " dev {} table {}", route.link, route.table)?;
    if route.onlink {
        out.write_str(" onlink")?;
    }
    Ok(())
}

fn rule_text(out: &mut fmt::Formatter<'_>, rule: &Rule) -> fmt::Result {
    write!(out, "rule priority {}", rule.priority)?;
    if let Some(link) = &rule.came_by {
        write!(out, " iif {link}")?;
    }
    if let Some(link) = &rule.leaves_by {
        write!(out, " oif {link}")?;
    }
    if rule.unmarked != 0 {
        write!(out, " fwmark 0/{:#x}", rule.unmarked)?;
    }
    if let Some(from) = rule.from {
        write!(out, " from {from}")?;
    }
    if let Some(to) = rule.to {
        write!(out, " to {to}")?;
    }
    Ok(())
}
