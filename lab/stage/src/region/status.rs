//! Everything there is, as one document: what the cloud has, what the kernel has, what the cluster
//! says. It only looks.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use cloudsim::{CallRecord, EniView, RegionSnapshot};
use serde_json::{Value, json};

use super::{Lab, nodes::Node, pool};
use crate::{control::NodeRequest, fabric::PortCounters};

/// Calls shown, the latest: enough to see what a pod's start cost.
const CALLS_SHOWN: usize = 20;

/// The cloud's side of the document, gathered in one look so that its parts agree.
struct Cloud {
    snapshot: RegionSnapshot,
    calls: Vec<CallRecord>,
    links: BTreeMap<String, String>,
    counters: BTreeMap<String, PortCounters>,
}

/// The document.
pub(super) async fn document(lab: &Lab) -> Result<Value> {
    let cloud = look(lab)?;
    let objects = lab.cluster.nodes().await?;
    let nodes = lab.nodes();
    let mut described = Vec::new();
    for node in &nodes {
        let mut entry = describe(&cloud, node).await?;
        let object = objects
            .iter()
            .find(|object| object["metadata"]["name"] == *node.name);
        entry["ready"] = object
            .is_some_and(|object| condition(object, "Ready"))
            .into();
        described.push(entry);
    }
    let detached = cloud
        .snapshot
        .enis
        .iter()
        .filter(|eni| eni.instance.is_none());
    Ok(json!({
        "dir": lab.dir.path(),
        "region": cloud.snapshot.region,
        "vpc": cloud.snapshot.vpc,
        "vpc_cidr": cloud.snapshot.vpc_cidr,
        "vswitches": cloud.snapshot.vswitches,
        "kubernetes": lab.doors.kubernetes,
        "openapi": lab.doors.openapi,
        "nodes": described,
        "detached": detached.map(|eni| cloud.eni(eni)).collect::<Vec<_>>(),
        "pods": lab.cluster.pods().await?.iter().map(pod).collect::<Vec<_>>(),
        "calls": cloud.calls,
        "failures": lab.wiring.failures(),
    }))
}

/// How many nodes there are, and how many of them are ready.
pub(super) async fn ready(lab: &Lab) -> Result<Value> {
    let nodes = lab.cluster.nodes().await?;
    let ready = nodes.iter().filter(|node| condition(node, "Ready")).count();
    Ok(json!({ "nodes": nodes.len(), "ready": ready }))
}

fn look(lab: &Lab) -> Result<Cloud> {
    let (snapshot, calls) = lab.cloud.with(|_, region| {
        let calls: Vec<_> = region.calls().rev().take(CALLS_SHOWN).cloned().collect();
        (region.snapshot(), calls.into_iter().rev().collect())
    });
    let links = lab.wiring.links().into_iter();
    Ok(Cloud {
        snapshot,
        calls,
        links: links
            .map(|(eni, link)| (eni.to_string(), link.name))
            .collect(),
        counters: lab.wiring.fabric().counters()?,
    })
}

impl Cloud {
    fn eni(&self, eni: &EniView) -> Value {
        let id = eni.id.as_str();
        json!({
            "id": id,
            "kind": eni.kind,
            "status": eni.status,
            "mac": eni.mac,
            "vswitch": eni.vswitch,
            "primary": eni.primary,
            "secondary": eni.secondary,
            "prefixes": eni.prefixes,
            "ride": eni.ride,
            "link": self.links.get(id),
            "counters": self.counters.get(id),
        })
    }
}

async fn describe(cloud: &Cloud, node: &Node) -> Result<Value> {
    let instances = &cloud.snapshot.instances;
    let instance = instances
        .iter()
        .find(|instance| instance.id == node.instance);
    let instance = instance.ok_or_else(|| anyhow!("{} is not in the region", node.instance))?;
    let mine = cloud
        .snapshot
        .enis
        .iter()
        .filter(|eni| eni.instance.as_ref() == Some(&node.instance));
    let mut enis: Vec<Value> = mine.map(|eni| cloud.eni(eni)).collect();
    // eth0 first; those without a link last.
    enis.sort_by_key(|eni| (eni["link"].is_null(), eni["link"].to_string()));
    let asked = node.ask(&NodeRequest::Agent).await;
    Ok(json!({
        "name": node.name,
        "instance": instance.id,
        "type": instance.instance_type,
        "zone": instance.zone,
        "address": instance.primary_address,
        "pid": node.pid(),
        "agent": asked.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })),
        "kernel": tokio::task::block_in_place(|| node.kernel())
            .unwrap_or_else(|error| json!({ "error": format!("{error:#}") })),
        "pool": tokio::task::block_in_place(|| pool::view(node.pid()))
            .unwrap_or_else(|error| json!({ "error": format!("{error:#}") })),
        "enis": enis,
    }))
}

fn pod(pod: &Value) -> Value {
    json!({
        "namespace": pod["metadata"]["namespace"],
        "name": pod["metadata"]["name"],
        "uid": pod["metadata"]["uid"],
        "node": pod["spec"]["nodeName"],
        "phase": pod["status"]["phase"],
        "address": pod["status"]["podIP"],
        "ready": condition(pod, "Ready"),
        "deleting": !pod["metadata"]["deletionTimestamp"].is_null(),
    })
}

fn condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == name && condition["status"] == "True")
}
