//! Graceful deletion, finalizers, namespaces.

use crate::*;

#[test]
fn a_pod_on_a_node_leaves_in_its_own_time() {
    let mut cluster = cluster();
    create(&mut cluster, &PODS, bound("web"));
    let target = at(&PODS, "web");
    let wrong = DeleteOptions {
        uid: "another".into(),
        ..DeleteOptions::default()
    };
    assert_eq!(
        cluster
            .delete(NOW, target, &wrong)
            .map_err(|e| e.code())
            .err(),
        Some(409)
    );
    let first = cluster
        .delete(NOW, target, &DeleteOptions::default())
        .expect("deleted");
    let Deleted::Pending(object) = first else {
        panic!("gone at once")
    };
    assert_eq!(
        object["metadata"]["deletionTimestamp"],
        "2026-11-18T11:07:10Z"
    );
    assert_eq!(object["metadata"]["deletionGracePeriodSeconds"], 30);
    let revision = cluster.revision();
    let longer = DeleteOptions {
        grace: Some(60),
        ..DeleteOptions::default()
    };
    cluster.delete(NOW, target, &longer).expect("accepted");
    assert_eq!(
        cluster.revision(),
        revision,
        "a longer grace changes nothing"
    );
    let shorter = DeleteOptions {
        grace: Some(5),
        ..DeleteOptions::default()
    };
    let object = cluster
        .delete(NOW + Duration::from_secs(3), target, &shorter)
        .expect("sooner");
    assert_eq!(
        object.object()["metadata"]["deletionTimestamp"],
        "2026-11-18T11:06:45Z"
    );
    let now = DeleteOptions {
        grace: Some(0),
        ..DeleteOptions::default()
    };
    assert!(matches!(
        cluster.delete(NOW, target, &now),
        Ok(Deleted::Gone(_))
    ));
    assert_eq!(cluster.get(target).map_err(|e| e.code()), Err(404));
    create(&mut cluster, &PODS, pod("waiting"));
    let waiting = cluster.delete(NOW, at(&PODS, "waiting"), &DeleteOptions::default());
    assert!(matches!(waiting, Ok(Deleted::Gone(_))), "no node runs it");
}

#[test]
fn a_namespace_takes_its_contents_with_it() {
    let mut cluster = cluster();
    let delete = |cluster: &mut Cluster, name| {
        let target = Target {
            resource: &NAMESPACES,
            namespace: "",
            name,
        };
        cluster.delete(NOW, target, &DeleteOptions::default())
    };
    assert_eq!(
        delete(&mut cluster, "default").map_err(|e| e.code()).err(),
        Some(403)
    );
    create(
        &mut cluster,
        &NAMESPACES,
        json!({ "metadata": { "name": "team" } }),
    );
    cluster
        .create(
            NOW,
            &CONFIG_MAPS,
            "team",
            json!({ "metadata": { "name": "m" } }),
        )
        .expect("map");
    cluster
        .create(NOW, &PODS, "team", bound("web"))
        .expect("pod");
    let object = delete(&mut cluster, "team").expect("accepted");
    assert_eq!(object.object()["status"]["phase"], "Terminating");
    let refused = cluster
        .create(NOW, &PODS, "team", pod("late"))
        .expect_err("terminating");
    assert_eq!(
        refused.status()["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    let inside = |name| Target {
        resource: &PODS,
        namespace: "team",
        name,
    };
    let map = Target {
        resource: &CONFIG_MAPS,
        ..inside("m")
    };
    assert!(cluster.get(map).is_err() && cluster.get(inside("web")).is_ok());
    let now = DeleteOptions {
        grace: Some(0),
        ..DeleteOptions::default()
    };
    cluster.delete(NOW, inside("web"), &now).expect("pod gone");
    assert!(
        cluster
            .get(Target {
                resource: &NAMESPACES,
                namespace: "",
                name: "team"
            })
            .is_err()
    );
}
