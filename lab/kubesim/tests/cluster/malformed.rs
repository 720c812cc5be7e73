//! Whatever a client sends, the answer is an answer.

use crate::*;

/// Every way to spoil one value of `object`.
fn spoiled(object: &Value) -> Vec<Value> {
    let mut all = vec![
        json!(null),
        json!(1),
        json!("x"),
        json!([]),
        json!([1]),
        json!({}),
    ];
    match object {
        Value::Object(map) => {
            for (key, inner) in map {
                all.extend(spoiled(inner).into_iter().map(|bad| {
                    let mut whole = map.clone();
                    whole.insert(key.clone(), bad);
                    Value::Object(whole)
                }));
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                all.extend(spoiled(inner).into_iter().map(|bad| {
                    let mut whole = list.clone();
                    whole[index] = bad;
                    Value::Array(whole)
                }));
            }
        }
        _ => {}
    }
    all
}

#[test]
fn no_malformed_object_or_patch_brings_the_server_down() {
    let full_pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "x", "labels": { "a": "b" }, "finalizers": ["a.io/b"], "managedFields": [
                { "manager": "m", "operation": "Apply", "fieldsV1": { "f:spec": { "k:{}": {} } } },
            ],
        },
        "spec": {
            "hostNetwork": true, "tolerations": [{ "key": "k" }],
            "containers": [{
                "name": "c", "image": "i", "ports": [{ "containerPort": 80 }], "livenessProbe": {},
                "resources": { "limits": { "cpu": "1" } },
            }],
        },
        "status": { "conditions": [{ "type": "Ready" }] },
    });
    let event = json!({ "metadata": { "name": "x" }, "regarding": { "namespace": "default" } });
    let kinds = [
        (&PODS, full_pod),
        (&EVENTS_V1, event),
        (
            &NODES,
            json!({ "metadata": { "name": "x" }, "spec": { "podCIDRs": [] }, "status": {} }),
        ),
        (
            &NAMESPACES,
            json!({ "metadata": { "name": "x" }, "status": { "phase": "" } }),
        ),
    ];
    for (resource, good) in kinds {
        let target = at(resource, "x");
        for bad in spoiled(&good) {
            let mut cluster = cluster();
            let made = cluster.create(NOW, resource, target.namespace, bad.clone());
            if made.is_err() {
                create(&mut cluster, resource, good.clone());
            }
            let apply = Patch::Apply {
                manager: "m".into(),
                force: true,
                object: bad.clone(),
            };
            let merges = [
                Patch::Merge(bad.clone()),
                Patch::Strategic(bad.clone()),
                apply,
            ];
            for patch in merges {
                for part in [Part::Whole, Part::Status] {
                    let _ = cluster.patch(NOW, target, part, &patch);
                }
            }
            let _ = cluster.update(NOW, target, Part::Whole, bad.clone());
            let _ = cluster.bind(NOW, "default", "x", &bad);
            let _ = schedule(&cluster);
            let _ = cluster.delete(NOW, target, &DeleteOptions::default());
        }
    }
}
