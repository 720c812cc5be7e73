//! The simulator: the product's real machines against models of all that is around them, in one queue of
//! events. A seed gives a schedule, a schedule gives a run, and the same schedule gives the same run to
//! the byte.
//!
//! Two kinds of world: nodes with their agents, kernels and kubelets, before a region of `cloudsim`; and
//! a region with its control plane, before an API server ([`region`]).
//!
//! No threads, no runtime, no clock: time is the time of the next event. Nothing of it ships.

mod agent;
mod cloud;
mod heal;
mod kernel;
mod life;
mod node;
mod oracle;
mod plan;
mod queue;
mod reasons;
pub mod region;
mod report;
mod rest;
mod runtime;
pub mod scale;
pub mod scenario;
mod schedule;
mod shrink;
mod steps;
mod world;

pub use life::Life;
pub use oracle::Violation;
pub use plan::random;
pub use report::{Kind, Report};
pub use schedule::{AddQuirk, CrashPoint, DelQuirk, Fate, Planned, Schedule, Setup, Step};
pub use shrink::shrink;
pub use world::Outcome;
