//! The demo's steps and what each claims.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    Break, Demo,
    act::{Bill, ping_counts},
    walk::eni_of,
};
use crate::{bench, cli::tree, control::Request, kubernetes::AGENT, node::BIN};

/// How long pods may take to run or to go: a second in fact, more on a busy machine.
const PODS_MAX: Duration = Duration::from_secs(60);

/// An address of nobody, for a pod that lies about its own.
const FOREIGN: &str = "10.99.99.99";

/// Pings under which the agents are killed: four seconds of them.
const KILL_PINGS: u64 = 400;

/// Rounds of ADD and DEL, of each of two plugins.
const ROUNDS: u32 = 20;

impl Demo {
    pub(super) fn region(&mut self, status: &Value) -> Result<()> {
        let took = self.begun.elapsed();
        let nodes = status["nodes"].as_array().map(Vec::len).unwrap_or_default();
        self.screen.heading("The region");
        let pool_ready = || -> Result<bool> {
            let status = self.stage.status()?;
            let mut nodes = status["nodes"].as_array().into_iter().flatten();
            let filled = |node: &Value| {
                let secondary =
                    |eni: &&Value| eni["kind"] == "Secondary" && eni["status"] == "InUse";
                node["enis"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|eni| secondary(&eni))
                    && node["kernel"]["routes"].as_u64() > Some(0)
            };
            Ok(nodes.all(filled))
        };
        let filled = self
            .stage
            .until("the pools are filled", PODS_MAX, pool_ready)?;
        self.stage.settle()?;
        self.screen.say(&tree::tree(&self.stage.status()?));
        let text = format!(
            "{nodes} nodes ready after {:.1} s, their pools filled {:.1} s later",
            took.as_secs_f64(),
            filled.as_secs_f64()
        );
        let figures =
            json!({ "ready_seconds": took.as_secs_f64(), "pool_seconds": filled.as_secs_f64() });
        self.check("region", nodes == 2, text, figures);
        Ok(())
    }

    fn run_pod(&self, name: &str, node: &str) -> Result<()> {
        let overrides = json!({ "spec": { "nodeName": node, "terminationGracePeriodSeconds": 1 } });
        let overrides = format!("--overrides={overrides}");
        self.stage
            .kubectl(&["run", name, "--image=probe", &overrides])?;
        Ok(())
    }

    fn wait_ready(&self, pods: &[&str]) -> Result<Duration> {
        let begun = Instant::now();
        let timeout = format!("--timeout={}s", PODS_MAX.as_secs());
        let mut arguments = vec!["wait", "pod", "--for=condition=Ready", &timeout];
        arguments.extend(pods);
        self.stage.kubectl(&arguments)?;
        Ok(begun.elapsed())
    }

    pub(super) fn pods(&mut self) -> Result<()> {
        self.screen.heading("Two pods, as kubectl shows them");
        self.run_pod("web", "node-1")?;
        self.run_pod("peer", "node-2")?;
        let took = self.wait_ready(&["web", "peer"])?;
        self.screen.say(
            self.stage
                .kubectl(&["get", "pods", "-o", "wide"])?
                .trim_end(),
        );
        self.screen.say("");
        self.screen.say(&tree::tree(&self.stage.status()?));
        let mut owned = Vec::new();
        for (pod, node) in [("web", "node-1"), ("peer", "node-2")] {
            let address = self.stage.address(pod)?;
            let eni = eni_of(&self.stage.node(node)?, &address);
            owned.push(json!({ "pod": pod, "node": node, "address": address, "eni": eni.map(|eni| eni.0) }));
        }
        let ok = owned.iter().all(|entry| !entry["eni"].is_null());
        let text = format!(
            "both run after {} ms, each with an address of an ENI of its node",
            took.as_millis()
        );
        self.check(
            "pods",
            ok,
            text,
            json!({ "ready_ms": took.as_millis(), "pods": owned }),
        );
        Ok(())
    }

    pub(super) fn ping(&mut self) -> Result<()> {
        let (from, to) = (self.stage.address("web")?, self.stage.address("peer")?);
        // One of ours that is taken away is back before the ping has ended; a stranger's stays.
        let rule = ["from", &from, "priority", "2047", "blackhole"];
        if self.is_broken(Break::Rule) {
            let add = [&["ip", "rule", "add"], rule.as_slice()].concat();
            self.stage.in_node("node-1", &add)?;
        }
        let mut ping = self
            .stage
            .command_in_pod("web", &["ping", "-c", "3", "-i", "0.1", "-W", "1", &to])?;
        let output = ping.stdin(Stdio::null()).output().context("running ping")?;
        let (sent, received) = ping_counts(&String::from_utf8_lossy(&output.stdout))?;
        if self.is_broken(Break::Rule) {
            let restore = [&["ip", "rule", "del"], rule.as_slice()].concat();
            self.stage.in_node("node-1", &restore)?;
        }
        let text = format!("web {from} -> peer {to}: {received} of {sent} answered");
        self.check(
            "ping",
            received == sent,
            text,
            json!({ "sent": sent, "received": received }),
        );
        Ok(())
    }

    /// A pod that sends with an address that is not its own.
    pub(super) fn spoof(&mut self) -> Result<()> {
        self.screen
            .heading(&format!("Pod web lies: it sends as {FOREIGN}"));
        let (from, to) = (self.stage.address("web")?, self.stage.address("peer")?);
        let link = self.stage.host_link("node-1", &from)?;
        let check = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
        let node = self.stage.node("node-1")?;
        let primary = node["enis"][0]["id"]
            .as_str()
            .context("node-1 has no primary ENI")?
            .to_owned();
        let switch = |on: bool| -> Result<()> {
            let write = format!("echo {} > {check}", u8::from(on));
            self.stage.in_node("node-1", &["sh", "-c", &write])?;
            self.stage.ask(&Request::SourceDestCheck {
                eni: primary.clone(),
                enabled: on,
            })?;
            Ok(())
        };
        if self.is_broken(Break::Spoof) {
            switch(false)?;
        }
        let lie = format!("{FOREIGN}/32");
        self.stage
            .in_pod("web", &["ip", "addr", "add", &lie, "dev", "eth0"])?;
        let before = self.received_by_peer()?;
        let ping = [
            "ping", "-c", "5", "-i", "0.05", "-W", "1", "-I", FOREIGN, &to,
        ];
        self.stage
            .command_in_pod("web", &ping)?
            .stdin(Stdio::null())
            .output()
            .context("running ping")?;
        let arrived = self.received_by_peer()? - before;
        self.stage
            .in_pod("web", &["ip", "addr", "del", &lie, "dev", "eth0"])?;
        if self.is_broken(Break::Spoof) {
            switch(true)?;
        }
        let text = format!("5 packets sent as {FOREIGN}, {arrived} arrived at peer");
        self.check(
            "spoof",
            arrived == 0,
            text,
            json!({ "sent": 5, "arrived": arrived }),
        );
        Ok(())
    }

    fn received_by_peer(&self) -> Result<i64> {
        let text = self
            .stage
            .in_pod("peer", &["ip", "-j", "-s", "link", "show", "eth0"])?;
        let link: Value = serde_json::from_str(&text)?;
        link[0]["stats64"]["rx"]["packets"]
            .as_i64()
            .context("peer's eth0 has no counter")
    }

    /// The agents are killed while a ping runs and a pod starts.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.screen
            .heading("Both agents are killed (-9) under ping -i 0.01, and a pod starts meanwhile");
        let to = self.stage.address("peer")?;
        let count = KILL_PINGS.to_string();
        let mut ping = self.stage.command_in_pod(
            "web",
            &["ping", "-q", "-i", "0.01", "-c", &count, "-W", "1", &to],
        )?;
        let ping = ping
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting ping")?;
        thread::sleep(Duration::from_millis(500));
        for node in ["node-1", "node-2"] {
            self.stage.ask(&Request::Kill {
                node: node.into(),
                component: AGENT.into(),
            })?;
        }
        let begun = Instant::now();
        self.run_pod("late", "node-1")?;
        self.wait_ready(&["late"])?;
        let late = begun.elapsed();
        let output = ping.wait_with_output().context("waiting for ping")?;
        let (sent, received) = ping_counts(&String::from_utf8_lossy(&output.stdout))?;
        let lost = sent - received;
        let text = format!(
            "{lost} of {sent} pings lost; pod late runs {} ms after the kill",
            late.as_millis()
        );
        let figures = json!({ "sent": sent, "lost": lost, "late_pod_ms": late.as_millis() });
        self.check("kill", lost == 0, text, figures);
        Ok(())
    }

    pub(super) fn add_times(&mut self) -> Result<()> {
        self.screen.heading(&format!(
            "ADD and DEL, whole process, {ROUNDS} rounds each in turns, on node-1"
        ));
        let pod = self.stage.pod("late")?;
        let uid = pod["metadata"]["uid"]
            .as_str()
            .context("pod late has no UID")?;
        // As the node sees it: the machine's own path may be hidden there.
        let me = format!("{BIN}/terway-lab");
        let rounds = ROUNDS.to_string();
        let arguments = [
            "bench-node",
            "--rounds",
            &rounds,
            "--pod",
            "default/late",
            "--uid",
            uid,
        ];
        let output = self
            .stage
            .in_node("node-1", &[&[me.as_str()], arguments.as_slice()].concat())?;
        let report: bench::Report =
            serde_json::from_str(&output).context("reading the measurement")?;
        self.screen.table(&report.table());
        let ok = report.failures == 0;
        let text = format!("{} of {} calls failed", report.failures, report.calls);
        self.check("add", ok, text, serde_json::to_value(&report)?);
        Ok(())
    }

    pub(super) fn calls(&mut self) -> Result<()> {
        self.screen.heading("The last calls to the cloud");
        let status = self.stage.status()?;
        let calls = status["calls"].as_array().cloned().unwrap_or_default();
        let shown = calls.iter().rev().take(8).rev().map(|call| {
            let latency = &call["latency"];
            let ms = latency["secs"].as_u64().unwrap_or_default() * 1000
                + latency["nanos"].as_u64().unwrap_or_default() / 1_000_000;
            let text = |key: &str| call[key].as_str().unwrap_or("-").to_owned();
            vec![
                text("action"),
                text("request_id"),
                call["status"].to_string(),
                format!("{ms} ms"),
            ]
        });
        self.screen.table(&shown.collect::<Vec<_>>());
        let named = calls.iter().all(|call| call["request_id"].is_string());
        let text = format!("{} calls, each with its RequestId", calls.len());
        self.check("calls", named && !calls.is_empty(), text, json!(calls));
        Ok(())
    }

    /// Everything is deleted, and what is there is what was there.
    pub(super) fn bill(&mut self, before: &Bill) -> Result<()> {
        self.screen
            .heading("The bill: everything deleted, before and after");
        self.stage
            .kubectl(&["delete", "pod", "--all", "--wait=true"])?;
        let gone = || Ok(self.stage.bill()?.get("pods") == Some(&0));
        self.stage.until("the pods are gone", PODS_MAX, gone)?;
        self.stage.settle()?;
        if self.is_broken(Break::Leak) {
            let leak = [
                "ip", "rule", "add", "from", "10.1.1.1", "priority", "2048", "table", "1007",
            ];
            self.stage.in_node("node-1", &leak)?;
        }
        let after = self.stage.bill()?;
        let mut rows = vec![vec![String::new(), "before".into(), "after".into()]];
        for (what, before) in before {
            let after = after.get(what).copied().unwrap_or_default();
            rows.push(vec![what.clone(), before.to_string(), after.to_string()]);
        }
        self.screen.table(&rows);
        // The pool may have grown meanwhile, and grows back; what a kernel holds must be the same.
        let kernel = |bill: &Bill| -> Bill {
            let counted = bill.iter().filter(|(what, _)| {
                what.contains(" on ") || what.as_str() == "pods" || what.contains("nothing")
            });
            counted
                .map(|(what, count)| (what.clone(), *count))
                .collect()
        };
        let ok = kernel(before) == kernel(&after);
        let text = if ok {
            "nothing is left over".to_owned()
        } else {
            "something is left over".to_owned()
        };
        self.check(
            "bill",
            ok,
            text,
            json!({ "before": before, "after": after }),
        );
        Ok(())
    }
}
