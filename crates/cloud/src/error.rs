//! Why a call has no answer, one variant a step, each with its class.
//!
//! No variant carries a secret: the cloud echoes signed text in some refusals, and that is cut out
//! before it gets here.

use std::sync::Arc;

use model::{FaultClass, RequestId};

use crate::{CredentialError, DecodeError, RequestError, transport::TransportError};

pub use crate::classify::classify;

/// Why a call of the cloud's API has no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The call is outside the API's documented limits and was not sent.
    #[error("{action} was not sent: the request is outside the API's limits")]
    Request {
        /// The call.
        action: &'static str,
        /// Which limit.
        source: RequestError,
    },
    /// There is nothing to sign the call with; it was not sent.
    #[error("{action} was not sent: no credentials")]
    Credential {
        /// The call.
        action: &'static str,
        /// Which source failed. Shared by all calls that waited for it.
        source: Arc<CredentialError>,
    },
    /// The cloud answered no.
    #[error(
        "{action} was refused with {code} (HTTP {http_status}, {class}): {message} [RequestId {}]",
        shown(request_id)
    )]
    Refused {
        /// The call.
        action: &'static str,
        /// The cloud's code, for example `InvalidVSwitchId.IpNotEnough`.
        code: String,
        /// The cloud's words, cut to a readable length and free of signed text.
        message: String,
        /// The cloud's name for the call, when it gave one.
        request_id: Option<RequestId>,
        /// HTTP status.
        http_status: u16,
        /// What the code means.
        class: FaultClass,
    },
    /// The call or its answer was lost on the way.
    #[error("{action} got no answer: its outcome is unknown")]
    Transport {
        /// The call.
        action: &'static str,
        /// What happened.
        source: TransportError,
    },
    /// The deadline passed first.
    #[error("{action} got no answer before its deadline: its outcome is unknown")]
    Deadline {
        /// The call.
        action: &'static str,
    },
    /// There is an answer, but it cannot be read.
    #[error(
        "{action} got an answer that cannot be read (HTTP {http_status}) [RequestId {}]",
        shown(request_id)
    )]
    Undecodable {
        /// The call.
        action: &'static str,
        /// The cloud's name for the call, when it could be read.
        request_id: Option<RequestId>,
        /// HTTP status.
        http_status: u16,
        /// What is wrong with the answer.
        source: DecodeError,
    },
}

fn shown(request_id: &Option<RequestId>) -> &str {
    request_id.as_ref().map_or("not given", RequestId::as_str)
}

impl CloudError {
    /// What a decision may conclude.
    pub fn class(&self) -> FaultClass {
        match self {
            CloudError::Request { .. } => FaultClass::Invalid,
            CloudError::Credential { .. } => FaultClass::Denied,
            CloudError::Refused { class, .. } => *class,
            CloudError::Transport { .. }
            | CloudError::Deadline { .. }
            | CloudError::Undecodable { .. } => FaultClass::Unknown,
        }
    }

    /// The call that failed.
    pub fn action(&self) -> &'static str {
        match self {
            CloudError::Request { action, .. }
            | CloudError::Credential { action, .. }
            | CloudError::Refused { action, .. }
            | CloudError::Transport { action, .. }
            | CloudError::Deadline { action }
            | CloudError::Undecodable { action, .. } => action,
        }
    }

    /// The cloud's code, when it refused the call.
    pub fn code(&self) -> Option<&str> {
        match self {
            CloudError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The cloud's name for the call, to be quoted to its support.
    pub fn request_id(&self) -> Option<&RequestId> {
        match self {
            CloudError::Refused { request_id, .. } | CloudError::Undecodable { request_id, .. } => {
                request_id.as_ref()
            }
            _ => None,
        }
    }

    pub(crate) fn transport(action: &'static str, source: TransportError) -> Self {
        match source {
            TransportError::Deadline => CloudError::Deadline { action },
            source => CloudError::Transport { action, source },
        }
    }
}
