//! The least a scheduler must do: a pure choice of nodes for the pods that wait for one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cluster::{Cluster, Key},
    object,
    registry::{NODES, PODS},
    selector::Selector,
};

/// Amounts of extended resources by name.
type Amounts = BTreeMap<String, u64>;

/// What runs on a node.
#[derive(Debug, Default)]
struct Load {
    pods: usize,
    held: Amounts,
}

impl Load {
    fn add(&mut self, amounts: &Amounts) {
        self.pods += 1;
        for (name, amount) in amounts {
            *self.held.entry(name.clone()).or_default() += amount;
        }
    }
}

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

/// Gives every waiting pod the ready, schedulable node its `nodeSelector` and its required node
/// affinity allow, with enough left of the extended resources it asks for, that runs the fewest pods;
/// the first by name among equals. Pods that fit nowhere keep waiting. CPU and memory are not counted.
pub fn schedule(cluster: &Cluster) -> Vec<Assignment> {
    let nodes: Vec<_> = cluster
        .objects_of(&NODES)
        .filter(|(_, node)| takes_pods(node))
        .collect();
    let mut load: BTreeMap<&str, Load> = BTreeMap::new();
    for (_, pod) in cluster.objects_of(&PODS).filter(|(_, pod)| !has_ended(pod)) {
        let node = object::text(pod, "/spec/nodeName");
        load.entry(node).or_default().add(&asks(pod));
    }
    let mut assignments = Vec::new();
    for (key, pod) in cluster.objects_of(&PODS).filter(|(_, pod)| waits(pod)) {
        let wanted = asks(pod);
        let of = |node: &Key| load.get(node.name.as_str());
        let fitting = nodes.iter().filter(|(key, node)| {
            selects(pod, node) && has_affinity(pod, node) && has_room(node, of(key), &wanted)
        });
        let emptiest = fitting.min_by_key(|(node, _)| of(node).map_or(0, |load| load.pods));
        if let Some((node, _)) = emptiest {
            load.entry(&node.name).or_default().add(&wanted);
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

/// One term must hold whole; a pod without terms goes anywhere.
fn has_affinity(pod: &Value, node: &Value) -> bool {
    let terms = "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution\
                 /nodeSelectorTerms";
    let terms = object::items(pod, terms);
    terms.is_empty()
        || terms
            .iter()
            .any(|term| Selector::of_labels(term).matches(node))
}

/// Extended resources that a pod asks for. Their names have a domain, and they are whole numbers.
fn asks(pod: &Value) -> Amounts {
    let mut amounts = Amounts::new();
    for container in object::items(pod, "/spec/containers") {
        let requests = object::entries(container, "/resources/requests");
        for (name, amount) in requests.filter(|(name, _)| name.contains('/')) {
            *amounts.entry(name.clone()).or_default() += whole(Some(amount));
        }
    }
    amounts
}

fn whole(amount: Option<&Value>) -> u64 {
    let text = amount.map(|value| value.to_string().replace('"', ""));
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A kubelet makes allocatable what somebody else has put into the capacity; here nobody has to.
fn has_room(node: &Value, load: Option<&Load>, wanted: &Amounts) -> bool {
    wanted.iter().all(|(name, amount)| {
        let mut lists = [&node["status"]["allocatable"], &node["status"]["capacity"]].into_iter();
        let there = lists.find_map(|list| list.get(name));
        let held = load.and_then(|load| load.held.get(name)).copied();
        held.unwrap_or_default() + amount <= whole(there)
    })
}
