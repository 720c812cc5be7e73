//! A small Kubernetes API: what the lab and the simulator need of one, answering as the real one
//! does for everything it serves.
//!
//! [`Cluster`] is the machine: every verb is a method, time and randomness come in from outside,
//! so a run replays. [`http`] puts it on a socket for `kubectl` and client libraries. What is left
//! out is left out visibly: a resource, verb or patch that is not served is refused, never faked.
//! There are no schemas behind the table of resources, nor those of custom ones, so unknown fields are
//! kept, not pruned.

mod admission;
mod apply;
mod binding;
mod cluster;
mod custom;
mod defaults;
mod delete;
mod error;
mod events;
pub mod http;
mod ids;
mod immutable;
mod object;
mod patch;
pub mod registry;
mod scheduler;
mod selector;
mod strategic;
mod table;
pub mod time;
mod validate;
mod watch;
mod write;

pub use cluster::{Cluster, ListQuery, Listing, Target};
pub use custom::Custom;
pub use delete::{DeleteOptions, Deleted};
pub use error::{ApiError, Cause, Named};
pub use patch::Patch;
pub use registry::Resource;
pub use scheduler::{Assignment, schedule};
pub use selector::Selector;
pub use time::UnixTime;
pub use watch::{Batch, ChangeKind, HISTORY_LIMIT, WatchEvent};
pub use write::{Part, Written};
