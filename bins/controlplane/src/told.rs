//! What the API server's objects mean to the machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crd::{keys, pod::Networks};
use engine::{
    cluster::{ClusterPod, Input},
    podeni::{Node as MachineNode, Pod as MachinePod},
};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use model::{EniId, InstanceId, PodKey, PodUid, ZoneId};

use crate::watch::Name;

/// Where the zone of a node stood before Kubernetes 1.17.
const ZONE_BEFORE: &str = "failure-domain.beta.kubernetes.io/zone";

/// The key of a namespaced object.
pub(crate) fn key(name: &Name) -> Option<PodKey> {
    PodKey::new(name.namespace.as_deref()?, &name.name).ok()
}

/// A pod, if it has what every stored pod has. `kinds` are owners beside StatefulSet whose pods keep their
/// names.
pub(crate) fn pod(pod: &Pod, kinds: &[String]) -> Option<Input> {
    let meta = &pod.metadata;
    let key = PodKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?).ok()?;
    let uid = PodUid::new(meta.uid.as_deref()?).ok()?;
    let spec = pod.spec.as_ref();
    let status = pod.status.as_ref();
    let host = spec.and_then(|spec| spec.host_network) == Some(true);
    let exempt = host || crd::pod::is_ignored(meta);
    let (networks, complaint) = match Networks::read(meta.annotations.as_ref()) {
        _ if exempt => (Vec::new(), None),
        Ok(read) if !read.wants_eni => (Vec::new(), None),
        Ok(read) if read.full.is_empty() => {
            let why = format!(
                "the pod carries {} but not {}, which the webhook adds: it did not answer when the pod was \
                 created; delete the pod so that it is created again",
                keys::POD_ENI,
                keys::POD_NETWORKS
            );
            (Vec::new(), Some(why))
        }
        Ok(read) => (read.full, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let phase = status.and_then(|status| status.phase.as_deref());
    let addresses = status.and_then(|status| status.pod_ips.as_ref());
    let addresses: BTreeSet<IpAddr> = addresses
        .into_iter()
        .flatten()
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    let told = ClusterPod {
        pod: MachinePod {
            key: key.clone(),
            uid,
            node: spec.and_then(|spec| spec.node_name.clone()),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            stable_name: crd::pod::has_stable_name(meta.owner_references.as_deref(), kinds),
            networks,
        },
        labels: meta.labels.clone().unwrap_or_default(),
        exempt,
        complaint,
        addresses,
    };
    Some(Input::Pod(key, Some(Box::new(told))))
}

/// The PodNetworkings a pod uses: that which the webhook found for it, or those it asked for by name.
pub(crate) fn networkings(pod: &Pod) -> BTreeSet<String> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return BTreeSet::new();
    }
    let read = Networks::read(pod.metadata.annotations.as_ref());
    let read = read.into_iter().filter(|read| read.wants_eni);
    read.flat_map(|read| {
        let named = read.named.into_iter().map(|one| one.networking);
        read.networking.into_iter().chain(named)
    })
    .collect()
}

/// A node, if it is an instance of the cloud in a known zone.
pub(crate) fn node(node: &Node) -> Option<Input> {
    let name = node.metadata.name.clone()?;
    Some(Input::Node(name.clone(), instance(node, name)))
}

fn instance(node: &Node, name: String) -> Option<MachineNode> {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let instance = instance_id(node.spec.as_ref()?.provider_id.as_deref()?)?;
    let zone = labels.get(keys::ZONE).or_else(|| labels.get(ZONE_BEFORE))?;
    let trunk = node.metadata.annotations.as_ref();
    let trunk = trunk.and_then(|all| all.get(keys::TRUNK_ON));
    let status = node.status.as_ref();
    let of = |all: Option<&BTreeMap<String, Quantity>>| all?.get(keys::MEMBER_ENI).cloned();
    // A kubelet makes the one of the other, if there is a kubelet.
    let allocatable = status.and_then(|one| of(one.allocatable.as_ref()));
    let members = allocatable.or_else(|| status.and_then(|one| of(one.capacity.as_ref())));
    Some(MachineNode {
        name,
        instance,
        zone: ZoneId::new(zone).ok()?,
        trunk: trunk.and_then(|id| EniId::new(id).ok()),
        // Counted in whole ENIs, by the node's own agent.
        members: members.and_then(|number| number.0.parse().ok()),
    })
}

/// The instance in a node's provider id: `cn-hangzhou.i-1`, with a scheme before it or without.
pub(crate) fn instance_id(provider: &str) -> Option<InstanceId> {
    let provider = provider.rsplit('/').next().unwrap_or(provider);
    let instance = provider.split_once('.');
    InstanceId::new(instance.map_or(provider, |(_, instance)| instance)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: serde_json::Value) -> Input {
        let object: Pod = serde_json::from_value(text).expect("a pod");
        pod(&object, &[]).expect("it is told")
    }

    fn told(annotations: serde_json::Value) -> ClusterPod {
        let object = serde_json::json!({
            "metadata": {"namespace": "default", "name": "web-0", "uid": "u1", "annotations": annotations,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "s"}]},
            "spec": {"containers": [], "nodeName": "n1"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.7"}]},
        });
        match read(object) {
            Input::Pod(_, Some(pod)) => *pod,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_says_what_it_needs() {
        let networks = r#"{"podNetworks":[{"interface":"eth0","vSwitchOptions":["vsw-1"],"securityGroupIDs":["sg-1"]}]}"#;
        let whole = told(serde_json::json!({keys::POD_ENI: "true", keys::POD_NETWORKS: networks}));
        assert_eq!(whole.pod.networks.len(), 1);
        assert!(whole.pod.stable_name && whole.complaint.is_none());
        assert_eq!(whole.addresses.len(), 1);
        let half = told(serde_json::json!({keys::POD_ENI: "true"}));
        assert!(
            half.complaint
                .is_some_and(|why| why.contains("did not answer"))
        );
        let bad = told(serde_json::json!({keys::POD_ENI: "true", keys::POD_NETWORKS: "{"}));
        assert!(
            bad.complaint
                .is_some_and(|why| why.contains(keys::POD_NETWORKS))
        );
        assert!(told(serde_json::json!({})).complaint.is_none());
    }

    #[test]
    fn a_node_is_an_instance_in_a_zone() {
        let table = [
            ("cn-hangzhou.i-1", true),
            ("alicloud:///cn-hangzhou.i-1", true),
            ("i-1", true),
            ("", false),
        ];
        for (provider, known) in table {
            let object: Node = serde_json::from_value(serde_json::json!({
                "metadata": {"name": "n1", "labels": {keys::ZONE: "z-a"}, "annotations": {keys::TRUNK_ON: "eni-1"}},
                "spec": {"providerID": provider},
                "status": {"allocatable": {keys::MEMBER_ENI: "7"}},
            }))
            .expect("a node");
            let Some(Input::Node(_, found)) = node(&object) else {
                panic!("{provider}");
            };
            let found = found.map(|node| {
                (
                    node.instance.to_string(),
                    node.trunk.is_some(),
                    node.members,
                )
            });
            let expected = known.then(|| ("i-1".to_owned(), true, Some(7)));
            assert_eq!(found, expected, "{provider}");
        }
    }
}
