//! Webhooks over TLS: what they are shown, what they may do, and what happens when they cannot be asked.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it stands"
)]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use axum::{Json, Router, routing::post};
use axum_server::tls_rustls::RustlsConfig;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use terway_kubesim::{
    Cluster, Part, Patch, Target,
    http::{self, Api},
    registry::CONFIG_MAPS,
};
use tokio_rustls::rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer};

/// What the webhook answers, besides the question's uid.
type Answer = Arc<dyn Fn(&Value) -> Value + Send + Sync>;

/// A server, a webhook, and every question it was asked.
struct Site {
    api: Api,
    client: kube::Client,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// A cluster with `webhook` behind the service `hook` in `default`.
async fn site(answer: impl Fn(&Api, &Value) -> Value + Send + Sync + 'static) -> Site {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let api = Api::new(Cluster::new(1, now.unwrap()));
    let asked = Arc::<Mutex<Vec<Value>>>::default();
    let (of_api, log) = (api.clone(), Arc::clone(&asked));
    let answer: Answer = Arc::new(move |request| {
        log.lock().unwrap().push(request.clone());
        answer(&of_api, request)
    });
    let (address, authority) = webhook(answer);
    let create = |object| drop(api.create_object(object).unwrap());
    create(
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "hook" },
        "spec": { "ports": [{ "port": 443, "targetPort": 4443 }] } }),
    );
    create(
        json!({ "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "hook" },
        "subsets": [{ "addresses": [{ "ip": address.ip() }], "ports": [{ "port": address.port() }] }] }),
    );
    for (kind, rule) in [
        ("Mutating", ["CREATE", "UPDATE"]),
        ("Validating", ["CREATE", "CREATE"]),
    ] {
        create(json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": { "name": "hook" }, "webhooks": [{
                "name": format!("{}.example.com", kind.to_lowercase()), "timeoutSeconds": 5,
                "clientConfig": { "caBundle": authority, "service": { "name": "hook", "namespace": "default", "path": "/ask" } },
                "rules": [{ "operations": rule, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
            }],
        }));
    }
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = http::router(api.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    Site { api, client, asked }
}

/// Serves until the test ends; its address, and the certificate to trust, in base64 of PEM.
fn webhook(answer: Answer) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["hook.default.svc".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = config
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move |Json(review): Json<Value>| async move {
        let request = &review["request"];
        let mut response = answer(request);
        response["uid"] = request["uid"].clone();
        Json(
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }),
        )
    };
    let router = Router::new().route("/ask", post(serve));
    let config = RustlsConfig::from_config(Arc::new(config));
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));
    (address, STANDARD.encode(made.cert.pem()))
}

fn yes_with(patch: &Value) -> Value {
    json!({ "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string()) })
}

impl Site {
    /// Status, body and warnings of a request.
    async fn send(&self, method: &str, path: &str, body: Value) -> (u16, Value, Vec<String>) {
        let path = format!("/api/v1/namespaces/default/configmaps{path}");
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = ::http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind);
        let request = request
            .body(kube::client::Body::from(body.to_string().into_bytes()))
            .unwrap();
        let answer = self.client.send(request).await.unwrap();
        let warnings = answer.headers().get_all("warning").iter();
        let warnings = warnings
            .map(|text| text.to_str().unwrap().to_owned())
            .collect();
        let code = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await.unwrap();
        (code, serde_json::from_slice(&body).unwrap(), warnings)
    }

    fn configure(&self, kind: &str, patch: Value) {
        let resource = self.api.read(|cluster| {
            cluster.find(
                "admissionregistration.k8s.io",
                "v1",
                &format!("{kind}webhookconfigurations"),
            )
        });
        let target = Target {
            resource: resource.unwrap(),
            namespace: "",
            name: "hook",
        };
        let patched = self
            .api
            .write(|cluster, now| cluster.patch(now, target, Part::Whole, &Patch::Json(patch)));
        patched.unwrap();
    }
}

#[tokio::test]
async fn a_webhook_sees_what_will_be_written_and_changes_it() {
    let site = site(|_, request| {
        let mut answer =
            yes_with(&json!([{ "op": "add", "path": "/data", "value": { "by": "webhook" } }]));
        answer["warnings"] = json!(["look"]);
        if request["object"]["data"]["by"] == "webhook" {
            return json!({ "allowed": true });
        }
        answer
    })
    .await;
    let (code, made, warnings) = site
        .send("POST", "", json!({ "metadata": { "generateName": "m-" } }))
        .await;
    assert_eq!((code, &made["data"]["by"]), (201, &"webhook".into()));
    assert_eq!(warnings, ["299 - \"look\""]);
    {
        let asked = site.asked.lock().unwrap();
        let [change, judge] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert_eq!(
            change["object"]["metadata"],
            json!({ "generateName": "m-", "namespace": "default" })
        );
        assert_eq!(
            (&change["operation"], &change["oldObject"]),
            (&"CREATE".into(), &Value::Null)
        );
        assert_eq!(
            judge["object"]["data"]["by"], "webhook",
            "the second round sees the first one's changes"
        );
    }
    let name = format!("/{}", made["metadata"]["name"].as_str().unwrap());
    let (code, changed, _) = site
        .send(
            "PATCH",
            &name,
            json!({ "data": { "by": null, "more": "1" } }),
        )
        .await;
    assert_eq!((code, &changed["data"]), (200, &json!({ "by": "webhook" })));
    let asked = site.asked.lock().unwrap();
    assert_eq!(
        asked.len(),
        3,
        "an update is shown to those who ask for updates"
    );
    assert_eq!(
        (&asked[2]["operation"], &asked[2]["oldObject"]["data"]["by"]),
        (&"UPDATE".into(), &"webhook".into())
    );
}

#[tokio::test]
async fn a_webhook_refuses_in_its_own_words() {
    let site = site(|_, _| json!({ "allowed": false, "status": { "code": 403, "reason": "Forbidden", "message": "not this one" } })).await;
    let (code, refused, _) = site
        .send("POST", "", json!({ "metadata": { "name": "m" } }))
        .await;
    let says = "admission webhook \"mutating.example.com\" denied the request: not this one";
    assert_eq!(
        (code, &refused["message"], &refused["reason"]),
        (403, &says.into(), &"Forbidden".into())
    );
    assert_eq!(site.send("GET", "/m", Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_write_begins_again_when_another_was_faster() {
    let site = site(|api, request| {
        let target = Target {
            resource: &CONFIG_MAPS,
            namespace: "default",
            name: "m",
        };
        if request["operation"] == "UPDATE" && request["object"]["data"]["faster"].is_null() {
            let faster = Patch::Merge(json!({ "data": { "faster": "1" } }));
            api.write(|cluster, now| cluster.patch(now, target, Part::Whole, &faster))
                .unwrap();
        }
        json!({ "allowed": true })
    })
    .await;
    site.send("POST", "", json!({ "metadata": { "name": "m" } }))
        .await;
    let (code, changed, _) = site
        .send("PATCH", "/m", json!({ "data": { "mine": "1" } }))
        .await;
    assert_eq!(
        (code, &changed["data"]),
        (200, &json!({ "faster": "1", "mine": "1" }))
    );
}

#[tokio::test]
async fn only_a_webhook_that_can_be_left_out_is() {
    let site = site(|_, _| panic!("nobody is to reach it")).await;
    let other = rcgen::generate_simple_self_signed(["hook.default.svc".to_owned()]).unwrap();
    let foreign = json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": STANDARD.encode(other.cert.pem()) }]);
    for kind in ["mutating", "validating"] {
        site.configure(kind, foreign.clone());
    }
    let (code, refused, _) = site
        .send("POST", "", json!({ "metadata": { "name": "m" } }))
        .await;
    let says = refused["message"].as_str().unwrap();
    assert!(
        code == 500 && says.contains("\"mutating.example.com\"") && says.contains("certificate"),
        "{refused}"
    );
    for kind in ["mutating", "validating"] {
        site.configure(
            kind,
            json!([{ "op": "add", "path": "/webhooks/0/failurePolicy", "value": "Ignore" }]),
        );
    }
    assert_eq!(
        site.send("POST", "", json!({ "metadata": { "name": "m" } }))
            .await
            .0,
        201
    );
}
