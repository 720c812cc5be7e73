//! What goes into the route machine and what comes out, as plain data.

use std::collections::BTreeMap;

use ipnet::IpNet;
use model::{ClientToken, InstanceId, RouteEntry, RouteEntryId};

use crate::{budget::Api, podeni::Fault};

/// What the machine is told about its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `RouteEntryName` of the entries we make; what has another name is never changed.
    pub name: String,
    /// Calls a minute of each API.
    pub calls_per_minute: u32,
    /// Where an API has a number of its own.
    pub calls_of: BTreeMap<Api, u32>,
}

/// A node whose pods others reach by the route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteNode {
    /// Its instance.
    pub instance: InstanceId,
    /// Its pods' blocks (`spec.podCIDRs`).
    pub blocks: Vec<IpNet>,
    /// What its condition NetworkUnavailable says, if it has one.
    pub unavailable: Option<bool>,
}

/// How it stands about a node's routes; of several blocks, the worst.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Packets to its pods find it.
    Reachable,
    /// An entry is there, and the cloud still works on it.
    Pending,
    /// An entry is missing or leads elsewhere; it is being made.
    Missing,
    /// Nothing is done about it until somebody else acts: why.
    Blocked(Obstacle, String),
}

/// Why a node's route cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// Somebody else's entry has its block and leads elsewhere, or another node has the same block.
    Conflict,
    /// The route table is full.
    Quota,
    /// The cloud refuses it.
    Refused,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A node as the API server has it; nothing when it is gone or has no block.
    Node(String, Option<Box<RouteNode>>),
    /// All nodes are known, and this replica leads. Nothing is called before.
    Complete,
    /// The table's entries were read whole, or not.
    Looked(Result<Vec<RouteEntry>, Fault>),
    /// An entry was asked for or its end was, or the cloud said no.
    Called(Result<(), Fault>),
    /// A node's condition was written, or could not be.
    Marked(String, Result<(), String>),
    /// The deadline passed.
    Tick,
}

/// A change of the table. The cloud takes one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Make an entry for this node.
    Create {
        /// The node, for people.
        node: String,
        /// Its block.
        destination: IpNet,
        /// Its instance.
        instance: InstanceId,
        /// Of this call alone: that a block has one entry is what keeps a repeated call harmless.
        token: ClientToken,
    },
    /// Delete exactly this entry, which is ours.
    Delete {
        /// The entry.
        entry: RouteEntryId,
        /// Its block, for people.
        destination: IpNet,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read all custom entries of the table.
    Look,
    /// Change the table.
    Call(Call),
    /// Write the node's condition NetworkUnavailable: false, or true and why.
    Mark(String, Result<(), String>),
    /// Tell people.
    Notice(Notice),
}

/// Something people may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Packets to a node's pods find it from now on.
    Reachable(String),
    /// A node's route cannot be made, and why.
    Blocked(String, Obstacle, String),
    /// An entry of ours that no node needs any more is being deleted.
    Deleting(IpNet),
    /// A call failed.
    CloudFailed(String),
    /// A node's condition could not be written.
    MarkFailed(String, String),
}
