//! Asks everybody who may know something about the pod, each within a deadline. What is refused or not
//! answered is written down as such; nothing is concluded here.

use std::path::Path;

use crd::PodEni;
use k8s_openapi::api::{
    apps::v1::{DaemonSet as DaemonSetObject, Deployment},
    core::v1::{ConfigMap, Event as EventObject, Node as NodeObject, Pod as PodObject},
};
use kube::{Api, api::ListParams};
use model::PodKey;
use serde_json::Value;
use wire::message::Verb;

use super::{
    facts::{self, AgentPod, DaemonSet, Facts, Node, Pod},
    own_eni::{self, ControlPlane, OwnEni, Record},
};
use crate::{
    agent::{self, Explanation},
    cluster::{CONFIGMAP, Cluster, DAEMONSET, Seen},
    status::document::Status,
};

/// Why nobody asked about a node.
const HOMELESS: &str = "which node it is on is not known";

/// What this node's agent says.
struct Local {
    explanation: Seen<Explanation>,
    status: Option<Status>,
}

/// Everything that can be found out about `pod`. `cluster` is missing with the reason.
pub(crate) async fn gather(pod: &PodKey, socket: &Path, cluster: Result<Cluster, String>) -> Facts {
    let local = socket.exists().then(|| ask_here(socket, pod));
    let mut facts = match &cluster {
        // Boxed, as is the next: together they would be 16 KiB in every caller's own future.
        Ok(cluster) => Box::pin(ask_cluster(cluster, pod)).await,
        Err(why) => nothing(pod, why),
    };
    let node = facts.pod.is().and_then(|pod| pod.node.clone());
    match (local, cluster) {
        (Some(local), _) if is_here(&local, node.as_deref()) => {
            facts.agent = local.explanation;
            facts.status = local.status;
        }
        (_, Ok(cluster)) => Box::pin(ask_there(&cluster, pod, &mut facts)).await,
        (_, Err(why)) => facts.agent = Seen::Unknown(why),
    }
    facts
}

/// Whether this node's agent is the one to ask: the pod is on this node, or nobody says where it is.
fn is_here(local: &Local, node: Option<&str>) -> bool {
    let own = local
        .status
        .as_ref()
        .and_then(|status| status.agent.node.clone());
    let own = own.or_else(|| std::env::var("NODE_NAME").ok());
    match (node, own) {
        (Some(node), Some(own)) => node == own,
        _ => true,
    }
}

fn nothing(pod: &PodKey, why: &str) -> Facts {
    Facts {
        name: pod.to_string(),
        pod: Seen::Unknown(why.into()),
        node: Seen::Unknown(why.into()),
        agent_pod: Seen::Unknown(why.into()),
        daemonset: Seen::Unknown(why.into()),
        config: Seen::Unknown(why.into()),
        events: Seen::Unknown(why.into()),
        agent: Seen::Pointless,
        status: None,
        own_eni: None,
    }
}

fn ask_here(socket: &Path, pod: &PodKey) -> Local {
    let explanation = match agent::explain(socket, pod) {
        Ok(document) => read(&document),
        Err(silence) => Seen::Unknown(silence.to_string()),
    };
    let view = agent::ask(socket, Verb::View).ok();
    Local {
        explanation,
        status: view.and_then(|document| Status::read(&document).ok()),
    }
}

fn read(document: &Value) -> Seen<Explanation> {
    match serde_json::from_value(document.clone()) {
        Ok(explanation) => Seen::Is(explanation),
        Err(error) => Seen::Unknown(format!("its answer cannot be read: {error}")),
    }
}

async fn ask_cluster(cluster: &Cluster, key: &PodKey) -> Facts {
    let client = || cluster.client.clone();
    let pods: Api<PodObject> = Api::namespaced(client(), &key.namespace);
    let sets: Api<DaemonSetObject> = Api::namespaced(client(), &cluster.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client(), &cluster.namespace);
    let (pod, set, map, events) = tokio::join!(
        cluster.look(&pods, &key.name),
        cluster.look(&sets, DAEMONSET),
        cluster.look(&maps, CONFIGMAP),
        events_of(cluster, key),
    );
    let wanted = pod.is().is_some_and(own_eni::is_wanted);
    let pod = pod.map(|object| Pod::of(&object));
    let uid = pod.is().map(|pod| pod.uid.clone());
    let node = pod.is().and_then(|pod| pod.node.clone());
    let (node, agent_pod) = match (node, pod.is()) {
        (Some(node), _) => {
            let nodes: Api<NodeObject> = Api::all(client());
            tokio::join!(cluster.look(&nodes, &node), agent_of(cluster, &node))
        }
        // A pod that is not bound to a node is an answer and no gap in what is known.
        (None, Some(_)) => (Seen::Pointless, Seen::Pointless),
        (None, None) => (
            Seen::Unknown(HOMELESS.into()),
            Seen::Unknown(HOMELESS.into()),
        ),
    };
    let own_eni = match wanted {
        true => Some(Box::pin(ask_own_eni(cluster, key, &node)).await),
        false => None,
    };
    Facts {
        name: key.to_string(),
        node: node.map(|object| Node::of(&object)),
        agent_pod: agent_pod.map(|object| AgentPod::of(&object)),
        daemonset: set.map(|object| DaemonSet::of(&object)),
        config: map.map(|object| facts::config(&object)),
        events: events.map(|list| facts::events(&list, uid.as_deref())),
        agent: Seen::Pointless,
        status: None,
        own_eni,
        pod,
    }
}

async fn ask_own_eni(cluster: &Cluster, key: &PodKey, node: &Seen<NodeObject>) -> OwnEni {
    let records: Api<PodEni> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let (record, control_plane) = tokio::join!(
        cluster.look(&records, &key.name),
        cluster.look(&deployments, own_eni::CONTROL_PLANE),
    );
    OwnEni {
        record: record.map(|object| Record::of(&object)),
        control_plane: control_plane.map(|object| ControlPlane::of(&object)),
        trunk: node
            .is()
            .map_or(Seen::Pointless, |node| Seen::Is(own_eni::has_trunk(node))),
    }
}

async fn events_of(cluster: &Cluster, key: &PodKey) -> Seen<Vec<EventObject>> {
    let api: Api<EventObject> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let fields = format!(
        "involvedObject.kind=Pod,involvedObject.namespace={},involvedObject.name={}",
        key.namespace, key.name
    );
    match cluster
        .list(&api, ListParams::default().fields(&fields))
        .await
    {
        Ok(list) => Seen::Is(list),
        Err(error) => Seen::Unknown(format!("{error:#}")),
    }
}

async fn agent_of(cluster: &Cluster, node: &str) -> Seen<PodObject> {
    match cluster.agents(Some(node)).await {
        Err(error) => Seen::Unknown(format!("{error:#}")),
        Ok(mut pods) => {
            // During an update the old pod and the new one are both there.
            pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
            pods.into_iter().next().map_or(Seen::Absent, Seen::Is)
        }
    }
}

/// Asks the agent of the pod's node by way of the API server.
async fn ask_there(cluster: &Cluster, pod: &PodKey, facts: &mut Facts) {
    let agent = match &facts.agent_pod {
        Seen::Is(agent) if agent.running => agent.name.clone(),
        // That it is not there or does not run is an answer of its own.
        Seen::Is(_) | Seen::Absent | Seen::Pointless => return,
        Seen::Unknown(why) => {
            facts.agent = Seen::Unknown(why.clone());
            return;
        }
    };
    let key = pod.to_string();
    let question = ["ask", key.as_str()];
    let (explanation, status) = tokio::join!(
        cluster.command(&agent, &question),
        cluster.command(&agent, &["status", "--json"]),
    );
    facts.agent = match explanation {
        Err(why) => Seen::Unknown(why),
        Ok(text) => match serde_json::from_str(&text) {
            Ok(document) => read(&document),
            Err(error) => Seen::Unknown(format!("its answer is no JSON: {error}")),
        },
    };
    let status = status
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok());
    facts.status = status.and_then(|document: Value| Status::read(&document).ok());
}
