//! Reviews as an API server sends them, and what is answered.

mod edits;
mod pods;
pub(crate) mod tls;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use engine::admission::Defaults;
use model::{
    PodKey, SecurityGroupId, Timestamp, VSwitchId, ZoneId,
    podnetworking::{Labels, PodNetworking as Networking, RELEASE_AFTER_MIN, Resolved},
};
use serde_json::{Value, json};

use super::{
    Webhooks,
    review::Review,
    standing::{Known, Lookup, LookupError, Publisher},
    users::Users,
};

const HANGZHOU_I: &str = "cn-hangzhou-i";
const HANGZHOU_J: &str = "cn-hangzhou-j";

/// What the API server would say.
#[derive(Debug, Clone, Default)]
struct Told {
    labels: BTreeMap<String, Labels>,
    zones: BTreeMap<String, ZoneId>,
    silent: bool,
}

impl Lookup for Told {
    async fn labels(&self, namespace: &str) -> Result<Labels, LookupError> {
        Ok(self.labels.get(namespace).cloned().unwrap_or_default())
    }

    async fn kept_zone(&self, pod: &PodKey) -> Result<Option<ZoneId>, LookupError> {
        let what = format!("PodENI {pod}");
        match self.silent {
            true => Err(LookupError::Late { what }),
            false => Ok(self.zones.get(&pod.to_string()).cloned()),
        }
    }
}

fn networking(name: &str, spec: Value) -> Networking {
    let stored = json!({"apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodNetworking",
        "metadata": {"name": name}, "spec": spec});
    let stored: crd::PodNetworking = serde_json::from_value(stored).unwrap();
    let mut read = Networking::try_from(&stored).unwrap();
    let zone = |id: &VSwitchId| match id.as_str().contains("-i") {
        true => ZoneId::new(HANGZHOU_I).unwrap(),
        false => ZoneId::new(HANGZHOU_J).unwrap(),
    };
    let vswitches = read.vswitches.iter();
    read.resolved = Some(Resolved {
        ready: true,
        vswitches: vswitches.map(|id| (id.clone(), zone(id))).collect(),
        message: String::new(),
        at: Timestamp::EPOCH,
    });
    read
}

/// The PodNetworkings of the design document, and one that pods ask for by name.
fn known() -> Known {
    let zone = |text| ZoneId::new(text).unwrap();
    let vswitch = |text| VSwitchId::new(text).unwrap();
    let selector =
        |kind: &str, app: &str| json!({"podSelector": {"matchLabels": {"kind": kind, "app": app}}});
    let all = [
        networking(
            "stateless",
            json!({
                "selector": selector("front", "nginx"),
                "vSwitchOptions": ["vsw-i1", "vsw-i2"], "securityGroupIDs": ["sg-1"],
            }),
        ),
        networking(
            "fixed-ip",
            json!({
                "allocationType": {"type": "Fixed", "releaseStrategy": "TTL", "releaseAfter": "5m0s"},
                "selector": selector("backend", "sts-pod"),
                "vSwitchOptions": ["vsw-i1", "vsw-j1"], "securityGroupIDs": ["sg-1"],
            }),
        ),
        networking(
            "by-name",
            json!({"vSwitchOptions": ["vsw-j1"], "securityGroupIDs": ["sg-2"]}),
        ),
    ];
    Known {
        networkings: all.into_iter().map(|one| (one.name.clone(), one)).collect(),
        defaults: Defaults {
            vswitches: [(zone(HANGZHOU_I), vec![vswitch("vsw-i1")])].into(),
            security_groups: vec![SecurityGroupId::new("sg-default").unwrap()],
        },
        trunk: true,
        inject_resource: true,
        stateful_kinds: vec![],
        release_after_min: RELEASE_AFTER_MIN,
        users: Users::default(),
    }
}

fn webhooks(told: Told) -> Arc<Webhooks<Told>> {
    Arc::new(Webhooks {
        known: Publisher::new(known()).subscribe(),
        lookup: told,
        writer: Some("system:serviceaccount:kube-system:terway-controlplane".into()),
    })
}

/// A review of `object`, as the API server writes it.
fn review(version: &str, operation: &str, resource: &str, object: &Value, old: &Value) -> Vec<u8> {
    let group = match resource {
        "pods" => "",
        _ => crd::GROUP,
    };
    let name = [object, old].map(|one| one["metadata"]["name"].as_str());
    let name = name.into_iter().flatten().next().unwrap_or_default();
    json!({
        "apiVersion": format!("admission.k8s.io/{version}"), "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74", "operation": operation, "dryRun": false,
            "resource": {"group": group, "version": "v1", "resource": resource},
            "name": name,
            "namespace": "default",
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:authenticated"]},
            "object": object, "oldObject": old,
        },
    })
    .to_string()
    .into_bytes()
}

async fn mutated(told: &Told, body: &[u8]) -> Value {
    let review = Review::parse(body).unwrap();
    review.answered(super::mutation(&webhooks(told.clone()), &review).await)
}

fn validated(body: &[u8]) -> Value {
    let review = Review::parse(body).unwrap();
    review.answered(super::validation(&webhooks(Told::default()), &review))
}

fn denial(answer: &Value) -> String {
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    answer["response"]["status"]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The operations of the patch in an answer.
fn patch(answer: &Value) -> Value {
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    let Some(text) = answer["response"]["patch"].as_str() else {
        return json!([]);
    };
    assert_eq!(answer["response"]["patchType"], "JSONPatch");
    serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap()
}

/// `object` after the patch in an answer.
fn patched(object: &Value, answer: &Value) -> Value {
    let mut after = object.clone();
    let operations: json_patch::Patch = serde_json::from_value(patch(answer)).unwrap();
    json_patch::patch(&mut after, &operations).unwrap();
    after
}
