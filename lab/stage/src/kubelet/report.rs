//! What a kubelet tells the API server: a pod's status and end, what went wrong, that it is alive.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Event, Node, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use kubesim::time::{rfc3339, rfc3339_micro};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Kubelet;

/// How often the lease is renewed, and how long it holds: kubelet's defaults.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: u32 = 40;
/// Pause before something the API server refused is tried again.
const AGAIN: Duration = Duration::from_millis(500);

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn pods(kubelet: &Kubelet, pod: &Pod) -> Api<Pod> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced(kubelet.client.clone(), namespace)
}

/// The pod runs, with these addresses.
pub(super) async fn running(
    kubelet: &Kubelet,
    pod: &Pod,
    addresses: Vec<String>,
    restarts: u32,
) -> Result<()> {
    let at = rfc3339(now());
    let ready = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
    ];
    let conditions = ready.map(
        |kind| json!({ "type": kind, "status": "True", "lastTransitionTime": at, "lastProbeTime": null }),
    );
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let containers = containers.map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "",
            "containerID": format!("lab://{}", pod.metadata.uid.as_deref().unwrap_or_default()),
            "ready": true, "started": true, "restartCount": restarts,
            "state": { "running": { "startedAt": at } },
        })
    });
    let host = kubelet.address.to_string();
    let status = json!({
        // The UID makes this fail for a later pod of the same name.
        "metadata": { "uid": pod.metadata.uid },
        "status": {
            "phase": "Running",
            "hostIP": host, "hostIPs": [{ "ip": host }],
            "podIP": addresses.first(),
            "podIPs": addresses.iter().map(|ip| json!({ "ip": ip })).collect::<Vec<_>>(),
            "startTime": at,
            "conditions": conditions,
            "containerStatuses": containers.collect::<Vec<_>>(),
        },
    });
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let patch = Patch::Strategic(status);
    let patched = pods(kubelet, pod)
        .patch_status(name, &PatchParams::default(), &patch)
        .await;
    // A pod that was removed by force meanwhile has nobody to report to.
    match patched {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 || refusal.code == 409 => Ok(()),
        other => other
            .map(drop)
            .with_context(|| format!("cannot report that pod {name} runs")),
    }
}

/// Nothing of the pod is left on the node: its object may go.
pub(super) async fn finished(kubelet: &Kubelet, pod: &Pod) -> Result<()> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let options = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match pods(kubelet, pod).delete(name, &options).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 || refusal.code == 409 => Ok(()),
        other => other
            .map(drop)
            .with_context(|| format!("cannot delete pod {name}")),
    }
}

/// A sandbox could not be made.
pub(super) async fn failed_sandbox(kubelet: &Kubelet, pod: &Pod, why: &str) {
    let message = format!("Failed to create pod sandbox: rpc error: code = Unknown desc = {why}");
    warn(kubelet, pod, "FailedCreatePodSandBox", &message).await;
}

/// A sandbox could not be removed.
pub(super) async fn failed_removal(kubelet: &Kubelet, pod: &Pod, why: &str) {
    let message = format!("error killing pod: failed to \"KillPodSandbox\": {why}");
    warn(kubelet, pod, "FailedKillPod", &message).await;
}

async fn warn(kubelet: &Kubelet, pod: &Pod, reason: &str, message: &str) {
    let meta = &pod.metadata;
    let (name, namespace) = (meta.name.as_deref(), meta.namespace.as_deref());
    let at = now();
    let event = json!({
        "metadata": {
            "name": format!("{}.{:x}", name.unwrap_or_default(), at.as_nanos()),
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod",
            "namespace": namespace, "name": name, "uid": meta.uid,
        },
        "type": "Warning", "reason": reason, "message": message,
        "source": { "component": "kubelet", "host": kubelet.node },
        "reportingComponent": "kubelet", "reportingInstance": kubelet.node,
        "firstTimestamp": rfc3339(at), "lastTimestamp": rfc3339(at), "count": 1,
    });
    let events: Api<Event> = Api::namespaced(kubelet.client.clone(), namespace.unwrap_or_default());
    let made = match serde_json::from_value(event) {
        Ok(event) => events
            .create(&PostParams::default(), &event)
            .await
            .map_err(Into::into),
        Err(error) => Err(anyhow::Error::from(error)),
    };
    if let Err(error) = made {
        tracing::warn!(
            error = format!("{error:#}"),
            reason,
            "an event was not recorded"
        );
    }
}

/// Says that the node is ready, and then, for ever, that it is alive.
pub(super) async fn heartbeat(kubelet: Arc<Kubelet>) {
    while let Err(error) = ready(&kubelet).await {
        tracing::warn!(
            error = format!("{error:#}"),
            "the node is not reported ready"
        );
        sleep(AGAIN).await;
    }
    loop {
        if let Err(error) = renew(&kubelet).await {
            tracing::warn!(
                error = format!("{error:#}"),
                "the node's lease is not renewed"
            );
        }
        sleep(HEARTBEAT).await;
    }
}

async fn ready(kubelet: &Kubelet) -> Result<()> {
    let at = rfc3339(now());
    let status: Value = json!({ "status": { "conditions": [{
        "type": "Ready", "status": "True", "reason": "KubeletReady",
        "message": "the network is configured",
        "lastHeartbeatTime": at, "lastTransitionTime": at,
    }] } });
    let nodes: Api<Node> = Api::all(kubelet.client.clone());
    let patch = Patch::Strategic(status);
    nodes
        .patch_status(&kubelet.node, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn renew(kubelet: &Kubelet) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(kubelet.client.clone(), "kube-node-lease");
    let lease = json!({
        "metadata": { "name": kubelet.node, "namespace": "kube-node-lease" },
        "spec": {
            "holderIdentity": kubelet.node,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": rfc3339_micro(now()),
        },
    });
    let patch = Patch::Merge(&lease);
    match leases
        .patch(&kubelet.node, &PatchParams::default(), &patch)
        .await
    {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => {
            leases
                .create(&PostParams::default(), &serde_json::from_value(lease)?)
                .await?;
        }
        other => drop(other?),
    }
    Ok(())
}
