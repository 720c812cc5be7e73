//! What the demo does with the lab: ask it, run programs in its nodes and pods, count what is there.

use std::{
    collections::BTreeMap,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::{
    cli::inside,
    control::{Request, ask},
    statedir::StateDir,
    tool,
};

/// How often something is looked at that is waited for.
const POLL: Duration = Duration::from_millis(50);

/// How long nothing may change for the lab to count as at rest: longer than a cloud call takes.
const STILL: Duration = Duration::from_millis(500);
/// How long it may take to come to rest: an ENI's attach takes a second or two.
const REST_MAX: Duration = Duration::from_secs(30);

/// Handles on a lab that is up.
pub(super) struct Stage {
    dir: StateDir,
}

/// What there is of something, by what it is.
pub(super) type Bill = BTreeMap<String, i64>;

impl Stage {
    pub(super) fn new(dir: StateDir) -> Self {
        Self { dir }
    }

    pub(super) fn ask(&self, request: &Request) -> Result<Value> {
        ask(&self.dir.socket(), request)
    }

    pub(super) fn status(&self) -> Result<Value> {
        self.ask(&Request::Status)
    }

    /// The status of one node.
    pub(super) fn node(&self, name: &str) -> Result<Value> {
        let status = self.status()?;
        let mut nodes = status["nodes"].as_array().into_iter().flatten();
        let node = nodes.find(|node| node["name"] == name).cloned();
        node.with_context(|| format!("the lab has no {name}"))
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = Command::new("kubectl");
        kubectl
            .args(arguments)
            .env("KUBECONFIG", self.dir.kubeconfig());
        tool::output(&format!("kubectl {}", arguments.join(" ")), kubectl)
    }

    /// A command in a pod of namespace default, not started.
    pub(super) fn command_in_pod(&self, pod: &str, command: &[&str]) -> Result<Command> {
        let (namespace, name) = ("default".to_owned(), pod.to_owned());
        let place = self.ask(&Request::Pod { namespace, name })?;
        inside::pod(&place, command)
    }

    /// Runs a command in a pod.
    pub(super) fn in_pod(&self, pod: &str, command: &[&str]) -> Result<String> {
        tool::output(
            &format!("{} in pod {pod}", command.join(" ")),
            self.command_in_pod(pod, command)?,
        )
    }

    /// Runs a command on a node.
    pub(super) fn in_node(&self, node: &str, command: &[&str]) -> Result<String> {
        let pid = self.node(node)?["pid"]
            .as_u64()
            .context("the node has no process")?;
        tool::output(
            &format!("{} on {node}", command.join(" ")),
            inside::node(pid, command),
        )
    }

    /// A JSON answer of the `ip` command on a node.
    pub(super) fn ip_on_node(&self, node: &str, arguments: &[&str]) -> Result<Value> {
        let command = [&["ip", "-j"], arguments].concat();
        let text = self.in_node(node, &command)?;
        if text.trim().is_empty() {
            return Ok(Value::Array(Vec::new()));
        }
        serde_json::from_str(&text)
            .with_context(|| format!("`{}` prints no JSON", command.join(" ")))
    }

    /// The pod as the API server has it.
    pub(super) fn pod(&self, name: &str) -> Result<Value> {
        let text = self.kubectl(&["get", "pod", name, "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(super) fn address(&self, pod: &str) -> Result<String> {
        let object = self.pod(pod)?;
        let address = object["status"]["podIP"].as_str().map(str::to_owned);
        address.with_context(|| format!("pod {pod} has no address"))
    }

    /// The link of a pod on its node: the one the node's route to it leads to.
    pub(super) fn host_link(&self, node: &str, address: &str) -> Result<String> {
        let routes = self.ip_on_node(node, &["route", "show", address])?;
        let link = routes[0]["dev"].as_str().map(str::to_owned);
        link.with_context(|| format!("{node} has no route to {address}"))
    }

    /// Everything that could leak: addresses in use, and what every node's kernel holds.
    pub(super) fn bill(&self) -> Result<Bill> {
        let status = self.status()?;
        let mut bill = Bill::new();
        let mut add = |what: String, count: usize| {
            *bill.entry(what).or_default() += i64::try_from(count).unwrap_or(i64::MAX);
        };
        for node in status["nodes"].as_array().into_iter().flatten() {
            let name = node["name"].as_str().unwrap_or_default();
            let enis = node["enis"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            add("ENIs".into(), enis.len());
            let secondary = enis.iter().filter_map(|eni| eni["secondary"].as_array());
            add(
                "addresses".into(),
                enis.len() + secondary.map(Vec::len).sum::<usize>(),
            );
            for what in ["links", "rules", "routes"] {
                let count = node["kernel"][what].as_u64().unwrap_or_default();
                add(
                    format!("{what} on {name}"),
                    usize::try_from(count).unwrap_or(usize::MAX),
                );
            }
        }
        let detached = status["detached"]
            .as_array()
            .map(Vec::len)
            .unwrap_or_default();
        add("ENIs attached to nothing".into(), detached);
        add(
            "pods".into(),
            status["pods"].as_array().map(Vec::len).unwrap_or_default(),
        );
        Ok(bill)
    }

    /// Waits until two looks in a row see the same: everything under way has arrived.
    pub(super) fn settle(&self) -> Result<()> {
        let mut last = self.bill()?;
        let same = || {
            thread::sleep(STILL);
            let now = self.bill()?;
            let same = now == last;
            last = now;
            Ok(same)
        };
        self.until("the lab comes to rest", REST_MAX, same)
            .map(drop)
    }

    /// Waits until `done` says yes.
    pub(super) fn until(
        &self,
        what: &str,
        most: Duration,
        mut done: impl FnMut() -> Result<bool>,
    ) -> Result<Duration> {
        let begun = Instant::now();
        while !done()? {
            if begun.elapsed() > most {
                bail!("{what}: not within {most:?}");
            }
            thread::sleep(POLL);
        }
        Ok(begun.elapsed())
    }
}

/// What `ping` counted: sent and received.
pub(super) fn ping_counts(output: &str) -> Result<(u64, u64)> {
    let line = output
        .lines()
        .find(|line| line.contains("packets transmitted"));
    let mut numbers = line
        .into_iter()
        .flat_map(|line| line.split(", "))
        .filter_map(|part| part.split_whitespace().next()?.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(sent), Some(received)) => Ok((sent, received)),
        _ => Err(anyhow!("ping counted nothing: {output}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_summary_is_read() {
        let text = "--- x ---\n400 packets transmitted, 398 received, 0.5% packet loss, time 4ms\n";
        assert_eq!(ping_counts(text).unwrap(), (400, 398));
        assert!(ping_counts("no route").is_err());
    }
}
