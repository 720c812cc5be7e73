//! The machine itself, without a socket or a clock.

mod deletion;
mod history;
mod malformed;
mod scheduling;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use terway_kubesim::{
    ApiError, ChangeKind, Cluster, DeleteOptions, Deleted, HISTORY_LIMIT, ListQuery, Part, Patch,
    Resource, Selector, Target, UnixTime,
    registry::{CONFIG_MAPS, EVENTS_V1, NAMESPACES, NODES, PODS},
    schedule,
};

pub(crate) const NOW: UnixTime = Duration::from_secs(1_795_000_000);

pub(crate) fn cluster() -> Cluster {
    Cluster::new(7, NOW)
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "web:1" }] },
    })
}

pub(crate) fn bound(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["nodeName"] = "node-a".into();
    pod
}

pub(crate) fn at<'a>(resource: &'static Resource, name: &'a str) -> Target<'a> {
    let namespace = if resource.namespaced { "default" } else { "" };
    Target {
        resource,
        namespace,
        name,
    }
}

pub(crate) fn create(
    cluster: &mut Cluster,
    resource: &'static Resource,
    body: Value,
) -> Arc<Value> {
    let namespace = if resource.namespaced { "default" } else { "" };
    cluster
        .create(NOW, resource, namespace, body)
        .expect("created")
}

pub(crate) fn patch(
    cluster: &mut Cluster,
    target: Target<'_>,
    patch: Patch,
) -> Result<Arc<Value>, ApiError> {
    cluster
        .patch(NOW, target, Part::Whole, &patch)
        .map(terway_kubesim::Written::into_object)
}

pub(crate) fn kinds(
    cluster: &Cluster,
    resource: &'static Resource,
    selector: &str,
    since: u64,
) -> Vec<ChangeKind> {
    let selector = Selector::parse(resource, selector, "").expect("selector");
    let batch = cluster
        .events_since(resource, "default", &selector, since, 1_000)
        .expect("events");
    batch.events.iter().map(|event| event.kind).collect()
}
