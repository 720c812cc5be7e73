//! Which webhooks want to see a write, what they are told, and what their answers mean. Pure: who
//! carries the question is not known here.
//!
//! Not carried out: writes other than CREATE and UPDATE, `clientConfig.url`, a second round for those
//! who ask to be invoked again. `matchConditions` are refused when a configuration is written.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Target},
    error::{ApiError, Cause},
    object,
    registry::{ADMISSION, ENDPOINTS, MUTATING, NAMESPACES, Resource, SERVICES, VALIDATING},
    selector::Selector,
    write::Part,
};

/// Seconds a webhook may take that says nothing.
const TIMEOUT_SECONDS: u64 = 10;

/// What is about to be written.
#[derive(Debug, Clone)]
pub(crate) struct Attempt<'a> {
    pub(crate) resource: &'static Resource,
    pub(crate) part: Part,
    pub(crate) namespace: &'a str,
    pub(crate) dry_run: bool,
    pub(crate) object: Value,
    /// What it replaces; nothing for what is new.
    pub(crate) old: Option<Value>,
}

/// The two rounds, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    Mutating,
    Validating,
}

/// Somebody who wants to see it.
#[derive(Debug)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    /// `failurePolicy: Ignore`.
    pub(crate) dispensable: bool,
    pub(crate) timeout: Duration,
    /// Where it listens, or why nobody knows.
    pub(crate) addresses: Result<Vec<SocketAddr>, String>,
    /// The name its certificate must have.
    pub(crate) host: String,
    pub(crate) path: String,
    /// The certificates its own must be signed by, in PEM.
    pub(crate) authority: Vec<u8>,
}

/// What a webhook that agrees wants besides.
#[derive(Debug, Default)]
pub(crate) struct Consent {
    pub(crate) patch: Option<json_patch::Patch>,
    pub(crate) warnings: Vec<String>,
}

/// Why a write does not go on, or would not.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It says no.
    Denied(ApiError),
    /// It says nothing of use.
    Failed(String),
}

impl Attempt<'_> {
    fn operation(&self) -> &'static str {
        match self.old {
            None => "CREATE",
            Some(_) => "UPDATE",
        }
    }

    fn subresource(&self) -> &'static str {
        match self.part {
            Part::Whole => "",
            Part::Status => "status",
        }
    }

    /// The question, as `AdmissionReview`.
    pub(crate) fn review(&self, uid: &str) -> Value {
        let Resource {
            group,
            version,
            kind,
            plural,
            ..
        } = self.resource;
        let kind = json!({ "group": group, "version": version, "kind": kind });
        let resource = json!({ "group": group, "version": version, "resource": plural });
        let mut request = json!({
            "uid": uid, "kind": kind, "requestKind": kind, "resource": resource,
            "requestResource": resource, "name": object::text(&self.object, "/metadata/name"),
            "operation": self.operation(), "object": self.object, "oldObject": self.old,
            "dryRun": self.dry_run, "options": null,
            // This server asks nobody who they are.
            "userInfo": { "username": "system:unsecured", "groups": ["system:masters", "system:authenticated"] },
        });
        for (name, value) in [
            ("namespace", self.namespace),
            ("subResource", self.subresource()),
            ("requestSubResource", self.subresource()),
        ] {
            if !value.is_empty() {
                request[name] = value.into();
            }
        }
        json!({ "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request })
    }

    fn matches(&self, cluster: &Cluster, webhook: &Value) -> bool {
        let rules = object::items(webhook, "/rules");
        rules.iter().any(|rule| self.falls_under(rule))
            && self.in_namespace(cluster, webhook)
            && [Some(&self.object), self.old.as_ref()]
                .into_iter()
                .flatten()
                .any(|object| Selector::of_labels(&webhook["objectSelector"]).matches(object))
    }

    fn falls_under(&self, rule: &Value) -> bool {
        let names = |list: &str, own: &str| {
            let names = object::items(rule, list).iter();
            names
                .filter_map(Value::as_str)
                .any(|name| name == own || name == "*")
        };
        let resource = match self.part {
            Part::Whole => self.resource.plural.to_owned(),
            Part::Status => format!("{}/status", self.resource.plural),
        };
        let scope = match object::text(rule, "/scope") {
            "Namespaced" => self.resource.namespaced,
            "Cluster" => !self.resource.namespaced,
            _ => true,
        };
        scope
            && names("/operations", self.operation())
            && names("/apiGroups", self.resource.group)
            && names("/apiVersions", self.resource.version)
            && names("/resources", &resource)
    }

    /// What lives in no namespace is in all of them; a namespace is in itself.
    fn in_namespace(&self, cluster: &Cluster, webhook: &Value) -> bool {
        let selector = Selector::of_labels(&webhook["namespaceSelector"]);
        if self.resource == &NAMESPACES {
            return selector.matches(&self.object);
        }
        let namespace = cluster.get(Target {
            resource: &NAMESPACES,
            namespace: "",
            name: self.namespace,
        });
        !self.resource.namespaced || namespace.is_ok_and(|namespace| selector.matches(&namespace))
    }
}

impl Cluster {
    /// Whether anybody could want to see writes of `resource`. Configurations of webhooks are shown to
    /// none, or nobody could mend one.
    pub(crate) fn has_webhooks(&self, resource: &Resource) -> bool {
        let any = |configurations| self.objects_of(configurations).next().is_some();
        resource.group != ADMISSION && (any(&MUTATING) || any(&VALIDATING))
    }

    /// The webhooks that want to see `attempt`, by the names of their configurations.
    pub(crate) fn webhooks(&self, round: Round, attempt: &Attempt<'_>) -> Vec<Webhook> {
        let configurations = match round {
            Round::Mutating => &MUTATING,
            Round::Validating => &VALIDATING,
        };
        self.objects_of(configurations)
            .flat_map(|(_, configuration)| object::items(configuration, "/webhooks"))
            .filter(|webhook| attempt.matches(self, webhook))
            .map(|webhook| self.webhook(webhook))
            .collect()
    }

    fn webhook(&self, webhook: &Value) -> Webhook {
        let client = &webhook["clientConfig"];
        let [name, namespace] =
            ["name", "namespace"].map(|key| object::text(client, &format!("/service/{key}")));
        let seconds = webhook["timeoutSeconds"]
            .as_u64()
            .unwrap_or(TIMEOUT_SECONDS);
        Webhook {
            name: object::text(webhook, "/name").to_owned(),
            dispensable: webhook["failurePolicy"] == "Ignore",
            timeout: Duration::from_secs(seconds),
            addresses: self.endpoints(
                namespace,
                name,
                client["service"]["port"].as_u64().unwrap_or(443),
            ),
            host: format!("{name}.{namespace}.svc"),
            path: match object::text(client, "/service/path") {
                "" => "/".to_owned(),
                path => path.to_owned(),
            },
            // What is no base64 is no certificate either, which the handshake tells.
            authority: STANDARD
                .decode(object::text(client, "/caBundle"))
                .unwrap_or_default(),
        }
    }

    /// The addresses behind a port of a service.
    fn endpoints(&self, namespace: &str, name: &str, port: u64) -> Result<Vec<SocketAddr>, String> {
        let stored = |resource| {
            self.get(Target {
                resource,
                namespace,
                name,
            })
        };
        let service = stored(&SERVICES).map_err(|_| format!("service {name:?} not found"))?;
        let none = || format!("no endpoints available for service {name:?}");
        let endpoints = stored(&ENDPOINTS).map_err(|_| none())?;
        let ports = object::items(&service, "/spec/ports");
        let wanted = ports
            .iter()
            .find(|each| each["port"].as_u64() == Some(port));
        let wanted = wanted.ok_or_else(|| format!("service {name:?} has no port {port}"))?;
        let mut found = Vec::new();
        for subset in object::items(&endpoints, "/subsets") {
            let mut ports = object::items(subset, "/ports").iter();
            let port = ports.find(|each| each["name"] == wanted["name"]);
            let port = port.and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
            let ips = object::items(subset, "/addresses").iter();
            let ips = ips.filter_map(|each| object::text(each, "/ip").parse().ok());
            found.extend(ips.filter_map(|ip| Some(SocketAddr::new(ip, port?))));
        }
        if found.is_empty() {
            Err(none())
        } else {
            Ok(found)
        }
    }
}

/// Reads the answer to the question `uid`.
pub(crate) fn read(webhook: &Webhook, uid: &str, answer: &Value) -> Result<Consent, Trouble> {
    let response = &answer["response"];
    let failed = |why: &str| Trouble::Failed(why.to_owned());
    if answer["kind"] != "AdmissionReview" || response["uid"] != uid {
        return Err(failed("the answer is no AdmissionReview of this question"));
    }
    if response["allowed"] != true {
        return Err(Trouble::Denied(denial(&webhook.name, response)));
    }
    let patch = match object::text(response, "/patch") {
        "" => None,
        _ if response["patchType"] != "JSONPatch" => {
            return Err(failed("a patch of no known type"));
        }
        text => Some(decode(text).ok_or_else(|| failed("the patch is no JSON Patch in base64"))?),
    };
    let warnings = object::items(response, "/warnings").iter();
    let warnings = warnings.filter_map(Value::as_str).map(str::to_owned);
    Ok(Consent {
        patch,
        warnings: warnings.collect(),
    })
}

fn decode(text: &str) -> Option<json_patch::Patch> {
    serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
}

fn denial(webhook: &str, response: &Value) -> ApiError {
    let told = ["/status/message", "/status/reason"].map(|at| object::text(response, at));
    let why = match told {
        ["", ""] => " without explanation".to_owned(),
        ["", reason] => format!(": {reason}"),
        [message, _] => format!(": {message}"),
    };
    let code = response["status"]["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    let message = format!("admission webhook {webhook:?} denied the request{why}");
    // An answer that says no is never one of success.
    ApiError::denied(code.unwrap_or_default().max(400), told[1], message)
}

/// Refuses what a configuration asks for that is not carried out.
pub(crate) fn check(configuration: &Value, causes: &mut Vec<Cause>) {
    for (at, webhook) in object::items(configuration, "/webhooks").iter().enumerate() {
        if !object::items(webhook, "/matchConditions").is_empty() {
            let field = format!("webhooks[{at}].matchConditions");
            causes.push(Cause::forbidden(field, "this server evaluates none"));
        }
    }
}
