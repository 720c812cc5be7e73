//! One request, one reply, as JSON: the plugin may be older or newer than the agent, so fields that
//! are not known are ignored and fields that are missing have a meaning.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use model::{AttachmentKey, PodKey, PodUid, Timestamp, net::Sysctl};
use serde::{Deserialize, Serialize};

use crate::cni::{self, AddResult, RuntimeConfig};

/// The contract's number. It grows only when an old reader would misunderstand a new message; then
/// the agent speaks both for as long as nodes are rolled over.
pub const CONTRACT: u32 = 1;

/// Largest message. The longest request is a GC of [`cni::CONFIG_BYTES_MAX`]; the longest reply is the
/// view of a node with 1,000 addresses at about 80 bytes each.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// What the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The contract it is written in.
    pub contract: u32,
    /// When the plugin started, by the node's wall clock.
    pub started: Timestamp,
    /// How long the plugin waits for the answer.
    pub patience: Duration,
    /// The question.
    pub verb: Verb,
}

/// The question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Attach a sandbox. Two descriptors come with it: the sandbox's network namespace, and a netlink
    /// socket opened inside it.
    Add {
        /// Sandbox and interface.
        key: AttachmentKey,
        /// The pod.
        pod: PodKey,
        /// Its UID, when the runtime passed it.
        uid: Option<PodUid>,
        /// Path of the namespace, for the result.
        netns: String,
        /// MTU the configuration asks for.
        mtu: Option<u32>,
        /// Networks that a pod with an ENI wholly its own reaches by the node.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        host_stack: Vec<IpNet>,
        /// What the runtime asks for this pod.
        #[serde(default)]
        runtime: RuntimeConfig,
    },
    /// Detach it. The same two descriptors come with it when the namespace is still there: a pod may have a
    /// device of the node.
    Del {
        /// Sandbox and interface.
        key: AttachmentKey,
    },
    /// Compare and repair it; the same two descriptors come with it.
    Check {
        /// Sandbox and interface.
        key: AttachmentKey,
    },
    /// Can ADDs be served?
    Status,
    /// Forget all attachments but these.
    Gc {
        /// What is in use.
        valid: BTreeSet<AttachmentKey>,
    },
    /// Another agent starts on the node: the one that serves stops and stands by.
    HandOver,
    /// The node's pool as JSON, for people and tools.
    View,
    /// Why a pod has its address, or has not, as JSON; the answer is a [`Reply::View`].
    Explain {
        /// The pod.
        pod: PodKey,
    },
    /// What the node machine was told and decided lately. One descriptor comes with it, of the regular file
    /// the agent writes that into; [`Reply::Done`] says that it is whole.
    Dump,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The attachment stands, once these values are written.
    Attached {
        /// The result for the runtime.
        result: AddResult,
        /// What the plugin writes under `/proc/sys`.
        sysctls: Vec<Sysctl>,
    },
    /// Nothing more to say.
    Done,
    /// The node's pool.
    View(serde_json::Value),
    /// It did not work.
    Failed {
        /// The specification's code.
        code: u32,
        /// One sentence.
        message: String,
        /// More, if there is more.
        #[serde(default)]
        details: String,
    },
}

impl From<cni::Error> for Reply {
    fn from(error: cni::Error) -> Self {
        Reply::Failed {
            code: error.code,
            message: error.message,
            details: error.details,
        }
    }
}
