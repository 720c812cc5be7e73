//! A kernel as far as one node's pods need it: a link, a route and rules for each. The route goes with
//! its link, the rules stay until somebody takes them away.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use engine::node::KernelView;
use model::{
    AttachmentKey,
    net::{Link, PodNet, Rule},
};

#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) links: BTreeMap<AttachmentKey, (Link, BTreeSet<IpAddr>)>,
    pub(crate) rules: BTreeSet<Rule>,
}

impl Kernel {
    pub(crate) fn apply(&mut self, key: &AttachmentKey, net: &PodNet) {
        let link = Link {
            name: net.veth.host.clone(),
            index: 100,
            mac: net.veth.host_mac,
            up: true,
        };
        // A name is taken once: the link of the pod's old sandbox gives way.
        self.links.retain(|_, (other, _)| other.name != link.name);
        let own = net.pod_addresses.iter().map(|entry| entry.address.addr());
        self.links.insert(key.clone(), (link, own.collect()));
        self.rules.extend(net.host_rules.iter().cloned());
    }

    pub(crate) fn remove(&mut self, key: &AttachmentKey, net: &PodNet) {
        self.links.remove(key);
        self.rules.retain(|rule| !net.host_rules.contains(rule));
    }

    /// Only `rules` lead to and from the addresses they name.
    pub(crate) fn settle(&mut self, rules: &[Rule]) {
        let of = |rule: &Rule| rule.from.or(rule.to);
        let rival = |old: &Rule| rules.iter().any(|new| of(new) == of(old));
        self.rules.retain(|old| !rival(old));
        self.rules.extend(rules.iter().cloned());
    }

    /// Addresses routed over pod links.
    pub(crate) fn routed(&self) -> BTreeSet<IpAddr> {
        self.links
            .values()
            .flat_map(|(_, addresses)| addresses.clone())
            .collect()
    }

    pub(crate) fn view(&self) -> KernelView {
        KernelView {
            links: self.links.values().map(|(link, _)| link.clone()).collect(),
            routed: self.routed(),
            routes: Vec::new(),
            rules: self.rules.iter().cloned().collect(),
        }
    }
}
