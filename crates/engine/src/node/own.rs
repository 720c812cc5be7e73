//! Pods with ENIs wholly their own: what must be known of such an ENI before its device can go into the
//! pod, and what the pod reaches by the node instead.
//!
//! Such an ENI is the control plane's like a trunk's member, and never the pool's. Must never make,
//! attach or delete one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use model::{
    DualStack, Eni, EniId, Timestamp,
    family::host_net,
    podeni::{Allocation, OwnedEni, Phase, PodEni},
    podnetworking::EniAttachment,
};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    message::{AddRequest, Interface},
};
use crate::{
    ledger::{Attachment, Lent},
    retry::Backoff,
};

/// What is known for such pods beyond the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Whole {
    /// The node's own addresses.
    node: BTreeSet<IpAddr>,
    /// Gateways of the ENIs that records of this node name.
    gateways: BTreeMap<EniId, DualStack<IpAddr>>,
}

/// Whether `allocation` gives the pod the whole ENI: its author said so, or left it open and the control
/// plane found no trunk on the node.
pub(super) fn is_whole(record: &PodEni, allocation: &Allocation) -> bool {
    match allocation.attachment {
        EniAttachment::Own => true,
        EniAttachment::Trunk => false,
        EniAttachment::Default => record.phase == Phase::Bind && record.trunk.is_none(),
    }
}

impl Node {
    /// The device of `eni` and what its pod needs, for `add`; or what is missing, as the end of a sentence
    /// about the pod's record.
    pub(super) fn lend(&self, eni: &OwnedEni, add: &AddRequest) -> Result<Lent, String> {
        let id = &eni.id;
        let of_pool = self.ledger.enis().any(|it| it.mac == eni.mac);
        if of_pool || eni.mac == self.config.primary_mac {
            return Err(format!(
                "gives the pod {id}, but its MAC {} is that of an ENI the node itself uses",
                eni.mac
            ));
        }
        let Some(link) = self.links.get(&eni.mac) else {
            return Err(format!(
                "gives the pod {id}, whose device ({}) has not come to the node yet",
                eni.mac
            ));
        };
        let Some(gateway) = self.members.whole.gateways.get(id) else {
            return Err(format!(
                "gives the pod {id}, whose gateway the instance's metadata does not show yet"
            ));
        };
        if self.config.policy.services.is_empty() {
            return Err(format!(
                "gives the pod {id}, by which no Service is reached; eni_conf key service_cidr must say \
                 which addresses are Services"
            ));
        }
        if self.members.whole.node.is_empty() {
            return Err("waits until the cloud has listed the node's own addresses".into());
        }
        let node = self.members.whole.node.iter().map(|own| host_net(*own));
        let services = self.config.policy.services.iter().copied();
        let by_host: BTreeSet<IpNet> = services.chain(add.host_stack.clone()).chain(node).collect();
        Ok(Lent {
            mac: eni.mac,
            home: link.name.clone(),
            up: link.up,
            gateway: *gateway,
            by_host: by_host.into_iter().collect(),
        })
    }

    /// Takes the node's own addresses from an answer of the cloud that counts.
    pub(super) fn see_own_addresses(&mut self, enis: &[Eni]) {
        let own = enis.iter().filter(|eni| eni.mac == self.config.primary_mac);
        let own = own.flat_map(|eni| eni.addresses.iter().filter(|ip| ip.primary));
        self.members.whole.node = own.map(|ip| ip.address).collect();
    }

    /// Takes the gateways of an ENI that a record names.
    pub(super) fn learn_gateway(&mut self, interface: &Interface) {
        if self.members.name(&interface.eni) && !interface.gateway.is_empty() {
            let id = interface.eni.clone();
            self.members.whole.gateways.insert(id, interface.gateway);
        }
    }

    /// Forgets the gateways of ENIs that no record names any more.
    pub(super) fn forget_gateways(&mut self) {
        let mut gateways = core::mem::take(&mut self.members.whole.gateways);
        gateways.retain(|id, _| self.members.name(id));
        self.members.whole.gateways = gateways;
    }

    /// Asks for what an ADD waits for: that the device shows on the node, and its gateway in the metadata.
    pub(super) fn drive_whole(&mut self) {
        if self.lacks_device() {
            self.links_wanted.want();
        }
        if self.lacks_gateway() {
            self.interfaces.want();
        }
    }

    /// The next look at the links, if one did not show what an ADD waits for.
    pub(super) fn look_again_for_devices(&mut self, now: Timestamp, looks: u32) {
        if self.lacks_device() {
            let wait = self.wait(Backoff::APPEAR, looks);
            self.links_wanted.again(now.after(wait), looks);
        }
    }

    fn lacks_device(&self) -> bool {
        self.promised_enis()
            .any(|eni| !self.links.contains_key(&eni.mac))
    }

    /// Whether an ADD waits for the gateway of its ENI.
    pub(super) fn lacks_gateway(&self) -> bool {
        let known = &self.members.whole.gateways;
        self.promised_enis().any(|eni| !known.contains_key(&eni.id))
    }

    /// The whole ENIs that are bound to this node for ADDs that wait.
    fn promised_enis(&self) -> impl Iterator<Item = &OwnedEni> {
        let waiting = self.waiting.iter().filter(|(_, add)| add.trunk);
        let records = waiting.filter_map(|(_, add)| self.members.record(&add.pod));
        let here = |it: &&PodEni| {
            it.phase == Phase::Bind && it.instance.as_ref() == Some(&self.config.instance)
        };
        records.filter(here).flat_map(|record| {
            let all = record.allocations.iter();
            all.filter(|one| is_whole(record, one))
                .filter_map(|one| one.eni.as_ref())
        })
    }

    /// Whether any pod of the node has an ENI of its own or waits for one, so that records matter here.
    pub fn has_pod_enis(&self) -> bool {
        let waits = |(_, add): &(_, AddRequest)| add.trunk;
        self.waiting.iter().any(waits) || self.ledger.attachments().any(|it| it.member.is_some())
    }

    /// Whether a pod here has the ENI, by the ledger: its record may not be known yet, or not be readable.
    pub(super) fn is_lent(&self, eni: &EniId) -> bool {
        let mut members = self
            .ledger
            .attachments()
            .flat_map(|it| it.wires().filter_map(|wire| wire.member));
        members.any(|member| member.eni == *eni)
    }

    /// Forgets where the devices of a pod were: they were moved, or may have been.
    pub(super) fn forget_devices(&mut self, attachment: &Attachment) {
        let members = attachment.wires().filter_map(|wire| wire.member);
        let lent = members.filter_map(|member| member.device());
        for mac in lent.map(|lent| lent.mac).collect::<Vec<_>>() {
            self.links.remove(&mac);
        }
    }

    /// ENIs of the node that pods have wholly, of those it may have.
    pub(super) fn lent_enis(&self) -> u32 {
        let all = self.ledger.attachments().filter(|it| it.is_whole());
        let enis = all.map(|it| it.wires().count()).sum::<usize>();
        u32::try_from(enis).unwrap_or(u32::MAX)
    }
}
