//! Strategic and JSON patches, and the two shapes of an event.

use crate::*;

#[test]
fn strategic_patches_merge_lists_by_their_keys() {
    let mut cluster = cluster();
    create(&mut cluster, &PODS, pod("web"));
    let target = at(&PODS, "web");
    let conditions = |list: Value| Patch::Strategic(json!({ "status": { "conditions": list } }));
    let status = |cluster: &mut Cluster, patch: Patch| {
        cluster
            .patch(NOW, target, Part::Status, &patch)
            .map(terway_kubesim::Written::into_object)
    };
    let ready = |value: &str| json!({ "type": "Ready", "status": value });
    let other = json!({ "type": "Other", "status": "True" });
    status(&mut cluster, conditions(json!([ready("False"), other]))).expect("two");
    let object = status(&mut cluster, conditions(json!([ready("True")]))).expect("one changed");
    assert_eq!(
        object["status"]["conditions"],
        json!([ready("True"), other])
    );
    let removal = json!([{ "type": "Other", "$patch": "delete" }]);
    let object = status(&mut cluster, conditions(removal)).expect("one removed");
    assert_eq!(object["status"]["conditions"], json!([ready("True")]));
    let keyless = status(&mut cluster, conditions(json!([{ "status": "True" }])));
    assert_eq!(keyless.map_err(|e| e.code()), Err(400));
    let ordered = json!({ "status": {
        "$setElementOrder/conditions": [{ "type": "Other" }, { "type": "Ready" }],
        "conditions": [other],
    }});
    let object = status(&mut cluster, Patch::Strategic(ordered)).expect("ordered");
    assert_eq!(
        object["status"]["conditions"],
        json!([other, ready("True")])
    );
    let whole = json!({ "metadata": { "labels": { "$patch": "replace", "only": "1" } } });
    let object = patch(&mut cluster, target, Patch::Strategic(whole)).expect("replaced");
    assert_eq!(object["metadata"]["labels"], json!({ "only": "1" }));
    let failing = json!([{ "op": "test", "path": "/metadata/labels/only", "value": "2" }]);
    assert_eq!(
        patch(&mut cluster, target, Patch::Json(failing)),
        Err(ApiError::PatchRejected)
    );
    for bad in [
        Patch::Json(json!({})),
        Patch::Merge(json!([])),
        Patch::Strategic(json!("x")),
    ] {
        assert_eq!(
            patch(&mut cluster, target, bad).map_err(|e| e.code()),
            Err(400)
        );
    }
}

#[test]
fn an_event_has_two_shapes() {
    let mut cluster = cluster();
    let newer = json!({
        "metadata": { "name": "e" }, "note": "hello", "reason": "Tested", "type": "Normal",
        "regarding": { "kind": "Pod", "namespace": "default", "name": "web" },
        "reportingController": "terway", "eventTime": "2026-11-18T11:06:40.000000Z",
    });
    create(&mut cluster, &EVENTS_V1, newer);
    let core = cluster.get(at(&EVENTS, "e")).expect("core");
    assert_eq!(
        (&core["message"], &core["involvedObject"]["name"]),
        (&json!("hello"), &json!("web"))
    );
    assert_eq!(core["apiVersion"], "v1");
    let target = at(&EVENTS_V1, "e");
    let object = patch(
        &mut cluster,
        target,
        Patch::Merge(json!({ "note": "again" })),
    )
    .expect("patched");
    assert_eq!(
        (&object["note"], &object["apiVersion"]),
        (&json!("again"), &json!("events.k8s.io/v1"))
    );
    let by_pod = Selector::parse(&EVENTS, "", "involvedObject.name=web,reason!=Other");
    let query = ListQuery {
        selector: by_pod.expect("selector"),
        ..ListQuery::default()
    };
    assert_eq!(
        cluster
            .list(&EVENTS, "default", &query)
            .expect("list")
            .items
            .len(),
        1
    );
}
