//! A node's kernel, as far as the agent changes or sees it: ENIs' links, pods' links, routes and rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use engine::node::{KernelView, Leftovers};
use model::{
    AttachmentKey, EniId, InterfaceName, Mac,
    net::{ENI_TABLE_BASE, EniNet, Link, PodNet, RULE_PRIORITY_FROM_POD, Rule},
};

/// What was set up for one attachment, as long as any of it is left.
#[derive(Debug)]
struct PodPart {
    net: PodNet,
    /// The ledger that knew of it was lost.
    orphan: bool,
}

/// A kernel.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    links: BTreeMap<EniId, Link>,
    last_index: u32,
    /// ENIs whose link was set up, by the index it had then.
    set_up: BTreeMap<EniId, u32>,
    pods: BTreeMap<AttachmentKey, PodPart>,
    /// Pods' links by name. Each takes its route along when it goes; rules stay.
    veths: BTreeMap<InterfaceName, Mac>,
    rules: BTreeSet<Rule>,
    /// Changes that will be refused.
    pub(crate) refuse: u8,
}

impl Kernel {
    pub(crate) fn plug(&mut self, eni: &EniId, mac: Mac) {
        self.last_index += 1;
        let name = InterfaceName::new(format!("eth{}", self.last_index));
        let link = Link {
            name: name.expect("a short name"),
            index: self.last_index,
            mac,
            up: false,
        };
        self.links.insert(eni.clone(), link);
    }

    pub(crate) fn unplug(&mut self, eni: &EniId) {
        self.links.remove(eni);
        self.set_up.remove(eni);
    }

    /// Everything is forgotten; the links come back under other indexes.
    pub(crate) fn reboot(&mut self) {
        let links = std::mem::take(&mut self.links);
        *self = Self {
            last_index: 3,
            ..Self::default()
        };
        for (eni, link) in links.into_iter().rev() {
            self.plug(&eni, link.mac);
        }
    }

    /// Every link comes back under another index, set up by nobody.
    pub(crate) fn relink(&mut self) {
        self.set_up.clear();
        for (eni, link) in std::mem::take(&mut self.links) {
            self.plug(&eni, link.mac);
        }
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        self.links.values().cloned().collect()
    }

    /// Whether packets of an address of `eni` can leave: its link is there and set up.
    pub(crate) fn ready(&self, eni: &EniId) -> bool {
        self.links
            .get(eni)
            .is_some_and(|link| self.set_up.get(eni) == Some(&link.index))
    }

    /// Whether `key` is whole and routed by the table of `eni`.
    pub(crate) fn whole(&self, key: &AttachmentKey, eni: &EniId) -> bool {
        let table = self.links.get(eni).map(|link| ENI_TABLE_BASE + link.index);
        let by = |pod: &PodPart| {
            let mut from = pod.net.host_rules.iter();
            from.any(|rule| rule.priority == RULE_PRIORITY_FROM_POD && Some(rule.table) == table)
        };
        let ruled = |pod: &PodPart| {
            pod.net
                .host_rules
                .iter()
                .all(|rule| self.rules.contains(rule))
        };
        self.pods
            .get(key)
            .is_some_and(|pod| ruled(pod) && by(pod) && self.has_veth(&pod.net))
    }

    pub(crate) fn has_veth(&self, net: &PodNet) -> bool {
        self.veths.get(&net.veth.host) == Some(&net.veth.host_mac)
    }

    /// Whether the link of `key` is there.
    pub(crate) fn has_link(&self, key: &AttachmentKey) -> bool {
        self.pods
            .get(key)
            .is_some_and(|pod| self.has_veth(&pod.net))
    }

    pub(crate) fn refuses(&mut self) -> Result<(), String> {
        if self.refuse == 0 {
            return Ok(());
        }
        self.refuse -= 1;
        Err("Resource temporarily unavailable".into())
    }

    pub(crate) fn has_rule(&self, rule: &Rule) -> bool {
        self.rules.contains(rule)
    }

    /// The node's side of a pod is put back.
    pub(crate) fn add_rules(&mut self, key: &AttachmentKey, net: &PodNet) {
        self.rules.extend(net.host_rules.iter().cloned());
        if let Some(part) = self.pods.get_mut(key) {
            part.net = net.clone();
        }
    }

    pub(crate) fn apply_eni(&mut self, eni: &EniId, net: &EniNet) -> Result<(), String> {
        self.refuses()?;
        let link = self.links.get_mut(eni).filter(|link| link.name == net.link);
        let link = link.ok_or_else(|| format!("{}: No such device", net.link))?;
        link.up = true;
        let index = link.index;
        self.set_up.insert(eni.clone(), index);
        Ok(())
    }

    pub(crate) fn apply(&mut self, key: &AttachmentKey, net: &PodNet) -> Result<(), String> {
        let part = PodPart {
            net: net.clone(),
            orphan: false,
        };
        self.pods.insert(key.clone(), part);
        self.rules.extend(net.host_rules.iter().cloned());
        // A refusal leaves half of it behind, as kernels do.
        self.refuses()?;
        self.veths.insert(net.veth.host.clone(), net.veth.host_mac);
        Ok(())
    }

    pub(crate) fn check(
        &mut self,
        key: &AttachmentKey,
        net: &PodNet,
    ) -> Result<Vec<String>, String> {
        let mut lacked = Vec::new();
        if !net.host_rules.iter().all(|rule| self.rules.contains(rule)) {
            lacked.push("rules".into());
        }
        if !self.has_veth(net) {
            lacked.push("link".into());
        }
        self.apply(key, net)?;
        Ok(lacked)
    }

    pub(crate) fn remove(&mut self, key: &AttachmentKey, net: &PodNet) -> Result<(), String> {
        self.take_veth(net);
        self.refuses()?;
        self.rules.retain(|rule| !net.host_rules.contains(rule));
        self.pods.remove(key);
        Ok(())
    }

    /// Takes stray rules away, and forgets what nothing is left of.
    pub(crate) fn remove_leftovers(&mut self, leftovers: &Leftovers) -> Result<(), String> {
        self.refuses()?;
        self.rules.retain(|rule| !leftovers.rules.contains(rule));
        Ok(())
    }

    /// What the agent sees of it.
    pub(crate) fn view(&self) -> KernelView {
        let veth = |(name, mac): (&InterfaceName, &Mac)| Link {
            name: name.clone(),
            index: 1000,
            mac: *mac,
            up: true,
        };
        let links = self.links.values().cloned();
        KernelView {
            links: links.chain(self.veths.iter().map(veth)).collect(),
            routed: self.occupied(),
            slaves: BTreeMap::new(),
            routes: Vec::new(),
            rules: self.rules.iter().cloned().collect(),
        }
    }

    /// Only the pair with this MAC: a newer sandbox of the pod has a link of the same name.
    fn take_veth(&mut self, net: &PodNet) {
        if self.has_veth(net) {
            self.veths.remove(&net.veth.host);
        }
    }

    /// The sandbox's namespace, or only its link, is gone.
    pub(crate) fn unlink(&mut self, key: &AttachmentKey) {
        if let Some(net) = self.pods.get(key).map(|pod| pod.net.clone()) {
            self.take_veth(&net);
        }
    }

    pub(crate) fn flush(&mut self) {
        self.rules.clear();
    }

    /// The ledger is lost: nobody will name these any more.
    pub(crate) fn orphan_all(&mut self) {
        for pod in self.pods.values_mut() {
            pod.orphan = true;
        }
    }

    /// Whether `key` belongs to a ledger that was lost.
    pub(crate) fn is_orphan(&self, key: &AttachmentKey) -> bool {
        self.pods.get(key).is_some_and(|pod| pod.orphan)
    }

    /// Addresses routed to pods.
    pub(crate) fn occupied(&self) -> BTreeSet<IpAddr> {
        let routed = self.pods.values().filter(|pod| self.has_veth(&pod.net));
        routed.flat_map(|pod| addresses(&pod.net)).collect()
    }

    /// What belongs to an attachment of the ledger in force, with its addresses.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&AttachmentKey, Vec<IpAddr>)> {
        let ours = self.pods.iter().filter(|(_, pod)| !pod.orphan);
        ours.map(|(key, pod)| (key, addresses(&pod.net).collect()))
    }

    /// Rules of addresses that no link of a pod leads to.
    pub(crate) fn stray(&self) -> impl Iterator<Item = &Rule> {
        let routed = self.occupied();
        self.rules.iter().filter(move |rule| {
            let of = rule.from.or(rule.to).map(|net| net.addr());
            of.is_none_or(|address| !routed.contains(&address))
        })
    }
}

fn addresses(net: &PodNet) -> impl Iterator<Item = IpAddr> {
    net.pod_addresses.iter().map(|entry| entry.address.addr())
}
