//! A write that webhooks want to see: tried on a copy of the cluster, shown to them, and carried out
//! as they leave it if nothing has happened to the object meanwhile.

use axum::{
    http::header::{HeaderValue, WARNING},
    response::Response,
};
use serde_json::Value;

use super::{Api, verbs::Call, webhook};
use crate::{
    ApiError, Cluster, Part, Target, UnixTime, Written,
    admission::{self, Attempt, Round, Trouble, Webhook},
    object,
    write::SYSTEM_FIELDS,
};

/// How often a write begins again because somebody else's was faster.
const TRIES: usize = 5;

/// What a write did, and what webhooks say about it.
pub(super) type Admitted = (Written, Vec<String>);

/// Carries out `change`, which may run several times.
///
/// # Errors
/// Those of `change`, and those of the webhooks.
pub(super) async fn write(
    api: &Api,
    call: &Call,
    part: Part,
    change: impl Fn(&mut Cluster, UnixTime) -> Result<Written, ApiError>,
) -> Result<Admitted, ApiError> {
    let resource = call.place.resource;
    if !api.read(|cluster| cluster.has_webhooks(resource)) {
        return Ok((call.write(api, change)?, Vec::new()));
    }
    for _ in 0..TRIES {
        let now = api.now();
        let (mut attempt, uid) = api.read(|cluster| attempt(cluster, call, part, now, &change))?;
        let mut warnings = Vec::new();
        for round in [Round::Mutating, Round::Validating] {
            for webhook in api.read(|cluster| cluster.webhooks(round, &attempt)) {
                match show(api, &webhook, &mut attempt, &uid, round).await {
                    Ok(more) => warnings.extend(more),
                    Err(Trouble::Denied(refusal)) => return Err(refusal),
                    Err(Trouble::Failed(why)) if webhook.dispensable => {
                        tracing::warn!(webhook = webhook.name, why, "a webhook is left out");
                    }
                    Err(Trouble::Failed(why)) => {
                        return Err(ApiError::webhook_failed(&webhook.name, &why));
                    }
                }
            }
        }
        let written = call.write(api, |cluster, now| carry_out(cluster, now, &attempt))?;
        if let Some(written) = written {
            return Ok((written, warnings));
        }
    }
    let why = "the object was changed again and again while webhooks looked at it";
    Err(ApiError::internal(why))
}

/// The answer with what webhooks say.
pub(super) fn warned(mut response: Response, warnings: Vec<String>) -> Response {
    for warning in warnings {
        // A text that fits into no header is a warning nobody sees.
        if let Ok(value) = HeaderValue::try_from(format!("299 - {warning:?}")) {
            response.headers_mut().append(WARNING, value);
        }
    }
    response
}

/// What `change` would write, as a webhook is shown it.
fn attempt<'a>(
    cluster: &Cluster,
    call: &'a Call,
    part: Part,
    now: UnixTime,
    change: impl Fn(&mut Cluster, UnixTime) -> Result<Written, ApiError>,
) -> Result<(Attempt<'a>, String), ApiError> {
    let mut copy = cluster.clone();
    let mut attempt = Attempt {
        resource: call.place.resource,
        part,
        namespace: &call.place.namespace,
        dry_run: !call.parameter("dryRun").is_empty(),
        object: Value::Null,
        old: None,
    };
    match change(&mut copy, now)? {
        Written::Updated(object) => {
            attempt.object = Value::clone(&object);
            let old = cluster.get(target(&attempt))?;
            attempt.object["metadata"]["resourceVersion"] =
                old["metadata"]["resourceVersion"].clone();
            attempt.old = Some(Value::clone(&old));
        }
        // Webhooks look before the server names it.
        Written::Created(object) => {
            attempt.object = Value::clone(&object);
            let generated = !object::text(&object, "/metadata/generateName").is_empty();
            let meta = object::metadata(&mut attempt.object);
            meta.retain(|field, _| {
                let names = generated && field == "name";
                !names && !SYSTEM_FIELDS.contains(&field.as_str())
            });
        }
    }
    Ok((attempt, copy.ids.uid()))
}

fn target<'a>(attempt: &'a Attempt<'_>) -> Target<'a> {
    Target {
        resource: attempt.resource,
        namespace: attempt.namespace,
        name: object::text(&attempt.object, "/metadata/name"),
    }
}

/// Shows one webhook the object as it is by now, and changes it as that one wishes.
async fn show(
    api: &Api,
    webhook: &Webhook,
    attempt: &mut Attempt<'_>,
    uid: &str,
    round: Round,
) -> Result<Vec<String>, Trouble> {
    let answer = webhook::ask(&api.0.dial, webhook, &attempt.review(uid)).await;
    let consent = admission::read(webhook, uid, &answer.map_err(Trouble::Failed)?)?;
    match consent.patch {
        Some(patch) if round == Round::Mutating => {
            let patched = json_patch::patch(&mut attempt.object, &patch);
            patched.map_err(|error| Trouble::Failed(format!("its patch does not fit: {error}")))?;
        }
        _ => {}
    }
    Ok(consent.warnings)
}

/// Writes what came of it; nothing when the object is not what they were shown any more.
fn carry_out(
    cluster: &mut Cluster,
    now: UnixTime,
    attempt: &Attempt<'_>,
) -> Result<Option<Written>, ApiError> {
    let (target, object) = (target(attempt), attempt.object.clone());
    let Some(old) = &attempt.old else {
        let made = cluster.create(now, attempt.resource, attempt.namespace, object)?;
        return Ok(Some(Written::Created(made)));
    };
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    if cluster.get(target).map(|there| version(&there)) != Ok(version(old)) {
        return Ok(None);
    }
    cluster.update(now, target, attempt.part, object).map(Some)
}
