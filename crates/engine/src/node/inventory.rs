//! Three views of one truth: what the cloud answers, what the instance's metadata shows, and the
//! ledger. They are brought together here, and what they do not agree on stays uncertain.
//!
//! An answer counts only if the node's own primary ENI is in it, because the cloud may answer a call
//! it does not permit with an empty list. Something missing from an answer that counts is missing
//! once; only the second such answer in a row, asked for some time after the first, makes it gone, and
//! nothing a pod holds ever goes.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use model::{DualStack, Eni, EniId, EniKind, EniStatus, FaultClass, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Node, Op,
    budget::{Api, Purpose},
    message::{Action, CloudAnswer, CloudCall, CloudFault, Interface, Notice},
    missing::Missing,
    prefix,
};
use crate::{
    ledger::{AddressEntry, AddressState, Change, EniEntry, EniStage, Entry, Intent},
    retry::Backoff,
};

/// How often a node at rest asks what it has. Four calls an hour; the goal is at most six.
const INVENTORY_PERIOD: Duration = Duration::from_secs(15 * 60);

/// How soon an answer that lacked something is checked by a second, and how much later than the first
/// that must have been asked for: two answers of one moment trail behind the cloud alike.
pub(super) const INVENTORY_SECOND_LOOK: Duration = Duration::from_secs(10);

/// Something that is looked at when wanted and not too often.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Poll {
    wanted: bool,
    in_flight: bool,
    pub(super) failures: u32,
    not_before: Timestamp,
}

impl Poll {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Looks now, whenever the next look was due.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        self.wanted = true;
        self.not_before = self.not_before.min(now);
    }

    pub(super) fn answered(&mut self) {
        self.wanted = false;
        self.in_flight = false;
        self.failures = 0;
    }

    pub(super) fn again(&mut self, at: Timestamp, failures: u32) {
        *self = Self {
            wanted: true,
            in_flight: false,
            failures,
            not_before: at,
        };
    }

    /// Whether to look now; if so, the look counts as under way.
    pub(super) fn take_due(&mut self, now: Timestamp) -> bool {
        let due = self.wanted && !self.in_flight && self.not_before <= now;
        self.in_flight |= due;
        due
    }

    pub(super) fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        (self.wanted && !self.in_flight && self.not_before > now).then_some(self.not_before)
    }

    /// Whether it was never looked at.
    pub(super) fn is_new(&self) -> bool {
        !self.wanted && !self.in_flight && self.not_before == Timestamp::default()
    }
}

impl Node {
    pub(super) fn drive_polls(&mut self, now: Timestamp) {
        if self.inventory.is_new() {
            self.inventory.want();
        }
        let may = self.may_call(now, Api::DescribeNetworkInterfaces, Purpose::Housekeeping);
        if may && self.inventory.take_due(now) {
            self.call(now, Op::Inventory { sent: now }, CloudCall::DescribeNode);
        }
        if self.interfaces.take_due(now) {
            let number = self.start(Op::Interfaces);
            self.out.emit(Action::ReadInterfaces(number));
        }
        if self.links_wanted.take_due(now) {
            self.out.emit(Action::ReadLinks);
        }
        self.drive_kernel_look(now);
    }

    pub(super) fn poll_deadlines(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        [
            &self.inventory,
            &self.interfaces,
            &self.links_wanted,
            &self.kernel,
        ]
        .into_iter()
        .filter_map(move |poll| poll.deadline(now))
    }

    pub(super) fn interfaces_read(
        &mut self,
        now: Timestamp,
        number: super::OpNumber,
        result: Result<Vec<Interface>, String>,
    ) {
        if self.ops.remove(&number).is_none() {
            return;
        }
        let looks = self.interfaces.failures + 1;
        let interfaces = match result {
            Ok(interfaces) => interfaces,
            Err(error) => {
                let wait = self.wait(Backoff::CLOUD, looks);
                self.interfaces.again(now.after(wait), looks);
                return self.notice(Notice::CloudFailed(format!("reading metadata: {error}")));
            }
        };
        self.interfaces.answered();
        for interface in &interfaces {
            self.learn(now, interface);
            self.learn_gateway(interface);
        }
        if self.metadata_lacks_something() {
            let wait = self.wait(Backoff::APPEAR, looks);
            self.interfaces.again(now.after(wait), looks);
        }
    }

    fn learn(&mut self, now: Timestamp, interface: &Interface) {
        let Some(eni) = self.ledger.eni(&interface.eni).cloned() else {
            return;
        };
        if eni.gateway != interface.gateway || eni.subnet != interface.subnet {
            let (gateway, subnet) = (interface.gateway, interface.subnet);
            self.record(Change::Put(Entry::Eni(EniEntry {
                gateway,
                subnet,
                ..eni.clone()
            })));
        }
        let fresh = |entry: &&AddressEntry| entry.state == AddressState::Fresh;
        let addresses = self.ledger.addresses_of(&eni.id);
        let prefixed = addresses.filter(fresh).any(|entry| entry.prefix.is_some());
        // Who else can tell is asked; each look at the metadata comes later than the one before.
        if prefixed && interface.prefixes.is_none() {
            self.progress(&eni.id).prefixes_unseen = true;
            self.inventory.hurry(now);
        }
        let shown = |entry: &&AddressEntry| match (entry.prefix, &interface.prefixes) {
            (None, _) => interface.addresses.contains(&entry.address),
            (Some(prefix), Some(shown)) => shown.contains(&prefix),
            (Some(_), None) => false,
        };
        let fresh = self
            .ledger
            .addresses_of(&eni.id)
            .filter(fresh)
            .filter(shown);
        for address in fresh.map(|entry| entry.address).collect::<Vec<_>>() {
            self.set_address(address, AddressState::Idle { since: now });
        }
    }

    fn metadata_lacks_something(&self) -> bool {
        self.ledger
            .enis()
            .filter(|eni| eni.stage == EniStage::Attached)
            .any(|eni| {
                let fresh = |entry: &AddressEntry| entry.state == AddressState::Fresh;
                eni.gateway.is_empty() || self.ledger.addresses_of(&eni.id).any(fresh)
            })
            || self.lacks_gateway()
    }

    pub(super) fn inventory_done(
        &mut self,
        now: Timestamp,
        sent: Timestamp,
        result: Result<CloudAnswer, CloudFault>,
    ) {
        let looks = self.inventory.failures + 1;
        let uncertain = match result {
            Ok(CloudAnswer::Enis(enis)) if self.has_primary(&enis) => {
                self.inventory.answered();
                self.trunk.looked();
                self.see_own_addresses(&enis);
                let complete = self.reconcile(now, sent, &enis);
                let wait = if complete {
                    INVENTORY_PERIOD
                } else {
                    INVENTORY_SECOND_LOOK
                };
                return self.inventory.again(now.after(wait), 0);
            }
            Ok(_) => CloudFault {
                class: FaultClass::Unknown,
                text: "the answer lacks the node's own primary ENI, so it proves nothing; \
                       is ecs:DescribeNetworkInterfaces permitted?"
                    .into(),
            },
            Err(fault) => fault,
        };
        self.cloud_failed("listing the node's ENIs", &uncertain);
        let wait = self.wait(Backoff::CLOUD, looks);
        self.inventory.again(now.after(wait), looks);
    }

    fn has_primary(&self, enis: &[Eni]) -> bool {
        enis.iter().any(|eni| eni.mac == self.config.primary_mac)
    }

    /// Brings the ledger up to an answer that counts. False when something was missing for the first
    /// time or is new: a view that trails behind also shows what went a moment ago, and nobody should
    /// wait a quarter of an hour for that. A second look is due soon.
    fn reconcile(&mut self, now: Timestamp, sent: Timestamp, enis: &[Eni]) -> bool {
        let mut complete = true;
        let missing = self.missing(now, sent);
        for eni in enis {
            if self.is_ours(eni) && self.ledger.eni(&eni.id).is_none() {
                self.adopt(eni);
                complete = false;
            }
        }
        for known in self.ledger.enis().cloned().collect::<Vec<_>>() {
            let progress = self.progress(&known.id);
            if known.stage != EniStage::Attached || progress.busy || progress.changed >= sent {
                continue;
            }
            complete &= match enis.iter().find(|eni| eni.id == known.id) {
                Some(eni) if !self.config.policy.allows(eni) => self.set_excluded(&known.id),
                Some(eni) => self.compare(&missing, eni),
                None => self.eni_missing(&missing, &known.id),
            };
        }
        complete
    }

    fn is_ours(&self, eni: &Eni) -> bool {
        let tagged = self
            .config
            .tags
            .iter()
            .all(|(key, value)| eni.tags.get(key) == Some(value));
        // A member, and whatever a record names, is a pod's: its life is the control plane's business.
        let kind = matches!(eni.kind, EniKind::Secondary | EniKind::Trunk);
        kind && !self.members.name(&eni.id)
            && !self.is_lent(&eni.id)
            && tagged
            && self.config.policy.allows(eni)
    }

    /// Takes an ENI of ours into the ledger that this does not name.
    pub(super) fn adopt(&mut self, eni: &Eni) {
        let stage = match eni.status {
            EniStatus::InUse => EniStage::Attached,
            EniStatus::Available | EniStatus::Attaching => EniStage::Attaching,
            EniStatus::Detaching => EniStage::Detaching,
            EniStatus::Deleting => return,
        };
        self.put_new_eni(eni, stage);
    }

    pub(super) fn put_new_eni(&mut self, eni: &Eni, stage: EniStage) {
        let entry = EniEntry {
            id: eni.id.clone(),
            mac: eni.mac,
            vswitch: eni.vswitch.clone(),
            stage,
            trunk: eni.kind == EniKind::Trunk,
            gateway: DualStack::default(),
            subnet: DualStack::default(),
        };
        self.record(Change::Put(Entry::Eni(entry)));
        self.put_listed(eni);
    }

    fn put_listed(&mut self, eni: &Eni) {
        for ip in &eni.addresses {
            self.put_fresh(ip.address, &eni.id, ip.primary);
        }
        for prefix in &eni.prefixes {
            self.put_prefix(*prefix, &eni.id);
        }
    }

    pub(super) fn put_fresh(&mut self, address: IpAddr, eni: &EniId, primary: bool) {
        self.put_unknown(AddressEntry {
            address,
            eni: eni.clone(),
            primary,
            prefix: None,
            state: AddressState::Fresh,
            unseen: 0,
            reserved: None,
        });
    }

    /// Takes an address into the ledger that it does not have on this ENI.
    pub(super) fn put_unknown(&mut self, entry: AddressEntry) {
        let known = self.ledger.address(entry.address);
        // A trunk pod that is not taken down yet has an address its own ENI lost meanwhile.
        if self.ledger.member_with(entry.address).is_some() {
            return;
        }
        if known.is_none_or(|known| known.eni != entry.eni) {
            self.put_address(entry);
        }
    }

    /// An ENI of ours that its tags give to somebody else now: nothing more is done with it, and it is
    /// forgotten once no pod holds an address of it. Always true: nothing is uncertain about it.
    fn set_excluded(&mut self, id: &EniId) -> bool {
        self.progress(id).excluded = true;
        if self.ledger.holder_on(id).is_none() {
            self.forget_eni(id);
        }
        true
    }

    /// Whether an ENI's tags give it to somebody else.
    pub(super) fn excluded(&self, id: &EniId) -> bool {
        self.progress
            .get(id)
            .is_some_and(|progress| progress.excluded)
    }

    fn compare(&mut self, missing: &Missing, eni: &Eni) -> bool {
        let progress = self.progress(&eni.id);
        (progress.unseen, progress.excluded) = (0, false);
        let mut listed: BTreeSet<IpAddr> = eni.addresses.iter().map(|ip| ip.address).collect();
        listed.extend(prefix::addresses(&eni.prefixes));
        let open = |intent: &Intent| intent.call.eni() == Some(&eni.id);
        let before = self.ledger.addresses_of(&eni.id).count();
        if !self.ledger.intents().any(open) {
            self.put_listed(eni);
        }
        self.listed_is_usable(missing.now, &eni.id, &eni.prefixes);
        let known: Vec<AddressEntry> = self.ledger.addresses_of(&eni.id).cloned().collect();
        let mut complete = known.len() == before;
        for entry in known {
            if listed.contains(&entry.address) {
                if entry.unseen > 0 {
                    self.put_address(AddressEntry { unseen: 0, ..entry });
                }
            } else {
                complete &= self.address_missing(missing, entry);
            }
        }
        complete
    }
}
