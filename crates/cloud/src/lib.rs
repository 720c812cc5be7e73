//! The cloud's borders: its OpenAPI and its instance metadata service.
//!
//! Requests are values. What a call says ([`ecs`], [`vpc`]), how it is signed ([`rpc`]), what an
//! answer means and which failure is of which class ([`error`]) are pure functions over bytes and
//! text; time, nonce and credentials are arguments. [`Client`] and [`metadata::Metadata`] only
//! carry those values over the network, within a deadline and a size.
//!
//! Nothing here decides, retries a cloud call, limits rates, or knows Kubernetes or the kernel:
//! whoever calls looks at [`model::FaultClass`] and chooses.

pub mod call;
pub mod classify;
pub mod client;
pub mod config;
pub mod credential;
mod document;
pub mod ecs;
pub mod error;
pub mod keys;
pub mod metadata;
pub mod rpc;
pub mod transport;
mod utc;
pub mod vpc;

pub use call::{Call, RequestError};
pub use classify::classify;
pub use client::{Answer, Client, ClientError};
pub use config::{Config, ConfigError, Endpoint, Scheme};
pub use credential::{CredentialError, Credentials, Source};
pub use document::DecodeError;
pub use error::CloudError;
pub use keys::{Keys, Secret};
pub use metadata::{InstanceFacts, InterfaceFacts, Metadata, MetadataError};
pub use transport::Deadline;
