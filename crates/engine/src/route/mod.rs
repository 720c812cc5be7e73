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
mod trouble;

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use model::{ClientToken, Exhausted, FaultClass, RouteEntry, RouteEntryId, Timestamp};

pub use self::message::{Action, Call, Config, Input, Notice, Obstacle, RouteNode, Standing};
use self::{
    mark::Marks,
    plan::Plan,
    trouble::{Step, Troubles},
};
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
/// Looks in a row that find one entry in motion before it is waited for no longer: the cloud takes seconds for one,
/// and these looks a minute.
const MOTIONS_MAX: u32 = 30;
/// Looks, and changes for one block, that failed: what passes does so within seconds, a permission takes people.
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
    /// Looks that failed in a row. Nothing is called before the next.
    failures: u32,
    rests_until: Timestamp,
    /// In how many looks in a row each entry was in motion, and how many found one worth waiting for.
    moving: BTreeMap<RouteEntryId, u32>,
    motions: u32,
    full: Option<(Timestamp, String)>,
    troubles: Troubles,
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
    Change(IpNet, Step),
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
            rests_until: Timestamp::EPOCH,
            moving: BTreeMap::new(),
            motions: 0,
            full: None,
            troubles: Troubles::default(),
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
        let rests = self.troubles.deadlines();
        let all = rests
            .chain(self.full.iter().map(|(until, _)| *until))
            .chain(looks)
            .chain(budget.into_iter().flatten())
            .chain([self.rests_until])
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
            Ok(entries) => self.saw(now, entries),
            Err(fault) => {
                self.say("reading the route table", &fault);
                // The budget knows how long a throttled API rests.
                if fault.class != FaultClass::Throttled {
                    self.failures += 1;
                    self.rests_until = now.after(FAILED.wait(self.failures, &mut self.dice));
                }
            }
        }
    }

    fn saw(&mut self, now: Timestamp, entries: Vec<RouteEntry>) {
        self.failures = 0;
        (self.seen, self.stale) = (Some((now, entries)), false);
        let plan = self.plan();
        let earlier = std::mem::take(&mut self.doubted);
        let since = |id: &RouteEntryId| earlier.get(id).copied().unwrap_or(now);
        self.doubted = plan
            .astray
            .keys()
            .map(|id| (id.clone(), since(id)))
            .collect();
        // What others do in the table matters to who has something to do there.
        let busy = !plan.missing.is_empty() || !plan.astray.is_empty();
        let earlier = std::mem::take(&mut self.moving);
        let looks = |id: &RouteEntryId| earlier.get(id).map_or(1, |looks| looks + 1);
        self.moving = plan
            .in_motion
            .iter()
            .filter(|(_, ours)| busy || **ours)
            .map(|(id, _)| (id.clone(), looks(id)))
            .collect();
        self.motions = if self.waits() { self.motions + 1 } else { 0 };
        let passing = self.waits();
        self.troubles.judge(now, passing, &mut self.dice);
    }

    /// Whether the cloud works on an entry, and may be expected to end.
    fn waits(&self) -> bool {
        self.moving.values().any(|looks| *looks < MOTIONS_MAX)
    }

    fn called(&mut self, now: Timestamp, outcome: Result<(), Fault>) {
        let Some(Under::Change(block, step)) = self.under_way.take() else {
            return;
        };
        let api = match step {
            Step::Create(..) => Api::CreateRouteEntry,
            Step::Delete(..) => Api::DeleteRouteEntry,
        };
        self.answered(now, api, outcome.as_ref().err());
        let class = outcome.as_ref().err().map(|fault| fault.class);
        // What was not permitted changed nothing.
        self.stale |= class != Some(FaultClass::Denied);
        let Err(fault) = outcome else {
            self.troubles.forget(&block);
            if matches!(step, Step::Delete(..)) {
                self.full = None;
            }
            return;
        };
        self.say(&step.to_string(), &fault);
        match (&step, fault.class) {
            (Step::Create(..), FaultClass::Exhausted(Exhausted::RouteTable)) => {
                self.full = Some((now.after(OBSTRUCTED), fault.text));
            }
            // The budget knows how long a throttled API rests.
            (_, FaultClass::Throttled) => {}
            _ => self
                .troubles
                .failed(now, (block, step), fault, &mut self.dice),
        }
    }

    fn say(&mut self, what: &str, fault: &Fault) {
        let text = format!("{what}: {}", fault.text);
        self.actions.push(Action::Notice(Notice::CloudFailed(text)));
    }

    fn answered(&mut self, now: Timestamp, api: Api, fault: Option<&Fault>) {
        let throttled = fault.is_some_and(|fault| fault.class == FaultClass::Throttled);
        self.budget.answered(now, api, throttled, &mut self.dice);
    }

    fn settle(&mut self, now: Timestamp) {
        if !self.leads {
            return;
        }
        self.full = self.full.take().filter(|(until, _)| *until > now);
        let mut plan = self.compare();
        self.troubles.settle(now, &plan);
        self.obstruct(&mut plan);
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
        if !self.waits() && !self.create(now, &plan) {
            self.delete(now, &plan);
        }
    }

    /// When the table must be read; nothing when it must be at once.
    fn look_due(&self) -> Option<Timestamp> {
        let (at, _) = self.seen.as_ref().filter(|_| !self.stale)?;
        // The same wait each time it is asked for: the dice are for failures.
        let mut dice = Dice::new(self.seed);
        let motion = match (self.motions, self.moving.values().min()) {
            (0, looks) => looks.map(|looks| FAILED.wait(*looks, &mut dice)),
            (motions, _) => Some(Backoff::APPEAR.wait(motions, &mut dice)),
        };
        let motion = motion.map(|wait| at.after(wait));
        let doubts = self.doubted.values().map(|since| since.after(CONFIRM));
        let unproven = doubts.filter(|due| due > at);
        motion
            .into_iter()
            .chain(unproven)
            .chain([at.after(PERIOD)])
            .min()
    }

    fn plan(&self) -> Plan {
        let mut plan = self.compare();
        self.obstruct(&mut plan);
        plan
    }

    fn compare(&self) -> Plan {
        let entries = self.seen.as_ref().map_or(&[][..], |(_, entries)| entries);
        plan::plan(&self.config.name, &self.nodes, entries)
    }

    /// Says of nodes that lack their entry what is in its way.
    fn obstruct(&self, plan: &mut Plan) {
        for (node, standing) in &mut plan.standings {
            if *standing != Standing::Missing {
                continue;
            }
            let blocks = self.nodes.get(node).map_or(&[][..], |node| &node.blocks);
            let mut refusals = blocks
                .iter()
                .filter_map(|block| self.troubles.refusal(&block.trunc()));
            if let Some(text) = refusals.next() {
                *standing = Standing::Blocked(Obstacle::Refused, text.to_owned());
            } else if let Some((_, text)) = &self.full {
                *standing = Standing::Blocked(Obstacle::Quota, text.clone());
            }
        }
    }

    /// Deletes one entry that two looks found to be of no use.
    fn delete(&mut self, now: Timestamp, plan: &Plan) {
        let Some((looked, _)) = self.seen.as_ref() else {
            return;
        };
        // A list without any node proves nothing.
        let proven = |id: &RouteEntryId| {
            let since = self.doubted.get(id);
            !self.nodes.is_empty() && since.is_some_and(|since| *looked >= since.after(CONFIRM))
        };
        let astray = plan.astray.iter().filter(|(id, _)| proven(id));
        let astray = astray.map(|(id, block)| (*block, id));
        let Some((destination, id)) = self.troubles.next(now, astray) else {
            return;
        };
        let entry = id.clone();
        if self.may(now, Api::DeleteRouteEntry) {
            let step = Step::Delete(entry.clone());
            self.under_way = Some(Under::Change(destination, step));
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
        let missing = plan.missing.iter().map(|(block, who)| (*block, who));
        let Some((destination, (node, instance))) = self.troubles.next(now, missing) else {
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
        let step = Step::Create(node.clone(), instance.clone());
        self.under_way = Some(Under::Change(destination, step));
        self.actions.push(Action::Call(Call::Create {
            node: node.clone(),
            destination,
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
