//! Who this program is to the API server.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

/// Where kubelet puts the token of a pod's service account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The user name, from the token's own words (`sub`, as the API server wrote it). None outside a cluster.
pub(super) fn name() -> Option<String> {
    subject(&std::fs::read_to_string(TOKEN).ok()?)
}

fn subject(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims["sub"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is() {
        let name = "system:serviceaccount:kube-system:terway-controlplane";
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{name}"}}"#));
        assert_eq!(subject(&format!("e30.{claims}.sig")).as_deref(), Some(name));
        for bad in ["", "a.b.c", "e30.e30.e30"] {
            assert_eq!(subject(bad), None, "{bad}");
        }
    }
}
