//! One datagram's way from pod to pod, seen by the counter that moves at each hop.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Demo, act::Stage};

/// A place a packet passes.
struct Hop {
    place: String,
    what: String,
    counter: Counter,
}

enum Counter {
    /// A pod's link: pod, direction.
    Pod(&'static str, &'static str),
    /// A node's link: node, link, direction.
    Node(&'static str, String, &'static str),
    /// An ENI's port in the VPC: ENI, field.
    Port(String, &'static str),
}

impl Counter {
    fn read(&self, stage: &Stage, status: &Value) -> Result<i64> {
        let value = match self {
            Counter::Pod(pod, way) => {
                let text = stage.in_pod(pod, &["ip", "-j", "-s", "link", "show", "eth0"])?;
                let link: Value = serde_json::from_str(&text)?;
                link[0]["stats64"][way]["packets"].as_i64()
            }
            Counter::Node(node, link, way) => {
                let link = stage.ip_on_node(node, &["-s", "link", "show", link])?;
                link[0]["stats64"][way]["packets"].as_i64()
            }
            Counter::Port(eni, field) => {
                let mut enis = status["nodes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|node| node["enis"].as_array().into_iter().flatten());
                let port = enis.find(|port| port["id"] == eni.as_str());
                port.and_then(|port| port["counters"][field].as_i64())
            }
        };
        value.context("a counter of the walk cannot be read")
    }
}

/// The ENI that has `address`, its id and its link, in the status of a node.
pub(super) fn eni_of(node: &Value, address: &str) -> Option<(String, String)> {
    let mut enis = node["enis"].as_array().into_iter().flatten();
    let eni = enis.find(|eni| {
        let secondary = eni["secondary"].as_array().into_iter().flatten();
        eni["primary"] == address || secondary.into_iter().any(|other| other == address)
    })?;
    Some((
        eni["id"].as_str()?.to_owned(),
        eni["link"].as_str()?.to_owned(),
    ))
}

impl Demo {
    pub(super) fn walk(&mut self) -> Result<()> {
        self.screen
            .heading("One datagram's way, and the counter that moved at each hop");
        let hops = self.hops()?;
        let target = format!("{}:8080", self.stage.address("peer")?);
        let before = self.read_all(&hops)?;
        self.stage
            .in_pod("web", &["terway-probe", "udp", &target, "--count", "1"])?;
        let after = self.read_all(&hops)?;
        let moved: Vec<i64> = after
            .iter()
            .zip(&before)
            .map(|(after, before)| after - before)
            .collect();
        let rows: Vec<Vec<String>> = hops
            .iter()
            .zip(&moved)
            .map(|(hop, moved)| vec![hop.place.clone(), hop.what.clone(), format!("+{moved}")])
            .collect();
        self.screen.table(&rows);
        let all = moved.iter().all(|moved| *moved >= 1);
        let figures: Vec<Value> = hops
            .iter()
            .zip(&moved)
            .map(|(hop, moved)| json!({ "place": hop.place, "counter": hop.what, "moved": moved }))
            .collect();
        let text = format!("{} hops, each counter moved", hops.len());
        self.check("walk", all, text, json!(figures));
        Ok(())
    }

    fn read_all(&self, hops: &[Hop]) -> Result<Vec<i64>> {
        let status = self.stage.status()?;
        hops.iter()
            .map(|hop| hop.counter.read(&self.stage, &status))
            .collect()
    }

    fn hops(&self) -> Result<Vec<Hop>> {
        let (from, to) = (self.stage.address("web")?, self.stage.address("peer")?);
        let eni = |node: &str, address: &str| -> Result<(String, String)> {
            eni_of(&self.stage.node(node)?, address)
                .with_context(|| format!("no ENI of {node} has {address}"))
        };
        let (one, two) = (eni("node-1", &from)?, eni("node-2", &to)?);
        let (out, into) = (
            self.stage.host_link("node-1", &from)?,
            self.stage.host_link("node-2", &to)?,
        );
        let hop = |place: String, what: &str, counter| Hop {
            place,
            what: what.into(),
            counter,
        };
        Ok(vec![
            hop(
                format!("pod web, eth0 {from}"),
                "sent",
                Counter::Pod("web", "tx"),
            ),
            hop(
                format!("node-1, {out}"),
                "received from the pod",
                Counter::Node("node-1", out, "rx"),
            ),
            hop(
                format!("node-1, {} of {}", one.1, one.0),
                "sent (rule 2048, table of the ENI)",
                Counter::Node("node-1", one.1, "tx"),
            ),
            hop(
                format!("VPC, port of {}", one.0),
                "received, source checked",
                Counter::Port(one.0, "received_packets"),
            ),
            hop(
                format!("VPC, port of {}", two.0),
                "delivered to the owner of the address",
                Counter::Port(two.0.clone(), "delivered_packets"),
            ),
            hop(
                format!("node-2, {} of {}", two.1, two.0),
                "received",
                Counter::Node("node-2", two.1, "rx"),
            ),
            hop(
                format!("node-2, {into}"),
                "sent to the pod (rule 512, main table)",
                Counter::Node("node-2", into, "tx"),
            ),
            hop(
                format!("pod peer, eth0 {to}"),
                "received",
                Counter::Pod("peer", "rx"),
            ),
        ])
    }
}
