//! Pods on ipvlan: whether new ones are, and what the kernel has for them.

use std::collections::{BTreeMap, BTreeSet};

use engine::node::IpvlanPolicy;
use ipnet::IpNet;
use model::{InterfaceName, net::Route};

use super::World;

/// The policy of a node whose pods can be on ipvlan.
pub(crate) fn ipvlan_pods(new_pods: bool) -> IpvlanPolicy {
    IpvlanPolicy {
        new_pods,
        by_host: vec!["10.0.0.1/32".parse().unwrap()],
    }
}

impl World {
    /// The agent starts again and found something else out.
    pub(super) fn switch(&mut self) {
        let ipvlan = &mut self.config.policy.ipvlan;
        *ipvlan = match ipvlan.as_ref().map(|it| it.new_pods) {
            None => Some(ipvlan_pods(true)),
            Some(true) => Some(ipvlan_pods(false)),
            Some(false) => None,
        };
        self.kill();
    }

    /// Routes of pods on ipvlan.
    pub(crate) fn routes(&self) -> &BTreeSet<Route> {
        &self.kernel.routes
    }

    /// What is led to each of the node's slaves.
    pub(crate) fn to_host(&self) -> &BTreeMap<InterfaceName, Vec<IpNet>> {
        &self.kernel.on_node
    }
}
