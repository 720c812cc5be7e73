//! The resources PodNetworking and PodENI: as Kubernetes stores them, and as decisions know them.
//!
//! What comes from the API server is parsed into `model` types here, once; what does not fit is refused with
//! the field's name. Must not know: the API server, watches, who reads or writes.

pub mod definition;
pub mod duration;
pub mod keys;
mod network;
pub mod pod;
pub mod podeni;
pub mod podnetworking;
mod selector;
mod time;

pub use network::{AllocationType, EniOptions, FieldError, Route, VSwitchSelectOptions};
pub use podeni::PodEni;
pub use podnetworking::PodNetworking;
pub use selector::{LabelSelector, LabelSelectorRequirement};

/// The API group of both.
pub const GROUP: &str = "network.alibabacloud.com";

/// Its version.
pub const VERSION: &str = "v1beta1";
