//! PodENI: what to do next for the ENIs of one pod, from what is known of pod, node, record and cloud.
//!
//! A planner, not a walk: every answer follows from what is observed now, so a crash between any two steps
//! costs a repetition and nothing else. The record is written before the call that relies on it; an ENI is
//! asked for under a token made of the record's UID, so asking twice makes one ENI.
//!
//! Must not know: how a record is stored, how calls are batched or rationed, that there are other pods.

mod binding;
mod leaving;
mod making;
mod progress;
mod spare;
mod vswitch;

use std::collections::{BTreeMap, BTreeSet};

use model::{
    EniId, InstanceId, InterfaceName, Timestamp, ZoneId,
    pod::{PodKey, PodUid},
    podeni::{Allocation, NetworkRequest, Phase, PodEni},
    podnetworking::{Release, Tenure},
};

pub use progress::{Answer, Call, CreateEni, Fault, NewEni, Progress, SeenEni, Waits};
pub(crate) use spare::{Keeping, keep, remove};
pub(crate) use vswitch::{Choice, choose};
pub use vswitch::{KnownVSwitch, VSwitches};

/// A pod, as far as its ENIs are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub key: PodKey,
    /// Tells it from an earlier pod of the name.
    pub uid: PodUid,
    /// The node it was scheduled to, if it was.
    pub node: Option<String>,
    /// Whether its containers ended for good (phase Succeeded or Failed): it needs no network any more.
    pub finished: bool,
    /// Whether the next pod of the name is its successor: a StatefulSet's, or of a kind configured as such.
    pub stable_name: bool,
    /// The interfaces it asks for; none when it uses the node's shared ENIs.
    pub networks: Vec<NetworkRequest>,
}

/// A node, as far as ENIs on it are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// Its instance.
    pub instance: InstanceId,
    /// The zone of the instance.
    pub zone: ZoneId,
    /// Its trunk, if it has one.
    pub trunk: Option<EniId>,
    /// ENIs its trunk can take, when it says so.
    pub members: Option<u32>,
}

/// What is known at the moment of planning.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The pod of the record's name, if there is one.
    pub pod: Option<&'a Pod>,
    /// The node of that pod, if it is known.
    pub node: Option<&'a Node>,
    /// The record, if there is one.
    pub record: Option<&'a PodEni>,
    /// The vSwitches in question.
    pub vswitches: &'a VSwitches,
    /// What is kept ready for the interfaces of a pod that has no record yet.
    pub spares: &'a Spares,
    /// ENIs the record names that are not its own any more: another record's, or kept for the next pod.
    pub parted: &'a BTreeSet<EniId>,
}

/// What is kept ready, by interface.
pub type Spares = BTreeMap<InterfaceName, Spare>;

/// What is kept ready for an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spare {
    /// The edition of the PodNetworking whose pods share such ENIs.
    pub edition: String,
    /// One of them, as the interface's allocation, when one is ready.
    pub ready: Option<Allocation>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing before something changes, or before this time if it is given.
    Wait(Option<Timestamp>),
    /// Make this record.
    Create(Box<PodEni>),
    /// Bring the record to this state, if it still is the version that was observed.
    Write(Box<PodEni>),
    /// Ask for the record's deletion.
    Delete,
    /// Nothing of it is left in the cloud: take our finalizer off.
    LetGo,
    /// Make these calls.
    Call(Vec<Call>),
}

/// What to do next, and what to tell people meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do.
    pub step: Step,
    /// One sentence: what is being waited for, or why it cannot go on.
    pub why: Option<String>,
}

impl Plan {
    fn step(step: Step) -> Self {
        Self { step, why: None }
    }

    fn wait(until: Option<Timestamp>, why: impl Into<String>) -> Self {
        Self {
            step: Step::Wait(until),
            why: Some(why.into()),
        }
    }

    pub(crate) fn rest() -> Self {
        Self::step(Step::Wait(None))
    }
}

/// The earlier of two times to look again, where either may never come.
fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// What is wanted of a record, as far as the pod decides it.
enum Wanted<'a> {
    /// Its ENIs on the pod's node.
    On(&'a Pod),
    /// Its ENIs on no node.
    Off,
    /// Nothing yet: the pod is not scheduled.
    Undecided,
}

fn wanted<'a>(pod: Option<&'a Pod>) -> Wanted<'a> {
    match pod {
        Some(pod) if pod.finished || pod.networks.is_empty() => Wanted::Off,
        Some(pod) if pod.node.is_none() => Wanted::Undecided,
        Some(pod) => Wanted::On(pod),
        None => Wanted::Off,
    }
}

/// What to do next for one pod name. `progress` is what was learned since the process started; losing it
/// costs calls, never correctness.
pub fn plan(now: Timestamp, seen: &Observed<'_>, progress: &Progress) -> Plan {
    let Some(record) = seen.record else {
        return match wanted(seen.pod) {
            Wanted::On(pod) => making::record(now, pod, seen),
            Wanted::Off | Wanted::Undecided => Plan::rest(),
        };
    };
    if record.deleting {
        // Somebody deleted it by hand. Its pod would go on without a network, and not know.
        let used = |pod: &Pod| pod.uid == record.pod && record.phase == Phase::Bind;
        return match wanted(seen.pod) {
            Wanted::On(pod) if used(pod) => {
                Plan::wait(None, "it is deleted when its pod is: the ENI is still used")
            }
            _ => leaving::delete(now, record, seen.parted, progress),
        };
    }
    if record.phase == Phase::Deleting {
        return Plan::step(Step::Delete);
    }
    match wanted(seen.pod) {
        Wanted::On(pod) => serve(now, pod, record, seen, progress),
        Wanted::Off => vacate(now, record, given_back(record), progress),
        Wanted::Undecided if seen.pod.is_some_and(|pod| pod.uid == record.pod) => Plan::rest(),
        // The next pod of the name waits for its node. Its address has nothing to do on the last one, and
        // is not given back either.
        Wanted::Undecided => vacate(now, record, None, progress),
    }
}

fn serve(
    now: Timestamp,
    pod: &Pod,
    record: &PodEni,
    seen: &Observed<'_>,
    progress: &Progress,
) -> Plan {
    let Some(node) = seen.node else {
        return Plan::wait(None, "waiting for the node of the pod to be known");
    };
    if record.pod != pod.uid {
        if !record.is_fixed() || !pod.stable_name {
            return Plan::step(Step::Delete);
        }
        return take_over(now, pod, record, node, progress);
    }
    let anothers = |one: &Allocation| {
        one.eni
            .as_ref()
            .is_some_and(|eni| seen.parted.contains(&eni.id))
    };
    match record.phase {
        Phase::Initial | Phase::Binding | Phase::Bind
            if record.allocations.iter().any(anothers) =>
        {
            binding::part(record, seen.parted)
        }
        Phase::Initial | Phase::Binding if record.allocations.iter().all(made) => {
            binding::bind(now, record, node, progress)
        }
        Phase::Initial | Phase::Binding => making::enis(now, record, seen, progress),
        // Nothing is asked of the cloud to be sure of what the record says.
        Phase::Bind => Plan::rest(),
        // The pod was given up and came back under the same UID: finish, then begin again.
        Phase::Detaching | Phase::Unbind | Phase::Deleting => {
            take_over(now, pod, record, node, progress)
        }
    }
}

fn made(allocation: &Allocation) -> bool {
    allocation.eni.is_some()
}

/// The fixed ENIs of the name, for the next pod of it.
fn take_over(now: Timestamp, pod: &Pod, record: &PodEni, node: &Node, progress: &Progress) -> Plan {
    let stays = record.phase == Phase::Bind && record.instance.as_ref() == Some(&node.instance);
    if !stays && !matches!(record.phase, Phase::Unbind | Phase::Initial) {
        return leaving::unbind(now, record, progress);
    }
    if node.zone != record.zone {
        let (zone, other) = (&record.zone, &node.zone);
        return Plan::wait(
            None,
            format!(
                "the pod's fixed address belongs to zone {zone}, but its node {} is in {other}: \
                 delete the pod so that it is scheduled again, or the PodENI to give the address up",
                node.name
            ),
        );
    }
    let mut next = record.clone();
    next.pod = pod.uid.clone();
    next.node.clone_from(&node.name);
    if !stays {
        next.phase = Phase::Binding;
    }
    Plan::step(Step::Write(Box::new(next)))
}

/// Nobody uses the record's ENIs now; what was promised is kept until `ends`, without one for ever.
fn vacate(now: Timestamp, record: &PodEni, ends: Option<Timestamp>, progress: &Progress) -> Plan {
    // Without an address nothing was promised yet.
    let mut allocations = record.allocations.iter();
    let promised = record.is_fixed() && allocations.any(|one| !one.addresses.is_empty());
    match (promised, record.phase, ends) {
        (false, ..) => Plan::step(Step::Delete),
        (true, Phase::Unbind, Some(at)) if at <= now => Plan::step(Step::Delete),
        (true, Phase::Unbind, ends) => Plan::step(Step::Wait(ends)),
        (true, ..) => leaving::unbind(now, record, progress),
    }
}

/// When the last of the record's promises ends; nothing when one never does.
fn given_back(record: &PodEni) -> Option<Timestamp> {
    let last_seen = record.last_seen.unwrap_or(Timestamp::EPOCH);
    let ends = record.allocations.iter().map(|one| match one.tenure {
        Tenure::Elastic => Some(last_seen),
        Tenure::Fixed(Release::After(delay)) => Some(last_seen.after(delay)),
        Tenure::Fixed(Release::Never) => None,
    });
    ends.collect::<Option<Vec<_>>>()?.into_iter().max()
}
