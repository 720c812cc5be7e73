//! Every decision of the product, as machines and planners that never do I/O, never read a clock,
//! never roll a die and never sleep.
//!
//! A machine takes inputs and the time, and hands out actions and a deadline; whoever drives it
//! carries the actions out and brings their outcomes back as further inputs. An outcome that nobody
//! knows (a timeout, a crash) is an ordinary input. What must survive a crash is handed out to be
//! persisted *before* the action that relies on it. So the same code runs in the agent and in the
//! simulator, and an incident is replayed by feeding its inputs again.
//!
//! This package must never see a runtime, a socket, a file, the kernel, Kubernetes or the cloud's
//! wire formats; its `clippy.toml` bans the types that would let it.

pub mod admission;
pub mod budget;
pub mod cluster;
pub mod contest;
pub mod ledger;
pub mod netplan;
pub mod node;
mod pairs;
pub mod podeni;
pub mod recording;
pub mod retry;
pub mod route;
