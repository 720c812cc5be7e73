//! Figures of runs: what was reached, what went wrong, how long things took.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use engine::node::{Action, CloudCall, Input, Notice, Reply};
use model::Timestamp;

use crate::{region::names, world::START};

/// Every input of the node machine, by name.
const INPUTS: [&str; 22] = [
    "Kernel",
    "Pods",
    "LeftoversRemoved",
    "Add",
    "Refused",
    "Del",
    "Check",
    "Gc",
    "Persisted",
    "PersistFailed",
    "Cloud ok",
    "Cloud failed",
    "Interfaces",
    "Links",
    "EniApplied",
    "PodApplied",
    "PodChecked",
    "PodRemoved",
    "Configured",
    "ClockSteppedBack",
    "Heal",
    "Tick",
];
/// Every action of the node machine, by name.
const ACTIONS: [&str; 27] = [
    "ObserveKernel",
    "ListPods",
    "RemoveLeftovers",
    "Heal",
    "Persist",
    "CreateEni",
    "AttachEni",
    "DetachEni",
    "DeleteEni",
    "AssignAddresses",
    "UnassignAddresses",
    "AssignPrefixes",
    "UnassignPrefixes",
    "DescribeNode",
    "DescribeEnis",
    "FindEni",
    "DescribeVSwitches",
    "ReadInterfaces",
    "ReadLinks",
    "ApplyEni",
    "ApplyPod",
    "CheckPod",
    "RemovePod",
    "Reply Attached",
    "Reply Done",
    "Reply Failed",
    "Notice",
];

/// What kind of world figures are about.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nodes, their agents and their kubelets.
    #[default]
    Nodes,
    /// A region and its control plane.
    Region,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Nodes => "nodes",
            Kind::Region => "region",
        })
    }
}

/// Figures, of one run or of many together.
#[derive(Debug, Default, Clone)]
pub struct Report {
    /// Of what.
    pub kind: Kind,
    /// Events.
    pub events: u64,
    /// Simulated minutes.
    pub minutes: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Inputs of the machine by kind.
    pub inputs: BTreeMap<&'static str, u64>,
    /// Its actions by kind.
    pub actions: BTreeMap<&'static str, u64>,
    /// Its notices by kind.
    pub notices: BTreeMap<String, u64>,
    /// Calls that reached the cloud, by action.
    pub calls: BTreeMap<&'static str, u64>,
    /// Calls refused because the minute was full.
    pub throttled: u64,
    /// The most calls a node made in an hour at rest.
    pub calls_at_rest: u64,
    /// The longest time from the end of faults to rest.
    pub rest: Duration,
    /// Times from kubelet's wish to a pod's address.
    pub starts: Vec<Duration>,
    /// ADDs that were refused, by the beginning of the reason.
    pub refusals: BTreeMap<String, u64>,
}

impl Report {
    /// No figures yet.
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    pub(crate) fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    pub(crate) fn started(&mut self, waited: Duration) {
        self.starts.push(waited);
    }

    pub(crate) fn refused(&mut self, why: &str) {
        let words: Vec<&str> = why
            .split_whitespace()
            .filter(|word| word.chars().all(char::is_alphabetic))
            .collect();
        *self.refusals.entry(words.join(" ")).or_default() += 1;
    }

    pub(crate) fn rested(&mut self, now: Timestamp) {
        self.rest = self.rest.max(now.since(START));
    }

    pub(crate) fn input(&mut self, input: &Input) {
        let name = match input {
            Input::Add(..) => "Add",
            Input::Refused(..) => "Refused",
            Input::Del { .. } => "Del",
            Input::Check(..) => "Check",
            Input::Gc { .. } => "Gc",
            Input::Persisted(_) => "Persisted",
            Input::PersistFailed(..) => "PersistFailed",
            Input::Cloud(_, Ok(_)) => "Cloud ok",
            Input::Cloud(_, Err(_)) => "Cloud failed",
            Input::Interfaces(..) => "Interfaces",
            Input::Links(_) => "Links",
            Input::EniApplied(..) => "EniApplied",
            Input::PodApplied(..) => "PodApplied",
            Input::PodChecked(..) => "PodChecked",
            Input::PodRemoved(..) => "PodRemoved",
            Input::Kernel(..) => "Kernel",
            Input::Pods(..) => "Pods",
            Input::LeftoversRemoved(..) => "LeftoversRemoved",
            Input::Heal(_) => "Heal",
            Input::Configured(_) => "Configured",
            Input::PodEni(..) => "PodEni",
            Input::ClockSteppedBack { .. } => "ClockSteppedBack",
            Input::Tick => "Tick",
        };
        *self.inputs.entry(name).or_default() += 1;
    }

    pub(crate) fn action(&mut self, action: &Action) {
        let name = match action {
            Action::Persist(..) => "Persist",
            Action::Cloud(_, call) => match call {
                CloudCall::CreateEni(..) => "CreateEni",
                CloudCall::AttachEni(_) => "AttachEni",
                CloudCall::DetachEni(_) => "DetachEni",
                CloudCall::DeleteEni(_) => "DeleteEni",
                CloudCall::AssignAddresses(..) => "AssignAddresses",
                CloudCall::UnassignAddresses(..) => "UnassignAddresses",
                CloudCall::AssignPrefixes(..) => "AssignPrefixes",
                CloudCall::UnassignPrefixes(..) => "UnassignPrefixes",
                CloudCall::DescribeNode => "DescribeNode",
                CloudCall::DescribeEnis(_) => "DescribeEnis",
                CloudCall::FindEni(_) => "FindEni",
                CloudCall::DescribeVSwitches(_) => "DescribeVSwitches",
            },
            Action::ReadInterfaces(_) => "ReadInterfaces",
            Action::ReadLinks => "ReadLinks",
            Action::ApplyEni(..) => "ApplyEni",
            Action::ApplyPod(..) => "ApplyPod",
            Action::CheckPod(..) => "CheckPod",
            Action::RemovePod(..) => "RemovePod",
            Action::ObserveKernel(_) => "ObserveKernel",
            Action::ListPods(..) => "ListPods",
            Action::RemoveLeftovers(..) => "RemoveLeftovers",
            Action::Heal(_) => "Heal",
            Action::Reply(_, Reply::Attached(_)) => "Reply Attached",
            Action::Reply(_, Reply::Done) => "Reply Done",
            Action::Reply(_, Reply::Failed(_)) => "Reply Failed",
            Action::Notice(_) => "Notice",
        };
        *self.actions.entry(name).or_default() += 1;
    }

    pub(crate) fn notice(&mut self, notice: &Notice) {
        let text = format!("{notice:?}");
        let name = text.split('(').next().unwrap_or_default();
        *self.notices.entry(name.to_owned()).or_default() += 1;
    }

    /// Adds the figures of another run.
    pub fn add(&mut self, other: Report) {
        fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        self.events += other.events;
        self.minutes += other.minutes;
        self.throttled += other.throttled;
        self.calls_at_rest = self.calls_at_rest.max(other.calls_at_rest);
        self.rest = self.rest.max(other.rest);
        sum(&mut self.faults, other.faults);
        sum(&mut self.inputs, other.inputs);
        sum(&mut self.actions, other.actions);
        sum(&mut self.notices, other.notices);
        sum(&mut self.calls, other.calls);
        sum(&mut self.refusals, other.refusals);
        self.starts.extend(other.starts);
    }

    /// Inputs and actions that no run reached.
    pub fn unreached(&self) -> BTreeSet<&'static str> {
        let (inputs, actions) = match self.kind {
            Kind::Nodes => (&INPUTS[..], &ACTIONS[..]),
            Kind::Region => (&names::INPUTS[..], &names::ACTIONS[..]),
        };
        let inputs = inputs
            .iter()
            .filter(|name| !self.inputs.contains_key(*name));
        let actions = actions
            .iter()
            .filter(|name| !self.actions.contains_key(*name));
        inputs.chain(actions).copied().collect()
    }

    /// The time within which that part in a hundred of the pods got their address.
    pub fn start(&self, percent: usize) -> Duration {
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        let at = (starts.len() * percent / 100).min(starts.len().saturating_sub(1));
        starts.get(at).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = |f: &mut fmt::Formatter<'_>, title: &str, rows: Vec<(String, u64)>| {
            writeln!(f, "{title}")?;
            rows.iter()
                .try_for_each(|(name, count)| writeln!(f, "  {count:>10}  {name}"))
        };
        let owned = |map: &BTreeMap<&'static str, u64>| {
            map.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect()
        };
        table(
            f,
            &format!("faults in lives of {}", self.kind),
            owned(&self.faults),
        )?;
        let whose = match self.kind {
            Kind::Nodes => "the node machine",
            Kind::Region => "the control plane's machine",
        };
        table(f, &format!("inputs of {whose}"), owned(&self.inputs))?;
        table(f, &format!("actions of {whose}"), owned(&self.actions))?;
        let pairs =
            |map: &BTreeMap<String, u64>| map.iter().map(|(k, v)| (k.clone(), *v)).collect();
        table(f, "notices", pairs(&self.notices))?;
        if self.kind == Kind::Nodes {
            table(f, "ADDs refused", pairs(&self.refusals))?;
        }
        table(f, "calls that reached the cloud", owned(&self.calls))?;
        let unreached: Vec<_> = self.unreached().into_iter().collect();
        writeln!(
            f,
            "never reached: {}",
            if unreached.is_empty() {
                "nothing".into()
            } else {
                unreached.join(", ")
            }
        )?;
        writeln!(
            f,
            "{} pods started: p50 {:?}, p99 {:?}; most calls in an hour at rest: {}",
            self.starts.len(),
            self.start(50),
            self.start(99),
            self.calls_at_rest
        )
    }
}
