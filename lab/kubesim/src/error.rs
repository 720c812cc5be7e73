//! Refusals: every way the API says no, in one place.
//!
//! Texts, reasons and codes are the API server's own, since clients match on them.

use serde_json::{Value, json};

use crate::registry::{Resource, dotted};

/// One reason inside a refusal, as `details.causes` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// For people, without the field.
    pub message: String,
    /// JSON path of the field; empty when the cause is no field.
    pub field: String,
}

impl Cause {
    /// A field whose value is not allowed.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        let message = format!("Invalid value: {value}: {why}");
        Self {
            reason: "FieldValueInvalid",
            message,
            field: field.into(),
        }
    }

    /// A field that must be there; `why` may be empty.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = match why {
            "" => "Required value".to_owned(),
            why => format!("Required value: {why}"),
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// A field that may not be set or changed this way.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            message: format!("Forbidden: {why}"),
            field: field.into(),
        }
    }
}

/// What a conflict calls the kind of its object: each place in the API server has its own habit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// `pods`
    Plural,
    /// `pods/binding`
    Binding,
    /// `Pod`
    Kind,
}

impl Named {
    fn of(self, resource: &'static Resource) -> &'static str {
        match self {
            Self::Plural => resource.plural,
            Self::Binding => "pods/binding",
            Self::Kind => resource.kind,
        }
    }

    fn qualified(self, resource: &'static Resource) -> String {
        dotted(self.of(resource), resource.group)
    }
}

/// A refused request: the `Status` object that says so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    code: u16,
    reason: &'static str,
    message: String,
    details: Option<Value>,
}

impl ApiError {
    /// The HTTP status.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// `Status.reason`; empty where the API server gives none.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The body of the answer.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if let Some(details) = &self.details {
            status["details"] = details.clone();
        }
        status
    }

    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn with(self, details: Value) -> Self {
        Self {
            details: Some(details),
            ..self
        }
    }

    /// About one object, which `kind` names in the details.
    fn about(self, resource: &Resource, kind: &str, name: &str, causes: &[Cause]) -> Self {
        let mut details = json!({ "name": name, "kind": kind });
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        if !causes.is_empty() {
            details["causes"] = as_json(causes);
        }
        self.with(details)
    }

    /// No such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message).about(resource, resource.plural, name, &[])
    }

    /// No such path.
    pub fn path_not_found() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(404, "NotFound", message).with(json!({}))
    }

    /// The name is taken.
    pub fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, resource.plural, name, &[])
    }

    /// The object is not in the state the request assumes.
    pub fn conflict(resource: &'static Resource, kind: Named, name: &str, why: &str) -> Self {
        let named = kind.qualified(resource);
        let message = format!("Operation cannot be fulfilled on {named} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(resource, kind.of(resource), name, &[])
    }

    /// `metadata.resourceVersion` of the request is not the object's.
    pub fn stale(resource: &'static Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, Named::Plural, name, why)
    }

    /// A server-side apply would take over `fields` of the managers named with them.
    pub fn apply_conflict(fields: &[(String, String)]) -> Self {
        let (count, plural) = (fields.len(), if fields.len() == 1 { "" } else { "s" });
        let message = format!(
            "Apply failed with {count} conflict{plural}: {}",
            fought(fields)
        );
        let causes = fields.iter().map(|(manager, field)| Cause {
            reason: "FieldManagerConflict",
            message: format!("conflict with {manager:?}"),
            field: field.clone(),
        });
        let causes: Vec<_> = causes.collect();
        Self::new(409, "Conflict", message).with(json!({ "causes": as_json(&causes) }))
    }

    /// The object breaks rules of its kind.
    pub fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Self {
        let kind = resource.qualified_kind();
        let message = format!("{kind} {name:?} is invalid: {}", listed(causes));
        Self::new(422, "Invalid", message).about(resource, resource.kind, name, causes)
    }

    /// A write without the version that its kind insists on. The API server prints a number in
    /// hexadecimal here, and the resource instead of the kind.
    pub fn unversioned(resource: &Resource, name: &str) -> Self {
        let causes = [Cause {
            reason: "FieldValueInvalid",
            message: "Invalid value: 0x0: must be specified for an update".into(),
            field: "metadata.resourceVersion".into(),
        }];
        let named = resource.qualified();
        let message = format!("{named} {name:?} is invalid: {}", listed(&causes));
        Self::new(422, "Invalid", message).about(resource, resource.plural, name, &causes)
    }

    /// The request's options break their rules.
    pub fn invalid_options(options: &str, causes: &[Cause]) -> Self {
        let message = format!("{options}.meta.k8s.io \"\" is invalid: {}", listed(causes));
        let group = "meta.k8s.io";
        let details = json!({ "group": group, "kind": options, "causes": as_json(causes) });
        Self::new(422, "Invalid", message).with(details)
    }

    /// Admission says no.
    pub fn forbidden(resource: &Resource, name: &str, why: &str, causes: &[Cause]) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message).about(resource, resource.plural, name, causes)
    }

    /// A webhook says no, with a code and a reason of its own.
    pub(crate) fn denied(code: u16, reason: &str, message: String) -> Self {
        // Reasons of the API are few and known; another one is told by the message.
        let known = [
            "Forbidden",
            "Invalid",
            "BadRequest",
            "Conflict",
            "AlreadyExists",
        ];
        let known = known.into_iter().find(|known| *known == reason);
        Self::new(code, known.unwrap_or_default(), message)
    }

    /// A webhook that must be asked cannot be.
    pub(crate) fn webhook_failed(webhook: &str, why: &str) -> Self {
        let what = format!("failed calling webhook {webhook:?}: {why}");
        let message = format!("Internal error occurred: {what}");
        let causes = json!([{ "message": what }]);
        Self::new(500, "InternalError", message).with(json!({ "causes": causes }))
    }

    /// The request does not parse.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// A patch parsed but cannot be applied to this object (a failing `test`).
    pub fn patch_rejected() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message).with(json!({}))
    }

    /// What happened since `revision` is forgotten up to `floor`.
    pub fn expired(revision: u64, floor: u64) -> Self {
        let message = format!("too old resource version: {revision} ({floor})");
        Self::new(410, "Expired", message)
    }

    /// A list as of a revision that has not happened yet.
    pub fn future_version(asked: u64, current: u64) -> Self {
        let what = "Too large resource version";
        let message = format!("Timeout: {what}: {asked}, current: {current}");
        let cause = json!({ "reason": "ResourceVersionTooLarge", "message": what });
        let details = json!({ "causes": [cause], "retryAfterSeconds": 1 });
        Self::new(504, "Timeout", message).with(details)
    }

    /// The verb is not served here.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message).with(json!({}))
    }

    /// No representation the client accepts.
    pub fn not_acceptable() -> Self {
        let message = "only the following media types are accepted: application/json";
        Self::new(406, "NotAcceptable", message).with(json!({}))
    }

    /// A body in a format that is not read.
    pub fn unsupported_media_type() -> Self {
        let message = "the body of the request was in an unknown format - accepted media types \
                       include: application/json";
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// A patch of a kind that is not known.
    pub fn unsupported_patch() -> Self {
        Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type").with(json!({}))
    }

    /// A body past the `limit` in bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// What the API server reports as a fault of its own.
    pub fn internal(why: impl Into<String>) -> Self {
        Self::new(500, "", why)
    }
}

fn as_json(causes: &[Cause]) -> Value {
    causes
        .iter()
        .map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field }))
        .collect()
}

/// Who holds what, as structured-merge-diff lists it.
fn fought(fields: &[(String, String)]) -> String {
    if let [(manager, field)] = fields {
        return format!("conflict with {manager:?}: {field}");
    }
    let mut lines = Vec::new();
    for of_one in fields.chunk_by(|a, b| a.0 == b.0) {
        lines.push(format!("conflicts with {:?}:", of_one[0].0));
        lines.extend(of_one.iter().map(|(_, field)| format!("- {field}")));
    }
    lines.join("\n")
}

/// Several errors are bracketed, one stands alone, as apimachinery aggregates them.
fn listed(causes: &[Cause]) -> String {
    let texts: Vec<_> = causes
        .iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect();
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
