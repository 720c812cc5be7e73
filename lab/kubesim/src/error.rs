//! Refusals: every way the API says no, and the `Status` object that says it.
//!
//! Texts, reasons and codes are the API server's own, since clients match on them.

use serde_json::{Value, json};

use crate::registry::Resource;

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

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No such object.
    #[error("{} {name:?} not found", resource.qualified())]
    NotFound {
        /// Of which kind.
        resource: &'static Resource,
        /// Under which name.
        name: String,
    },
    /// No such path.
    #[error("the server could not find the requested resource")]
    PathNotFound,
    /// The name is taken.
    #[error("{} {name:?} already exists", resource.qualified())]
    AlreadyExists {
        /// Of which kind.
        resource: &'static Resource,
        /// Under which name.
        name: String,
    },
    /// The object is not in the state the request assumes.
    #[error("Operation cannot be fulfilled on {}{subresource} {name:?}: {why}", resource.qualified())]
    Conflict {
        /// Of which kind.
        resource: &'static Resource,
        /// `/binding` or empty.
        subresource: &'static str,
        /// Under which name.
        name: String,
        /// What did not hold.
        why: String,
    },
    /// A server-side apply would take over fields of other managers.
    #[error("Apply failed with {} conflict{}: {}", causes.len(), plural(causes), listed(causes))]
    ApplyConflict {
        /// One per field.
        causes: Vec<Cause>,
    },
    /// The object breaks rules of its kind.
    #[error("{} {name:?} is invalid: {}", resource.qualified_kind(), listed(causes))]
    Invalid {
        /// Of which kind.
        resource: &'static Resource,
        /// Under which name.
        name: String,
        /// One per broken rule.
        causes: Vec<Cause>,
    },
    /// The request's options break their rules.
    #[error("{options}.meta.k8s.io \"\" is invalid: {}", listed(causes))]
    InvalidOptions {
        /// Which options.
        options: &'static str,
        /// One per broken rule.
        causes: Vec<Cause>,
    },
    /// Admission says no.
    #[error("{} {name:?} is forbidden: {why}", resource.qualified())]
    Forbidden {
        /// Of which kind.
        resource: &'static Resource,
        /// Under which name.
        name: String,
        /// The rule.
        why: String,
        /// What clients match on.
        causes: Vec<Cause>,
    },
    /// The request does not parse.
    #[error("{0}")]
    BadRequest(String),
    /// A patch parsed but cannot be applied to this object (a failing `test`).
    #[error("the server rejected our request due to an error in our request")]
    PatchRejected,
    /// The version asked for is no longer in the history.
    #[error("{0}")]
    Expired(String),
    /// A list as of a revision that has not happened yet.
    #[error("Too large resource version: {asked}, current: {current}")]
    FutureVersion {
        /// The revision of the request.
        asked: u64,
        /// The latest one.
        current: u64,
    },
    /// The verb is not served here.
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    /// No representation the client accepts.
    #[error("only the following media types are accepted: application/json")]
    NotAcceptable,
    /// A body in a format that is not read.
    #[error("the body of the request was in an unknown format - accepted media types include: {0}")]
    UnsupportedMediaType(&'static str),
    /// A body past the limit, in bytes.
    #[error("Request entity too large: limit is {0}")]
    TooLarge(usize),
    /// What the API server reports as a fault of its own.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// `metadata.resourceVersion` of the request is not the object's.
    pub fn stale(resource: &'static Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::Conflict {
            resource,
            subresource: "",
            name: name.into(),
            why: why.into(),
        }
    }

    /// The HTTP status.
    pub fn code(&self) -> u16 {
        match self {
            Self::NotFound { .. } | Self::PathNotFound => 404,
            Self::AlreadyExists { .. } | Self::Conflict { .. } | Self::ApplyConflict { .. } => 409,
            Self::Invalid { .. } | Self::InvalidOptions { .. } | Self::PatchRejected => 422,
            Self::Forbidden { .. } => 403,
            Self::BadRequest(_) => 400,
            Self::Expired(_) => 410,
            Self::FutureVersion { .. } => 504,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::UnsupportedMediaType(_) => 415,
            Self::TooLarge(_) => 413,
            Self::Internal(_) => 500,
        }
    }

    /// `Status.reason`; empty where the API server gives none.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::PathNotFound => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::Conflict { .. } | Self::ApplyConflict { .. } => "Conflict",
            Self::Invalid { .. } | Self::InvalidOptions { .. } | Self::PatchRejected => "Invalid",
            Self::Forbidden { .. } => "Forbidden",
            Self::BadRequest(_) => "BadRequest",
            Self::Expired(_) => "Expired",
            Self::FutureVersion { .. } => "Timeout",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType(_) => "UnsupportedMediaType",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::Internal(_) => "",
        }
    }

    /// The body of the answer.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": self.reason(), "code": self.code(),
        });
        if self.reason().is_empty()
            && let Some(fields) = status.as_object_mut()
        {
            fields.remove("reason");
        }
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }

    fn details(&self) -> Option<Value> {
        let (resource, kind, name, causes): (_, _, _, &[Cause]) = match self {
            Self::NotFound { resource, name } | Self::AlreadyExists { resource, name } => {
                (resource, resource.plural, name, &[])
            }
            Self::Conflict { resource, name, .. } => (resource, resource.plural, name, &[]),
            Self::Forbidden {
                resource,
                name,
                causes,
                ..
            } => (resource, resource.plural, name, causes),
            Self::Invalid {
                resource,
                name,
                causes,
            } => (resource, resource.kind, name, causes),
            Self::InvalidOptions { options, causes } => {
                let causes = as_json(causes);
                return Some(json!({ "group": "meta.k8s.io", "kind": options, "causes": causes }));
            }
            Self::ApplyConflict { causes } => return Some(json!({ "causes": as_json(causes) })),
            Self::FutureVersion { .. } => {
                let cause = json!({
                    "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
                });
                return Some(json!({ "causes": [cause], "retryAfterSeconds": 1 }));
            }
            Self::PathNotFound | Self::MethodNotAllowed | Self::PatchRejected => {
                return Some(json!({}));
            }
            _ => return None,
        };
        let mut details = json!({ "name": name, "kind": kind });
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        if !causes.is_empty() {
            details["causes"] = as_json(causes);
        }
        Some(details)
    }
}

fn as_json(causes: &[Cause]) -> Value {
    causes
        .iter()
        .map(|c| json!({ "reason": c.reason, "message": c.message, "field": c.field }))
        .collect()
}

fn plural(causes: &[Cause]) -> &'static str {
    if causes.len() == 1 { "" } else { "s" }
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
