//! Writes a node's condition NetworkUnavailable, for which the scheduler keeps pods away from a node.

use k8s_openapi::{api::core::v1::Node, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::cause::of_kube;

/// Says whether the network of `node` can be reached, and if not why.
///
/// # Errors
/// What the API server said.
pub(super) async fn write(
    kube: Client,
    node: &str,
    outcome: Result<(), String>,
) -> Result<(), String> {
    let (status, reason, message) = match outcome {
        Ok(()) => (
            "False",
            "RouteCreated",
            "the VPC's route table leads to its pods".into(),
        ),
        Err(why) => ("True", "NoRouteCreated", why),
    };
    let now = Time(Timestamp::now());
    // Merged by type: the other conditions are kubelet's.
    let patch = json!({ "status": { "conditions": [{
        "type": "NetworkUnavailable", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    }] } });
    let nodes: Api<Node> = Api::all(kube);
    let written = nodes
        .patch_status(node, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    written.map(drop).map_err(|error| of_kube(&error))
}
