//! The route table of mode VPC: one entry for the podCIDR of each node, leading to its instance.
//!
//! A level, not a walk: whatever happened, the next step follows from the nodes there are and the entries
//! last read. The cloud changes a table by one entry at a time, so one call is under way at most, and after
//! each the table is read again. Entries that do not carry our name are never touched; one of ours goes only
//! when two looks in a row, some seconds apart, found no node that needs it.
//!
//! Must not know: who writes the nodes' conditions, how the cloud is called, that pods exist.

mod mark;
mod message;
mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use model::{ClientToken, Exhausted, FaultClass, RouteEntry, RouteEntryId, Timestamp};

pub use self::message::{Action, Call, Config, Input, Notice, Obstacle, RouteNode, Standing};
use self::{mark::Marks, plan::Plan};
use crate::{
    budget::{Api, Budget, Purpose},
    podeni::Fault,
    retry::{Backoff, Dice},
};

/// How often a table at rest is read: what others change in it is found by then. As often as the cloud's own
/// controller does it.
const PERIOD: Duration = Duration::from_secs(300);
/// Between the two looks that prove that nobody needs an entry. A node that is registered anew is away for
/// some seconds.
const CONFIRM: Duration = Duration::from_secs(15);
/// What a full table or a refused block rests: only people change either.
const OBSTRUCTED: Duration = Duration::from_secs(120);
/// Looks in a row that find an entry in motion before the others are served all the same: the cloud takes seconds
/// for one, and these looks a minute.
const MOTIONS_MAX: u32 = 30;
/// Conflicts in a row over one block before the next is served: a look shows an entry that is in the way, but not
/// one that is no custom entry.
const CONFLICTS_MAX: u32 = 3;
/// Calls that failed otherwise: a table in motion is ready within seconds, a permission takes people.
const FAILED: Backoff = Backoff {
    first: Duration::from_millis(500),
    longest: Duration::from_secs(60),
};

/// The machine of one route table.
#[derive(Debug)]
pub struct Routes {
    config: Config,
    nodes: BTreeMap<String, RouteNode>,
    leads: bool,
    /// What the table held at the last look.
    seen: Option<(Timestamp, Vec<RouteEntry>)>,
    /// A call was made, or failed, since that look, or a node went.
    stale: bool,
    /// Since which look each entry of ours has been of no use.
    doubted: BTreeMap<RouteEntryId, Timestamp>,
    under_way: Option<Under>,
    budget: Budget,
    dice: Dice,
    /// Calls that failed in a row, and looks in a row that found an entry in motion.
    failures: u32,
    motions: u32,
    rests_until: Timestamp,
    /// Nothing is deleted before: what stays costs less than a node without a route.
    deletes_rest: Timestamp,
    full: Option<(Timestamp, String)>,
    refused: BTreeMap<IpNet, (Timestamp, RouteNode, String)>,
    marks: Marks,
    told: BTreeMap<String, Standing>,
    actions: Vec<Action>,
    seed: u64,
    calls: u64,
}

/// What is under way.
#[derive(Debug)]
enum Under {
    Look,
    Create(String, IpNet),
    Delete,
}

/// What the machine sees, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Nodes, by how it stands about their routes.
    pub nodes: BTreeMap<&'static str, u64>,
    /// Entries of ours that no node needs.
    pub astray: u64,
}

impl Routes {
    /// A machine that knows nothing yet. `seed` makes its tokens those of no other process.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            nodes: BTreeMap::new(),
            leads: false,
            seen: None,
            stale: false,
            doubted: BTreeMap::new(),
            under_way: None,
            budget: Budget::default(),
            dice: Dice::new(seed),
            failures: 0,
            motions: 0,
            rests_until: Timestamp::EPOCH,
            deletes_rest: Timestamp::EPOCH,
            full: None,
            refused: BTreeMap::new(),
            marks: Marks::default(),
            told: BTreeMap::new(),
            actions: Vec::new(),
            seed,
            calls: 0,
        }
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Timestamp, input: Input) {
        match input {
            Input::Node(name, node) => self.node(name, node.map(|node| *node)),
            Input::Complete => self.leads = true,
            Input::Looked(outcome) => self.looked(now, outcome),
            Input::Called(outcome) => self.called(now, outcome),
            Input::Marked(name, outcome) => self.marked(now, &name, outcome),
            Input::Tick => {}
        }
        self.settle(now);
    }

    /// What is to be done now, in this order.
    pub fn poll_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When the machine wants to be ticked if nothing else happens.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let looks = self.look_due();
        let apis = [
            Api::CreateRouteEntry,
            Api::DeleteRouteEntry,
            Api::DescribeRouteEntryList,
        ];
        let budget = apis.map(|api| self.budget.opens(now, api, self.share(api), Purpose::Pod));
        let rests = self.refused.values().map(|(until, ..)| *until);
        let all = rests
            .chain(self.full.iter().map(|(until, _)| *until))
            .chain(looks)
            .chain(budget.into_iter().flatten())
            .chain([self.rests_until, self.deletes_rest])
            .chain(self.marks.deadlines());
        all.filter(|at| *at > now).min()
    }

    /// What the machine sees.
    pub fn view(&self) -> View {
        let mut view = View::default();
        let plan = self.plan();
        for standing in plan.standings.values() {
            let word = match self.seen {
                Some(_) => word(standing),
                None => "unknown",
            };
            *view.nodes.entry(word).or_default() += 1;
        }
        view.astray = plan.astray.len() as u64;
        view
    }

    fn node(&mut self, name: String, node: Option<RouteNode>) {
        match node {
            Some(node) => {
                let earlier = self.nodes.insert(name, node.clone());
                let moved = |earlier: RouteNode| {
                    earlier.instance != node.instance || earlier.blocks != node.blocks
                };
                self.stale |= earlier.is_some_and(moved);
            }
            None => {
                // Its entry is doubted from a look that comes now.
                self.stale |= self.nodes.remove(&name).is_some();
                self.told.remove(&name);
                self.marks.forget(&name);
            }
        }
    }

    fn looked(&mut self, now: Timestamp, outcome: Result<Vec<RouteEntry>, Fault>) {
        self.under_way = None;
        self.answered(now, Api::DescribeRouteEntryList, outcome.as_ref().err());
        match outcome {
            Ok(entries) => {
                (self.seen, self.stale) = (Some((now, entries)), false);
                let plan = self.plan();
                let earlier = std::mem::take(&mut self.doubted);
                let since = |id: &RouteEntryId| earlier.get(id).copied().unwrap_or(now);
                self.doubted = plan
                    .astray
                    .keys()
                    .map(|id| (id.clone(), since(id)))
                    .collect();
                self.motions = if plan.in_motion { self.motions + 1 } else { 0 };
            }
            Err(fault) => self.failed(now, "reading the route table", &fault),
        }
    }

    fn called(&mut self, now: Timestamp, outcome: Result<(), Fault>) {
        let Some(under) = self.under_way.take() else {
            return;
        };
        self.stale = true;
        let api = match under {
            Under::Create(..) => Api::CreateRouteEntry,
            Under::Delete | Under::Look => Api::DeleteRouteEntry,
        };
        self.answered(now, api, outcome.as_ref().err());
        let Err(fault) = outcome else {
            self.failures = 0;
            if matches!(under, Under::Delete) {
                self.full = None;
            }
            return;
        };
        match (&under, fault.class) {
            (Under::Create(..), FaultClass::Exhausted(Exhausted::RouteTable)) => {
                self.full = Some((now.after(OBSTRUCTED), fault.text));
            }
            (Under::Create(node, block), class) if self.is_refused(class) => {
                self.failures = 0;
                if let Some(spec) = self.nodes.get(node) {
                    let refusal = (now.after(OBSTRUCTED), spec.clone(), fault.text);
                    self.refused.insert(*block, refusal);
                }
            }
            (Under::Delete, FaultClass::Gone) => {}
            (Under::Create(node, _), _) => {
                self.failed(now, &format!("making the route of node {node}"), &fault);
            }
            _ => {
                let rests_until = self.rests_until;
                self.failed(now, "deleting a route entry", &fault);
                self.deletes_rest = std::mem::replace(&mut self.rests_until, rests_until);
            }
        }
    }

    /// Whether the same call would be refused again until somebody changes something.
    fn is_refused(&self, class: FaultClass) -> bool {
        match class {
            FaultClass::Invalid | FaultClass::Gone => true,
            FaultClass::Conflict => self.failures + 1 >= CONFLICTS_MAX,
            _ => false,
        }
    }

    fn answered(&mut self, now: Timestamp, api: Api, fault: Option<&Fault>) {
        let throttled = fault.is_some_and(|fault| fault.class == FaultClass::Throttled);
        self.budget.answered(now, api, throttled, &mut self.dice);
    }

    fn failed(&mut self, now: Timestamp, what: &str, fault: &Fault) {
        let text = format!("{what}: {}", fault.text);
        self.actions.push(Action::Notice(Notice::CloudFailed(text)));
        // The budget knows how long a throttled API rests.
        if fault.class != FaultClass::Throttled {
            self.failures += 1;
            self.rests_until = now.after(FAILED.wait(self.failures, &mut self.dice));
        }
    }

    fn settle(&mut self, now: Timestamp) {
        if !self.leads {
            return;
        }
        self.full = self.full.take().filter(|(until, _)| *until > now);
        let nodes = &self.nodes;
        self.refused.retain(|_, (until, spec, _)| {
            *until > now && nodes.values().any(|node| node.instance == spec.instance)
        });
        let plan = self.plan();
        self.tell(now, &plan);
        if self.under_way.is_some() || self.rests_until > now {
            return;
        }
        if self.look_due().is_none_or(|due| due <= now) {
            if self.may(now, Api::DescribeRouteEntryList) {
                self.under_way = Some(Under::Look);
                self.actions.push(Action::Look);
            }
            return;
        }
        // One entry at a time: another waits until this one stands. What a node lacks comes before what none needs.
        let waits = plan.in_motion && self.motions < MOTIONS_MAX;
        if !waits && !self.create(now, &plan) {
            self.delete(now, &plan);
        }
    }

    /// When the table must be read; nothing when it must be at once.
    fn look_due(&self) -> Option<Timestamp> {
        let (at, _) = self.seen.as_ref().filter(|_| !self.stale)?;
        let motion = (self.motions > 0).then(|| {
            // The same wait each time it is asked for: the dice are for failures.
            let pace = match self.motions < MOTIONS_MAX {
                true => Backoff::APPEAR,
                false => FAILED,
            };
            at.after(pace.wait(self.motions, &mut Dice::new(self.seed)))
        });
        let doubts = self.doubted.values().map(|since| since.after(CONFIRM));
        let unproven = doubts.filter(|due| due > at);
        motion
            .into_iter()
            .chain(unproven)
            .chain([at.after(PERIOD)])
            .min()
    }

    fn plan(&self) -> Plan {
        let entries = self.seen.as_ref().map_or(&[][..], |(_, entries)| entries);
        let mut plan = plan::plan(&self.config.name, &self.nodes, entries);
        for (node, standing) in &mut plan.standings {
            let blocks = self.nodes.get(node).map_or(&[][..], |node| &node.blocks);
            let refused = blocks
                .iter()
                .find_map(|block| self.refused.get(&block.trunc()));
            if *standing != Standing::Missing {
                continue;
            }
            if let Some((.., text)) = refused {
                *standing = Standing::Blocked(Obstacle::Refused, text.clone());
            } else if let Some((_, text)) = &self.full {
                *standing = Standing::Blocked(Obstacle::Quota, text.clone());
            }
        }
        plan
    }

    /// Deletes one entry that two looks found to be of no use.
    fn delete(&mut self, now: Timestamp, plan: &Plan) {
        let Some((looked, _)) = self.seen.as_ref().filter(|_| self.deletes_rest <= now) else {
            return;
        };
        // A list without any node proves nothing.
        let proven = |id: &RouteEntryId| {
            let since = self.doubted.get(id);
            !self.nodes.is_empty() && since.is_some_and(|since| *looked >= since.after(CONFIRM))
        };
        let Some((id, block)) = plan.astray.iter().find(|(id, _)| proven(id)) else {
            return;
        };
        let (entry, destination) = (id.clone(), *block);
        if self.may(now, Api::DeleteRouteEntry) {
            self.under_way = Some(Under::Delete);
            self.actions
                .push(Action::Notice(Notice::Deleting(destination)));
            self.actions
                .push(Action::Call(Call::Delete { entry, destination }));
        }
    }

    /// Makes one entry that a node lacks. Says whether a call was made.
    fn create(&mut self, now: Timestamp, plan: &Plan) -> bool {
        if self.full.is_some() {
            return false;
        }
        let mut missing = plan.missing.iter();
        let next = missing.find(|(block, _)| !self.refused.contains_key(*block));
        let Some((destination, (node, instance))) = next else {
            return false;
        };
        if !self.may(now, Api::CreateRouteEntry) {
            return false;
        }
        self.calls += 1;
        let token = format!("terway-route-{:x}-{}", self.seed, self.calls);
        let Ok(token) = ClientToken::new(token) else {
            return false;
        };
        self.under_way = Some(Under::Create(node.clone(), *destination));
        self.actions.push(Action::Call(Call::Create {
            node: node.clone(),
            destination: *destination,
            instance: instance.clone(),
            token,
        }));
        true
    }

    /// Whether `api` may be called now; if so it is counted.
    fn may(&mut self, now: Timestamp, api: Api) -> bool {
        let may = self
            .budget
            .may_call(now, api, self.share(api), Purpose::Pod);
        if may {
            self.budget.called(now, api);
        }
        may
    }

    fn share(&self, api: Api) -> u32 {
        let own = self.config.calls_of.get(&api).copied();
        own.unwrap_or(self.config.calls_per_minute)
    }
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Reachable => "reachable",
        Standing::Pending => "pending",
        Standing::Missing => "missing",
        Standing::Blocked(Obstacle::Conflict, _) => "conflict",
        Standing::Blocked(Obstacle::Quota, _) => "quota",
        Standing::Blocked(Obstacle::Refused, _) => "refused",
    }
}
