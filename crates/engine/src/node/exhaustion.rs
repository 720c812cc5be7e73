//! Why the pool cannot grow, as a state with a kind, a reason that names what to change, and a time at
//! which it is tried again. It ends by itself: with the first call that succeeds, or when nothing more
//! is needed.

use std::{collections::BTreeSet, time::Duration};

use model::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Node, budget::Api, history::seconds, message::Notice};
use crate::{
    ledger::{EniEntry, EniStage, IntentCall},
    retry::Backoff,
};

/// What ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExhaustionKind {
    /// No configured vSwitch of the zone has a free address.
    VSwitch,
    /// The node may have no further ENI.
    EniQuota,
    /// The node holds every address its instance type allows.
    AddressQuota,
    /// The account may have no further ENI in the region.
    AccountQuota,
    /// A security group holds as many addresses as it may.
    SecurityGroup,
    /// A vSwitch has no block left for a prefix. The pool goes on by single addresses.
    Prefix,
    /// The cloud, or the node's own budget, allows no further call right now.
    Throttled,
    /// The cloud does not permit the call.
    Denied,
    /// The configuration names nothing that could serve.
    Misconfigured,
}

impl ExhaustionKind {
    /// The kind as metrics and JSON call it.
    pub fn name(self) -> &'static str {
        match self {
            ExhaustionKind::VSwitch => "v_switch",
            ExhaustionKind::EniQuota => "eni_quota",
            ExhaustionKind::AddressQuota => "address_quota",
            ExhaustionKind::AccountQuota => "account_quota",
            ExhaustionKind::SecurityGroup => "security_group",
            ExhaustionKind::Prefix => "prefix",
            ExhaustionKind::Throttled => "throttled",
            ExhaustionKind::Denied => "denied",
            ExhaustionKind::Misconfigured => "misconfigured",
        }
    }

    /// What a person can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            ExhaustionKind::VSwitch => {
                "it goes on by itself once an address is free there; eni_conf key vswitches takes further vSwitches"
            }
            ExhaustionKind::EniQuota => {
                "a pod of this node that ends frees an address; eni_conf key max_eni or a larger instance type allow more"
            }
            ExhaustionKind::AddressQuota => {
                "a pod of this node that ends frees an address; a larger instance type allows more"
            }
            ExhaustionKind::AccountQuota => {
                "it goes on by itself once the account's ENI quota is raised or an ENI is deleted"
            }
            ExhaustionKind::SecurityGroup => {
                "it goes on by itself once the group has room; eni_conf key security_groups may name another"
            }
            ExhaustionKind::Prefix => {
                "pods are served by single addresses; a prefix is asked for again by itself, and given once the vSwitch has a reserved block free"
            }
            ExhaustionKind::Throttled => "it passes by itself",
            ExhaustionKind::Denied => {
                "it goes on by itself once the call is permitted (RAM policy, credentials)"
            }
            ExhaustionKind::Misconfigured => {
                "it goes on by itself once eni_conf is mended; no restart is needed"
            }
        }
    }
}

/// The pool cannot grow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exhaustion {
    /// What ran out.
    pub kind: ExhaustionKind,
    /// Which vSwitch, key or quota it is.
    pub reason: String,
    /// When it is tried again, in seconds since the Unix epoch; nothing when it ends only with a pod.
    pub until: Option<u64>,
}

/// Ways in which the pool grows; one may be closed while the other is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// By a new ENI.
    NewEni,
    /// By addresses on an ENI there is.
    Addresses,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Stop {
    kind: ExhaustionKind,
    reason: String,
    until: Timestamp,
    failures: u32,
}

/// What stands in the way, and what people were told about it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Stops {
    new_eni: Option<Stop>,
    addresses: Option<Stop>,
    told: Option<ExhaustionKind>,
    /// Since when what people were told is over.
    over_since: Option<Timestamp>,
}

impl Stops {
    fn of(&mut self, way: Way) -> &mut Option<Stop> {
        match way {
            Way::NewEni => &mut self.new_eni,
            Way::Addresses => &mut self.addresses,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Stop> {
        self.new_eni.iter().chain(&self.addresses)
    }

    /// Whether the pool may not grow this way now.
    pub(super) fn closed(&self, way: Way, now: Timestamp) -> bool {
        let stop = match way {
            Way::NewEni => &self.new_eni,
            Way::Addresses => &self.addresses,
        };
        stop.as_ref().is_some_and(|stop| stop.until > now)
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Timestamp> {
        let told = self.over_since.map(|since| since.after(OVER));
        self.all().map(|stop| stop.until).chain(told)
    }

    /// Why and until when the pool does not try, if it does not.
    pub(super) fn standing(&self, now: Timestamp) -> Option<(&str, Timestamp)> {
        let stop = self.all().find(|stop| stop.until > now)?;
        Some((stop.reason.as_str(), stop.until))
    }

    /// Opens both ways: the configuration is another.
    pub(super) fn clear(&mut self) {
        (self.new_eni, self.addresses) = (None, None);
    }
}

impl Node {
    /// Closes one way for a while: each time in a row for the same kind of reason twice as long.
    pub(super) fn stop(
        &mut self,
        now: Timestamp,
        way: Way,
        kind: ExhaustionKind,
        rest: Backoff,
        reason: String,
    ) {
        let earlier = self.stops.of(way).as_ref();
        let failures = 1 + earlier
            .filter(|stop| stop.kind == kind)
            .map_or(0, |stop| stop.failures);
        let until = now.after(self.wait(rest, failures));
        *self.stops.of(way) = Some(Stop {
            kind,
            reason,
            until,
            failures,
        });
    }

    /// A call of this way succeeded. A new ENI proves nothing about how many the instance may have
    /// until it is attached.
    pub(super) fn goes_on(&mut self, way: Way, attached: bool) {
        let stop = self.stops.of(way);
        let kept = |stop: &Stop| stop.kind == ExhaustionKind::EniQuota && !attached;
        *stop = stop.take().filter(kept);
    }

    /// A vSwitch can serve again: what was stopped for want of one is tried at once.
    pub(super) fn vswitch_serves(&mut self) {
        let kinds = [ExhaustionKind::VSwitch, ExhaustionKind::Misconfigured];
        if let Some(stop) = &mut self.stops.new_eni
            && kinds.contains(&stop.kind)
        {
            stop.until = Timestamp::EPOCH;
        }
    }

    /// Whether a pod waits, or there is less than should be.
    fn needs(&self, now: Timestamp) -> bool {
        self.waiting_count() > 0 || self.idle(now) < self.idle_floor() || self.wants_prefixes(now)
    }

    /// Why the pool cannot grow though it should, if it cannot.
    pub fn exhausted(&self, now: Timestamp) -> Option<Exhaustion> {
        if self.config.policy.block.is_some() || !self.needs(now) {
            return None;
        }
        if let Some(stop) = self.stops.all().next() {
            return Some(Exhaustion {
                kind: stop.kind,
                reason: stop.reason.clone(),
                until: Some(seconds(stop.until)),
            });
        }
        self.throttled(now).or_else(|| self.full(now))
    }

    /// What people are told: that the pool cannot grow, or that it grows another way than configured.
    pub(super) fn told(&self, now: Timestamp) -> Option<Exhaustion> {
        self.exhausted(now).or_else(|| self.without_block(now))
    }

    /// A call the pool grows by that the budget or the cloud's own limit holds back.
    fn throttled(&self, now: Timestamp) -> Option<Exhaustion> {
        let open = self.ledger.intents().map(|intent| match &intent.call {
            IntentCall::CreateEni(_) => Api::CreateNetworkInterface,
            IntentCall::AssignAddresses { .. } | IntentCall::AssignPrefixes { .. } => {
                Api::AssignPrivateIpAddresses
            }
        });
        let coming = self.ledger.enis().filter_map(|eni| match eni.stage {
            EniStage::Created => Some(Api::AttachNetworkInterface),
            EniStage::Attaching => Some(Api::DescribeNetworkInterfaces),
            EniStage::Attached | EniStage::Detaching | EniStage::Deleting => None,
        });
        let wanted = self.held.iter().copied();
        let held = |api| Some((api, self.held_back(now, api)?));
        let (api, (why, until)) = open.chain(coming).chain(wanted).find_map(held)?;
        Some(Exhaustion {
            kind: ExhaustionKind::Throttled,
            reason: format!("{} {why}", api.name()),
            until: Some(seconds(until)),
        })
    }

    /// A pod waits, and the node has everything it may have.
    fn full(&self, now: Timestamp) -> Option<Exhaustion> {
        let (config, limits) = (&self.config, self.config.limits);
        let enis = u32::try_from(self.ledger.enis().count()).unwrap_or(u32::MAX);
        let most = self.enis_beside_lent();
        let open = self.ledger.intents().next().is_some();
        let lacking = self.ledger.enis().filter(|eni| self.lacks(&eni.id) > 0);
        let dry = |eni: &&EniEntry| self.vswitch_full(now, &eni.vswitch);
        let (dry, room): (Vec<_>, Vec<_>) = lacking.partition(dry);
        if self.waiting_count() == 0 || open || !room.is_empty() || enis < most {
            return None;
        }
        let told = |kind, reason| {
            Some(Exhaustion {
                kind,
                reason,
                until: None,
            })
        };
        let allowed = limits.enis.saturating_sub(1);
        if config.enis_max == 0 {
            let reason = format!(
                "eni_conf keys max_eni, eni_cap_ratio and eni_cap_shift, or the instance type ({} ENIs), leave no ENI for pods",
                limits.enis
            );
            return told(ExhaustionKind::Misconfigured, reason);
        }
        if !dry.is_empty() {
            return told(ExhaustionKind::VSwitch, self.tied_to_full(&dry));
        }
        if let Some(eni) = self.ledger.enis().find(|eni| self.stuck(&eni.id)) {
            let reason = format!(
                "{} is attached and cannot be used, because its link is missing on the node or could not be set up, \
                 and the node may have no further ENI than its {enis}",
                eni.id
            );
            return told(ExhaustionKind::EniQuota, reason);
        }
        let each = limits.ipv4_per_eni;
        if most < config.enis_max {
            let reason = format!(
                "{} of the {allowed} ENIs the node's type allows are wholly pods' own, and the other {most} have \
                 {each} addresses each, all in use or resting",
                self.lent_enis()
            );
            return told(ExhaustionKind::EniQuota, reason);
        }
        if config.enis_max < allowed {
            let reason = format!(
                "the node has all {} ENIs that eni_conf keys max_eni, eni_cap_ratio and eni_cap_shift allow \
                 (its type allows {allowed}), with {each} addresses each, all in use or resting",
                config.enis_max
            );
            return told(ExhaustionKind::EniQuota, reason);
        }
        let reason = format!(
            "the node has all {} ENIs its type allows, with {each} addresses each, all in use or resting",
            config.enis_max
        );
        told(ExhaustionKind::AddressQuota, reason)
    }

    /// Why ENIs with places left take no address, and no further ENI brings some.
    fn tied_to_full(&self, dry: &[&EniEntry]) -> String {
        let vswitches: BTreeSet<_> = dry.iter().map(|eni| eni.vswitch.as_str()).collect();
        format!(
            "vSwitch {} has no free address; {} of the node's {} ENIs have places left and are there, an ENI keeps \
             its vSwitch, and the node may have no further one",
            Vec::from_iter(vswitches).join(" and "),
            dry.len(),
            self.config.enis_max
        )
    }

    /// Tells people when the state begins, changes its kind, and ends.
    pub(super) fn tell_exhaustion(&mut self, now: Timestamp) {
        if !self.needs(now) {
            // What is over needs no second try to prove it; what still rests goes on resting.
            for way in [Way::NewEni, Way::Addresses] {
                let stop = self.stops.of(way);
                *stop = stop.take().filter(|stop| stop.until > now);
            }
        }
        let state = self.told(now);
        let kind = state.as_ref().map(|state| state.kind);
        if kind == self.stops.told {
            self.stops.over_since = None;
            return;
        }
        if let (None, Some(ended)) = (kind, self.stops.told) {
            let since = *self.stops.over_since.get_or_insert(now);
            if now.since(since) < OVER {
                return;
            }
            self.notice(Notice::Recovered(ended));
        }
        (self.stops.told, self.stops.over_since) = (kind, None);
        if let Some(state) = state {
            self.notice(Notice::Exhausted(state));
        }
    }
}

/// How long the state must be over before people are told: on a node at its limit every pod that comes
/// or goes begins or ends it.
const OVER: Duration = Duration::from_secs(60);

/// How long a way stays closed after what only a person, or time, can lift: half a minute first, so
/// that a mended configuration or policy counts at once, five minutes in the end, so that a thousand
/// nodes ask 200 times a minute at the most.
pub(super) const REFUSED: Backoff = Backoff {
    first: Duration::from_secs(30),
    longest: Duration::from_secs(300),
};

/// The same for quotas, which take a person longer.
pub(super) const QUOTA: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(600),
};
