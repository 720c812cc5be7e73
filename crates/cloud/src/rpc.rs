//! The cloud's RPC convention: one flat map of parameters, sorted, encoded and signed.
//!
//! Signature version 1.0 with HMAC-SHA1, as the public documentation "RPC signature" defines it.
//! Pure: time and nonce are arguments, and nothing here knows which actions exist.

use core::fmt::{self, Write as _};
use std::collections::BTreeMap;

use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderValue, Method, Request, header};
use hyper::body::Bytes;
use model::RegionId;
use sha1::Sha1;

use crate::{Endpoint, Keys, Secret};

/// What we call ourselves in the cloud's logs.
pub const USER_AGENT: &str = concat!("terway-rs/", env!("CARGO_PKG_VERSION"));

/// Which of the cloud's services a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Elastic Compute Service: instances and ENIs.
    Ecs,
    /// Virtual Private Cloud: vSwitches and route tables.
    Vpc,
}

impl Product {
    /// The API version, a date, that every call names.
    pub const fn version(self) -> &'static str {
        match self {
            Product::Ecs => "2014-05-26",
            Product::Vpc => "2016-04-28",
        }
    }

    /// The name in the service's endpoints.
    pub const fn name(self) -> &'static str {
        match self {
            Product::Ecs => "ecs",
            Product::Vpc => "vpc",
        }
    }
}

/// Parameters of a call in the cloud's flat notation, in the order signing needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Sets one parameter.
    pub fn set(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.insert(name.into(), value.to_string());
    }

    /// Sets a parameter that has a value, and leaves it out when it has none.
    pub fn set_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets a list as `name.1`, `name.2` and so on.
    pub fn set_list(&mut self, name: &str, values: impl IntoIterator<Item = impl ToString>) {
        for (index, value) in (1..).zip(values) {
            self.set(format!("{name}.{index}"), value);
        }
    }

    /// Sets tags as `Tag.1.Key`, `Tag.1.Value` and so on. Sorted by key, so that the same intent is
    /// always the same request: the cloud compares parameters under one ClientToken.
    pub fn set_tags(&mut self, tags: &BTreeMap<String, String>) {
        for (index, (key, value)) in (1..).zip(tags) {
            self.set(format!("Tag.{index}.Key"), key);
            self.set(format!("Tag.{index}.Value"), value);
        }
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `name=value&...`, both encoded.
    fn encode(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            if !text.is_empty() {
                text.push('&');
            }
            percent_encode_into(&mut text, name);
            text.push('=');
            percent_encode_into(&mut text, value);
        }
        text
    }
}

/// What makes one sending of a call different from every other.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// UTC, `2016-02-23T12:46:24Z`; the cloud refuses one that is minutes away from its own clock.
    pub timestamp: &'a str,
    /// Unique among all requests of the identity within those minutes.
    pub nonce: &'a str,
}

/// The body of a signed request. It carries the STS token, so its `Debug` form shows its size only.
#[derive(Clone, PartialEq, Eq)]
pub struct Form(Bytes);

impl Form {
    /// The bytes to send.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Form({} bytes)", self.0.len())
    }
}

/// The complete request for `action`: POST of a signed form.
///
/// Everything is in the body, nothing in the URL, because URLs end up in the logs of proxies.
pub fn request(
    endpoint: &Endpoint,
    product: Product,
    action: &str,
    region: &RegionId,
    mut params: Params,
    keys: &Keys,
    stamp: Stamp<'_>,
) -> Request<Form> {
    params.set("Action", action);
    params.set("Version", product.version());
    params.set("RegionId", region);
    params.set("Format", "JSON");
    sign(&Method::POST, &mut params, keys, stamp);
    let mut request = Request::new(Form(Bytes::from(params.encode())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = endpoint.uri().clone();
    let headers = request.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    request
}

/// Adds the parameters of signature version 1.0 to `params`, the signature included.
pub fn sign(method: &Method, params: &mut Params, keys: &Keys, stamp: Stamp<'_>) {
    params.set("AccessKeyId", &keys.id);
    params.set_some("SecurityToken", keys.token.as_ref().map(Secret::expose));
    params.set("SignatureMethod", "HMAC-SHA1");
    params.set("SignatureVersion", "1.0");
    params.set("SignatureNonce", stamp.nonce);
    params.set("Timestamp", stamp.timestamp);
    let signature = signature(&keys.secret, &string_to_sign(method, params));
    params.set("Signature", signature);
}

/// The text that is signed: method, path and the encoded parameters, encoded once more.
fn string_to_sign(method: &Method, params: &Params) -> String {
    let mut text = format!("{method}&%2F&");
    percent_encode_into(&mut text, &params.encode());
    text
}

fn signature(secret: &Secret, text: &str) -> String {
    // The `&` separates the secret from a user token that this version leaves empty.
    let key = format!("{}&", secret.expose());
    let mut mac =
        Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

/// RFC 3986 section 2.3: unreserved characters stay, everything else is `%XX` in upper case.
fn percent_encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes every text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let mut params = Params::default();
        for (name, value) in pairs {
            params.set(*name, value);
        }
        params
    }

    /// The example of the public documentation "RPC signature".
    #[test]
    fn the_published_vector_is_reproduced() {
        let mut params = params(&[
            ("Action", "DescribeRegions"),
            ("Format", "XML"),
            ("Version", "2014-05-26"),
        ]);
        let stamp = Stamp {
            timestamp: "2016-02-23T12:46:24Z",
            nonce: "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
        };
        let keys = Keys::permanent("testid", "testsecret");
        sign(&Method::GET, &mut params, &keys, stamp);
        assert_eq!(
            params.get("Signature"),
            Some("OLeaidS1JvxuMvnyHOwuJ+uX5qY=")
        );
    }

    #[test]
    fn only_unreserved_characters_stay() {
        let text = params(&[("a b", "-_.~*+%/é")]).encode();
        assert_eq!(text, "a%20b=-_.~%2A%2B%25%2F%C3%A9");
    }

    #[test]
    fn parameters_are_signed_in_byte_order() {
        let text = string_to_sign(
            &Method::POST,
            &params(&[("b", "2"), ("a.10", "x"), ("B", "1"), ("a.2", "y")]),
        );
        assert_eq!(text, "POST&%2F&B%3D1%26a.10%3Dx%26a.2%3Dy%26b%3D2");
    }

    #[test]
    fn lists_count_from_one_and_tags_are_sorted() {
        let mut params = Params::default();
        params.set_list("Id", ["x", "y"]);
        params.set_tags(&[("k2".into(), "".into()), ("k1".into(), "v".into())].into());
        let pairs: Vec<_> = params.iter().collect();
        let expected = [
            ("Id.1", "x"),
            ("Id.2", "y"),
            ("Tag.1.Key", "k1"),
            ("Tag.1.Value", "v"),
            ("Tag.2.Key", "k2"),
            ("Tag.2.Value", ""),
        ];
        assert_eq!(pairs, expected);
    }
}
