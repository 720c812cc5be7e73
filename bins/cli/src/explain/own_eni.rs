//! What is known about the ENIs of a pod's own: its PodENI, and the control plane that makes them. Gathers
//! nothing and concludes nothing.

use crd::keys;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node as NodeObject, Pod as PodObject},
};

use crate::cluster::Seen;

/// The control plane's Deployment.
pub(super) const CONTROL_PLANE: &str = "terway-controlplane";

/// What there is for a pod that gets ENIs of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnEni {
    /// Its PodENI.
    pub(crate) record: Seen<Record>,
    pub(crate) control_plane: Seen<ControlPlane>,
    /// Whether its node has a trunk ENI.
    pub(crate) trunk: Seen<bool>,
}

/// A PodENI.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Record {
    /// Empty when just made.
    pub(crate) phase: String,
    /// What the control plane waits for.
    pub(crate) message: String,
    pub(crate) deleting: bool,
    /// The UID of the pod it serves.
    pub(crate) pod_uid: String,
}

/// The replicas of the control plane.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ControlPlane {
    pub(crate) wanted: i32,
    pub(crate) ready: i32,
}

/// Whether the webhook gave the pod ENIs of its own.
pub(super) fn is_wanted(pod: &PodObject) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations
        .and_then(|all| all.get(keys::POD_ENI))
        .map(String::as_str)
        == Some("true")
}

/// Whether the node has said that it has a trunk ENI.
pub(super) fn has_trunk(node: &NodeObject) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(keys::TRUNK_ON))
}

impl Record {
    pub(super) fn of(object: &crd::PodEni) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let annotations = object.metadata.annotations.as_ref();
        Self {
            phase: status.phase,
            message: status.msg,
            deleting: object.metadata.deletion_timestamp.is_some(),
            pod_uid: annotations
                .and_then(|all| all.get(keys::POD_UID))
                .cloned()
                .unwrap_or_default(),
        }
    }

    /// Whether the ENIs are on the node, for the pod with `uid`.
    pub(super) fn is_bound_for(&self, uid: &str) -> bool {
        self.phase == "Bind" && !self.deleting && self.pod_uid == uid
    }
}

impl ControlPlane {
    pub(super) fn of(object: &Deployment) -> Self {
        let status = object.status.clone().unwrap_or_default();
        Self {
            wanted: object
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
            ready: status.ready_replicas.unwrap_or_default(),
        }
    }
}
