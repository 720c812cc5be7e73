//! What is added to a pod, as a JSON patch (RFC 6902).
//!
//! A patch of what is added already is empty: the API server asks again when a later webhook changed the
//! pod.

use crd::{keys, pod::write_networks};
use engine::admission::{Additions, Resource};
use model::ZoneId;
use serde_json::{Value, json};

/// What may change of a pod. Each is replaced as a whole: `add` takes the place of what is there.
const PLACES: [&str; 3] = [
    "/metadata/annotations",
    "/spec/containers/0/resources",
    "/spec/affinity",
];

/// The operations that add `additions` to `pod`, which has a container at least.
pub(super) fn of(pod: &Value, additions: &Additions) -> Vec<Value> {
    let mut after = pod.clone();
    annotate(&mut after["metadata"]["annotations"], additions);
    if let Some((resource, count)) = additions.resource {
        request(&mut after["spec"]["containers"], resource, count);
    }
    for zones in &additions.zones {
        confine(&mut after["spec"]["affinity"], zones);
    }
    PLACES
        .iter()
        .filter(|at| pod.pointer(at) != after.pointer(at))
        .map(|at| json!({"op": "add", "path": at, "value": after.pointer(at)}))
        .collect()
}

fn annotate(annotations: &mut Value, additions: &Additions) {
    annotations[keys::POD_ENI] = "true".into();
    annotations[keys::POD_NETWORKS] = write_networks(&additions.networks).into();
    if let Some(networking) = &additions.networking {
        annotations[keys::POD_NETWORKING] = networking.as_str().into();
    }
}

/// Lets the first container request the ENIs, unless one does: the scheduler adds up what they request, and
/// a later webhook may have put a container before it.
fn request(containers: &mut Value, resource: Resource, count: usize) {
    let name = match resource {
        Resource::MemberEni => keys::MEMBER_ENI,
        Resource::Eni => keys::ENI,
    };
    let quantity = Value::from(count.to_string());
    let requests = |one: &Value| one["resources"]["requests"][name] == quantity;
    if containers.as_array().into_iter().flatten().any(requests) {
        return;
    }
    // An extended resource's limit is its request (Kubernetes, "Extended resources").
    for kind in ["requests", "limits"] {
        containers[0]["resources"][kind][name] = quantity.clone();
    }
}

/// Confines a pod to `zones`, in each of the alternatives its affinity has.
fn confine(affinity: &mut Value, zones: &[ZoneId]) {
    let zones: Vec<&str> = zones.iter().map(ZoneId::as_str).collect();
    let condition = json!({"key": keys::ZONE, "operator": "In", "values": zones});
    let required = &mut affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = &mut required["nodeSelectorTerms"];
    let Some(alternatives) = terms.as_array_mut().filter(|all| !all.is_empty()) else {
        *terms = json!([{"matchExpressions": [condition]}]);
        return;
    };
    for term in alternatives {
        let empty = |name: &str| term[name].as_array().is_none_or(Vec::is_empty);
        // A term without conditions selects no node, and must not begin to.
        if empty("matchExpressions") && empty("matchFields") {
            continue;
        }
        let conditions = &mut term["matchExpressions"];
        match conditions.as_array_mut() {
            Some(all) if all.contains(&condition) => {}
            Some(all) => all.push(condition.clone()),
            None => *conditions = json!([condition]),
        }
    }
}
