//! What the API server's nodes mean to the route machine.

use std::collections::BTreeMap;

use engine::route::RouteNode;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;

use super::Nodes;
use crate::told;

/// The scheme of the cloud's provider ids, where they have one.
const SCHEME: &str = "alicloud";

/// Labels a node must have for a route of ours; all nodes have none of none.
pub(crate) type Selector = BTreeMap<String, String>;

/// Where the watch of the nodes tells which of them need a route.
#[derive(Clone)]
pub(crate) struct Blocks {
    nodes: watch::Sender<Nodes>,
    selector: Selector,
}

impl Blocks {
    /// What it is told comes out of the receiver.
    pub(crate) fn new(selector: Selector) -> (Self, watch::Receiver<Nodes>) {
        let (nodes, told) = watch::channel(Nodes::new());
        (Self { nodes, selector }, told)
    }

    /// A node is there, like this.
    pub(crate) fn is(&self, node: &Node) {
        let Some(name) = node.metadata.name.clone() else {
            return;
        };
        match read(node, &self.selector) {
            Some(wanted) => self
                .nodes
                .send_if_modified(|all| all.insert(name, wanted.clone()).as_ref() != Some(&wanted)),
            None => self.gone(&name),
        };
    }

    /// A node is gone.
    pub(crate) fn gone(&self, name: &str) -> bool {
        self.nodes
            .send_if_modified(|all| all.remove(name).is_some())
    }
}

/// A node that has a block and an instance. IPv4 alone: pods of the mode have no other.
fn read(node: &Node, selector: &Selector) -> Option<RouteNode> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let chosen = selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let spec = node.spec.as_ref()?;
    let several = spec.pod_cidrs.iter().flatten();
    let mut blocks: Vec<IpNet> = several
        .chain(&spec.pod_cidr)
        .filter_map(|text| text.parse().ok())
        .filter(|block| matches!(block, IpNet::V4(_)))
        .collect();
    blocks.sort_unstable();
    blocks.dedup();
    let conditions = node
        .status
        .as_ref()?
        .conditions
        .as_deref()
        .unwrap_or_default();
    let unavailable = conditions
        .iter()
        .find(|it| it.type_ == "NetworkUnavailable");
    let provider = spec
        .provider_id
        .as_deref()
        .filter(|id| is_of_the_cloud(id))?;
    let instance = told::instance_id(provider)?;
    (chosen && !blocks.is_empty()).then(|| RouteNode {
        instance,
        blocks,
        unavailable: unavailable.map(|condition| condition.status != "False"),
    })
}

/// Whether a provider id is one of this cloud, `cn-hangzhou.i-1` with its scheme or none: a node from elsewhere in
/// the same cluster has no place in the VPC's route table, and its conditions are not ours to write.
fn is_of_the_cloud(provider: &str) -> bool {
    let id = match provider.split_once("://") {
        Some((scheme, id)) => Some(id).filter(|_| scheme == SCHEME),
        None => Some(provider),
    };
    id.is_some_and(|id| id.contains('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_needs_a_route_if_it_is_chosen_and_has_a_block() {
        let node = |spec: serde_json::Value, conditions: serde_json::Value| {
            let object = json!({
                "metadata": { "name": "n1", "labels": { "pool": "a" } },
                "spec": spec, "status": { "conditions": conditions },
            });
            serde_json::from_value::<Node>(object).expect("a node")
        };
        let whole = json!({ "providerID": "r.i-1", "podCIDR": "172.16.1.0/24",
            "podCIDRs": ["172.16.1.0/24", "fd00:1::/64"] });
        let down = json!([{ "type": "NetworkUnavailable", "status": "True" }]);
        let found = read(&node(whole.clone(), down), &Selector::new()).expect("it is read");
        assert_eq!((found.blocks.len(), found.unavailable), (1, Some(true)));
        assert_eq!(found.instance.as_str(), "i-1");
        let up = node(whole, json!([]));
        assert_eq!(
            read(&up, &Selector::new()).and_then(|it| it.unavailable),
            None
        );
        let select = |value: &str| Selector::from([("pool".into(), value.into())]);
        assert!(read(&up, &select("a")).is_some() && read(&up, &select("b")).is_none());
        for spec in [
            json!({ "providerID": "r.i-1" }),
            json!({ "podCIDR": "172.16.1.0/24" }),
            json!({ "providerID": "k3s://idc-1", "podCIDR": "172.16.1.0/24" }),
            json!({ "providerID": "aws:///eu-west-1a/i-1", "podCIDR": "172.16.1.0/24" }),
            json!({ "providerID": "kind://docker/a.b/c", "podCIDR": "172.16.1.0/24" }),
        ] {
            assert_eq!(read(&node(spec, json!([])), &Selector::new()), None);
        }
    }
}
