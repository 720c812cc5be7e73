//! The documents of the admission API (`admission.k8s.io`, v1 and v1beta1): read and answered.
//!
//! Must not know: what is decided.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

/// The versions spoken: both have the same form as far as it is used here.
const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];

/// Longest warning; the API server cuts at 256 (`k8s.io/api/admission`, field warnings).
const WARNING_MAX: usize = 256;

/// Why a document is no review.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReviewError {
    /// Not JSON, or not of this form.
    #[error("this is no AdmissionReview: {0}")]
    Form(#[from] serde_json::Error),
    /// A version nobody here speaks.
    #[error("apiVersion {0:?} is not spoken here: expected admission.k8s.io/v1 or v1beta1")]
    Version(String),
}

/// A review the API server asks for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    api_version: String,
    pub(super) request: Request,
}

/// What somebody asked the API server for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    uid: String,
    resource: GroupVersionResource,
    #[serde(default)]
    sub_resource: Option<String>,
    operation: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    user_info: UserInfo,
    /// The object as it would be stored; null when it is deleted.
    #[serde(default)]
    pub(super) object: Value,
    /// The object as it is stored; null when it is created.
    #[serde(default)]
    pub(super) old_object: Value,
}

#[derive(Debug, Deserialize)]
struct GroupVersionResource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Debug, Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
}

/// What is done with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
    /// Nothing that is asked about here.
    Other,
}

/// What the API server is told.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    /// It may be stored, after these operations of a JSON patch.
    Allowed {
        patch: Vec<Value>,
        warnings: Vec<String>,
    },
    /// It may not; one sentence for its author.
    Denied(String),
}

impl Answer {
    pub(super) fn unchanged() -> Self {
        Self::allowed(Vec::new(), Vec::new())
    }

    pub(super) fn allowed(patch: Vec<Value>, warnings: Vec<String>) -> Self {
        Self::Allowed { patch, warnings }
    }

    pub(super) fn denied(why: impl ToString) -> Self {
        Self::Denied(why.to_string())
    }
}

impl Request {
    /// The resource in plural; nothing for subresources and resources of other groups.
    pub(super) fn resource(&self) -> &str {
        let ours = match self.resource.group.as_str() {
            "" => self.resource.resource == "pods",
            group => group == crd::GROUP,
        };
        let whole = self.sub_resource.as_deref().unwrap_or_default().is_empty();
        match ours && whole {
            true => &self.resource.resource,
            false => "",
        }
    }

    pub(super) fn operation(&self) -> Operation {
        match self.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Other,
        }
    }

    pub(super) fn user(&self) -> &str {
        &self.user_info.username
    }
}

impl Review {
    /// # Errors
    /// When the document is none, or of a version nobody here speaks.
    pub(super) fn parse(body: &[u8]) -> Result<Self, ReviewError> {
        let review: Self = serde_json::from_slice(body)?;
        match VERSIONS.contains(&review.api_version.as_str()) {
            true => Ok(review),
            false => Err(ReviewError::Version(review.api_version)),
        }
    }

    /// The document that answers this one.
    pub(super) fn answered(&self, answer: Answer) -> Value {
        let mut response = json!({"uid": self.request.uid, "allowed": true});
        match answer {
            Answer::Denied(why) => {
                response["allowed"] = false.into();
                response["status"] = json!({"code": 403, "reason": "Forbidden", "message": why});
            }
            Answer::Allowed { patch, warnings } => {
                if !patch.is_empty() {
                    response["patchType"] = "JSONPatch".into();
                    response["patch"] = STANDARD.encode(Value::from(patch).to_string()).into();
                }
                if !warnings.is_empty() {
                    let cut = |text: String| text.chars().take(WARNING_MAX).collect();
                    let all: Vec<String> = warnings.into_iter().map(cut).collect();
                    response["warnings"] = all.into();
                }
            }
        }
        json!({
            "apiVersion": self.api_version,
            "kind": "AdmissionReview",
            "response": response,
        })
    }
}
