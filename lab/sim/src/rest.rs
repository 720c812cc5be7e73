//! When faults have stopped: the wanted state within a bounded time, and it stays, with nothing
//! orphaned in the cloud and nothing left on nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use engine::ledger::{AddressEntry, AddressState, Ledger};
use model::{AttachmentKey, EniId, Ipv4Prefix, Timestamp, VSwitchId};

use crate::{
    node::{SimNode, TAG},
    runtime::Asked,
    world::{Event, World},
};

/// How long it may take: an inventory that has just been missed (15 minutes), one more that confirms,
/// and the rest after exhaustion (10 minutes).
const BOUND: Duration = Duration::from_secs(45 * 60);
/// How long it must stay.
const STAY: Duration = Duration::from_secs(60 * 60);
/// Calls a node may make in an hour at rest: the goal. Four are the inventory's.
const CALLS_AT_REST: u64 = 6;
/// What one whose configuration wants more prefixes than there are may make beside in its first hour: each
/// of two vSwitches is asked for several and for one, and again after 1, 3, 7, 15 and 31 minutes; before
/// some of these both are looked at.
const CALLS_FOR_PREFIXES: u64 = 20;

/// What is looked at.
#[derive(Debug, Clone)]
pub(crate) enum Rest {
    /// Is it at rest yet? The deadline.
    Coming(Timestamp),
    /// Is it still? By node, when it came to rest: its calls, and whether it wanted addresses that were
    /// not to be had, and so goes on asking.
    Staying(Vec<(u64, bool)>),
}

/// Prefixes the node holds.
fn prefixes_held(ledger: &Ledger) -> u32 {
    let held = ledger.enis().map(|eni| ledger.prefixes_of(&eni.id).len());
    u32::try_from(held.sum::<usize>()).unwrap_or(u32::MAX)
}

/// Whether some of `excess` idle addresses could go back: single ones, or a prefix that is idle as a
/// whole, not larger than that, and not one of the `least` the node is to have.
fn may_go(ledger: &Ledger, excess: u32, least: u32, occupied: &BTreeSet<IpAddr>) -> bool {
    // Nothing rests any more when this is asked. A pod may hold an address that a lost ledger forgot.
    let idle = |entry: &AddressEntry| {
        let free = matches!(
            entry.state,
            AddressState::Idle { .. } | AddressState::Resting { .. }
        );
        free && !occupied.contains(&entry.address)
    };
    let single = |entry: &AddressEntry| !entry.primary && entry.prefix.is_none();
    let mut prefixes = ledger.enis().flat_map(|eni| ledger.prefixes_of(&eni.id));
    let whole = prefixes.any(|prefix| {
        prefix
            .addresses()
            .all(|address| ledger.address(address).is_some_and(idle))
    });
    ledger.addresses().any(|entry| single(entry) && idle(entry))
        || (whole && excess >= Ipv4Prefix::ADDRESSES && prefixes_held(ledger) > least)
}

impl World {
    /// Faults stop.
    pub(crate) fn calm(&mut self) {
        self.log(|| "calm".into());
        self.cloud.region.clear_faults();
        self.cloud.refused.clear();
        self.cloud.tenants = 0;
        self.outage = self.now;
        self.lag(Duration::ZERO, Duration::ZERO);
        if self.oracle.last_fault.is_some() {
            self.oracle.last_fault = Some(self.now);
        }
        for node in 0..self.nodes.len() {
            let here = &mut self.nodes[node];
            here.fates.clear();
            (here.crash, here.disk.refuse, here.kernel.refuse, here.deaf) = (None, 0, 0, 0);
            here.link_delay = Duration::ZERO;
        }
        let bound = self.now.after(BOUND);
        self.after(Duration::from_secs(60), Event::Look(Rest::Coming(bound)));
    }

    pub(crate) fn look(&mut self, rest: Rest) {
        let unrest = self.unrest();
        match (rest, unrest) {
            (Rest::Coming(_), None) => {
                self.report.rested(self.now);
                let mark = |node: &SimNode| (node.calls, self.short(node));
                let calls = self.nodes.iter().map(mark).collect();
                self.after(STAY, Event::Look(Rest::Staying(calls)));
            }
            (Rest::Coming(bound), Some(what)) if self.past(bound) => {
                self.oracle
                    .fail("the wanted state within a bounded time", what);
            }
            (Rest::Coming(bound), Some(_)) => {
                for node in 0..self.nodes.len() {
                    self.check_all(node);
                }
                self.after(Duration::from_secs(30), Event::Look(Rest::Coming(bound)));
            }
            (Rest::Staying(_), Some(what)) => self.oracle.fail("the wanted state stays", what),
            (Rest::Staying(before), None) => {
                self.judge_calls(&before);
                self.finished = true;
            }
        }
    }

    /// The runtime checks pods without a link.
    fn check_all(&mut self, node: usize) {
        let here = &self.nodes[node];
        // What a pod lacks on the node comes back by itself; a link has to be made in the pod too.
        let cut = here.runtime.pods.iter().filter(|(_, pod)| {
            let sandbox = pod.sandbox.as_ref();
            sandbox.is_some_and(|sandbox| !here.kernel.has_link(&sandbox.key))
        });
        for pod in cut.map(|(pod, _)| *pod).collect::<Vec<u16>>() {
            self.check_pod(node, pod);
        }
    }

    fn judge_calls(&mut self, before: &[(u64, bool)]) {
        for (number, (node, (before, was_short))) in self.nodes.iter().zip(before).enumerate() {
            let made = node.calls - before;
            self.report.calls_at_rest = self.report.calls_at_rest.max(made);
            let starving = node
                .runtime
                .pods
                .values()
                .any(|pod| pod.wanted && pod.sandbox.is_none());
            let lacking = node.machine.as_ref().is_some_and(|machine| {
                let least = node.config.policy.prefixes.map_or(0, |it| it.least);
                prefixes_held(machine.ledger()) < least
            });
            let most = CALLS_AT_REST + u64::from(lacking) * CALLS_FOR_PREFIXES;
            if made > most && !starving && !was_short && !self.short(node) {
                let text = format!("node {number} made {made} calls in an hour at rest");
                self.oracle.fail("few calls at rest", text);
            }
        }
    }

    /// What is not as it should be, if anything.
    pub(crate) fn unrest(&mut self) -> Option<String> {
        for number in 0..self.nodes.len() {
            if let Some(what) = self.unrest_of(&self.nodes[number]) {
                return Some(format!("node {number}: {what}"));
            }
        }
        self.orphans()
    }

    fn unrest_of(&self, node: &SimNode) -> Option<String> {
        let Some(machine) = &node.machine else {
            return Some("the agent is away".into());
        };
        let (ledger, view) = (machine.ledger(), machine.view(node.time(self.now)));
        if node.disk.ledger().ok().as_ref() != Some(ledger) {
            return Some("what is in memory is not on disk".into());
        }
        // Who lacks something tries again now and then for ever; how often is judged as well.
        let open = ledger.intents().find(|_| !self.short(node));
        if let Some(intent) = open {
            return Some(format!("a call is open: {intent:?}"));
        }
        let runtime = &node.runtime;
        if !runtime.ending.is_empty() || !runtime.tombstones.is_empty() {
            return Some(format!(
                "sandboxes end: {:?} {:?}",
                runtime.ending, runtime.tombstones
            ));
        }
        let asked = runtime.asked.values();
        if let Some(asked) = asked
            .clone()
            .find(|asked| !matches!(asked, Asked::Add { .. }))
        {
            return Some(format!("a question is never answered: {asked:?}"));
        }
        let mut ready: BTreeSet<&AttachmentKey> = runtime.ready().collect();
        ready.retain(|key| !node.kernel.is_orphan(key));
        let waiting = runtime.pods.iter().filter(|(_, pod)| {
            pod.wanted && !pod.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready)
        });
        if let (Some((pod, _)), false) = (waiting.clone().next(), self.short(node)) {
            let why = view.waiting_for.clone().unwrap_or_default();
            return Some(format!("pod {pod} has no address: {why}"));
        }
        let attached: BTreeSet<&AttachmentKey> =
            ledger.attachments().map(|held| &held.key).collect();
        if attached != ready {
            let odd: Vec<_> = attached.symmetric_difference(&ready).collect();
            return Some(format!("ledger and runtime do not agree about {odd:?}"));
        }
        if let Some(held) = ledger
            .attachments()
            .find(|held| !node.kernel.whole(&held.key, &held.eni))
        {
            return Some(format!("{} is not whole in the kernel", held.key));
        }
        let left: BTreeSet<&AttachmentKey> = node.kernel.pods().map(|(key, _)| key).collect();
        if left != attached {
            let odd: Vec<_> = left.symmetric_difference(&attached).collect();
            return Some(format!("left in the kernel: {odd:?}"));
        }
        if let Some(rule) = node.kernel.stray().next() {
            return Some(format!("a rule belongs to nobody: {rule:?}"));
        }
        if view.resting > 0 {
            return Some(format!("{} addresses rest", view.resting));
        }
        let (min, max) = (node.config.idle_min, node.config.idle_max);
        let enis = u32::try_from(view.enis.len()).unwrap_or(u32::MAX);
        if view.idle < min && !self.short(node) {
            return Some(format!("{} idle of at least {min}", view.idle));
        }
        let policy = &node.config.policy;
        let least = policy.prefixes.map_or(0, |it| it.least);
        let held = prefixes_held(ledger);
        if held < least && self.prefix_to_be_had(node, ledger) {
            return Some(format!("{held} prefixes of at least {least}"));
        }
        // What nobody used for long goes back as well, where that is configured.
        let max = policy.reclaim.map_or(max.max(min), |_| min);
        // A primary address goes back with its ENI only.
        let excess = view.idle.saturating_sub(max);
        if excess > enis && may_go(ledger, excess, least, &node.kernel.occupied()) {
            return Some(format!("{} idle of at most {max}", view.idle));
        }
        let released =
            |state: &AddressState| matches!(state, AddressState::Releasing | AddressState::Fresh);
        let now = node.time(self.now);
        let waits = |entry: &AddressEntry| entry.reserved.as_ref().is_some_and(|it| it.until > now);
        let entry = ledger
            .addresses()
            .find(|entry| released(&entry.state) || entry.unseen > 0 || waits(entry));
        entry.map(|entry| format!("an address is on its way: {entry:?}"))
    }

    /// Whether some vSwitch has a block for a prefix that an ENI of the node could take.
    fn prefix_to_be_had(&self, node: &SimNode, ledger: &Ledger) -> bool {
        let mut spare = self.cloud.spare_prefixes();
        spare.retain(|_, left| *left > 0);
        let places = node.config.limits.ipv4_per_eni;
        let on_eni = |id: &EniId| ledger.places_of(id) < places;
        let new_eni = ledger.enis().count() < node.config.enis_max as usize;
        let takes = |id: &EniId, vswitch| on_eni(id) && spare.contains_key(vswitch);
        (new_eni && !spare.is_empty()) || ledger.enis().any(|eni| takes(&eni.id, &eni.vswitch))
    }

    /// Whether the node cannot have more addresses than it has.
    fn short(&self, node: &SimNode) -> bool {
        let Some(machine) = &node.machine else {
            return false;
        };
        let region = self.cloud.region.snapshot();
        let here = Some(&node.config.instance);
        let foreign = |eni: &&cloudsim::EniView| {
            eni.instance.as_ref() == here && self.oracle.foreign.contains(&eni.id)
        };
        let places = node.config.limits.enis as usize - 1;
        let places = places.saturating_sub(region.enis.iter().filter(foreign).count());
        let enis = places.min(node.config.enis_max as usize);
        let most = enis * node.config.limits.ipv4_per_eni as usize;
        let ledger = machine.ledger();
        let has = ledger.enis().map(|eni| ledger.places_of(&eni.id) as usize);
        let has: usize = has.sum();
        let pool = self.cloud.pool_vswitches();
        let empty = |id: &VSwitchId| {
            let mut named = region.vswitches.iter().filter(|vswitch| vswitch.id == *id);
            named.all(|vswitch| vswitch.free == 0)
        };
        // An ENI grows in its own vSwitch only, and a place that is taken stays with it.
        let placed = ledger.enis().count() >= enis;
        let stuck = placed
            && ledger.enis().all(|eni| {
                let full = ledger.places_of(&eni.id);
                empty(&eni.vswitch) || full >= node.config.limits.ipv4_per_eni
            });
        has >= most || stuck || pool.iter().all(empty)
    }

    /// ENIs of ours in the cloud against all ledgers.
    fn orphans(&self) -> Option<String> {
        let mut known: BTreeMap<EniId, BTreeSet<IpAddr>> = BTreeMap::new();
        for ledger in self
            .nodes
            .iter()
            .filter_map(|node| node.machine.as_ref())
            .map(|m| m.ledger())
        {
            for eni in ledger.enis() {
                let addresses = ledger.addresses_of(&eni.id).map(|entry| entry.address);
                known.insert(eni.id.clone(), addresses.collect());
            }
        }
        for eni in self.cloud.region.snapshot().enis {
            let ours = eni.tags.get(TAG.0).is_some_and(|value| value == TAG.1);
            let held: BTreeSet<IpAddr> = eni
                .secondary
                .iter()
                .chain([&eni.primary])
                .map(|ip| IpAddr::V4(*ip))
                .chain(eni.prefixes.iter().flat_map(|prefix| prefix.addresses()))
                .collect();
            match known.remove(&eni.id) {
                Some(addresses) if addresses != held => {
                    return Some(format!(
                        "{} holds {held:?}, the ledger says {addresses:?}",
                        eni.id
                    ));
                }
                None if ours && !self.oracle.abandoned.contains(&eni.id) => {
                    return Some(format!(
                        "an orphan in the cloud: {} is {:?}",
                        eni.id, eni.status
                    ));
                }
                _ => {}
            }
        }
        let (gone, _) = known.pop_first()?;
        Some(format!("{gone} is in a ledger and not in the cloud"))
    }
}
