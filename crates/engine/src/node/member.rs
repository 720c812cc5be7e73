//! Pods with ENIs of their own: an ADD waits until the control plane has bound an ENI for the pod to this
//! node, to its trunk or (`own.rs`) as a whole, and never takes an address of the pool.
//!
//! What a PodENI says is believed only for the UID, the instance and the trunk it names. Once attached,
//! the pod's ENI and VLAN stand in the ledger, and nobody need be asked again. Must never make, attach or
//! delete a member: its life is the control plane's.

use std::{collections::BTreeMap, net::IpAddr};

use model::{
    AttachmentKey, DualStack, EniId, PodKey, Timestamp,
    net::{EniNet, Link, PodNet},
    podeni::{Phase, PodEni},
    podnetworking::EniAttachment,
};
use serde::{Deserialize, Serialize};

use super::{
    Node,
    allot::{Granted, Terms, allot},
    attach::Work,
    message::{AddRequest, Notice},
    own::{Whole, is_whole},
};
use crate::{
    ledger::{Attachment, Change, EniEntry, Entry, Member, Reach},
    netplan::{self, LocalTraffic},
};

/// What is known of trunk pods beyond the ledger.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Members {
    /// The PodENIs of this node.
    #[serde(with = "crate::pairs")]
    records: BTreeMap<PodKey, PodEni>,
    /// Pods that run without their network, and why; people were told.
    #[serde(with = "crate::pairs")]
    lost: BTreeMap<AttachmentKey, String>,
    /// What is known for those that get a whole ENI.
    #[serde(default)]
    pub(super) whole: Whole,
}

impl Members {
    pub(super) fn forget(&mut self, key: &AttachmentKey) {
        self.lost.remove(key);
    }

    /// The record of a pod.
    pub(super) fn record(&self, pod: &PodKey) -> Option<&PodEni> {
        self.records.get(pod)
    }

    /// Whether a record names the ENI.
    pub(super) fn name(&self, id: &EniId) -> bool {
        let mut all = self.records.values().flat_map(|it| &it.allocations);
        all.any(|one| one.eni.as_ref().is_some_and(|eni| eni.id == *id))
    }

    /// Why a pod that stands has no network, if it has none.
    pub(super) fn cut_off(&self, key: &AttachmentKey) -> Option<&String> {
        self.lost.get(key)
    }
}

/// What a PodENI gives a pod on this node.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    /// The ENI its packets leave by.
    pub(super) by: EniId,
    /// The interface the runtime asked for.
    pub(super) first: Granted,
    pub(super) further: Vec<Granted>,
}

/// Whether a pod's ENIs come by the node's trunk, as far as its record says: one that leaves it open does
/// only when it is bound.
fn needs_trunk(record: &PodEni) -> bool {
    record.allocations.iter().any(|one| match one.attachment {
        EniAttachment::Trunk => true,
        EniAttachment::Own => false,
        EniAttachment::Default => record.phase == Phase::Bind && !is_whole(record, one),
    })
}

impl Node {
    /// Takes what the API server has for a pod now.
    pub(super) fn pod_eni(&mut self, now: Timestamp, pod: PodKey, record: Option<PodEni>) {
        match record {
            Some(record) => self.members.records.insert(pod.clone(), record),
            None => self.members.records.remove(&pod),
        };
        self.forget_gateways();
        self.clear_the_way(now, &pod);
        let attached = self.ledger.attachments().filter(|it| it.pod == pod);
        for attachment in attached.cloned().collect::<Vec<_>>() {
            self.judge_member(&attachment);
        }
    }

    /// What `add` gets, or what it waits for, in one sentence.
    pub(super) fn member_for(&self, add: &AddRequest, now: Timestamp) -> Result<Bound, String> {
        let pod = &add.pod;
        let record = self.members.records.get(pod);
        let says = |record: &PodEni, what: &str| match record.message.as_str() {
            "" => format!("PodENI {pod} {what}"),
            message => format!("PodENI {pod} {what}: {message}"),
        };
        match record {
            Some(it) if it.deleting => return Err(says(it, "is being deleted")),
            Some(it) if add.uid.as_ref() != Some(&it.pod) => {
                return Err(says(it, "is of an earlier pod of this name"));
            }
            Some(_) | None => {}
        }
        // Nobody knows what a pod without a record gets; where a trunk is wanted, it is that.
        let needs_trunk = record.map_or(self.config.policy.trunk.is_some(), needs_trunk);
        let trunk = match needs_trunk {
            true => Some(self.ready_trunk(now)?),
            false => None,
        };
        let Some(record) = record else {
            let trunk = match needs_trunk {
                true => "",
                false => ", and the node has no trunk ENI: eni_conf key enable_eni_trunking is off",
            };
            return Err(format!(
                "the control plane has not made a PodENI for {pod} on this node yet{trunk}"
            ));
        };
        if record.phase != Phase::Bind {
            return Err(says(record, phase(record.phase)));
        }
        let bound = self.bound(trunk, record, add)?;
        for granted in std::iter::once(&bound.first).chain(&bound.further) {
            for (_, address) in granted.addresses.iter() {
                self.nobodys(*address)?;
            }
        }
        Ok(bound)
    }

    /// The trunk, if pods can use it.
    fn ready_trunk(&self, now: Timestamp) -> Result<EniId, String> {
        match self.trunk_here() {
            Some(trunk) if self.eni_usable(&trunk.id) => Ok(trunk.id.clone()),
            Some(trunk) => Err(format!(
                "the node's trunk ENI {} is {:?} and not set up yet",
                trunk.id, trunk.stage
            )),
            None => Err(match self.trunk_lack(now) {
                Some(lack) => lack.to_string(),
                None if self.config.policy.trunk.is_none() => {
                    "eni_conf key enable_eni_trunking is off, so the node has no trunk ENI".into()
                }
                None => "the node's trunk ENI is being made".into(),
            }),
        }
    }

    /// What a record that says Bind binds here.
    fn bound(
        &self,
        trunk: Option<EniId>,
        record: &PodEni,
        add: &AddRequest,
    ) -> Result<Bound, String> {
        let (pod, interface) = (&record.key, &add.key.interface);
        if record.instance.as_ref() != Some(&self.config.instance) {
            let other = shown(record.instance.as_ref());
            return Err(format!(
                "PodENI {pod} is bound to instance {other}, and this is {}",
                self.config.instance
            ));
        }
        if let Some(trunk) = trunk
            .as_ref()
            .filter(|it| record.trunk.as_ref() != Some(it))
        {
            let other = shown(record.trunk.as_ref());
            return Err(format!(
                "PodENI {pod} is bound to trunk {other}, and this node's is {trunk}"
            ));
        }
        let terms = Terms {
            local: self.config.policy.trunk.unwrap_or_default(),
            lend: &|eni| self.lend(eni, add),
        };
        let (first, further) =
            allot(record, interface, &terms).map_err(|wrong| format!("PodENI {pod} {wrong}"))?;
        Ok(Bound {
            by: trunk.unwrap_or_else(|| first.member.eni.clone()),
            first,
            further,
        })
    }

    /// Nothing on this node has the address: an older sandbox of the pod, a pod the ledger lost, or the
    /// pool, whose ledger may lag behind the cloud.
    fn nobodys(&self, address: IpAddr) -> Result<(), String> {
        if let Some(older) = self.ledger.member_with(address) {
            return Err(format!(
                "{address} is still held by sandbox {}, whose DEL is not done",
                older.key
            ));
        }
        if let Some(entry) = self.ledger.address(address) {
            return Err(format!(
                "{address} is still listed as an address of {}; the cloud is asked",
                entry.eni
            ));
        }
        match self.is_occupied(address) {
            true => Err(format!(
                "the kernel still routes {address} to a pod nobody knows"
            )),
            false => Ok(()),
        }
    }

    /// Looks soon at what may stand in the way of an ADD that waits: a sandbox whose DEL never came, an
    /// address the cloud took out of the pool.
    pub(super) fn clear_the_way(&mut self, now: Timestamp, pod: &PodKey) {
        let waits = |(_, add): &(_, AddRequest)| add.trunk && add.pod == *pod;
        let record = self.members.records.get(pod);
        let Some(record) = record.filter(|_| self.waiting.iter().any(waits)) else {
            return;
        };
        let all = record.allocations.iter();
        let addresses: Vec<IpAddr> = all
            .flat_map(|one| one.addresses.iter().map(|(_, address)| *address))
            .collect();
        for address in addresses {
            if self.ledger.address(address).is_some() {
                self.inventory.hurry(now);
            }
            if self.ledger.member_with(address).is_some() || self.is_occupied(address) {
                self.kernel.hurry(now);
            }
        }
    }

    /// Compares a trunk pod that stands with its record. Its sandbox is the runtime's and is never taken
    /// down for what a record says; a pod cut off is said, once.
    fn judge_member(&mut self, attachment: &Attachment) {
        if self.leaves(&attachment.key) || attachment.superseded || attachment.member.is_none() {
            return;
        }
        let (now, lost) = self.standing(attachment);
        // An interface without an ENI does not keep another from following its own.
        if now != *attachment {
            self.record(Change::Put(Entry::Attachment(now)));
            self.set_up_again(&attachment.eni);
        }
        let Some(why) = lost else {
            return self.members.forget(&attachment.key);
        };
        let key = attachment.key.clone();
        if self.members.lost.insert(key, why.clone()).is_none() {
            self.notice(Notice::MemberLost(attachment.pod.clone(), why));
        }
    }

    /// A standing pod with the VLANs it has now, and why it is cut off if it is.
    fn standing(&self, attachment: &Attachment) -> (Attachment, Option<String>) {
        let pod = &attachment.pod;
        let cut_off = |what: &str| {
            format!("PodENI {pod} {what}; the pod is cut off, delete it to get it another")
        };
        let mut now = attachment.clone();
        let record = match self.members.records.get(pod) {
            None => Err("is gone or is another node's"),
            Some(record) if attachment.uid.as_ref() != Some(&record.pod) => {
                Err("is another pod's of this name")
            }
            Some(record) if record.phase != Phase::Bind => Err(phase(record.phase)),
            Some(record) => Ok(record),
        };
        let record = match record {
            Ok(record) => record,
            Err(what) => return (now, Some(cut_off(what))),
        };
        let here = record.instance.as_ref() == Some(&self.config.instance)
            && (attachment.is_whole() || record.trunk.as_ref() == Some(&attachment.eni));
        let reach = |known: &Member, addresses: &DualStack<IpAddr>| {
            let mut all = record.allocations.iter().filter(|_| here);
            let same = all.any(|one| {
                let eni = one.eni.as_ref().is_some_and(|eni| eni.id == known.eni);
                eni && one.addresses == *addresses
            });
            let attached = record.attached.get(&known.eni).filter(|_| same);
            match (attached?, &known.reach) {
                (_, Reach::Device(_)) => Some(known.reach.clone()),
                (attached, Reach::Vlan(_)) => attached.vlan.map(Reach::Vlan),
            }
        };
        let mut all_found = true;
        let mut follow = |member: &mut Member, addresses| match reach(member, addresses) {
            Some(reach) => member.reach = reach,
            None => all_found = false,
        };
        if let Some(first) = now.member.as_deref_mut() {
            follow(first, &attachment.addresses);
        }
        for further in &mut now.further {
            follow(&mut further.member, &further.addresses);
        }
        let lost = (!all_found).then(|| cut_off("names another instance, trunk, ENI or address"));
        (now, lost)
    }

    /// What an ENI's link needs; the trunk's, the tags of all pods it carries.
    pub(super) fn eni_net(&self, eni: &EniEntry, link: &Link) -> EniNet {
        let mtu = self.config.mtu;
        let carried: Vec<_> = self.carried_by(&eni.id).collect();
        let tags = eni.trunk && (self.config.policy.trunk.is_some() || !carried.is_empty());
        let ipvlan = self.ipvlan_eni(eni, link);
        if !tags {
            return EniNet {
                ipvlan,
                ..netplan::eni_net(eni, link, mtu)
            };
        }
        let nets: Vec<_> = carried.iter().map(|it| self.pod_net(it)).collect();
        let stays = |(it, _): &(&&Attachment, _)| !self.leaves(&it.key);
        let stay = carried.iter().zip(&nets).filter(stays);
        EniNet {
            rules: stay.flat_map(|(_, net)| net.host_rules.clone()).collect(),
            ipvlan,
            ..netplan::trunk_net(eni, link, mtu, &nets)
        }
    }

    fn leaves(&self, key: &AttachmentKey) -> bool {
        let work = self.work.get(key);
        matches!(work, Some(Work::Removing { .. } | Work::RemovalDue { .. }))
    }

    /// The plan of a pod that goes. Its row may say another mode already than the rules that stand; strict ones
    /// first, because a plain one names no link and a removal by it takes whichever comes first.
    pub(super) fn pod_net_in_every_mode(&self, attachment: &Attachment) -> PodNet {
        let mut net = self.pod_net(attachment);
        if attachment.member.is_none() {
            return net;
        }
        net.host_rules.clear();
        for local in [LocalTraffic::Strict, LocalTraffic::Standard] {
            let mut so = attachment.clone();
            so.members_mut().for_each(|member| member.local = local);
            for rule in self.pod_net(&so).host_rules {
                if !net.host_rules.contains(&rule) {
                    net.host_rules.push(rule);
                }
            }
        }
        net
    }

    /// Pods that stand go the way the configuration names now.
    pub(super) fn follow_local_traffic(&mut self) {
        let Some(local) = self.config.policy.trunk else {
            return;
        };
        let all = self.ledger.attachments().filter(|it| !it.is_whole());
        for before in all.cloned().collect::<Vec<_>>() {
            let mut now = before.clone();
            now.members_mut().for_each(|member| member.local = local);
            if now != before {
                self.set_up_again(&before.eni);
                self.record(Change::Put(Entry::Attachment(now)));
            }
        }
    }

    fn carried_by<'a>(&'a self, trunk: &'a EniId) -> impl Iterator<Item = &'a Attachment> {
        let all = self.ledger.attachments();
        all.filter(move |it| it.eni == *trunk && it.member.is_some())
    }

    /// The addresses a trunk carries for trunk pods, with the pod of each and its VLAN.
    pub(super) fn members_of(&self, trunk: &EniId) -> BTreeMap<IpAddr, String> {
        let mut members = BTreeMap::new();
        for it in self.carried_by(trunk) {
            for wire in it.wires() {
                let vlan = wire.member.and_then(Member::vlan).unwrap_or_default();
                let whose = match it.further.is_empty() {
                    true => format!("{} (VLAN {vlan})", it.pod),
                    false => format!("{} {} (VLAN {vlan})", it.pod, wire.interface),
                };
                let addresses = wire.addresses.iter();
                members.extend(addresses.map(|(_, address)| (*address, whose.clone())));
            }
        }
        members
    }
}

/// A phase other than Bind, as the end of a sentence about its record.
fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Initial => "has no ENI yet",
        Phase::Binding => "is Binding: its ENI is on its way to the node",
        Phase::Bind => "is Bind",
        Phase::Detaching => "is Detaching",
        Phase::Unbind => "is Unbind",
        Phase::Deleting => "is Deleting",
    }
}

fn shown<T: ToString>(id: Option<&T>) -> String {
    id.map_or_else(|| "none".into(), T::to_string)
}
