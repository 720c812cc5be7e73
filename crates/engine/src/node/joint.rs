//! How pods are joined to the node: by veth pairs, or by ipvlan devices of their ENI. Which one is chosen when
//! the pod comes and stands in its row; every plan of the pod follows the row.
//!
//! Trunk pods and pods with whole ENIs have veth pairs whatever is configured. Must never know what this kernel
//! can do: who configures has found that out.

use std::collections::BTreeSet;

use ipnet::IpNet;
use model::{
    EniId,
    family::host_net,
    ipvlan::IpvlanEni,
    net::{Link, PodNet, PodPlan, Sysctl},
};

use super::{Node, message::KernelView, policy::IpvlanPolicy};
use crate::{
    ledger::{Attachment, EniEntry, Joint},
    netplan,
};

/// What is known when an agent starts of pods on ipvlan.
#[derive(Debug, Clone)]
pub struct IpvlanCase {
    /// The configuration asks for it.
    pub asked: bool,
    /// Pods on it stand on the node.
    pub stands: bool,
    /// It is known which addresses are Services.
    pub services: bool,
}

/// What a node does about ipvlan, and why new pods are not on it though that is asked for. `try_it` tells what
/// such pods reach by the node beside Services, or what the node lacks; it is asked only where it matters.
pub fn ipvlan_policy(
    case: &IpvlanCase,
    try_it: impl FnOnce() -> Result<Vec<IpNet>, String>,
) -> (Option<IpvlanPolicy>, Option<String>) {
    if !case.asked && !case.stands {
        return (None, None);
    }
    let by_host = match try_it() {
        Ok(by_host) => by_host,
        Err(lack) => return (None, Some(lack).filter(|_| case.asked)),
    };
    // Such a pod's packets pass no stack of the node, so what is not led there reaches no Service.
    let lack = (case.asked && !case.services).then(|| {
        "eni_conf key service_cidr is missing, and must say which addresses are Services".to_owned()
    });
    let new_pods = case.asked && lack.is_none();
    let policy = (new_pods || case.stands).then_some(IpvlanPolicy { new_pods, by_host });
    (policy, lack)
}

impl Node {
    /// How a pod that gets an address of `eni` is joined to the node: as the ENI was last set up for.
    pub(super) fn joint(&self, eni: &EniId) -> Joint {
        let policy = self.config.policy.ipvlan.as_ref();
        let wanted = policy.is_some_and(|it| it.new_pods) && self.has_slave(eni);
        match self.eni_link(eni).filter(|_| wanted) {
            Some(link) => Joint::Ipvlan(link.clone()),
            None => Joint::Veth,
        }
    }

    /// What an attachment needs in the kernel.
    pub(super) fn pod_plan(&self, attachment: &Attachment) -> PodPlan {
        match &attachment.joint {
            Joint::Veth => PodPlan::Veth(self.pod_net(attachment)),
            Joint::Ipvlan(then) => {
                let link = self.eni_link(&attachment.eni).unwrap_or(then);
                let entry = self.ledger.eni(&attachment.eni);
                PodPlan::Ipvlan(netplan::ipvlan_pod(attachment, entry, link))
            }
        }
    }

    /// Everything an attachment may have in the kernel.
    pub(super) fn removal_plan(&self, attachment: &Attachment) -> PodPlan {
        match &attachment.joint {
            Joint::Veth => PodPlan::Veth(self.pod_net_in_every_mode(attachment)),
            Joint::Ipvlan(_) => self.pod_plan(attachment),
        }
    }

    /// The plan of a pod on veth pairs.
    pub(super) fn pod_net(&self, attachment: &Attachment) -> PodNet {
        match self.is_own(&attachment.eni) {
            true => netplan::routed_net(attachment),
            false => netplan::pod_net(attachment, self.eni_link(&attachment.eni)),
        }
    }

    /// What the plugin writes under `/proc/sys` for it.
    pub(super) fn sysctls(&self, attachment: &Attachment) -> Vec<Sysctl> {
        let by = Some(&attachment.eni).filter(|eni| !self.is_own(eni));
        let link = by.and_then(|eni| self.eni_link(eni));
        match &attachment.joint {
            Joint::Veth => {
                let primary = self.links.get(&self.config.primary_mac);
                netplan::sysctls(attachment, link, primary)
            }
            Joint::Ipvlan(then) => netplan::ipvlan_sysctls(attachment, link.unwrap_or(then)),
        }
    }

    /// What the ENI needs for pods on ipvlan, if it has such pods or is to have them. Pods of it that have veth
    /// pairs are reached by the node, because the VPC need not give a frame back to the ENI it came from; but
    /// for the trunk, whose table does not lead back either.
    pub(super) fn ipvlan_eni(&self, eni: &EniEntry, link: &Link) -> Option<IpvlanEni> {
        let policy = self.config.policy.ipvlan.as_ref()?;
        let pods = || {
            let all = self.ledger.attachments();
            all.filter(|it| it.eni == eni.id && it.member.is_none())
        };
        if !policy.new_pods && pods().all(|it| it.joint.is_veth()) {
            return None;
        }
        let by_veth = pods().filter(|it| it.joint.is_veth() && !eni.trunk);
        let to_host: BTreeSet<IpNet> = by_veth
            .flat_map(Attachment::every_address)
            .map(host_net)
            .chain(policy.by_host.iter().copied())
            .chain(self.config.policy.services.iter().copied())
            .collect();
        let to_host = to_host.into_iter().collect();
        Some(netplan::ipvlan_eni(link, self.config.mtu, to_host))
    }
}

/// Whether no pod has the attachment's own device any more.
pub(super) fn slave_is_gone(attachment: &Attachment, view: &KernelView) -> bool {
    !view.slaves.contains_key(&attachment.key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a case on a node that can, and on one that cannot.
    fn both(asked: bool, stands: bool, services: bool) -> [(Option<bool>, Option<String>); 2] {
        let case = IpvlanCase {
            asked,
            stands,
            services,
        };
        let tried = [Ok(Vec::new()), Err("no ipvlan".to_owned())];
        tried.map(|tried| {
            let (policy, lack) = ipvlan_policy(&case, || tried);
            (policy.map(|it| it.new_pods), lack)
        })
    }

    #[test]
    fn new_pods_are_on_ipvlan_only_where_all_they_need_is_there() {
        let lack = || Some("no ipvlan".to_owned());
        for stands in [false, true] {
            assert_eq!(
                both(true, stands, true),
                [(Some(true), None), (None, lack())]
            );
            let standing = stands.then_some(false);
            assert_eq!(
                both(false, stands, true),
                [(standing, None), (None, None)],
                "who stands is served, and nothing that nobody asked for lacks"
            );
            let [(policy, lack), _] = both(true, stands, false);
            assert_eq!(policy, standing);
            assert!(lack.is_some_and(|it| it.contains("service_cidr")));
        }
        let unasked = IpvlanCase {
            asked: false,
            stands: false,
            services: true,
        };
        let (policy, lack) = ipvlan_policy(&unasked, || unreachable!("a node without it"));
        assert_eq!((policy, lack), (None, None));
    }
}
