//! What a region is made of, and what is done to it when.

use serde::{Deserialize, Serialize};

/// What a region is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// Where latencies, jitter and the nodes of pods come from.
    pub seed: u64,
    /// Milliseconds an attach or detach takes.
    pub moves: u64,
    /// Calls of each API that the cloud takes in a minute; 0 for the figures of the real one.
    pub calls_a_minute: u32,
    /// When the steps are over, in seconds.
    pub length: u64,
    /// ENIs kept ready on each node and in the zone; unless both are 0 pods with elastic addresses share.
    #[serde(default, skip_serializing_if = "Ready::is_none")]
    pub ready: Ready,
    /// Members a trunk takes.
    #[serde(default = "members", skip_serializing_if = "is_usual")]
    pub members: u32,
}

/// How many ENIs are kept ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// On the trunk of each node.
    pub node: u32,
    /// On no node, in the zone.
    pub zone: u32,
}

impl Ready {
    /// None anywhere.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// More members than there are pods.
fn members() -> u32 {
    100
}

fn is_usual(number: &u32) -> bool {
    *number == members()
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            moves: 2000,
            calls_a_minute: 0,
            length: 600,
            ready: Ready::default(),
            members: members(),
        }
    }
}

/// What of the cloud or the API server a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An ENI is made.
    Create,
    /// One is attached.
    Attach,
    /// One is detached.
    Detach,
    /// One is deleted.
    Delete,
    /// Some are looked at.
    Look,
    /// All are listed.
    List,
    /// vSwitches are looked at.
    VSwitches,
    /// A record or a status is written.
    Write,
}

/// What becomes of a call or a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Refused for the number of calls; a write is refused for a webhook that did not answer.
    Refused,
    /// It never arrives, and nobody learns that.
    NeverSent,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// The same, and the call is refused when it is made again.
    LostThenRefused,
    /// The answer comes that many milliseconds late.
    AnswerLate(u64),
    /// The answer lacks the ENIs of pods, or the vSwitches.
    Short,
    /// The answer holds nothing at all: the permission is missing.
    Empty,
    /// Of a write in two halves only the first is done.
    Half,
}

/// How somebody meddles with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hand {
    /// Its security groups are changed.
    Edit,
    /// Its deletion is asked for.
    Delete,
    /// It is torn out with its finalizer.
    TearOut,
}

/// Something that happens to the region. Pods are named by number, nodes too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A pod is created, and scheduled to a node or not yet.
    Pod(u16, Option<usize>),
    /// A pod that waits for it is scheduled to a node.
    Schedule(u16, usize),
    /// A pod is deleted.
    Gone(u16),
    /// A pod ends by itself and stays in the API server.
    Finish(u16),
    /// Pod and record are torn out, and the next pod of the name is created at once.
    Supplant(u16, usize),
    /// Somebody meddles with the record of a pod.
    Meddle(u16, Hand),
    /// Somebody deletes the ENI that a record names, unless a pod uses it.
    Vanish(u16),
    /// The controller dies; the next one knows nothing.
    Crash,
    /// What becomes of the next calls of a kind.
    Fate(Target, u8, Fate),
    /// Nothing reaches the cloud for that many milliseconds.
    Outage(u64),
    /// From now on the watch is late by up to that many milliseconds.
    Late(u64),
    /// A vSwitch is full, or not any more.
    Fill(usize, bool),
    /// A vSwitch is there, or is deleted.
    VSwitch(usize, bool),
    /// Another number of ENIs is to be kept ready.
    Ready(Ready),
    /// The PodNetworking names other security groups: its pods share no ENIs with those of before.
    Renew,
    /// The last node is deleted with its pods and its instance, whose ENIs go with it as each was made to.
    Leave,
    /// Other tenants of the account make that many calls of each API a minute.
    Tenants(u32),
}

impl Step {
    /// The word for the kind of trouble it is; nothing for what is everyday life.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Step::Pod(..) | Step::Schedule(..) | Step::Gone(_) | Step::Finish(_) => return None,
            Step::Supplant(..) => "record torn out with its pod",
            Step::Meddle(_, Hand::Edit) => "record edited",
            Step::Meddle(_, Hand::Delete) => "record deleted by hand",
            Step::Meddle(_, Hand::TearOut) => "record torn out",
            Step::Vanish(_) => "ENI deleted by hand",
            Step::Crash => "controller crash",
            Step::Fate(_, _, Fate::Refused) => "call refused",
            Step::Fate(_, _, Fate::NeverSent) => "call lost",
            Step::Fate(_, _, Fate::AnswerLost | Fate::LostThenRefused) => "answer lost",
            Step::Fate(_, _, Fate::AnswerLate(_)) => "answer late",
            Step::Fate(_, _, Fate::Short) => "short answer",
            Step::Fate(_, _, Fate::Empty) => "empty answer",
            Step::Fate(_, _, Fate::Half) => "half a write",
            Step::Outage(_) => "API outage",
            Step::Late(_) => "late watch",
            Step::Fill(..) => "vSwitch full",
            Step::VSwitch(..) => "vSwitch deleted",
            Step::Ready(_) => "number kept ready changed",
            Step::Leave => "node deleted",
            Step::Renew => "PodNetworking changed",
            Step::Tenants(_) => "other tenants",
        })
    }
}
