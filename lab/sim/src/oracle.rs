//! What must hold after every event, judged from what the cloud did, what the kernel holds and what
//! the runtime was told; the agent's own opinion is only asked about its ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use cloudsim::Effect;
use engine::{
    ledger::{AddressState, Change, EntryKey, Intent, IntentCall, Ledger},
    node::{Api, Attached, CloudCall, Config, EniPolicy, Notice},
};
use model::{AttachmentKey, EniId, InstanceId, PodKey, Timestamp};

use crate::{kernel::Kernel, node::Disk};

/// How long after the last fault an error still counts as its consequence: the longest rest of the
/// pool (10 minutes) and two inventories (15 minutes each).
const AFTERMATH: Duration = Duration::from_secs(40 * 60);

/// The least an API rests after the cloud throttled it.
const THROTTLED_REST: Duration = Duration::from_millis(300);

/// Calls that may have been decided before the node heard of the throttling: one for each ENI.
const ON_THE_WAY: u32 = 4;

/// Which oracle was tripped, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The oracle.
    pub oracle: &'static str,
    /// What was found.
    pub text: String,
}

/// The truth about addresses, and the first thing that was wrong.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    owner: BTreeMap<IpAddr, EniId>,
    plugged: BTreeMap<EniId, InstanceId>,
    /// Addresses a pod was told it has: node and attachment.
    given: BTreeMap<IpAddr, (usize, AttachmentKey)>,
    /// The same by who has them.
    holds: BTreeMap<(usize, AttachmentKey), Vec<IpAddr>>,
    /// Sandboxes whose addresses were in a ledger that was lost: asked again, they may be told others.
    lost: BTreeSet<(usize, AttachmentKey)>,
    /// When an address was last taken from a pod, by its node's clock.
    taken: BTreeMap<IpAddr, (usize, Timestamp, PodKey)>,
    /// Addresses that a node's metadata has shown to it.
    shown: BTreeSet<(IpAddr, EniId)>,
    /// ENIs of others.
    pub(crate) foreign: BTreeSet<EniId>,
    /// ENIs whose ledger was lost before they were attached: the control plane's to collect.
    pub(crate) abandoned: BTreeSet<EniId>,
    pub(crate) last_fault: Option<Timestamp>,
    /// Whether the agents' view of the cloud was ever wrong by no fault of theirs.
    pub(crate) misled: bool,
    /// Whether the nodes could hold twice the pods there are, so that nobody ever needs to wait in vain.
    pub(crate) roomy: bool,
    /// When the cloud last throttled an API for a node, as the node heard it, and calls made since
    /// without a rest.
    throttled: BTreeMap<(usize, Api), (Timestamp, u32)>,
    /// A clock stepped: what was to be apart in time may not have been.
    pub(crate) clock_moved: bool,
    pub(crate) violation: Option<Violation>,
}

impl Oracle {
    pub(crate) fn fail(&mut self, oracle: &'static str, text: impl Into<String>) {
        // The first is the cause; what follows may be its consequence.
        if self.violation.is_none() {
            self.violation = Some(Violation {
                oracle,
                text: text.into(),
            });
        }
    }

    /// Follows the region.
    pub(crate) fn effect(&mut self, effect: &Effect, orderly: bool) {
        match effect {
            Effect::Own { address, eni } => {
                if let Some(other) = self.owner.insert(*address, eni.clone()) {
                    self.fail(
                        "one owner in the cloud",
                        format!("{address}: {other} and {eni}"),
                    );
                }
            }
            Effect::Disown { address, eni } => {
                self.owner.remove(address);
                self.shown.remove(&(*address, eni.clone()));
                if let (Some((_, key)), true) = (self.given.get(address), orderly) {
                    let text = format!("{address} of {key} went back to the cloud");
                    self.fail("a pod keeps its address", text);
                }
            }
            Effect::Plug { eni, instance, .. } | Effect::PlugMember { eni, instance, .. } => {
                self.plugged.insert(eni.clone(), instance.clone());
            }
            Effect::Unplug { eni, .. } => {
                self.plugged.remove(eni);
                self.shown.retain(|(_, of)| of != eni);
                let held = self
                    .given
                    .iter()
                    .find(|(address, _)| self.owner.get(address) == Some(eni));
                if let (Some((address, (_, key))), true) = (held, orderly) {
                    let text = format!("{eni} was detached while {key} has {address} of it");
                    self.fail("a pod keeps its address", text);
                }
            }
            Effect::SourceDestCheck { .. }
            | Effect::Join { .. }
            | Effect::Group(_)
            | Effect::GroupGone(_)
            | Effect::Route { .. }
            | Effect::Unroute { .. } => {}
        }
    }

    /// Metadata showed a node these.
    pub(crate) fn shown(&mut self, interface: &engine::node::Interface) {
        let prefixed = interface.prefixes.iter().flatten();
        let prefixed = prefixed.flat_map(|prefix| prefix.addresses());
        let all = interface.addresses.iter().copied().chain(prefixed);
        let pairs = all.map(|address| (address, interface.eni.clone()));
        self.shown.extend(pairs);
    }

    /// The runtime was told that a sandbox has these addresses.
    pub(crate) fn give(
        &mut self,
        (node, instance): (usize, &InstanceId),
        attached: &Attached,
        kernel: Option<&Kernel>,
        now: Timestamp,
        cooldown: Duration,
    ) {
        let attachment = &attached.attachment;
        let (key, eni) = (&attachment.key, &attachment.eni);
        self.told_again(node, attachment);
        for (_, address) in attachment.addresses.iter() {
            let other = self.given.insert(*address, (node, key.clone()));
            self.holds
                .entry((node, key.clone()))
                .or_default()
                .push(*address);
            if let Some((_, other)) = other.filter(|(at, other)| *at != node || other != key) {
                self.fail(
                    "an address has one owner",
                    format!("{address}: {other} and {key}"),
                );
            }
            if self.owner.get(address) != Some(eni) || self.plugged.get(eni) != Some(instance) {
                let text = format!("{address} of {eni} was given to {key} on node {node}");
                self.fail("handed out only what the cloud holds for this node", text);
            }
            if !self.shown.contains(&(*address, eni.clone())) {
                let text = format!("{address} was given to {key} before metadata showed it");
                self.fail("handed out only what the node can use", text);
            }
            // To the pod that had it, its old peers are no strangers.
            let same = self
                .taken
                .get(address)
                .is_some_and(|(.., pod)| *pod == attachment.pod);
            if !same {
                self.rested(node, *address, now, cooldown, "was given again");
            }
        }
        if kernel.is_some_and(|kernel| !kernel.ready(eni) || !kernel.whole(key, eni)) {
            let text =
                format!("{key} was answered, but the kernel has not all of it, or not by {eni}");
            self.fail("handed out only what the node can use", text);
        }
    }

    /// Whoever is asked again gives the same addresses; what the kernel then has is what was told last.
    fn told_again(&mut self, node: usize, attachment: &engine::ledger::Attachment) {
        let key = &attachment.key;
        let Some(before) = self.holds.get(&(node, key.clone())) else {
            return;
        };
        let now: Vec<IpAddr> = attachment.addresses.iter().map(|(_, it)| *it).collect();
        if *before != now && !self.lost.remove(&(node, key.clone())) {
            let text = format!("{key} was told {before:?}, and now {now:?}");
            self.fail("a sandbox keeps its addresses", text);
        }
        self.take(node, key);
    }

    /// The ledger of a node is lost.
    pub(crate) fn ledger_lost(&mut self, node: usize) {
        let held = self.holds.keys().filter(|(at, _)| *at == node);
        self.lost.extend(held.cloned());
        self.clock_stepped(node);
    }

    /// A sandbox does not use its addresses any more.
    pub(crate) fn take(&mut self, node: usize, key: &AttachmentKey) {
        for address in self.holds.remove(&(node, key.clone())).unwrap_or_default() {
            self.given.remove(&address);
        }
    }

    pub(crate) fn take_all(&mut self, node: usize) {
        self.given.retain(|_, (at, _)| *at != node);
        self.holds.retain(|(at, _), _| *at != node);
        self.clock_stepped(node);
    }

    /// A pod's links, routes and rules are gone: its address rests from now on.
    pub(crate) fn released(&mut self, node: usize, address: IpAddr, now: Timestamp, pod: PodKey) {
        self.taken.insert(address, (node, now, pod));
    }

    fn rested(
        &mut self,
        node: usize,
        address: IpAddr,
        now: Timestamp,
        cooldown: Duration,
        what: &str,
    ) {
        let Some((_, since, _)) = self.taken.get(&address).filter(|(at, ..)| *at == node) else {
            return;
        };
        let rest = now.since(*since);
        if rest < cooldown {
            let text = format!("{address} {what} after {} ms of rest", rest.as_millis());
            self.fail("a released address rests its time", text);
        }
    }

    /// A clock that stepped, or a ledger that was lost, makes rests of its node uncomparable.
    pub(crate) fn clock_stepped(&mut self, node: usize) {
        self.taken.retain(|_, (at, ..)| *at != node);
    }

    /// The ledger is about to forget something: only what the cloud does not have any more. A late view
    /// is no proof of that, and it never trails behind by more than the machine waits between two looks.
    /// What the cloud gave to another ENI meanwhile is not this ledger's.
    pub(crate) fn forgets(&mut self, changes: &[Change], disk: &Disk) {
        for change in changes {
            let held = match change {
                Change::Delete(EntryKey::Address(address)) => {
                    let of = disk.eni_of(*address);
                    let owner = self.owner.get_key_value(address);
                    owner.filter(|(_, eni)| of.is_none_or(|of| of == *eni))
                }
                Change::Delete(EntryKey::Eni(eni)) => self.owner.iter().find(|(_, of)| *of == eni),
                _ => None,
            };
            if let Some((address, eni)) = held.filter(|_| !self.clock_moved) {
                let text = format!("{address} of {eni} leaves the ledger while the cloud has it");
                return self.fail("nothing the cloud holds is forgotten", text);
            }
        }
    }

    /// A new life of the agent knows of no throttling.
    pub(crate) fn forget_throttling(&mut self, node: usize) {
        self.throttled.retain(|(at, _), _| *at != node);
    }

    /// A node hears that a call was throttled, or that it was not: then others may follow.
    pub(crate) fn throttled(&mut self, node: usize, call: &CloudCall, at: Option<Timestamp>) {
        match at {
            Some(at) => self.throttled.entry((node, Api::of(call))).or_default().0 = at,
            None => {
                self.throttled.remove(&(node, Api::of(call)));
            }
        }
    }

    /// A call is about to leave; `disk` is what would survive a crash now.
    pub(crate) fn call(
        &mut self,
        (node, now): (usize, Timestamp),
        call: &CloudCall,
        disk: &Disk,
        config: &Config,
    ) {
        if let Some((at, calls)) = self.throttled.get_mut(&(node, Api::of(call))) {
            let rested = now.since(*at) >= THROTTLED_REST;
            *calls = if rested { 0 } else { *calls + 1 };
            if *calls > ON_THE_WAY && !self.clock_moved {
                let text = format!("{calls} calls of {:?} without a rest", Api::of(call));
                self.fail("a throttled API rests", text);
            }
        }
        let grows = matches!(
            call,
            CloudCall::AssignAddresses(..) | CloudCall::AssignPrefixes(..)
        );
        let spread = config.policy.enis == EniPolicy::LeastIps;
        if grows && spread && self.untroubled() && disk.eni_to_come(config.enis_max) {
            self.fail("a new ENI comes first", format!("{call:?}"));
        }
        let enis: Vec<&EniId> = match call {
            CloudCall::CreateEni(token, _)
            | CloudCall::AssignAddresses(token, ..)
            | CloudCall::AssignPrefixes(token, ..)
                if !disk.has_intent(token) =>
            {
                return self.fail("a call is recorded before it is made", format!("{call:?}"));
            }
            CloudCall::CreateEni(_, create)
                if create.address_count + create.prefix_count > config.limits.ipv4_per_eni =>
            {
                let (single, prefixes) = (create.address_count, create.prefix_count);
                let text = format!("{single} addresses and {prefixes} prefixes on a new ENI");
                return self.fail("never over a quota", text);
            }
            CloudCall::UnassignAddresses(eni, addresses) => {
                for address in addresses {
                    self.rested(
                        node,
                        *address,
                        now,
                        config.cooldown,
                        "went back to the cloud",
                    );
                }
                vec![eni]
            }
            CloudCall::UnassignPrefixes(eni, prefixes) => {
                for address in prefixes.iter().flat_map(|prefix| prefix.addresses()) {
                    self.rested(
                        node,
                        address,
                        now,
                        config.cooldown,
                        "went back to the cloud",
                    );
                }
                vec![eni]
            }
            CloudCall::AttachEni(eni)
            | CloudCall::DetachEni(eni)
            | CloudCall::DeleteEni(eni)
            | CloudCall::AssignAddresses(_, eni, _)
            | CloudCall::AssignPrefixes(_, eni, _) => vec![eni],
            _ => Vec::new(),
        };
        if let Some(eni) = enis.into_iter().find(|eni| self.foreign.contains(*eni)) {
            self.fail(
                "ENIs of others are never touched",
                format!("{eni}: {call:?}"),
            );
        }
    }

    /// The ledger in memory against its own invariants, the limits and the kernel.
    pub(crate) fn ledger(&mut self, ledger: &Ledger, kernel: &Kernel, config: &Config) {
        let holder = |address: IpAddr| match ledger.address(address).map(|entry| &entry.state) {
            Some(AddressState::Assigned { to }) => Some(to),
            _ => None,
        };
        for attachment in ledger.attachments() {
            for (_, address) in attachment.addresses.iter() {
                if holder(*address) != Some(&attachment.key) {
                    let state = ledger.address(*address).map(|entry| &entry.state);
                    let text = format!("{address} of {} is {state:?}", attachment.key);
                    self.fail("an attachment holds its addresses", text);
                }
            }
        }
        for entry in ledger.addresses() {
            if let AddressState::Assigned { to } = &entry.state
                && ledger.attachment(to).is_none()
            {
                let text = format!("{} is held by {to}, which does not exist", entry.address);
                self.fail("an attachment holds its addresses", text);
            }
        }
        for (key, addresses) in kernel.pods() {
            if let Some(address) = addresses
                .iter()
                .find(|address| holder(**address) != Some(key))
            {
                let text = format!("{address} is free while the kernel still has {key}");
                self.fail("nothing of a pod is left when its address rests", text);
            }
        }
        if !self.misled {
            self.limits(ledger, config);
        }
    }

    fn limits(&mut self, ledger: &Ledger, config: &Config) {
        let creating = |intent: &&Intent| matches!(intent.call, IntentCall::CreateEni(_));
        let enis = ledger.enis().count() + ledger.intents().filter(creating).count();
        if enis > config.enis_max as usize {
            self.fail(
                "never over a quota",
                format!("{enis} ENIs of {}", config.enis_max),
            );
        }
        for eni in ledger.enis() {
            let open = ledger.intents().map(|intent| &intent.call);
            let asked = open.filter(|call| call.eni() == Some(&eni.id));
            let count = ledger.places_of(&eni.id) + asked.map(IntentCall::places).sum::<u32>();
            if count > config.limits.ipv4_per_eni {
                self.fail(
                    "never over a quota",
                    format!("{count} places taken on {}", eni.id),
                );
            }
        }
    }

    /// Whether nothing ever went wrong and there is room for everybody.
    fn untroubled(&self) -> bool {
        self.last_fault.is_none() && self.roomy
    }

    pub(crate) fn notice(&mut self, now: Timestamp, notice: &Notice) {
        let quiet = self.last_fault.is_none_or(|at| now.since(at) > AFTERMATH);
        match notice {
            Notice::Defect(text) => self.fail("no defect", text.clone()),
            Notice::KernelFailed(_) | Notice::AddressLost(..) if quiet => {
                self.fail("no error while nothing is wrong", format!("{notice:?}"));
            }
            Notice::CloudFailed(_) | Notice::TimedOut(..) if self.untroubled() => {
                self.fail(
                    "no complaint in a world without faults",
                    format!("{notice:?}"),
                );
            }
            _ => {}
        }
    }
}
