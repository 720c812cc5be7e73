//! Nodes as the region sees them: a process tree, a network namespace, an instance.

use std::{
    fs::{self, File},
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context, Result};
use model::InstanceId;
use serde_json::Value;
use tokio::process::Command;

use super::keeper::Keeper;
use crate::{control::NodeRequest, netns, node::NodeArgs, statedir::StateDir, tool};

/// What is counted of a node's kernel, and the command that lists it.
const COUNTED: [(&str, &str); 3] = [
    ("links", "ip -j link show"),
    ("rules", "ip -j rule show"),
    ("routes", "ip -j route show table all"),
];

/// A node that stands.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) instance: InstanceId,
    keeper: Keeper,
    netns: OwnedFd,
}

impl Node {
    /// Starts the node's namespaces and its first process; nothing runs there yet.
    pub(super) async fn start(
        dir: &StateDir,
        args: &NodeArgs,
        instance: InstanceId,
    ) -> Result<Self> {
        let name = args.name.clone();
        let log = dir.log(&name);
        let log = File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        fs::create_dir_all(dir.node(&name)).context("cannot create the node's directory")?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "--mount", "--pid", "--uts", "--ipc"]);
        unshare.args(["--propagation", "private", "--fork", "--kill-child"]);
        unshare.arg(std::env::current_exe().context("cannot find my own program")?);
        unshare.arg("node").arg("--dir").arg(dir.path());
        unshare.args(args.words()).stderr(log);
        let keeper = Keeper::start(&format!("node {name}"), unshare).await?;
        let netns = File::open(format!("/proc/{}/ns/net", keeper.pid))
            .with_context(|| format!("cannot open the network namespace of node {name}"))?;
        Ok(Self {
            name,
            instance,
            keeper,
            netns: netns.into(),
        })
    }

    /// The process that keeps the node's namespaces, as the region's namespace numbers it.
    pub(super) fn pid(&self) -> u32 {
        self.keeper.pid
    }

    /// A descriptor of the node's network namespace.
    pub(super) fn netns(&self) -> Result<OwnedFd> {
        self.netns.try_clone().context("cannot copy a descriptor")
    }

    /// Asks the node.
    pub(super) async fn ask(&self, request: &NodeRequest) -> Result<Value> {
        self.keeper.ask(request).await
    }

    /// Ends the node with everything that runs there.
    pub(super) async fn stop(&self) -> Result<()> {
        self.keeper.stop().await
    }

    /// How many links, rules and routes the node has. Blocks for three `ip` commands.
    pub(super) fn kernel(&self) -> Result<Value> {
        let count = |(what, command): (&str, &str)| -> Result<(String, Value)> {
            let list: Vec<Value> = serde_json::from_str(&tool::run(command)?)?;
            Ok((what.to_owned(), list.len().into()))
        };
        let counts = netns::inside(self.netns.as_fd(), || {
            COUNTED.into_iter().map(count).collect()
        });
        let counts: Result<serde_json::Map<_, _>> =
            counts.with_context(|| format!("cannot enter node {}", self.name))?;
        Ok(Value::Object(counts?))
    }
}
