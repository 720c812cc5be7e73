//! The two signatures of the OpenAPI gateway, checked from the cloud's description of them.
//!
//! Version 1.0 (HMAC-SHA1 over sorted parameters) and version 3 (ACS3-HMAC-SHA256 over a canonical
//! request with signed headers). Nothing here knows keys or the time; [`crate::gate`] does.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac as _};
use model::Timestamp;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{
    iso,
    params::Params,
    refusal::{Outcome, Refusal},
    request::{ApiRequest, encode},
};

const ACS3: &str = "ACS3-HMAC-SHA256";
/// A signature that leaves these out would let anyone change them on the way.
const SIGNED_ALWAYS: [&str; 6] = [
    "host",
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
];

/// What a call claims about its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key_id: String,
    pub(crate) security_token: Option<String>,
    pub(crate) time: Timestamp,
    pub(crate) nonce: String,
    proof: Proof,
}

/// What was signed, and the signature that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Proof {
    V1 {
        string_to_sign: String,
        signature: String,
    },
    V3 {
        string_to_sign: String,
        canonical: String,
        signature: String,
    },
}

impl Claim {
    pub(crate) fn read(request: &ApiRequest, params: &Params) -> Outcome<Self> {
        match request.headers.get("authorization") {
            Some(field) if field.starts_with(ACS3) => v3(request, field),
            _ => v1(request, params),
        }
    }

    /// Whether the call is of the older kind, which names its format in a parameter.
    pub(crate) fn asks_by_parameter(&self) -> bool {
        matches!(self.proof, Proof::V1 { .. })
    }

    /// Whether the signature was made with `secret`.
    pub(crate) fn verify(&self, secret: &str) -> Outcome<()> {
        let (matches, detail) = match &self.proof {
            Proof::V1 {
                string_to_sign,
                signature,
            } => (
                hmac_sha1(&format!("{secret}&"), string_to_sign) == *signature,
                format!("server string to sign is:{string_to_sign}"),
            ),
            Proof::V3 {
                string_to_sign,
                canonical,
                signature,
            } => (
                hmac_sha256(secret, string_to_sign) == *signature,
                format!(
                    "server StringToSign is [{string_to_sign}] server CanonicalRequest is [{canonical}]"
                ),
            ),
        };
        if matches {
            return Ok(());
        }
        let message = format!("Specified signature is not matched with our calculation. {detail}");
        Err(Refusal::new(400, "SignatureDoesNotMatch", message))
    }
}

fn time(name: &str, text: &str) -> Outcome<Timestamp> {
    iso::parse(text).ok_or_else(|| {
        let message = format!("Specified time stamp or date value is not well formatted: {name}");
        Refusal::new(400, "InvalidTimeStamp.Format", message)
    })
}

fn v1(request: &ApiRequest, params: &Params) -> Outcome<Claim> {
    let key_id = params.required("AccessKeyId")?.to_owned();
    let signature = params.required("Signature")?.to_owned();
    let nonce = params.required("SignatureNonce")?.to_owned();
    let time = time("Timestamp", params.required("Timestamp")?)?;
    let fixed = [
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
    ];
    for (name, only) in fixed {
        if params.required(name)? != only {
            return Err(Refusal::invalid(name, only));
        }
    }
    let canonical: Vec<String> = params
        .iter()
        .filter(|(name, _)| *name != "Signature")
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let string_to_sign = format!("{}&%2F&{}", request.method, encode(&canonical.join("&")));
    let security_token = params.text("SecurityToken").map(str::to_owned);
    let proof = Proof::V1 {
        string_to_sign,
        signature,
    };
    Ok(Claim {
        key_id,
        security_token,
        time,
        nonce,
        proof,
    })
}

/// The parts of the Authorization header of version 3.
struct Authorization<'a> {
    key_id: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn read(header: &'a str) -> Outcome<Self> {
        let broken = || {
            let form = format!("{ACS3} Credential=..,SignedHeaders=..,Signature=..");
            incomplete(format!(
                "The Authorization header is not of the form {form}."
            ))
        };
        let fields = header.strip_prefix(ACS3).ok_or_else(broken)?;
        let field = |name: &str| {
            let mut pairs = fields
                .split(',')
                .filter_map(|part| part.trim().split_once('='));
            let found = pairs.find(|(key, _)| *key == name);
            found.map(|(_, value)| value).ok_or_else(broken)
        };
        Ok(Self {
            key_id: field("Credential")?,
            signed_headers: field("SignedHeaders")?,
            signature: field("Signature")?,
        })
    }
}

fn incomplete(message: String) -> Refusal {
    Refusal::new(400, "IncompleteSignature", message)
}

fn v3(request: &ApiRequest, authorization: &str) -> Outcome<Claim> {
    let authorization = Authorization::read(authorization)?;
    let signed_headers = authorization.signed_headers;
    let header = |name: &str| request.headers.get(name).map(|value| value.trim());
    let required = |name: &str| header(name).ok_or_else(|| Refusal::missing(name));
    let nonce = required("x-acs-signature-nonce")?.to_owned();
    let time = time("x-acs-date", required("x-acs-date")?)?;
    let digest = hex(&Sha256::digest(&request.body));
    if required("x-acs-content-sha256")? != digest {
        let expected = "the SHA-256 of the body";
        return Err(Refusal::invalid("x-acs-content-sha256", expected));
    }
    let signed = |name: &&str| signed_headers.split(';').any(|signed| signed == *name);
    if let Some(name) = SIGNED_ALWAYS.iter().find(|name| !signed(name)) {
        return Err(incomplete(format!("The header {name} is not signed.")));
    }
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        // Writing to a String cannot fail.
        let _ = writeln!(headers, "{name}:{}", header(name).unwrap_or_default());
    }
    let mut pairs = request.query_pairs();
    pairs.sort();
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let canonical = format!(
        "{}\n/\n{}\n{headers}\n{signed_headers}\n{digest}",
        request.method,
        query.join("&"),
    );
    let string_to_sign = format!("{ACS3}\n{}", hex(&Sha256::digest(&canonical)));
    Ok(Claim {
        key_id: authorization.key_id.to_owned(),
        security_token: header("x-acs-security-token").map(str::to_owned),
        time,
        nonce,
        proof: Proof::V3 {
            string_to_sign,
            canonical,
            signature: authorization.signature.to_owned(),
        },
    })
}

fn hmac_sha1(key: &str, text: &str) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}

fn hmac_sha256(key: &str, text: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The worked example of the page "Request signatures" (signature version 1.0).
    #[test]
    fn the_documents_example_of_version_1_verifies() {
        let request = ApiRequest {
            method: "GET".into(),
            query: "Timestamp=2016-02-23T12:46:24Z&Format=XML&AccessKeyId=testid&Action=DescribeRegions\
                    &SignatureMethod=HMAC-SHA1&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf\
                    &Version=2014-05-26&SignatureVersion=1.0&Signature=OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D"
                .into(),
            ..ApiRequest::default()
        };
        let claim = Claim::read(&request, &Params::of(&request)).unwrap();
        assert_eq!(claim.key_id, "testid");
        claim.verify("testsecret").unwrap();
        assert_eq!(
            claim.verify("testsecre").unwrap_err().code,
            "SignatureDoesNotMatch"
        );
    }

    /// The worked example of the page "V3 request body & signature mechanism".
    fn version_3_example() -> ApiRequest {
        let headers = [
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-version", "2014-05-26"),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            (
                "x-acs-content-sha256",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
            (
                "authorization",
                "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
                 x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,\
                 Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
            ),
        ];
        ApiRequest {
            method: "POST".into(),
            query:
                "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
                    .into(),
            headers: headers.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            body: Vec::new(),
        }
    }

    #[test]
    fn the_documents_example_of_version_3_verifies() {
        let request = version_3_example();
        let claim = Claim::read(&request, &Params::of(&request)).unwrap();
        claim.verify("YourAccessKeySecret").unwrap();
    }

    #[test]
    fn version_3_refuses_what_was_changed_or_left_unsigned() {
        let mut request = version_3_example();
        request.body = b"x".to_vec();
        assert!(
            Claim::read(&request, &Params::default()).is_err(),
            "a changed body"
        );
        let mut request = version_3_example();
        request.query.push('x');
        let claim = Claim::read(&request, &Params::default()).unwrap();
        assert_eq!(
            claim.verify("YourAccessKeySecret").unwrap_err().code,
            "SignatureDoesNotMatch"
        );
        let mut request = version_3_example();
        let field = request.headers.get_mut("authorization").unwrap();
        *field = field.replace("x-acs-action;", "");
        assert_eq!(
            Claim::read(&request, &Params::default()).unwrap_err().code,
            "IncompleteSignature"
        );
    }

    #[test]
    fn a_call_without_its_parts_is_refused() {
        let claim = |query: &str| {
            let request = ApiRequest {
                method: "GET".into(),
                query: query.into(),
                ..ApiRequest::default()
            };
            Claim::read(&request, &Params::of(&request))
                .unwrap_err()
                .code
        };
        let whole = "AccessKeyId=a&Signature=s&SignatureNonce=n&SignatureVersion=1.0";
        assert_eq!(claim(""), "MissingParameter");
        assert_eq!(
            claim(&format!("{whole}&SignatureMethod=HMAC-SHA1")),
            "MissingParameter"
        );
        assert_eq!(
            claim(&format!("{whole}&SignatureMethod=HMAC-SHA1&Timestamp=now")),
            "InvalidTimeStamp.Format"
        );
        assert_eq!(
            claim(&format!(
                "{whole}&SignatureMethod=MD5&Timestamp=2026-11-22T00:00:00Z"
            )),
            "InvalidParameter"
        );
    }

    /// Requests that the project's client is held to as well, signed by neither of the two.
    #[test]
    fn the_shared_fixtures_verify() {
        let place = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/cloud/requests");
        let mut files = 0;
        for entry in std::fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let members: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
            let pairs = members
                .iter()
                .map(|(name, value)| format!("{}={}", encode(name), encode(value)));
            let request = ApiRequest {
                method: "POST".into(),
                headers: [(
                    "content-type".into(),
                    "application/x-www-form-urlencoded".into(),
                )]
                .into(),
                body: pairs.collect::<Vec<_>>().join("&").into_bytes(),
                ..ApiRequest::default()
            };
            let claim = Claim::read(&request, &Params::of(&request)).unwrap();
            assert_eq!(claim.verify("testsecret"), Ok(()), "{}", path.display());
            files += 1;
        }
        assert!(files > 0, "{place} holds no request");
    }
}
