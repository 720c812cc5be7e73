//! Carries calls over the network: sign, send, read, classify. It neither retries nor waits for
//! anything but the answer; that is for whoever sees the whole intent.

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use model::{RequestId, RouteEntry, RouteTableId};
use rustls::crypto::CryptoProvider;
use tokio::time::Instant;

use crate::{
    Call, CloudError, Config, Credentials, Deadline, DecodeError, Keys,
    classify::classify,
    document::{self, Head},
    ecs::{DescribeNetworkInterfaces, DescribedEni},
    rpc::{self, Stamp},
    transport::{CONNECT_TIMEOUT, Exchanger, Reply},
    utc,
    vpc::DescribeRouteEntryList,
};

/// Largest answer that is read. A full page of 500 ENIs, each with 50 addresses of about 120 bytes,
/// 20 tags of about 250 and 2 KiB of the rest, is 500 * 13 KiB = 6.4 MiB; twice that and some.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most pages of one describe: 200 pages of 500 are 100,000 ENIs, ten times the largest cluster we
/// aim for. Beyond it the paging itself must be broken.
pub const PAGES_MAX: usize = 200;
/// Longest part of the cloud's words that is kept.
const MESSAGE_CHARACTERS_MAX: usize = 512;

/// What a call returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The decoded answer.
    pub value: T,
    /// The cloud's name for the call; of the last one where an answer took several.
    pub request_id: RequestId,
    /// From before the first byte was sent until the answer was decoded.
    pub latency: Duration,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The kernel gives no random bytes.
    #[error("no random bytes for request nonces")]
    Entropy,
}

/// A client of the cloud's API.
pub struct Client {
    config: Config,
    credentials: Credentials,
    exchanger: Exchanger<HttpsConnector<HttpConnector>>,
    nonces: Nonces,
}

impl Client {
    /// A client for `config` that signs with `credentials`. Opens no connection yet.
    ///
    /// # Errors
    /// When TLS or the random source cannot be set up.
    pub fn new(config: Config, credentials: Credentials) -> Result<Self, ClientError> {
        let provider = rustls::crypto::ring::default_provider();
        let nonces = Nonces::new(&provider)?;
        let connector = connector(provider)?;
        Ok(Self {
            config,
            credentials,
            exchanger: Exchanger::new(connector, ANSWER_BYTES_MAX),
            nonces,
        })
    }

    /// Makes one call.
    ///
    /// # Errors
    /// See [`CloudError`]; [`CloudError::class`] says what may be concluded. Nothing is retried.
    pub async fn call<C: Call>(
        &self,
        call: &C,
        deadline: Deadline,
    ) -> Result<Answer<C::Output>, CloudError> {
        let action = C::ACTION;
        let started = Instant::now();
        call.check()
            .map_err(|source| CloudError::Request { action, source })?;
        let deadline = deadline.capped(self.config.timeout);
        let keys = self
            .credentials
            .keys(deadline)
            .await
            .map_err(|source| CloudError::Credential { action, source })?;
        let request = self.request(call, &keys);
        let reply = self
            .exchanger
            .exchange(request.map(rpc::Form::into_bytes), deadline)
            .await
            .map_err(|source| CloudError::transport(action, source))?;
        let answer = read(call, &reply);
        if let Err(error) = &answer
            && is_stale_key(error)
        {
            self.credentials.forget(&keys);
        }
        let (value, request_id) = answer?;
        Ok(Answer {
            value,
            request_id,
            latency: started.elapsed(),
        })
    }

    /// Reads every page of a describe; more than 100 ids are asked for in parts. Each ENI is in the
    /// answer once, as its last page described it.
    ///
    /// # Errors
    /// When any part fails: half an answer would make ENIs look gone.
    pub async fn describe_network_interfaces(
        &self,
        call: &DescribeNetworkInterfaces,
        deadline: Deadline,
    ) -> Result<Answer<Vec<DescribedEni>>, CloudError> {
        let started = Instant::now();
        let mut interfaces = BTreeMap::new();
        let (mut question, mut further) = call.parts();
        for _ in 0..PAGES_MAX {
            let answer = self.call(&question, deadline).await?;
            for interface in answer.value.interfaces {
                interfaces.insert(interface.eni.id.clone(), interface);
            }
            question.next_token = answer.value.next_token;
            if question.next_token.is_some() {
                continue;
            }
            match further.pop() {
                Some(part) => question = part,
                None => {
                    return Ok(Answer {
                        value: interfaces.into_values().collect(),
                        request_id: answer.request_id,
                        latency: started.elapsed(),
                    });
                }
            }
        }
        Err(endless(DescribeNetworkInterfaces::ACTION))
    }

    /// Reads every page of the custom entries of a route table.
    ///
    /// # Errors
    /// When any page fails: half an answer would make entries look gone.
    pub async fn describe_route_entries(
        &self,
        table: &RouteTableId,
        deadline: Deadline,
    ) -> Result<Answer<Vec<RouteEntry>>, CloudError> {
        let started = Instant::now();
        let mut entries = Vec::new();
        let mut question = DescribeRouteEntryList {
            table: table.clone(),
            next_token: None,
        };
        for _ in 0..PAGES_MAX {
            let answer = self.call(&question, deadline).await?;
            entries.extend(answer.value.entries);
            question.next_token = answer.value.next_token;
            if question.next_token.is_none() {
                return Ok(Answer {
                    value: entries,
                    request_id: answer.request_id,
                    latency: started.elapsed(),
                });
            }
        }
        Err(endless(DescribeRouteEntryList::ACTION))
    }

    fn request<C: Call>(&self, call: &C, keys: &Keys) -> http::Request<rpc::Form> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let stamp = Stamp {
            timestamp: &utc::text(seconds),
            nonce: &self.nonces.next(),
        };
        rpc::request(
            self.config.endpoint(C::PRODUCT),
            C::PRODUCT,
            C::ACTION,
            &self.config.region,
            call.params(),
            keys,
            stamp,
        )
    }
}

fn endless(action: &'static str) -> CloudError {
    CloudError::Undecodable {
        action,
        request_id: None,
        http_status: StatusCode::OK.as_u16(),
        source: DecodeError::Endless { pages: PAGES_MAX },
    }
}

/// Roots: the platform's where it has any, because a private cloud's own authority is put there
/// (`SSL_CERT_FILE` is honoured), else Mozilla's, which are built in.
fn connector(provider: CryptoProvider) -> Result<HttpsConnector<HttpConnector>, ClientError> {
    let mut tcp = HttpConnector::new();
    // The TLS layer above decides about schemes.
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new;
    let roots = match builder().with_provider_and_native_roots(provider.clone()) {
        Ok(platform) => platform,
        Err(_) => builder()
            .with_provider_and_webpki_roots(provider)
            .map_err(ClientError::Tls)?,
    };
    Ok(roots.https_or_http().enable_http1().wrap_connector(tcp))
}

/// 128-bit numbers that no two requests share: a random start, then counted on. Random once instead
/// of each time, so that no call can fail for want of randomness.
struct Nonces {
    start: u128,
    used: AtomicU64,
}

impl Nonces {
    fn new(provider: &CryptoProvider) -> Result<Self, ClientError> {
        let mut start = [0; 16];
        provider
            .secure_random
            .fill(&mut start)
            .map_err(|_| ClientError::Entropy)?;
        Ok(Self {
            start: u128::from_ne_bytes(start),
            used: AtomicU64::new(0),
        })
    }

    fn next(&self) -> String {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        format!("{:032x}", self.start.wrapping_add(u128::from(used)))
    }
}

/// What `reply` says about `call`.
fn read<C: Call>(call: &C, reply: &Reply) -> Result<(C::Output, RequestId), CloudError> {
    let http_status = reply.status.as_u16();
    let undecodable = |request_id, source| CloudError::Undecodable {
        action: C::ACTION,
        request_id,
        http_status,
        source,
    };
    let absent = |name: &str| DecodeError::Absent {
        what: "field",
        name: name.into(),
    };
    let head: Head = document::parse(&reply.body).map_err(|source| undecodable(None, source))?;
    let request_id = head.id();
    // A code is a refusal under any status: no successful answer of these calls has one.
    if let Some(code) = head.code {
        let message = readable(&code, head.message.as_deref().unwrap_or_default());
        return Err(CloudError::Refused {
            action: C::ACTION,
            class: classify(&code, http_status),
            code: code.chars().take(MESSAGE_CHARACTERS_MAX).collect(),
            message,
            request_id,
            http_status,
        });
    }
    if !reply.status.is_success() {
        return Err(undecodable(request_id, absent("Code")));
    }
    let Some(request_id) = request_id else {
        return Err(undecodable(None, absent("RequestId")));
    };
    match call.decode(&reply.body) {
        Ok(value) => Ok((value, request_id)),
        Err(source) => Err(undecodable(Some(request_id), source)),
    }
}

/// The cloud's words, cut. A refused signature is answered with the text that was signed, the STS
/// token included, so those words are replaced.
fn readable(code: &str, message: &str) -> String {
    if code.contains("Signature") {
        return "the signature is wrong; check the AccessKey secret and the node's clock".into();
    }
    message.chars().take(MESSAGE_CHARACTERS_MAX).collect()
}

/// Whether the cloud no longer knows the key or token the call was signed with.
fn is_stale_key(error: &CloudError) -> bool {
    const STARTS: [&str; 3] = [
        "InvalidAccessKeyId",
        "InvalidSecurityToken",
        "SecurityTokenExpired",
    ];
    error
        .code()
        .is_some_and(|code| STARTS.iter().any(|start| code.starts_with(start)))
}
