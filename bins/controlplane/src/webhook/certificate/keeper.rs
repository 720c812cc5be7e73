//! Where the bundle is kept: one Secret for all replicas, and the webhook configurations that trust it.
//!
//! The first replica to write wins; the others read. Must not know: how a bundle is served.

use std::{collections::BTreeMap, time::SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
        core::v1::Secret,
    },
};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::bundle::{self, Bundle, MakeError, RENEW_BEFORE};

/// Keys of the Secret, those of type `kubernetes.io/tls` and the authority beside them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// Reads of the Secret before a race with other replicas counts as lost; each race has a winner, and then
/// there is a bundle to read.
const RACES_MAX: usize = 3;

/// Why there is no bundle, or nobody trusts it.
#[derive(Debug, thiserror::Error)]
pub(in crate::webhook) enum KeepError {
    /// The API server refused to show or take the Secret.
    #[error("{doing} Secret {secret}: {source}")]
    Secret {
        doing: &'static str,
        secret: String,
        source: Box<kube::Error>,
    },
    /// Other replicas were always faster.
    #[error("Secret {0} was written by others {RACES_MAX} times while this replica wrote it")]
    Race(String),
    /// The API server refused to show or take a configuration.
    #[error("{doing} {configuration}: {source}")]
    Configuration {
        doing: &'static str,
        configuration: String,
        source: Box<kube::Error>,
    },
    /// A new one could not be made.
    #[error(transparent)]
    Make(#[from] MakeError),
}

/// Keeps the bundle of one Service.
pub(in crate::webhook) struct Keeper {
    client: Client,
    service: String,
    namespace: String,
    secret: String,
    pub(super) names: Vec<String>,
}

impl Keeper {
    pub(in crate::webhook) fn new(
        client: Client,
        service: &str,
        namespace: &str,
        domain: &str,
    ) -> Self {
        Self {
            client,
            service: service.into(),
            namespace: namespace.into(),
            secret: format!("{service}-webhook-cert"),
            names: bundle::names(service, namespace, domain),
        }
    }

    /// The bundle of all replicas; made anew where there is none, none that can be used, or one that ends soon.
    pub(super) async fn obtain(&self, now: SystemTime) -> Result<Bundle, KeepError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        for _ in 0..RACES_MAX {
            let found = api.get_opt(&self.secret).await;
            let found = found.map_err(|source| self.failed("reading", source))?;
            let written = match &found {
                None => {
                    let made = bundle::make(&self.names, "", now)?;
                    api.create(&PostParams::default(), &self.new_secret(&made))
                        .await
                }
                Some(secret) => {
                    let old = read(secret);
                    let soon = old.judge(&self.names, now + RENEW_BEFORE);
                    let Err(why) = soon else { return Ok(old) };
                    tracing::info!(secret = self.secret, %why, "replacing the webhooks' certificate");
                    let made = bundle::make(&self.names, &old.authorities, now)?;
                    let mut next = secret.clone();
                    next.data.get_or_insert_default().extend(data(&made));
                    api.replace(&self.secret, &PostParams::default(), &next)
                        .await
                }
            };
            match written {
                Ok(secret) => return Ok(read(&secret)),
                // Somebody else was faster: read what they wrote.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => return Err(self.failed("writing", source)),
            }
        }
        Err(KeepError::Race(self.secret.clone()))
    }

    /// Makes both configurations trust `authorities`. Whether they did before.
    pub(super) async fn trust(&self, authorities: &str) -> Result<bool, KeepError> {
        let kinds = [
            ApiResource::erase::<MutatingWebhookConfiguration>(&()),
            ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
        ];
        let mut trusted = true;
        for kind in kinds {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
            let failed = |doing, source| KeepError::Configuration {
                doing,
                configuration: format!("{} {}", kind.kind, self.service),
                source: Box::new(source),
            };
            let found = api.get_opt(&self.service).await;
            let Some(found) = found.map_err(|error| failed("reading", error))? else {
                tracing::warn!(
                    kind = kind.kind,
                    name = self.service,
                    "not installed, so no webhook is called"
                );
                continue;
            };
            let patch = self.distrustful(&found.data, authorities);
            if patch.is_empty() {
                continue;
            }
            trusted = false;
            // Operations written here are a patch.
            let patch = serde_json::from_value(Value::from(patch)).unwrap_or_default();
            api.patch(
                &self.service,
                &PatchParams::default(),
                &Patch::Json::<()>(patch),
            )
            .await
            .map_err(|error| failed("writing caBundle into", error))?;
        }
        Ok(trusted)
    }

    /// A JSON patch for the webhooks of a configuration that are ours and do not trust `authorities`.
    fn distrustful(&self, configuration: &Value, authorities: &str) -> Vec<Value> {
        let wanted = Value::from(STANDARD.encode(authorities));
        let webhooks = configuration["webhooks"].as_array();
        let mut patch = Vec::new();
        for (at, webhook) in webhooks.into_iter().flatten().enumerate() {
            let client = &webhook["clientConfig"];
            let (name, namespace) = (&client["service"]["name"], &client["service"]["namespace"]);
            let ours = name == self.service.as_str() && namespace == self.namespace.as_str();
            if !ours || client["caBundle"] == wanted {
                continue;
            }
            // Places in the list may have moved since it was read.
            let test = format!("/webhooks/{at}/name");
            let place = format!("/webhooks/{at}/clientConfig/caBundle");
            patch.push(json!({"op": "test", "path": test, "value": webhook["name"]}));
            patch.push(json!({"op": "add", "path": place, "value": wanted}));
        }
        patch
    }

    fn new_secret(&self, bundle: &Bundle) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.secret.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(data(bundle)),
            ..Secret::default()
        }
    }

    fn failed(&self, doing: &'static str, source: kube::Error) -> KeepError {
        KeepError::Secret {
            doing,
            secret: format!("{}/{}", self.namespace, self.secret),
            source: Box::new(source),
        }
    }
}

fn data(bundle: &Bundle) -> BTreeMap<String, ByteString> {
    [
        (CERTIFICATE, &bundle.certificate),
        (KEY, &bundle.key),
        (AUTHORITY, &bundle.authorities),
    ]
    .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
    .into()
}

/// What is missing, or no text, is empty; judging it says so.
fn read(secret: &Secret) -> Bundle {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes
            .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .unwrap_or_default()
    };
    Bundle {
        authorities: text(AUTHORITY),
        certificate: text(CERTIFICATE),
        key: text(KEY),
    }
}
