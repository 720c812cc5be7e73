//! PodNetworkings that are written, and PodENIs that are edited.

use super::*;

fn object(spec: Value) -> Value {
    json!({"apiVersion": "network.alibabacloud.com/v1beta1", "kind": "PodNetworking",
        "metadata": {"name": "new"}, "spec": spec})
}

fn fixed(after: &str) -> Value {
    json!({"allocationType": {"type": "Fixed", "releaseStrategy": "TTL", "releaseAfter": after},
        "vSwitchOptions": ["vsw-i1"], "securityGroupIDs": ["sg-1"]})
}

#[tokio::test]
async fn what_a_networking_leaves_open_is_filled_in_once() {
    let open = object(json!({"selector": {"podSelector": {}}}));
    for (operation, old) in [("CREATE", Value::Null), ("UPDATE", open.clone())] {
        let ask = |object: &Value| review("v1", operation, "podnetworkings", object, &old);
        let after = patched(&open, &mutated(&Told::default(), &ask(&open)).await);
        assert_eq!(after["spec"]["vSwitchOptions"], json!(["vsw-i1"]));
        assert_eq!(after["spec"]["securityGroupIDs"], json!(["sg-default"]));
        assert_eq!(
            patch(&mutated(&Told::default(), &ask(&after)).await),
            json!([])
        );
    }
    let whole = object(fixed("5m"));
    let ask = review("v1", "CREATE", "podnetworkings", &whole, &Value::Null);
    assert_eq!(patch(&mutated(&Told::default(), &ask).await), json!([]));
}

#[test]
fn a_networking_that_cannot_serve_is_refused() {
    let groups: Vec<String> = (0..11).map(|n| format!("sg-{n}")).collect();
    for (spec, sentence) in [
        (
            fixed("1m"),
            "releaseAfter is 60s, but at least 300s are needed",
        ),
        (
            fixed("soon"),
            "spec.allocationType.releaseAfter is \"soon\"",
        ),
        (
            json!({"securityGroupIDs": groups}),
            "securityGroupIDs has 11 entries",
        ),
        (
            json!({"vSwitchOptions": ["vsw i1"]}),
            "spec.vSwitchOptions[0] is \"vsw i1\"",
        ),
        (
            json!({"allocationType": {"type": "Fixed", "releaseStrategy": "Never", "releaseAfter": "5m"}}),
            "releaseStrategy Never takes no duration",
        ),
        (
            json!({"vSwitchOptions": "vsw-i1"}),
            "the PodNetworking cannot be read",
        ),
    ] {
        let body = review(
            "v1",
            "CREATE",
            "podnetworkings",
            &object(spec),
            &Value::Null,
        );
        let why = denial(&validated(&body));
        assert!(why.contains(sentence), "{why}");
    }
}

#[test]
fn what_was_there_before_a_rule_stays_but_is_not_made_worse() {
    let update = |object: &Value, old: &Value| {
        validated(&review("v1", "UPDATE", "podnetworkings", object, old))
    };
    let old = object(fixed("soon"));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(patch(&update(&labelled, &old)), json!([]));
    let short = object(fixed("1m"));
    assert!(denial(&update(&short, &old)).contains("at least 300s"));
    let mut wider = short.clone();
    wider["spec"]["vSwitchOptions"] = json!(["vsw-i1", "vsw-i2"]);
    let answer = update(&wider, &short);
    assert_eq!(patch(&answer), json!([]));
    let warning = answer["response"]["warnings"][0].as_str().unwrap();
    assert!(warning.contains("at least 300s"), "{warning}");
    let mut leaving = short.clone();
    leaving["metadata"]["deletionTimestamp"] = "2021-07-19T10:45:31Z".into();
    assert_eq!(patch(&update(&leaving, &old)), json!([]));
}

#[test]
fn who_deletes_a_networking_is_told_who_uses_it() {
    let whole = object(fixed("5m"));
    let ask = review("v1", "DELETE", "podnetworkings", &Value::Null, &whole);
    let ask = Review::parse(&ask).unwrap();
    let all = webhooks(Told::default());
    let answer = || ask.answered(super::super::validation(&all, &ask));
    assert_eq!(answer()["response"]["warnings"], Value::Null);
    let pod = PodKey::new("default", "web-0").unwrap();
    all.known
        .borrow()
        .users
        .told(pod, ["new".to_owned()].into());
    let told = answer();
    assert_eq!(told["response"]["allowed"], true);
    let warning = told["response"]["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("pods that use PodNetworking new: 1, one is default/web-0"),
        "{warning}"
    );
    assert!(warning.len() < 256, "the API server cuts longer ones");
}

#[test]
fn a_record_is_edited_by_its_keeper_only() {
    let old = json!({
        "metadata": {"name": "web-0", "labels": {"k8s.aliyun.com/node": "n1"},
            "annotations": {"k8s.aliyun.com/pod-uid": "8d3f"},
            "finalizers": ["network.alibabacloud.com/pod-eni"]},
        "spec": {"allocations": [{"ipv4": "10.0.0.1"}], "zone": "cn-hangzhou-i"},
    });
    for (at, wrong, named) in [
        (
            "/spec/zone",
            json!("cn-hangzhou-j"),
            "spec of PodENI default/web-0 is kept by",
        ),
        (
            "/metadata/labels/k8s.aliyun.com~1node",
            json!("n2"),
            "label k8s.aliyun.com/node of",
        ),
        (
            "/metadata/annotations/k8s.aliyun.com~1pod-uid",
            json!("0"),
            "annotation k8s.aliyun.com/pod-uid of",
        ),
        ("/metadata/finalizers", json!([]), "the finalizer of"),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(at).unwrap() = wrong;
        let body = review("v1", "UPDATE", "podenis", &new, &old);
        let why = denial(&validated(&body));
        assert!(why.starts_with(named), "{why}");
        let writer = "system:serviceaccount:kube-system:terway-controlplane";
        let text = String::from_utf8(body)
            .unwrap()
            .replace("kubernetes-admin", writer);
        assert_eq!(patch(&validated(text.as_bytes())), json!([]), "{at}");
    }
    let mut new = old.clone();
    new["metadata"]["annotations"]["theirs"] = "1".into();
    assert_eq!(
        patch(&validated(&review("v1", "UPDATE", "podenis", &new, &old))),
        json!([])
    );
}
