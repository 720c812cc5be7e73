//! Create, update and the two halves of an object.

use crate::*;

#[test]
fn a_new_object_gets_what_the_server_sets() {
    let mut cluster = cluster();
    let mut body = pod("web");
    body["metadata"]["uid"] = "mine".into();
    body["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    body["status"] = json!({ "phase": "Running" });
    let made = create(&mut cluster, &PODS, body);
    assert_eq!(made["metadata"]["namespace"], "default");
    assert_eq!(
        made["metadata"]["creationTimestamp"],
        "2026-11-18T11:06:40Z"
    );
    assert_eq!(
        made["metadata"]["resourceVersion"],
        cluster.revision().to_string()
    );
    assert_eq!(made["metadata"]["generation"], 1);
    assert_ne!(made["metadata"]["uid"], "mine");
    assert_eq!(made["metadata"].get("deletionTimestamp"), None);
    assert_eq!(
        made["status"],
        json!({ "phase": "Pending", "qosClass": "BestEffort" })
    );
    assert_eq!(
        made["spec"]["containers"][0]["imagePullPolicy"],
        "IfNotPresent"
    );
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    let mut generated = pod("");
    generated["metadata"] = json!({ "generateName": "web-" });
    let made = create(&mut cluster, &PODS, generated);
    let name = made["metadata"]["name"].as_str().expect("name");
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let replay = Cluster::new(7, NOW);
    assert_eq!(format!("{replay:?}"), format!("{:?}", Cluster::new(7, NOW)));
}

#[test]
fn bad_objects_are_refused_with_the_field_that_is_wrong() {
    let mut cluster = cluster();
    let long = "a".repeat(64);
    let cases = [
        (
            json!({ "metadata": { "name": "A" } }),
            422,
            "metadata.name: Invalid value: \"A\"",
        ),
        (
            json!({ "metadata": {} }),
            422,
            "name or generateName is required",
        ),
        (json!([]), 400, "must be of type ConfigMap"),
        (json!({ "metadata": 3 }), 400, "metadata"),
        (
            json!({ "kind": "Pod", "metadata": { "name": "a" } }),
            400,
            "cannot be handled as a ConfigMap",
        ),
        (
            json!({ "apiVersion": "v2", "metadata": { "name": "a" } }),
            400,
            "expected API version (v1)",
        ),
        (
            json!({ "metadata": { "name": "a", "namespace": "b" } }),
            400,
            "namespace of the provided",
        ),
        (
            json!({ "metadata": { "name": "a", "labels": { "x y": "1" } } }),
            422,
            "metadata.labels",
        ),
        (
            json!({ "metadata": { "name": "a", "labels": { "x": long } } }),
            422,
            "metadata.labels",
        ),
        (
            json!({ "metadata": { "name": "a", "labels": { "x": 1 } } }),
            400,
            "metadata.labels",
        ),
        (
            json!({ "metadata": { "name": "a" }, "data": { "k": 1 } }),
            400,
            "data",
        ),
        (
            json!({ "metadata": { "name": "a" }, "data": { "a b": "" } }),
            422,
            "data[a b]",
        ),
        (
            json!({ "metadata": { "name": "a", "resourceVersion": "1" } }),
            500,
            "should not be set",
        ),
    ];
    for (body, code, says) in cases {
        let refused = cluster.create(NOW, &CONFIG_MAPS, "default", body.clone());
        let error = refused.expect_err("refused");
        assert!(
            error.code() == code && error.to_string().contains(says),
            "{body}: {error}"
        );
    }
}

#[test]
fn refusals_have_the_servers_own_words() {
    let mut cluster = cluster();
    let lost = cluster
        .create(NOW, &PODS, "nowhere", pod("a"))
        .expect_err("no namespace");
    assert_eq!(lost.to_string(), "namespaces \"nowhere\" not found");
    create(&mut cluster, &PODS, pod("a"));
    let twice = cluster
        .create(NOW, &PODS, "default", pod("a"))
        .expect_err("taken");
    assert_eq!(
        twice.status(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "pods \"a\" already exists", "reason": "AlreadyExists", "code": 409,
            "details": { "name": "a", "kind": "pods" },
        })
    );
    let empty = json!({ "metadata": { "name": "b" }, "spec": { "containers": [{}] } });
    let error = cluster
        .create(NOW, &PODS, "default", empty)
        .expect_err("no image");
    let says = "Pod \"b\" is invalid: [spec.containers[0].name: Required value, \
                spec.containers[0].image: Required value]";
    assert_eq!(error.to_string(), says);
    let service = json!({ "metadata": { "name": "1a" }, "spec": { "ports": [{ "port": 1 }] } });
    assert!(cluster.create(NOW, &SERVICES, "default", service).is_err());
    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "namespace": "x" } });
    assert!(cluster.create(NOW, &EVENTS, "default", event).is_err());
}

#[test]
fn a_stale_write_conflicts_and_an_empty_one_changes_nothing() {
    let mut cluster = cluster();
    let first = create(
        &mut cluster,
        &CONFIG_MAPS,
        json!({ "metadata": { "name": "m" } }),
    );
    let target = at(&CONFIG_MAPS, "m");
    let write = |cluster: &mut Cluster, body: Value| {
        cluster
            .update(NOW, target, Part::Whole, body)
            .map(terway_kubesim::Written::into_object)
    };
    let before = cluster.revision();
    assert_eq!(
        write(&mut cluster, Value::clone(&first)),
        Ok(Arc::clone(&first))
    );
    assert_eq!(cluster.revision(), before, "the same object is no change");
    let mut second = Value::clone(&first);
    second["data"] = json!({ "k": "1" });
    write(&mut cluster, second.clone()).expect("written");
    second["data"] = json!({ "k": "2" });
    let stale = write(&mut cluster, second.clone()).expect_err("stale");
    assert_eq!((stale.code(), stale.reason()), (409, "Conflict"));
    second["metadata"]["resourceVersion"] = "".into();
    assert!(
        write(&mut cluster, second.clone()).is_ok(),
        "without a version it overwrites"
    );
    second["metadata"]["uid"] = "another".into();
    assert_eq!(write(&mut cluster, second).map_err(|e| e.code()), Err(409));
    let unnamed = json!({ "metadata": { "name": "other" } });
    assert_eq!(write(&mut cluster, unnamed).map_err(|e| e.code()), Err(400));
    let lease = json!({ "metadata": { "name": "l" }, "spec": {} });
    let made = cluster
        .update(NOW, at(&LEASES, "l"), Part::Whole, lease)
        .expect("created");
    assert!(matches!(made, terway_kubesim::Written::Created(_)));
}

#[test]
fn status_and_spec_are_written_apart() {
    let mut cluster = cluster();
    create(&mut cluster, &PODS, pod("web"));
    let target = at(&PODS, "web");
    let both = json!({ "spec": { "hostNetwork": true }, "status": { "phase": "Failed" } });
    let status = Patch::Merge(both.clone());
    let object = cluster
        .patch(NOW, target, Part::Status, &status)
        .expect("status")
        .into_object();
    assert_eq!(
        (&object["status"]["phase"], &object["spec"]["hostNetwork"]),
        (&json!("Failed"), &json!(null))
    );
    assert_eq!(object["metadata"]["generation"], 1);
    let frozen = patch(&mut cluster, target, Patch::Merge(both)).expect_err("spec is frozen");
    assert!(
        frozen
            .to_string()
            .contains("spec: Forbidden: pod updates may not change fields")
    );
    let image = json!({ "spec": { "containers": [{ "name": "main", "image": "web:2" }] } });
    let object = patch(&mut cluster, target, Patch::Strategic(image)).expect("image");
    assert_eq!(object["metadata"]["generation"], 2);
    assert_eq!(object["status"]["phase"], "Failed");
}
