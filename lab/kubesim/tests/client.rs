//! The `kube` crate, which the agent uses, against this API: list, watch, patches, server-side
//! apply, finalizers, and a Lease taken by compare-and-swap.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    coordination::v1::{Lease, LeaseSpec},
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{
        WatchStreamExt as _,
        finalizer::{Event, finalizer},
        watcher,
    },
};
use serde_json::json;
use terway_kubesim::{Cluster, HISTORY_LIMIT, Part, Target, http, registry::CONFIG_MAPS};

/// Longest a test waits for something the server does at once.
const PATIENCE: Duration = Duration::from_secs(30);

async fn serve() -> Client {
    serve_with_api().await.0
}

async fn serve_with_api() -> (Client, http::Api) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let api = http::Api::new(Cluster::new(1, now.expect("clock")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("address");
    let router = http::router(api.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = Config::new(format!("http://{address}").parse().expect("uri"));
    (Client::try_from(config).expect("client"), api)
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        data: Some(BTreeMap::from([("key".to_owned(), value.to_owned())])),
        metadata: kube::api::ObjectMeta {
            name: Some(name.into()),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        other => panic!("not an answer of the API: {other}"),
    }
}

#[tokio::test]
async fn a_reflector_follows_every_change() {
    let maps: Api<ConfigMap> = Api::default_namespaced(serve().await);
    maps.create(&PostParams::default(), &config_map("first", "0"))
        .await
        .expect("created");
    let page = ListParams::default().limit(1);
    assert_eq!(maps.list(&page).await.expect("list").items.len(), 1);
    let mut changes = watcher(maps.clone(), watcher::Config::default().page_size(1))
        .applied_objects()
        .boxed();
    let mut next = async || {
        let change = tokio::time::timeout(PATIENCE, changes.try_next()).await;
        change
            .expect("in time")
            .expect("no error")
            .expect("not over")
    };
    assert_eq!(next().await.name_any(), "first");
    maps.create(&PostParams::default(), &config_map("second", "0"))
        .await
        .expect("created");
    assert_eq!(next().await.name_any(), "second");
    let patch = Patch::Merge(json!({ "data": { "key": "1" } }));
    maps.patch("first", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(next().await.data, config_map("first", "1").data);
}

#[tokio::test]
async fn server_side_apply_owns_and_drops_fields() {
    let maps: Api<ConfigMap> = Api::default_namespaced(serve().await);
    let object = |data: serde_json::Value| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": data });
    let apply = async |manager: &str, data| {
        maps.patch(
            "m",
            &PatchParams::apply(manager),
            &Patch::Apply(object(data)),
        )
        .await
    };
    apply("one", json!({ "a": "1", "b": "1" }))
        .await
        .expect("created");
    apply("two", json!({ "c": "1" })).await.expect("joined");
    let conflict = apply("two", json!({ "a": "2" }))
        .await
        .expect_err("a conflict");
    assert_eq!(code(&conflict), 409);
    let dropped = apply("one", json!({ "a": "1" })).await.expect("dropped b");
    let keys: Vec<_> = dropped.data.expect("data").into_keys().collect();
    assert_eq!(keys, ["a", "c"]);
    let forced = PatchParams::apply("two").force();
    let patch = Patch::Apply(object(json!({ "a": "2" })));
    let taken = maps.patch("m", &forced, &patch).await.expect("taken");
    assert_eq!(taken.data, Some(BTreeMap::from([("a".into(), "2".into())])));
    assert_eq!(taken.metadata.managed_fields.map(|m| m.len()), Some(1));
}

#[tokio::test]
async fn a_finalizer_holds_the_object_until_cleaned_up() {
    let maps: Api<ConfigMap> = Api::default_namespaced(serve().await);
    let made = maps
        .create(&PostParams::default(), &config_map("m", "0"))
        .await
        .expect("created");
    let reconcile = async |object: ConfigMap| {
        finalizer(
            &maps,
            "terway.io/hold",
            Arc::new(object),
            |event| async move {
                let cleaned = matches!(event, Event::Cleanup(_));
                Ok::<_, std::convert::Infallible>(kube::runtime::controller::Action::requeue(
                    Duration::from_secs(u64::from(cleaned)),
                ))
            },
        )
        .await
        .expect("reconciled")
    };
    reconcile(made).await;
    let held = maps.get("m").await.expect("there");
    assert_eq!(held.finalizers(), ["terway.io/hold"]);
    let deleted = maps
        .delete("m", &DeleteParams::default())
        .await
        .expect("accepted");
    assert!(
        deleted
            .left()
            .is_some_and(|object| object.metadata.deletion_timestamp.is_some())
    );
    let going = maps.get("m").await.expect("still there");
    reconcile(going).await;
    assert_eq!(code(&maps.get("m").await.expect_err("gone")), 404);
}

#[tokio::test]
async fn of_two_who_take_a_lease_one_gets_it() {
    let leases: Api<Lease> = Api::namespaced(serve().await, "kube-system");
    let spec = |holder: &str| {
        Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            ..LeaseSpec::default()
        })
    };
    let metadata = kube::api::ObjectMeta {
        name: Some("lock".into()),
        ..Default::default()
    };
    let lease = Lease {
        metadata,
        spec: spec("nobody"),
    };
    let seen = leases
        .create(&PostParams::default(), &lease)
        .await
        .expect("created");
    let take = async |holder: &str| {
        let wanted = Lease {
            spec: spec(holder),
            ..seen.clone()
        };
        leases
            .replace("lock", &PostParams::default(), &wanted)
            .await
    };
    take("one").await.expect("taken");
    assert_eq!(code(&take("two").await.expect_err("too late")), 409);
    let mut blind = Lease {
        spec: spec("three"),
        ..seen.clone()
    };
    blind.metadata.resource_version = None;
    let refused = leases.replace("lock", &PostParams::default(), &blind).await;
    assert_eq!(code(&refused.expect_err("no version")), 422);
}

#[tokio::test]
async fn status_is_written_apart_from_the_spec() {
    let pods: Api<Pod> = Api::default_namespaced(serve().await);
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": { "nodeName": "n", "containers": [{ "name": "main", "image": "web" }] },
    }))
    .expect("a pod");
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");
    let status = json!({
        "metadata": { "labels": { "seen": "yes" } }, "spec": { "nodeName": "elsewhere" },
        "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
    });
    let patch = Patch::Strategic(status);
    let written = pods
        .patch_status("web", &PatchParams::default(), &patch)
        .await
        .expect("patched");
    assert_eq!(
        written.spec.and_then(|spec| spec.node_name).as_deref(),
        Some("n")
    );
    assert_eq!(
        written.status.and_then(|status| status.phase).as_deref(),
        Some("Running")
    );
    let on_node = ListParams::default().fields("spec.nodeName=n,status.phase!=Failed");
    assert_eq!(
        pods.list_metadata(&on_node)
            .await
            .expect("list")
            .items
            .len(),
        1
    );
    let nowhere = pods
        .list(&ListParams::default().fields("spec.unknown=1"))
        .await;
    assert_eq!(code(&nowhere.expect_err("no such field")), 400);
}

#[tokio::test]
async fn a_watch_ends_with_a_bookmark_or_says_that_it_is_too_old() {
    let (client, api) = serve_with_api().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.create(&PostParams::default(), &config_map("m", "0"))
        .await
        .expect("created");
    let start = api.read(Cluster::revision).to_string();
    let short = WatchParams::default().timeout(1);
    let quiet: Vec<_> = maps
        .watch(&short, &start)
        .await
        .expect("watch")
        .collect()
        .await;
    let [Ok(WatchEvent::Bookmark(mark))] = quiet.as_slice() else {
        panic!("{quiet:?}")
    };
    assert_eq!(mark.metadata.resource_version, start);
    // One change more than is kept, so that the first of them is forgotten.
    for value in 1..=HISTORY_LIMIT + 1 {
        let change = terway_kubesim::Patch::Merge(json!({ "data": { "key": value.to_string() } }));
        let target = Target {
            resource: &CONFIG_MAPS,
            namespace: "default",
            name: "m",
        };
        let patched = api.write(|c, now| c.patch(now, target, Part::Whole, &change));
        assert!(patched.is_ok());
    }
    let late: Vec<_> = maps
        .watch(&short, &start)
        .await
        .expect("watch")
        .collect()
        .await;
    let [Ok(WatchEvent::Error(status))] = late.as_slice() else {
        panic!("{} events", late.len())
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let streaming = watcher(maps, watcher::Config::default().streaming_lists());
    let mut refusals = streaming.filter_map(async |event| event.err()).boxed();
    let refusal = tokio::time::timeout(PATIENCE, refusals.next())
        .await
        .expect("in time");
    assert!(
        format!("{refusal:?}").contains("sendInitialEvents is forbidden"),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_dry_run_checks_everything_and_keeps_nothing() {
    let maps: Api<ConfigMap> = Api::default_namespaced(serve().await);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let shown = maps
        .create(&dry, &config_map("m", "0"))
        .await
        .expect("would be created");
    assert!(shown.metadata.uid.is_some());
    assert_eq!(code(&maps.get("m").await.expect_err("not kept")), 404);
    let refused = maps.create(&dry, &config_map("Not_A_Name", "0")).await;
    assert_eq!(code(&refused.expect_err("checked")), 422);
}

#[tokio::test]
async fn requests_that_make_no_sense_get_a_status() {
    let client = serve().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let json_type = "application/json";
    let big = "x".repeat(http::BODY_LIMIT + 1);
    let cases = [
        ("GET", "/apis/apps/v1/deployments", json_type, "", 404),
        ("GET", "/nothing/here", json_type, "", 404),
        ("GET", "/api/v1/pods?limit=many", json_type, "", 400),
        (
            "GET",
            "/api/v1/pods?resourceVersion=old&watch=1",
            json_type,
            "",
            400,
        ),
        (
            "GET",
            "/api/v1/pods?labelSelector=a%20b",
            json_type,
            "",
            400,
        ),
        ("PUT", maps, json_type, "{}", 405),
        ("POST", "/api/v1/pods", json_type, "{}", 405),
        ("DELETE", "/api/v1/namespaces", json_type, "", 405),
        ("POST", maps, json_type, "{\"cut", 400),
        ("POST", maps, "application/yaml", "a: b", 415),
        ("POST", maps, json_type, &big, 413),
        (
            "PATCH",
            "/api/v1/namespaces/default",
            "text/plain",
            "{}",
            415,
        ),
        (
            "GET",
            "/api/v1/namespaces/default/configmaps/m/status",
            json_type,
            "",
            404,
        ),
    ];
    for (method, path, kind, body, expected) in cases {
        let request = ::http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body.as_bytes().to_vec())
            .expect("request");
        let answer = client.request_text(request).await;
        assert_eq!(code(&answer.expect_err(path)), expected, "{method} {path}");
    }
}
