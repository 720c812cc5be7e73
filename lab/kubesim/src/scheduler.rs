//! The least a scheduler must do: a pure choice of nodes for the pods that wait for one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cluster::Cluster,
    object,
    registry::{NODES, PODS},
};

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The node it goes to.
    pub node: String,
}

/// Gives every waiting pod the ready, schedulable node its `nodeSelector` allows that runs the
/// fewest pods; the first by name among equals. Pods that fit nowhere keep waiting.
pub fn schedule(cluster: &Cluster) -> Vec<Assignment> {
    let nodes: Vec<_> = cluster
        .objects_of(&NODES)
        .filter(|(_, node)| takes_pods(node))
        .collect();
    let mut load: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, pod) in cluster.objects_of(&PODS).filter(|(_, pod)| !has_ended(pod)) {
        *load.entry(object::text(pod, "/spec/nodeName")).or_default() += 1;
    }
    let mut assignments = Vec::new();
    for (key, pod) in cluster.objects_of(&PODS).filter(|(_, pod)| waits(pod)) {
        let fitting = nodes.iter().filter(|(_, node)| selects(pod, node));
        let emptiest =
            fitting.min_by_key(|(node, _)| load.get(node.name.as_str()).copied().unwrap_or(0));
        if let Some((node, _)) = emptiest {
            *load.entry(&node.name).or_default() += 1;
            assignments.push(Assignment {
                namespace: key.namespace.clone(),
                pod: key.name.clone(),
                node: node.name.clone(),
            });
        }
    }
    assignments
}

fn has_ended(pod: &Value) -> bool {
    matches!(object::text(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn waits(pod: &Value) -> bool {
    object::text(pod, "/spec/nodeName").is_empty()
        && object::text(pod, "/metadata/deletionTimestamp").is_empty()
        && object::text(pod, "/spec/schedulerName") == "default-scheduler"
        && object::items(pod, "/spec/schedulingGates").is_empty()
        && !has_ended(pod)
}

fn takes_pods(node: &Value) -> bool {
    let ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    object::items(node, "/status/conditions").iter().any(ready)
        && node.pointer("/spec/unschedulable") != Some(&Value::Bool(true))
        && object::text(node, "/metadata/deletionTimestamp").is_empty()
}

fn selects(pod: &Value, node: &Value) -> bool {
    object::entries(pod, "/spec/nodeSelector")
        .all(|(label, value)| node["metadata"]["labels"].get(label) == Some(value))
}
