//! What goes into the archive: asked for with deadlines and bounds, written down with no judgement.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{ConfigMap, Event, Pod},
};
use kube::{
    Api,
    api::{ListParams, LogParams},
};
use model::PodKey;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};
use wire::message::Verb;

use super::{
    Gathered, RECORDING,
    archive::{ARCHIVE_BYTES_MAX, FILE_BYTES_MAX},
};
use crate::{
    agent,
    cluster::{
        AGENT_CONTAINER, COMMANDS_AT_ONCE, CONFIGMAP, Cluster, DAEMONSET, INSTALL_CONTAINER, Seen,
        in_time, name,
    },
    status::nodes::{self, NodeRow},
};

/// Pods that are explained: one of a kind says as much as a hundred of them.
const EXPLAINED_MAX: usize = 20;

/// This node's agent, asked over its socket.
pub(super) fn here(socket: &Path, gathered: &mut Gathered) {
    let view = agent::ask(socket, Verb::View).map_err(|silence| silence.to_string());
    gathered.answer(
        "this-node/status.json",
        view.map(|document| pretty(&document)),
    );
    let recording = crate::dump::here(socket).map_err(|silence| silence.to_string());
    gathered.answer(&format!("this-node/{RECORDING}"), recording);
}

/// Everything the cluster tells.
pub(super) async fn cluster(cluster: &Cluster, nodes_max: usize, gathered: &mut Gathered) {
    objects(cluster, gathered).await;
    let rows = match nodes::gather(cluster).await {
        Ok(rows) => rows,
        Err(error) => {
            return gathered
                .left_out
                .push(format!("the nodes' agents: {error:#}"));
        }
    };
    let now = crate::agent::now_seconds();
    let table = nodes::table(&rows, now, crate::text::Paint::none());
    gathered.add("nodes.txt", table);
    let mut asked: Vec<&NodeRow> = rows.iter().collect();
    asked.sort_by_key(|row| row.wrong(now).is_none());
    if let Some(rest) = asked.get(nodes_max..).filter(|rest| !rest.is_empty()) {
        let rest = rest.len();
        gathered.left_out.push(format!(
            "{rest} nodes beyond the first {nodes_max} (--nodes)"
        ));
    }
    asked.truncate(nodes_max);
    for row in &asked {
        let path = format!("nodes/{}/status.json", row.node);
        gathered.answer(&path, row.answer.as_ref().map(pretty).map_err(Clone::clone));
    }
    recordings(cluster, &asked, gathered).await;
    logs(cluster, &asked, gathered).await;
    explanations(cluster, gathered).await;
}

fn pretty(document: &Value) -> String {
    serde_json::to_string_pretty(document).unwrap_or_default()
}

/// The objects around the agents, as JSON.
async fn objects(cluster: &Cluster, gathered: &mut Gathered) {
    let client = || cluster.client.clone();
    let sets: Api<DaemonSet> = Api::namespaced(client(), &cluster.namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client(), &cluster.namespace);
    let (set, map) = tokio::join!(
        cluster.look(&sets, DAEMONSET),
        cluster.look(&maps, CONFIGMAP)
    );
    gathered.answer("daemonset.json", written(set));
    gathered.answer("eni-config.json", written(map));
    gathered.answer("nodes.json", listed(cluster.nodes().await));
    gathered.answer("agent-pods.json", listed(cluster.agents(None).await));
    let events: Api<Event> = Api::all(client());
    let about_terway = cluster
        .list(&events, ListParams::default())
        .await
        .map(|mut list| {
            list.retain(is_ours);
            list
        });
    gathered.answer("events.json", listed(about_terway));
}

/// Whether an event is about what this software does: its own, and those about sandboxes and nodes.
fn is_ours(event: &Event) -> bool {
    let source = event
        .source
        .as_ref()
        .and_then(|source| source.component.as_deref());
    let reporter = event.reporting_component.as_deref();
    let ours = [source, reporter]
        .into_iter()
        .flatten()
        .any(|who| who.contains("terway"));
    let reason = event.reason.as_deref().unwrap_or_default();
    let object = &event.involved_object;
    ours || reason == "FailedCreatePodSandBox"
        || object.kind.as_deref() == Some("Node")
        || object
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with(DAEMONSET))
}

fn written<T: serde::Serialize>(seen: Seen<T>) -> Result<String, String> {
    match seen {
        Seen::Is(object) => {
            serde_json::to_string_pretty(&object).map_err(|error| error.to_string())
        }
        Seen::Absent | Seen::Pointless => Err("it does not exist".into()),
        Seen::Unknown(why) => Err(why),
    }
}

fn listed<T: serde::Serialize>(list: anyhow::Result<Vec<T>>) -> Result<String, String> {
    let list = list.map_err(|error| format!("{error:#}"))?;
    serde_json::to_string_pretty(&list).map_err(|error| error.to_string())
}

/// What the agents recorded of themselves.
async fn recordings(cluster: &Cluster, rows: &[&NodeRow], gathered: &mut Gathered) {
    let gate = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for row in rows {
        let Some(pod) = row.pod.clone() else { continue };
        let (cluster, gate) = (cluster.clone(), Arc::clone(&gate));
        let path = format!("nodes/{}/{RECORDING}", row.node);
        tasks.spawn(async move {
            let _permit = gate.acquire_owned().await;
            (path, crate::dump::there(&cluster, &pod).await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((path, text)) = done {
            gathered.answer(&path, text);
        }
    }
}

/// The agents' logs, of the present and the former container.
async fn logs(cluster: &Cluster, rows: &[&NodeRow], gathered: &mut Gathered) {
    let gate = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for row in rows {
        let Some(pod) = row.pod.clone() else { continue };
        for (file, container, previous) in [
            ("agent.log", AGENT_CONTAINER, false),
            ("agent-previous.log", AGENT_CONTAINER, true),
            ("install.log", INSTALL_CONTAINER, false),
        ] {
            let (api, gate, pod) = (cluster.pods(), Arc::clone(&gate), pod.clone());
            let path = format!("nodes/{}/{file}", row.node);
            tasks.spawn(async move {
                let _permit = gate.acquire_owned().await;
                (path, previous, log(&api, &pod, container, previous).await)
            });
        }
    }
    let mut bytes = 0;
    while let Some(done) = tasks.join_next().await {
        let Ok((path, previous, text)) = done else {
            continue;
        };
        bytes += text.as_ref().map_or(0, String::len);
        match text {
            // A container that never ended has no former log; that is nothing left out.
            Err(why) if previous && why.contains("not found") => {}
            Ok(_) if bytes > ARCHIVE_BYTES_MAX => {
                gathered
                    .left_out
                    .push(format!("{path}: the archive is full"));
            }
            text => gathered.answer(&path, text),
        }
    }
}

async fn log(api: &Api<Pod>, pod: &str, container: &str, previous: bool) -> Result<String, String> {
    /// Lines asked for: at about 200 bytes each they fill one file.
    const LINES: i64 = (FILE_BYTES_MAX / 200) as i64;
    let question = LogParams {
        container: Some(container.into()),
        previous,
        tail_lines: Some(LINES),
        timestamps: true,
        // Lines may be long: this bounds what is read whatever they hold.
        limit_bytes: Some(2 * FILE_BYTES_MAX as i64),
        ..LogParams::default()
    };
    in_time(api.logs(pod, &question)).await
}

/// What there is to say about pods that have no address.
async fn explanations(cluster: &Cluster, gathered: &mut Gathered) {
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let pending = ListParams::default().fields("status.phase=Pending");
    let pending = match cluster.list(&pods, pending).await {
        Ok(list) => list,
        Err(error) => return gathered.left_out.push(format!("pods that wait: {error:#}")),
    };
    let waiting: BTreeSet<PodKey> = pending
        .iter()
        .filter(|pod| waits(pod))
        .filter_map(key)
        .collect();
    if waiting.len() > EXPLAINED_MAX {
        let rest = waiting.len() - EXPLAINED_MAX;
        gathered
            .left_out
            .push(format!("explanations of {rest} more pods that wait"));
    }
    for pod in waiting.into_iter().take(EXPLAINED_MAX) {
        let page = crate::explain::of(cluster, &pod).await;
        gathered.add(format!("pods/{}-{}.txt", pod.namespace, pod.name), page);
    }
}

fn waits(pod: &Pod) -> bool {
    let facts = crate::explain::facts::Pod::of(pod);
    facts.node.is_some() && facts.addresses.is_empty() && !facts.host_network
}

fn key(pod: &Pod) -> Option<PodKey> {
    PodKey::new(pod.metadata.namespace.clone()?, name(pod)).ok()
}
