//! What passes between a container runtime, the CNI plugin and the agent: the CNI documents, one
//! framed message each way over a unix socket with descriptors beside it, and the tombstone a DEL
//! leaves behind when nobody answers.
//!
//! Must never see Kubernetes, the cloud or netlink: plugin and agent may be of different releases,
//! and this is all they share.

pub mod cni;
pub mod message;
pub mod socket;
pub mod tombstone;

/// Where the agent listens, as plugin and agent both see it. Beside the Go project's `eni.socket`,
/// whose protocol is another, so that a node can be moved from one to the other and back.
pub const SOCKET_PATH: &str = "/var/run/eni/terway.sock";

/// Where DELs leave their tombstones: on disk, because the agent may come back after a reboot.
pub const TOMBSTONE_DIR: &str = "/var/lib/cni/terway/tombstones";
