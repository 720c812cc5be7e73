//! The lab: a region of the cloud, a cluster and its nodes on one Linux machine, with real packets.
//!
//! The programs under test are run as they are built; nothing of them is linked here, so that the lab
//! cannot share a mistake with what it judges.

mod bench;
mod cgroups;
pub mod cli;
mod control;
mod demo;
pub mod fabric;
mod kubelet;
mod kubernetes;
mod netns;
mod node;
mod region;
mod statedir;
mod tool;
