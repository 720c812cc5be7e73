//! Pods: the design document's examples against golden files, each refusal, and asking again.
//!
//! Set `UPDATE_GOLDEN=1` to write the files anew, then read the difference.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::*;

fn pod(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": labels, "creationTimestamp": null},
        "spec": {"containers": [{"name": "nginx", "image": "nginx", "resources": {}}],
            "schedulerName": "default-scheduler"},
        "status": {},
    })
}

fn owned(mut pod: Value, kind: &str) -> Value {
    pod["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": kind, "name": "owner", "uid": "1", "controller": true}]);
    pod
}

fn stateless() -> Value {
    let labels = json!({"kind": "front", "app": "nginx"});
    owned(pod("nginx-front-1", labels), "ReplicaSet")
}

fn stateful() -> Value {
    let labels = json!({"kind": "backend", "app": "sts-pod"});
    owned(pod("sts-fixed-ip-0", labels), "StatefulSet")
}

fn annotated(key: &str, value: impl ToString) -> Value {
    let mut pod = pod("web-0", json!({}));
    pod["metadata"]["annotations"] = json!({format!("k8s.aliyun.com/{key}"): value.to_string()});
    pod
}

fn create(pod: &Value) -> Vec<u8> {
    review("v1", "CREATE", "pods", pod, &Value::Null)
}

/// The pod as it is stored, compared with its golden file; what is asked again about it changes nothing.
async fn golden(name: &str, told: &Told, pod: &Value) {
    let answer = mutated(told, &create(pod)).await;
    let after = patched(pod, &answer);
    let again = mutated(told, &create(&after)).await;
    assert_eq!(patch(&again), json!([]), "{name}: asked again");
    let found = json!({"pod": after, "warnings": answer["response"]["warnings"]});
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/webhook/tests/golden")
        .join(format!("{name}.json"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(&found).unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
    }
    let expected: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(found, expected, "{}", path.display());
}

#[tokio::test]
async fn the_examples_become_trunk_pods_and_stay_so() {
    let told = Told::default();
    golden("stateless", &told, &stateless()).await;
    golden("fixed", &told, &stateful()).await;
    let told = Told {
        zones: [(
            "default/sts-fixed-ip-0".into(),
            ZoneId::new(HANGZHOU_I).unwrap(),
        )]
        .into(),
        ..told
    };
    golden("fixed-again", &told, &stateful()).await;
}

#[tokio::test]
async fn what_the_author_wrote_is_kept() {
    let mut pod = stateless();
    pod["metadata"]["annotations"] = json!({"theirs": "1"});
    pod["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
    let condition = json!({"key": "disk", "operator": "In", "values": ["ssd"]});
    pod["spec"]["affinity"] = json!({"podAntiAffinity": {}, "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [condition]},
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
            {},
        ]},
    }});
    golden("kept", &Told::default(), &pod).await;
}

#[tokio::test]
async fn interfaces_by_name_and_in_full_are_filled_in() {
    let named = r#"[{"network":"by-name"},{"interfaceName":"eth1","network":"by-name","defaultRoute":true,"routes":[{"dst":"10.1.0.0/16"}]}]"#;
    golden(
        "by-name",
        &Told::default(),
        &annotated("pod-networks-request", named),
    )
    .await;
    golden("bare", &Told::default(), &annotated("pod-eni", "true")).await;
    let full = r#"{"podNetworks":[{"interface":"eth0","eniOptions":{"eniType":"ENI"}}]}"#;
    golden("full", &Told::default(), &annotated("pod-networks", full)).await;
}

#[tokio::test]
async fn who_is_not_meant_is_left_alone() {
    let mut host = stateless();
    host["spec"]["hostNetwork"] = true.into();
    // Not even annotations that cannot be read are looked at.
    host["metadata"]["annotations"] = json!({"k8s.aliyun.com/pod-networks": "{"});
    let mut ignored = stateless();
    ignored["metadata"]["labels"]["k8s.aliyun.com/ignore-by-terway"] = "true".into();
    let mut empty = stateless();
    empty["spec"]["containers"] = json!([]);
    let other = pod("web-0", json!({"app": "other"}));
    for pod in [host, ignored, empty, other] {
        let answer = mutated(&Told::default(), &create(&pod)).await;
        assert_eq!(patch(&answer), json!([]), "{pod}");
    }
    let updated = review("v1", "UPDATE", "pods", &stateless(), &stateless());
    assert_eq!(patch(&mutated(&Told::default(), &updated).await), json!([]));
}

#[tokio::test]
async fn a_daemon_sets_pod_keeps_its_place() {
    let mut pod = stateless();
    pod = owned(pod, "DaemonSet");
    let after = patched(&pod, &mutated(&Told::default(), &create(&pod)).await);
    assert_eq!(after["spec"].get("affinity"), None);
    assert_eq!(
        after["metadata"]["annotations"]["k8s.aliyun.com/pod-eni"],
        "true"
    );
}

#[tokio::test]
async fn both_versions_are_answered_in_kind() {
    for version in ["v1", "v1beta1"] {
        let body = review(version, "CREATE", "pods", &stateless(), &Value::Null);
        let answer = mutated(&Told::default(), &body).await;
        assert_eq!(answer["apiVersion"], format!("admission.k8s.io/{version}"));
        assert_eq!(answer["response"]["uid"], "0c9a8d74");
        assert_ne!(patch(&answer), json!([]));
    }
    let error = Review::parse(&review("v2", "CREATE", "pods", &json!({}), &Value::Null));
    assert!(error.unwrap_err().to_string().contains("v2"));
    assert!(Review::parse(b"{}").is_err());
}

#[tokio::test]
async fn each_refusal_says_what_is_wrong() {
    let networks = |fields: &str| {
        annotated(
            "pod-networks",
            format!(r#"{{"podNetworks":[{{{fields}}}]}}"#),
        )
    };
    let groups = (0..11)
        .map(|n| format!("\"sg-{n}\""))
        .collect::<Vec<_>>()
        .join(",");
    let mut both = annotated("pod-networks-request", r#"[{"network":"by-name"}]"#);
    both["metadata"]["annotations"]["k8s.aliyun.com/pod-networking"] = "by-name".into();
    let fixed = r#""interface":"eth0","allocationType":{"type":"Fixed","releaseStrategy":"Never"}"#;
    for (pod, sentence) in [
        (
            annotated("pod-networks", "{"),
            "annotation k8s.aliyun.com/pod-networks cannot be read: EOF",
        ),
        (
            annotated("pod-networks-request", "1"),
            "annotation k8s.aliyun.com/pod-networks-request cannot be read",
        ),
        (both, "only one of the annotations"),
        (
            networks(""),
            "podNetworks[0].interface is \"\": expected the name of an interface, 1 to 5",
        ),
        (
            networks(r#""interface":"eth100""#),
            "interface name eth100 is too long",
        ),
        (
            networks(&format!(
                r#""interface":"eth0","securityGroupIDs":[{groups}]"#
            )),
            "has 11 security groups",
        ),
        (
            owned(networks(fixed), "ReplicaSet"),
            "which only a pod whose name stays can have",
        ),
        (
            networks(r#""interface":"net1""#),
            "interface net1 has no vSwitch",
        ),
        (
            annotated("pod-networks-request", r#"[{"network":"none"}]"#),
            "PodNetworking none does not exist",
        ),
        (
            annotated("pod-networks-request", r#"[{"network":"stateless"}]"#),
            "has a selector",
        ),
        (
            annotated("pod-networking", "none"),
            "PodNetworking none does not exist",
        ),
    ] {
        let why = denial(&mutated(&Told::default(), &create(&pod)).await);
        assert!(why.contains(sentence), "{why}");
    }
    let told = Told {
        silent: true,
        ..Told::default()
    };
    let why = denial(&mutated(&told, &create(&stateful())).await);
    assert_eq!(
        why,
        "the API server did not answer for PodENI default/sts-fixed-ip-0 within 3 s; try again"
    );
}
