//! The documents of the CNI specification 1.1 and earlier (containernetworking/cni, SPEC.md):
//! environment, configuration, result and error.

mod config;
mod env;
mod error;
mod result;

pub use config::{CONFIG_BYTES_MAX, NetConf, RuntimeConfig};
pub use env::{CniArgs, Command, Environment};
pub use error::{Code, Error};
pub use result::{AddResult, Interface, Ip};

/// The versions of the specification this plugin speaks, oldest first.
pub const VERSIONS: [&str; 6] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.1"];

/// The answer to VERSION.
pub fn version_document(requested: &str) -> String {
    let current = if VERSIONS.contains(&requested) {
        requested
    } else {
        "1.1.0"
    };
    let supported = &VERSIONS[..5];
    serde_json::json!({ "cniVersion": current, "supportedVersions": supported }).to_string()
}
