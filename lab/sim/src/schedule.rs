//! A run as data: what the world is made of, and what is done to it when. Everything that goes wrong
//! in a run stands here, so that a run can be written down, cut shorter and run again.

use cloudsim::CallFault;
use engine::node::ExhaustionKind;
use serde::{Deserialize, Serialize};

/// A run of a world of this setup, in which such steps happen; by default one of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule<S = Setup, T = Step> {
    /// What it is about; for a saved failure, what went wrong.
    pub title: String,
    /// The world before the first step.
    pub setup: S,
    /// The steps, in order of time.
    pub steps: Vec<Planned<T>>,
    /// The oracle that this run trips today, for a defect that is known and not mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

/// What a world is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// Where latencies, ids and jitter come from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Their instance type.
    pub instance_type: String,
    /// Mask bits of the zone's vSwitches, in the order of the configuration.
    pub vswitches: Vec<u8>,
    /// Prefixes in the reserved blocks of each vSwitch, when the pools grow by prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixes: Option<u8>,
    /// Prefixes each node has at least.
    #[serde(default)]
    pub least: u32,
    /// A new ENI comes before more addresses on those there are (`least_ips`).
    #[serde(default)]
    pub spread: bool,
    /// Any vSwitch with a free address will do (`random`, which is the default of `eni_conf`), not the first of them.
    #[serde(default)]
    pub any_vswitch: bool,
    /// Seconds after which idle addresses above `min_pool_size` go back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<u64>,
    /// `min_pool_size`.
    pub idle_min: u32,
    /// `max_pool_size`.
    pub idle_max: u32,
    /// Seconds a released address rests.
    pub cooldown: u64,
    /// ENIs of others attached to each node.
    pub foreign: usize,
    /// Milliseconds an attach or detach takes.
    pub attach: u64,
    /// Calls of each API that the cloud takes in a minute; 0 for the figures of the real one.
    pub calls_a_minute: u32,
    /// When the steps are over, in seconds.
    pub length: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            nodes: 1,
            instance_type: "ecs.g7.large".into(),
            vswitches: vec![24, 24],
            prefixes: None,
            least: 0,
            spread: false,
            any_vswitch: false,
            reclaim: None,
            idle_min: 2,
            idle_max: 4,
            cooldown: 60,
            foreign: 0,
            attach: 1000,
            calls_a_minute: 60,
            length: 600,
        }
    }
}

/// A step and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned<T = Step> {
    /// Milliseconds after the start.
    pub at: u64,
    /// The step.
    #[serde(flatten)]
    pub step: T,
}

/// How an ADD goes wrong between kubelet and runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddQuirk {
    /// It does not.
    Plain,
    /// The runtime asks for one sandbox in the name of another pod.
    OtherPod,
    /// The agent's shell refuses the first ADD before it comes to the machine.
    Refused,
    /// The runtime repeats the ADD of one sandbox.
    Twice,
    /// A DEL of the sandbox comes first.
    DelFirst,
    /// A DEL comes that many milliseconds later, whatever has become of the ADD.
    DelAfter(u64),
    /// Kubelet gives up after that many milliseconds and starts anew; the old sandbox gets no DEL.
    GivesUp(u64),
}

/// How a DEL goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelQuirk {
    /// It does not.
    Plain,
    /// It comes twice.
    Twice,
    /// The network namespace is gone before it comes.
    NoNetns,
    /// It never comes.
    Never,
}

/// Where an agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashPoint {
    /// Right now.
    Now,
    /// Before the ledger's next write but that many.
    BeforeWrite(u8),
    /// After that write, before the machine hears of it.
    AfterWrite(u8),
    /// Before the next cloud call but that many is sent.
    BeforeCall(u8),
    /// After it was sent.
    AfterCall(u8),
    /// Before the next change of the kernel but that many.
    BeforeKernel(u8),
    /// After it, before the machine hears of it.
    AfterKernel(u8),
}

/// What becomes of the next cloud call of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It never reaches the cloud; the client waits its time out.
    NeverSent,
    /// It is carried out, and the answer is lost.
    AnswerLost,
    /// It reaches the cloud that many milliseconds late, when the client may have given up.
    CallLate(u64),
    /// The answer comes that many milliseconds late, after others that were sent later.
    AnswerLate(u64),
    /// The call reaches the cloud twice.
    CallTwice,
    /// The answer is delivered twice.
    AnswerTwice,
}

/// Something that happens to the world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// A pod is bound to a node.
    Create(usize, u16, AddQuirk),
    /// A pod is deleted.
    Delete(usize, u16, DelQuirk),
    /// A pod ends by itself and stays in the API server.
    Finish(usize, u16),
    /// A pod's sandbox dies and is made anew.
    Resandbox(usize, u16, DelQuirk),
    /// The runtime asks about a pod.
    Check(usize, u16),
    /// The runtime names what is in use.
    Gc(usize),
    /// The agent dies and comes back after that many milliseconds.
    Crash(usize, CrashPoint, u64),
    /// The node reboots: its kernel forgets everything.
    Reboot(usize),
    /// The node is deleted and comes back under its name on a new instance.
    Replace(usize),
    /// The agent's disk is lost; the agent starts without a ledger.
    LoseDisk(usize),
    /// The next writes of the ledger fail.
    DiskFull(usize, u8),
    /// The next calls of an action go wrong in the cloud.
    Calls(Option<String>, u8, CallFault),
    /// From now on an action is refused with this code, or not any more.
    Refuse(String, Option<String>),
    /// What becomes of the next call of a node.
    Answer(usize, Fate),
    /// Nothing reaches the cloud for that many milliseconds.
    Outage(u64),
    /// From now on Describe and metadata trail behind by that many milliseconds.
    Lag(u64, u64),
    /// A vSwitch is full, or not any more.
    Fill(usize, bool),
    /// Other tenants of the account make that many calls of each API a minute.
    Tenants(u32),
    /// The next changes of a node's kernel fail.
    Kernel(usize, u8),
    /// A foreign process deletes a pod's link.
    Unlink(usize, u16),
    /// A foreign process flushes the rules.
    Flush(usize),
    /// A driver is bound anew: the ENIs' links come back with other indexes under the running agent.
    Relink(usize),
    /// ENIs attached from now on appear on the host that many milliseconds late.
    LateLinks(usize, u64),
    /// The API server does not answer the next lists of a node's pods.
    NoPods(usize, u8),
    /// Somebody else attaches an ENI to the node.
    Foreign(usize),
    /// The node's clock steps by that many milliseconds.
    Clock(usize, i64),
    /// The pool's bounds change.
    Pool(usize, u32, u32),
    /// Somebody asks why pods of a node wait: this ran out, and the reason names this.
    Explain(usize, ExhaustionKind, String),
}

impl Step {
    /// The word for the kind of trouble it is; nothing for what is everyday life.
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Step::Create(_, _, AddQuirk::Plain)
            | Step::Delete(_, _, DelQuirk::Plain)
            | Step::Finish(..)
            | Step::Check(..)
            | Step::Gc(_)
            | Step::Pool(..)
            | Step::Explain(..) => return None,
            Step::Create(_, _, AddQuirk::OtherPod) => "ADD for another pod",
            Step::Create(_, _, AddQuirk::Refused) => "ADD refused",
            Step::Create(_, _, AddQuirk::Twice) => "ADD twice",
            Step::Create(_, _, AddQuirk::DelFirst) => "DEL before ADD",
            Step::Create(_, _, AddQuirk::DelAfter(_)) => "DEL races ADD",
            Step::Create(_, _, AddQuirk::GivesUp(_)) => "ADD given up",
            Step::Delete(_, _, DelQuirk::Twice) => "DEL twice",
            Step::Delete(_, _, DelQuirk::NoNetns) => "DEL without netns",
            Step::Delete(_, _, DelQuirk::Never) => "no DEL",
            Step::Resandbox(..) => "sandbox made anew",
            Step::Crash(..) => "agent crash",
            Step::Reboot(_) => "reboot",
            Step::Replace(_) => "node replaced",
            Step::LoseDisk(_) => "ledger lost",
            Step::DiskFull(..) => "disk full",
            Step::Calls(_, _, CallFault::Throttle) => "call throttled",
            Step::Calls(_, _, CallFault::ServerError | CallFault::ServerErrorAfter) => "call 5xx",
            Step::Calls(_, _, CallFault::LoseAnswer | CallFault::CutAnswer) => "answer cut",
            Step::Calls(_, _, CallFault::EmptyList) => "empty describe",
            Step::Refuse(..) => "call refused",
            Step::Answer(_, Fate::NeverSent) => "call lost",
            Step::Answer(_, Fate::AnswerLost) => "answer lost",
            Step::Answer(_, Fate::CallLate(_)) => "call late",
            Step::Answer(_, Fate::AnswerLate(_)) => "answer late",
            Step::Answer(_, Fate::CallTwice) => "call twice",
            Step::Answer(_, Fate::AnswerTwice) => "answer twice",
            Step::Outage(_) => "API outage",
            Step::Lag(0, _) => "metadata lag",
            Step::Lag(_, 0) => "describe lag",
            Step::Lag(..) => "both lag",
            Step::Fill(..) => "vSwitch full",
            Step::Tenants(_) => "other tenants",
            Step::Kernel(..) => "kernel refuses",
            Step::Unlink(..) => "link deleted",
            Step::Flush(_) => "rules flushed",
            Step::Relink(_) => "links made anew",
            Step::LateLinks(..) => "link late",
            Step::NoPods(..) => "API server away",
            Step::Foreign(_) => "foreign ENI",
            Step::Clock(..) => "clock step",
        })
    }
}
