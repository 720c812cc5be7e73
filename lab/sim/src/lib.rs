//! The simulator: real machines of node agents, a pure region of the cloud, and models of kernel,
//! kubelet and disk in one queue of events. A seed gives a schedule, a schedule gives a run, and the
//! same schedule gives the same run to the byte.
//!
//! No threads, no runtime, no clock: time is the time of the next event. Nothing of it ships.

mod agent;
mod cloud;
mod kernel;
mod node;
mod oracle;
mod plan;
mod reasons;
mod report;
mod rest;
mod runtime;
pub mod scale;
pub mod scenario;
mod schedule;
mod shrink;
mod steps;
mod world;

pub use oracle::Violation;
pub use plan::random;
pub use report::Report;
pub use schedule::{AddQuirk, CrashPoint, DelQuirk, Fate, Planned, Schedule, Setup, Step};
pub use shrink::shrink;
pub use world::Outcome;

/// Runs a schedule to its end or to the first oracle it trips.
///
/// # Errors
/// When the setup describes no world.
pub fn run(schedule: &Schedule, log: bool) -> anyhow::Result<Outcome> {
    Ok(world::World::new(schedule.clone(), log)?.run())
}
