//! The listener as an API server meets it: trusted by its authority and under its name, renewed while it runs.

use std::time::{Duration, SystemTime};

use axum_server::Handle;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::*;
use crate::webhook::{
    certificate::{Keeper, LIFE, LOOK_PENDING as PENDING, RENEW_BEFORE, Served, names},
    listen, routes,
};

const SERVICE: &str = "terway-controlplane";
const NAMESPACE: &str = "kube-system";
const SECRET: &str = "terway-controlplane-webhook-cert";

pub(crate) async fn api_server() -> Client {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let api = kubesim::http::Api::new(kubesim::Cluster::new(1, now.unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, kubesim::http::router(api)).await });
    Client::try_from(Config::new(format!("http://{address}").parse().unwrap())).unwrap()
}

/// What a client that trusts `authorities` is answered.
async fn asked(address: std::net::SocketAddr, authorities: &str) -> Result<Value, kube::Error> {
    let roots = CertificateDer::pem_slice_iter(authorities.as_bytes());
    let mut config = Config::new(format!("https://{address}").parse().unwrap());
    config.root_cert = Some(roots.map(|one| one.unwrap().to_vec()).collect());
    config.tls_server_name = Some(format!("{SERVICE}.{NAMESPACE}.svc"));
    let body = review("v1", "CREATE", "pods", &json!({"spec": {}}), &Value::Null);
    let request = axum::http::Request::post("/mutating").body(body).unwrap();
    Client::try_from(config).unwrap().request(request).await
}

/// The API server's side of a Service's webhooks.
struct Cluster {
    client: Client,
    secrets: Api<Secret>,
}

impl Cluster {
    /// With the configurations that are installed.
    async fn new() -> Self {
        let client = api_server().await;
        let manifests = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/controlplane/webhooks.yaml"
        );
        let text = std::fs::read_to_string(manifests).unwrap();
        let options = PostParams::default();
        for document in text.split("\n---\n") {
            let object: DynamicObject = serde_saphyr::from_str(document).unwrap();
            let types = object.types.clone().unwrap();
            let kind = match types.kind.as_str() {
                "MutatingWebhookConfiguration" => {
                    ApiResource::erase::<MutatingWebhookConfiguration>(&())
                }
                "ValidatingWebhookConfiguration" => {
                    ApiResource::erase::<ValidatingWebhookConfiguration>(&())
                }
                _ => continue,
            };
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            api.create(&options, &object).await.unwrap();
        }
        let secrets = Api::namespaced(client.clone(), NAMESPACE);
        Self { client, secrets }
    }

    async fn authorities(&self) -> String {
        let secret = self.secrets.get(SECRET).await.unwrap();
        String::from_utf8(secret.data.unwrap()["ca.crt"].0.clone()).unwrap()
    }

    /// What the API server trusts webhooks by, each configuration's first.
    async fn trusts(&self) -> [String; 2] {
        let mutating: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let mutating = mutating.get(SERVICE).await.unwrap().webhooks.unwrap();
        let validating = validating.get(SERVICE).await.unwrap().webhooks.unwrap();
        let bundles = [
            mutating[0].client_config.ca_bundle.clone(),
            validating[0].client_config.ca_bundle.clone(),
        ];
        bundles.map(|bundle| String::from_utf8(bundle.unwrap().0).unwrap())
    }
}

#[tokio::test]
async fn a_certificate_is_shared_renewed_and_replaced_under_a_running_server() {
    let cluster = Cluster::new().await;
    let keeper = Keeper::new(cluster.client.clone(), SERVICE, NAMESPACE, "cluster.local");
    // The client's clock is the machine's, so today is when the first one is due for renewal.
    let due = SystemTime::now();
    let start = due - (LIFE - RENEW_BEFORE);
    // Replicas that start at once serve one certificate.
    let (served, other) =
        tokio::join!(Served::start(&keeper, start), Served::start(&keeper, start));
    let (mut served, mut other) = (served.unwrap(), other.unwrap());
    let handle = Handle::new();
    let all = Arc::into_inner(webhooks(Told::default())).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    tokio::spawn(listen(any, &served, routes(all), handle.clone()).unwrap());
    let address = handle.listening().await.unwrap();
    let before = cluster.authorities().await;
    assert_eq!(cluster.trusts().await, [before.clone(), before.clone()]);
    let answer = asked(address, &before).await.unwrap();
    assert_eq!(answer["response"]["allowed"], true);

    // Nothing is renewed before its time.
    let early = due - Duration::from_secs(3 * 24 * 3600);
    assert!(served.look(&keeper, early).await > PENDING);
    assert_eq!(cluster.authorities().await, before);

    // Then one of them makes a new one, and each serves it once a look finds it trusted.
    assert_eq!(served.look(&keeper, due).await, PENDING);
    let after = cluster.authorities().await;
    let new = after
        .strip_suffix(&before)
        .expect("the one before stays trusted");
    assert_eq!(cluster.trusts().await, [after.clone(), after.clone()]);
    asked(address, &before).await.unwrap();
    other.look(&keeper, due).await;
    assert!(served.look(&keeper, due).await > PENDING);
    asked(address, new).await.unwrap();
    asked(address, &before).await.unwrap_err();
    assert_eq!(cluster.authorities().await, after, "renewed once");

    // Garbage is replaced, and what has ended is not held on to.
    let garbage = json!({"data": {"tls.key": ByteString(b"?".to_vec())}});
    let garbage = Patch::Merge(garbage);
    let params = PatchParams::default();
    cluster
        .secrets
        .patch(SECRET, &params, &garbage)
        .await
        .unwrap();
    served.look(&keeper, due).await;
    served.look(&keeper, due).await;
    asked(address, &cluster.authorities().await).await.unwrap();
    assert!(served.look(&keeper, due + LIFE + LIFE).await > PENDING);
    asked(address, &cluster.authorities().await)
        .await
        .unwrap_err();
}

#[test]
fn names_are_those_of_the_service() {
    let expected = [
        "terway-controlplane.kube-system.svc",
        "terway-controlplane.kube-system",
        "terway-controlplane",
        "terway-controlplane.kube-system.svc.cluster.local",
    ];
    assert_eq!(names(SERVICE, NAMESPACE, "cluster.local"), expected);
}
