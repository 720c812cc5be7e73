//! Tells the cluster of the node's trunk: its id, by which the control plane binds pods to the node, and
//! how many ENIs it takes, which the scheduler counts by.
//!
//! Both are the node's own words about itself, so what somebody else writes there is put right: kubelet
//! sets extended resources to zero when it starts (Kubernetes, "Advertise Extended Resources for a Node").

use std::time::Duration;

use crd::keys;
use engine::node::Trunk;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cause::chain;

/// How often what stands there is looked at. While it is wrong no trunk pod is scheduled to the node, or
/// one too many; a node asks once a minute.
const PERIOD: Duration = Duration::from_secs(60);

/// How soon it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What one round may take.
const BUDGET: Duration = Duration::from_secs(20);

/// What the cluster is to know of the node's trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Pods of the node have or may have ENIs of their own.
    pub(crate) wanted: bool,
    /// What there is.
    pub(crate) trunk: Trunk,
    /// ENIs of pods that a trunk of this instance type takes.
    pub(crate) members: u32,
    /// ENIs that the pool leaves to pods which take a whole one.
    pub(crate) enis: u32,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            wanted: false,
            trunk: Trunk::Unknown,
            members: 0,
            enis: 0,
        }
    }
}

/// Why the cluster does not know of the trunk.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error("reading node {0}")]
    Read(String, #[source] kube::Error),
    #[error("annotating node {0} with its trunk ENI; the agent's role needs patch on nodes")]
    Annotate(String, #[source] kube::Error),
    #[error(
        "setting {members} and {whole} of node {0}; the agent's role needs patch on nodes/status",
        members = keys::MEMBER_ENI,
        whole = keys::ENI
    )]
    Advertise(String, #[source] kube::Error),
    #[error("no answer of the API server within {BUDGET:?}")]
    Late,
}

/// Keeps annotation and capacity of the node right for ever.
pub(crate) async fn keep(client: Client, node: String, mut seen: watch::Receiver<Seen>) {
    let nodes: Api<Node> = Api::all(client);
    let mut complaint = String::new();
    loop {
        let now = seen.borrow_and_update().clone();
        let told = match tokio::time::timeout(BUDGET, tell(&nodes, &node, &now)).await {
            Ok(told) => told,
            Err(_) => Err(TellError::Late),
        };
        let again = match (told, &now.trunk) {
            (Err(error), _) => {
                let text = chain(&error);
                if text != complaint {
                    tracing::warn!(error = text, "telling the cluster of the trunk ENI");
                    complaint = text;
                }
                Some(RETRY)
            }
            (Ok(()), Trunk::Attached(_)) => Some(PERIOD),
            (Ok(()), _) if now.enis > 0 => Some(PERIOD),
            // A node that never offered any has nothing that could become wrong again.
            (Ok(()), Trunk::Unknown | Trunk::Absent) => None,
        };
        if again != Some(RETRY) {
            complaint.clear();
        }
        let changed = match again {
            Some(period) => match tokio::time::timeout(period, seen.changed()).await {
                Ok(changed) => changed,
                Err(_) => Ok(()),
            },
            None => seen.changed().await,
        };
        // The driver is gone only when the agent ends.
        if changed.is_err() {
            return;
        }
    }
}

async fn tell(nodes: &Api<Node>, name: &str, seen: &Seen) -> Result<(), TellError> {
    if seen.trunk == Trunk::Unknown {
        return Ok(());
    }
    let node = nodes.get(name).await;
    let node = node.map_err(|error| TellError::Read(name.into(), error))?;
    let Corrections { metadata, status } = corrections(&node, seen);
    let parameters = PatchParams::default();
    // What is offered leads somewhere: first the trunk, then how many it takes.
    if let Some(patch) = metadata {
        tracing::info!(%patch, "telling the cluster of the trunk ENI");
        let patched = nodes.patch(name, &parameters, &Patch::Merge(patch)).await;
        patched.map_err(|error| TellError::Annotate(name.into(), error))?;
    }
    if let Some(patch) = status {
        tracing::info!(%patch, "telling the cluster of the trunk ENI");
        let patch = Patch::Merge(patch);
        let patched = nodes.patch_status(name, &parameters, &patch).await;
        patched.map_err(|error| TellError::Advertise(name.into(), error))?;
    }
    Ok(())
}

/// Merge patches (RFC 7396) that put a node right.
#[derive(Debug, PartialEq)]
struct Corrections {
    metadata: Option<Value>,
    status: Option<Value>,
}

fn corrections(node: &Node, seen: &Seen) -> Corrections {
    let annotations = node.metadata.annotations.as_ref();
    let annotated = annotations.and_then(|all| all.get(keys::TRUNK_ON));
    let capacity = node.status.as_ref().and_then(|it| it.capacity.as_ref());
    let offered = capacity.and_then(|all| all.get(keys::MEMBER_ENI));
    let (trunk, members) = match &seen.trunk {
        Trunk::Attached(eni) => (Some(eni.as_str()), Some(seen.members)),
        // Whoever never offered any need not say that there are none.
        Trunk::Unknown | Trunk::Absent => (None, offered.map(|_| 0)),
    };
    let wrong = annotated.map(String::as_str) != trunk;
    let metadata =
        wrong.then(|| json!({ "metadata": { "annotations": { keys::TRUNK_ON: trunk } } }));
    let whole = capacity.and_then(|all| all.get(keys::ENI));
    let enis = (seen.enis > 0 || whole.is_some()).then_some(seen.enis);
    let mut wrong = serde_json::Map::new();
    for (key, count, offered) in [
        (keys::MEMBER_ENI, members, offered),
        (keys::ENI, enis, whole),
    ] {
        let count = count.map(|count| count.to_string());
        let count = count.filter(|count| offered.is_none_or(|offered| offered.0 != *count));
        wrong.extend(count.map(|count| (key.to_owned(), count.into())));
    }
    let status = (!wrong.is_empty()).then(|| json!({ "status": { "capacity": wrong } }));
    Corrections { metadata, status }
}

#[cfg(test)]
mod tests {
    use model::EniId;

    use super::*;

    #[test]
    fn only_what_is_wrong_is_put_right() {
        let right = json!({ "metadata": { "annotations": { "k8s.aliyun.com/trunk-on": "eni-1" } },
            "status": { "capacity": { "aliyun/member-eni": "10" } } });
        let fresh = json!({});
        // As kubelet leaves it when it starts.
        let reset = json!({ "metadata": right["metadata"],
            "status": { "capacity": { "aliyun/member-eni": "0" } } });
        let attached = || Trunk::Attached(EniId::new("eni-1").unwrap());
        let on = |trunk: Value| json!({ "metadata": { "annotations": { "k8s.aliyun.com/trunk-on": trunk } } });
        let has = |count: &str| json!({ "status": { "capacity": { "aliyun/member-eni": count } } });
        let cases = [
            (&right, attached(), None, None),
            (
                &fresh,
                attached(),
                Some(on("eni-1".into())),
                Some(has("10")),
            ),
            (&reset, attached(), None, Some(has("10"))),
            (&right, Trunk::Absent, Some(on(Value::Null)), Some(has("0"))),
            (&fresh, Trunk::Absent, None, None),
            (&reset, Trunk::Absent, Some(on(Value::Null)), None),
        ];
        let offered = |node: Value, enis| {
            let node: Node = serde_json::from_value(node).unwrap();
            let seen = Seen {
                enis,
                ..Seen::default()
            };
            corrections(&node, &seen).status
        };
        let whole = |count: &str| json!({ "status": { "capacity": { "aliyun/eni": count } } });
        assert_eq!(offered(json!({}), 0), None);
        assert_eq!(offered(json!({}), 3), Some(whole("3")));
        assert_eq!(offered(whole("3"), 3), None);
        assert_eq!(offered(whole("3"), 0), Some(whole("0")));
        for (node, trunk, metadata, status) in cases {
            let node: Node = serde_json::from_value(node.clone()).unwrap();
            let seen = Seen {
                wanted: true,
                trunk,
                members: 10,
                enis: 0,
            };
            let expected = Corrections { metadata, status };
            assert_eq!(corrections(&node, &seen), expected, "{node:?} {seen:?}");
        }
    }
}
