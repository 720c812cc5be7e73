//! A kernel as far as one node's pods need it: a link, a route and rules for each. The route goes with
//! its link, the rules stay until somebody takes them away. A pod on ipvlan has its device alone, and its
//! routes stay, because they are over the node's slave.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use engine::node::KernelView;
use model::{
    AttachmentKey, InterfaceName,
    ipvlan::IpvlanPod,
    net::{EniNet, Link, PodPlan, Route, Rule},
};

#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) links: BTreeMap<AttachmentKey, (Link, BTreeSet<IpAddr>)>,
    pub(crate) rules: BTreeSet<Rule>,
    /// The devices of pods on ipvlan, and the routes to them.
    slaves: BTreeMap<AttachmentKey, BTreeSet<IpAddr>>,
    pub(crate) routes: BTreeSet<Route>,
    /// The node's slaves, and what is led to each.
    pub(crate) on_node: BTreeMap<InterfaceName, Vec<ipnet::IpNet>>,
}

fn addresses(plan: &PodPlan) -> BTreeSet<IpAddr> {
    let all = plan.addresses().iter();
    all.map(|entry| entry.address.addr()).collect()
}

impl Kernel {
    pub(crate) fn apply(&mut self, key: &AttachmentKey, plan: &PodPlan) {
        let net = match plan {
            PodPlan::Veth(net) => net,
            PodPlan::Ipvlan(pod) => return self.enslave(key, pod, addresses(plan)),
        };
        let link = Link {
            name: net.veth.host.clone(),
            index: 100,
            mac: net.veth.host_mac,
            up: true,
        };
        // A name is taken once: the link of the pod's old sandbox gives way.
        self.links.retain(|_, (other, _)| other.name != link.name);
        self.links.insert(key.clone(), (link, addresses(plan)));
        self.rules.extend(net.host_rules.iter().cloned());
    }

    fn enslave(&mut self, key: &AttachmentKey, pod: &IpvlanPod, own: BTreeSet<IpAddr>) {
        for route in &pod.host_routes {
            let known = self.on_node.contains_key(&route.link);
            assert!(known, "{key} is set up before {}", route.link);
        }
        // An address is one slave's of an ENI: that of the pod's old sandbox gives way.
        self.slaves.retain(|_, held| held.is_disjoint(&own));
        self.slaves.insert(key.clone(), own);
        self.routes.extend(pod.host_routes.iter().cloned());
    }

    pub(crate) fn remove(&mut self, key: &AttachmentKey, plan: &PodPlan) {
        self.unlink(key);
        let taken = addresses(plan);
        if self.slaves.values().all(|held| held.is_disjoint(&taken)) {
            self.routes
                .retain(|route| !plan.host_routes().contains(route));
        }
        let rules = plan.host_rules();
        self.rules.retain(|rule| !rules.contains(rule));
    }

    /// What is in the pod's namespace is gone.
    pub(crate) fn unlink(&mut self, key: &AttachmentKey) {
        self.links.remove(key);
        self.slaves.remove(key);
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &AttachmentKey> {
        let by_veth: BTreeSet<_> = self.links.keys().chain(self.slaves.keys()).collect();
        by_veth.into_iter()
    }

    /// Only its rules lead to and from the addresses they name.
    pub(crate) fn apply_eni(&mut self, net: &EniNet) {
        let slave = net.ipvlan.iter();
        let slave = slave.map(|it| (it.slave.clone(), it.to_host.clone()));
        self.on_node.extend(slave);
        let rules = &net.rules;
        let of = |rule: &Rule| rule.from.or(rule.to);
        let rival = |old: &Rule| rules.iter().any(|new| of(new) == of(old));
        self.rules.retain(|old| !rival(old));
        self.rules.extend(rules.iter().cloned());
    }

    /// Addresses routed over pod links.
    pub(crate) fn routed(&self) -> BTreeSet<IpAddr> {
        let by_veth = self.links.values().map(|(_, addresses)| addresses);
        let routed = self.routes.iter().map(|route| route.destination.addr());
        let in_pods = by_veth.chain(self.slaves.values());
        in_pods.flatten().copied().chain(routed).collect()
    }

    /// Addresses that nothing but a route leads to.
    pub(crate) fn stray(&self) -> BTreeSet<IpAddr> {
        let routed = self.routes.iter().map(|route| route.destination.addr());
        let living = |address: &IpAddr| self.slaves.values().any(|held| held.contains(address));
        routed.filter(|address| !living(address)).collect()
    }

    pub(crate) fn remove_routes(&mut self, routes: &BTreeSet<Route>) {
        self.routes.retain(|route| !routes.contains(route));
    }

    pub(crate) fn view(&self) -> KernelView {
        KernelView {
            links: self.links.values().map(|(link, _)| link.clone()).collect(),
            routed: self.routed(),
            slaves: self
                .slaves
                .iter()
                .map(|(key, held)| (key.to_string(), held.clone()))
                .collect(),
            routes: self.routes.iter().cloned().collect(),
            rules: self.rules.iter().cloned().collect(),
        }
    }
}
