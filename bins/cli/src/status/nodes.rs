//! All nodes in one table: a node that does not answer is a row that says so.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};

use super::document::Status;
use crate::{
    cluster::{COMMANDS_AT_ONCE, Cluster, name},
    text::{Paint, Tone, count, foreign, table as text_table},
};

/// A node and what its agent says.
#[derive(Debug, Clone)]
pub(crate) struct NodeRow {
    pub(crate) node: String,
    /// The agent's pod, if there is one.
    pub(crate) pod: Option<String>,
    /// Its document, or why there is none.
    pub(crate) answer: Result<Value, String>,
}

impl NodeRow {
    /// The row as JSON.
    pub(crate) fn document(&self) -> Value {
        match &self.answer {
            Ok(status) => json!({ "node": self.node, "pod": self.pod, "status": status }),
            Err(why) => json!({ "node": self.node, "pod": self.pod, "error": why }),
        }
    }

    fn status(&self) -> Result<Status, String> {
        self.answer
            .as_ref()
            .map_err(Clone::clone)
            .and_then(Status::read)
    }

    /// What is wrong, the gravest first.
    pub(crate) fn wrong(&self, now: u64) -> Option<String> {
        match self.status() {
            Ok(status) => {
                let wrong = status.wrong(now);
                (!wrong.is_empty()).then(|| wrong.join("; "))
            }
            Err(why) => Some(why),
        }
    }
}

/// Asks every node's agent.
pub(crate) async fn gather(cluster: &Cluster) -> Result<Vec<NodeRow>> {
    let (nodes, pods) = tokio::try_join!(cluster.nodes(), cluster.agents(None))?;
    let placed = place(&nodes, &pods);
    let ask = |pod: String| {
        let cluster = cluster.clone();
        async move {
            let printed = cluster.command(&pod, &["status", "--json"]).await?;
            serde_json::from_str(&printed)
                .map_err(|error| format!("the answer is no JSON: {error}"))
        }
    };
    Ok(ask_all(placed, ask).await)
}

/// A node, its agent's pod, and why that cannot be asked.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    node: String,
    pod: Option<String>,
    trouble: Option<String>,
}

/// Each node with its agent's pod.
fn place(nodes: &[Node], pods: &[Pod]) -> Vec<Place> {
    let mut by_node: BTreeMap<&str, &Pod> = BTreeMap::new();
    for pod in pods {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) else {
            continue;
        };
        let kept = by_node.entry(node).or_insert(pod);
        if kept.metadata.deletion_timestamp.is_some() {
            *kept = pod;
        }
    }
    let mut placed: Vec<_> = nodes
        .iter()
        .map(|node| {
            let node = name(node);
            let pod = by_node.get(node.as_str());
            Place {
                trouble: match pod {
                    None => Some("no agent's pod on this node".to_owned()),
                    Some(pod) => trouble(pod),
                },
                pod: pod.map(|pod| name(*pod)),
                node,
            }
        })
        .collect();
    placed.sort();
    placed
}

/// Why nothing can be run in `pod`, if so.
fn trouble(pod: &Pod) -> Option<String> {
    let state = crate::explain::facts::AgentPod::of(pod);
    (!state.running).then(|| format!("the agent's pod does not run: {}", state.sentence()))
}

/// Asks where there is something to ask, a bounded number at once, and keeps the order.
async fn ask_all<F, Answer>(places: Vec<Place>, ask: F) -> Vec<NodeRow>
where
    F: Fn(String) -> Answer,
    Answer: Future<Output = Result<Value, String>> + Send + 'static,
{
    let gate = Arc::new(Semaphore::new(COMMANDS_AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut rows = Vec::new();
    for (index, place) in places.into_iter().enumerate() {
        if let (Some(pod), None) = (&place.pod, &place.trouble) {
            let (gate, answer) = (Arc::clone(&gate), ask(pod.clone()));
            tasks.spawn(async move {
                let _permit = gate.acquire_owned().await;
                (index, answer.await)
            });
        }
        rows.push(NodeRow {
            node: place.node,
            pod: place.pod,
            answer: Err(place.trouble.unwrap_or_else(|| "it was not asked".into())),
        });
    }
    while let Some(done) = tasks.join_next().await {
        if let Ok((index, answer)) = done
            && let Some(row) = rows.get_mut(index)
        {
            row.answer = answer;
        }
    }
    rows
}

/// The rows as people read them.
pub(crate) fn table(nodes: &[NodeRow], now: u64, paint: Paint) -> String {
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| cells(node, now)).collect();
    let head = [
        "NODE",
        "AGENT POD",
        "READY",
        "IDLE",
        "ASSIGNED",
        "RESTING",
        "WAITING",
        "WHAT IS WRONG",
    ];
    let body = text_table(paint, &head, &rows, |column, cell| match (column, cell) {
        (2, "yes") => Some(Tone::Good),
        (2, "no" | "?") | (7, _) => Some(Tone::Bad),
        (6, cell) if cell != "0" && cell != "-" => Some(Tone::Pending),
        _ => None,
    });
    let wrong = nodes
        .iter()
        .filter(|node| node.wrong(now).is_some())
        .count();
    let summary = match wrong {
        0 => format!("{}, nothing wrong", count(nodes.len(), "node")),
        wrong => format!(
            "{}, something is wrong on {wrong}",
            count(nodes.len(), "node")
        ),
    };
    format!("{body}\n{summary}")
}

fn cells(row: &NodeRow, now: u64) -> Vec<String> {
    let pod = row.pod.as_deref().map_or_else(|| "-".into(), foreign);
    let wrong = row
        .wrong(now)
        .map(|text| foreign(&text))
        .unwrap_or_default();
    let (ready, counts) = match row.status() {
        Err(_) => ("?", ["-"; 4].map(str::to_owned)),
        Ok(status) => {
            let ready = match status.agent.ready {
                Some(false) => "no",
                Some(true) => "yes",
                None => "-",
            };
            let counts = [status.idle, status.assigned, status.resting, status.waiting];
            (ready, counts.map(|count| count.to_string()))
        }
    };
    let mut cells = vec![foreign(&row.node), pod, ready.to_owned()];
    cells.extend(counts);
    cells.push(wrong);
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn placed(count: usize) -> Vec<Place> {
        let one = |n: usize| Place {
            node: format!("node-{n:03}"),
            pod: Some(format!("terway-{n}")),
            trouble: None,
        };
        (0..count).map(one).collect()
    }

    #[tokio::test]
    async fn as_many_are_asked_at_once_as_allowed_and_no_more() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let ask = |_| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Lets every other task that may run begin.
                for _ in 0..200 {
                    tokio::task::yield_now().await;
                }
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(json!({ "idle": 1 }))
            }
        };
        let rows = ask_all(placed(100), ask).await;
        assert_eq!(most.load(Ordering::SeqCst), COMMANDS_AT_ONCE);
        assert!(rows.iter().all(|row| row.answer.is_ok()));
        assert_eq!(rows[99].node, "node-099");
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_a_row_that_says_so() {
        let mut nodes = placed(3);
        nodes[1].pod = None;
        nodes[1].trouble = Some("no agent's pod on this node".into());
        let ask = |pod: String| async move {
            if pod == "terway-2" {
                Err("no answer within 15s".to_owned())
            } else {
                Ok(json!({ "idle": 2, "assigned": 1, "agent": { "ready": true } }))
            }
        };
        let rows = ask_all(nodes, ask).await;
        let shown = table(&rows, 0, Paint::none());
        assert_eq!(
            shown,
            "NODE      AGENT POD  READY  IDLE  ASSIGNED  RESTING  WAITING  WHAT IS WRONG\n\
             node-000  terway-0   yes    2     1         0        0\n\
             node-001  -          ?      -     -         -        -        no agent's pod on this node\n\
             node-002  terway-2   ?      -     -         -        -        no answer within 15s\n\
             3 nodes, something is wrong on 2"
        );
    }
}
