//! The `kube` crate, which the agent uses, against this API: what its reflector, watches and finalizers
//! make of the answers that `conversations` compares with a real server's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
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
async fn a_body_past_the_limit_is_refused() {
    let request = ::http::Request::builder()
        .method("POST")
        .uri("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/json")
        .body(vec![b'x'; http::BODY_LIMIT + 1])
        .expect("request");
    let answer = serve().await.request_text(request).await;
    assert_eq!(code(&answer.expect_err("too large")), 413);
}
