//! The instance metadata service: what the node is and which interfaces it has.
//!
//! Answers of the node's own hypervisor, reachable without credentials. Nothing here is cached but
//! the session token, and no value has a default: an answer that is missing, cut or odd is an error
//! that names its path.

mod facts;

use core::time::Duration;

use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Bytes;
use hyper_util::client::legacy::connect::HttpConnector;
use model::Mac;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    ConfigError, Deadline, Endpoint, Scheme,
    transport::{CONNECT_TIMEOUT, Exchanger, Reply, TransportError},
};

pub use facts::{InstanceFacts, InterfaceAnswers, InterfaceFacts, macs};

/// Where the service is on every instance.
pub const DEFAULT_BASE: &str = "http://100.100.100.200";
/// How long a session token is asked for: the longest the service grants, 6 hours.
const TOKEN_TTL: Duration = Duration::from_secs(21_600);
/// A session token is used for half its life, so that it never expires under way.
const TOKEN_USE: Duration = Duration::from_secs(TOKEN_TTL.as_secs() / 2);
/// Longest answer that is read: 50 addresses of 20 bytes or an STS document of 2 KiB, with room.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest one exchange may take; the service is on the node's own host.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);

const TOKEN_PATH: &str = "latest/api/token";
const DATA_PATH: &str = "latest/meta-data/";
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");
const TTL_HEADER: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");

/// How often the service is asked again when it does not answer, answers 5xx or 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries altogether, at least 1.
    pub attempts: u32,
    /// The pause after the first try; each further one is a fifth longer. No jitter: every node asks
    /// a service of its own.
    pub first_pause: Duration,
}

impl Default for Retries {
    /// Four tries within 1.8 s: longer than a restart of the service, shorter than an ADD waits.
    fn default() -> Self {
        Self {
            attempts: 4,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Why the service gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The service has nothing there.
    #[error("instance metadata has no {path}")]
    Absent {
        /// The path.
        path: String,
    },
    /// The service refused, or failed as often as it was tried.
    #[error("instance metadata answered HTTP {status} for {path}")]
    Refused {
        /// The path.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The service could not be reached.
    #[error("instance metadata did not answer for {path}")]
    Transport {
        /// The path.
        path: String,
        /// What happened.
        source: TransportError,
    },
    /// The answer is not what the path is documented to hold.
    #[error("instance metadata {path} holds {text:?}, expected {expected}")]
    Malformed {
        /// The path.
        path: String,
        /// The answer, cut to a readable length; empty where it may be secret.
        text: String,
        /// What the path is documented to hold.
        expected: &'static str,
    },
}

impl MetadataError {
    /// The path that was asked for.
    pub fn path(&self) -> &str {
        match self {
            MetadataError::Absent { path }
            | MetadataError::Refused { path, .. }
            | MetadataError::Transport { path, .. }
            | MetadataError::Malformed { path, .. } => path,
        }
    }

    /// Whether the service answered that there is no such thing.
    pub fn is_absent(&self) -> bool {
        matches!(self, MetadataError::Absent { .. })
    }
}

/// A session token and until when it is used.
struct Token {
    value: HeaderValue,
    until: Instant,
}

/// A client of the service.
pub struct Metadata {
    base: Endpoint,
    retries: Retries,
    exchanger: Exchanger<HttpConnector>,
    /// Locked while a token is fetched: everybody else waits for that one.
    token: Mutex<Option<Token>>,
}

impl Metadata {
    /// A client of the service at `base`, for example [`DEFAULT_BASE`]. Opens no connection yet.
    ///
    /// # Errors
    /// When `base` is no server.
    pub fn new(base: &str) -> Result<Self, ConfigError> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT.min(EXCHANGE_TIMEOUT)));
        Ok(Self {
            base: Endpoint::parse(base, Scheme::Http)?,
            retries: Retries::default(),
            exchanger: Exchanger::new(tcp, ANSWER_BYTES_MAX),
            token: Mutex::default(),
        })
    }

    /// The same client with other [`Retries`].
    #[must_use]
    pub fn with_retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// What the node is.
    ///
    /// # Errors
    /// When any part of it is missing or malformed.
    pub async fn instance(&self, deadline: Deadline) -> Result<InstanceFacts, MetadataError> {
        InstanceFacts::read(self, deadline).await
    }

    /// The MACs of the interfaces the service knows, in its order.
    ///
    /// # Errors
    /// When the list is missing, empty or malformed: a node has at least its primary interface.
    pub async fn interfaces(&self, deadline: Deadline) -> Result<Vec<Mac>, MetadataError> {
        facts::list(self, deadline).await
    }

    /// What the service knows about the interface with `mac`. An interface that was just attached is
    /// absent, wholly or in parts, until the service has caught up.
    ///
    /// # Errors
    /// When any part of it is missing or malformed.
    pub async fn interface(
        &self,
        mac: Mac,
        deadline: Deadline,
    ) -> Result<InterfaceFacts, MetadataError> {
        InterfaceFacts::read(self, mac, deadline).await
    }

    /// The text at `path` below `meta-data/`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn text(&self, path: &str, deadline: Deadline) -> Result<String, MetadataError> {
        let token = self.token(deadline).await?;
        let mut reply = self.get(path, &token, deadline).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            // The service forgot the token, for example by restarting.
            self.token
                .lock()
                .await
                .take_if(|cached| cached.value == token);
            let token = self.token(deadline).await?;
            reply = self.get(path, &token, deadline).await?;
        }
        text_of(path, &reply)
    }

    async fn get(
        &self,
        path: &str,
        token: &HeaderValue,
        deadline: Deadline,
    ) -> Result<Reply, MetadataError> {
        let full = format!("{DATA_PATH}{path}");
        self.attempt(path, deadline, || {
            let mut request = self.request(Method::GET, &full)?;
            request.headers_mut().insert(TOKEN_HEADER, token.clone());
            Some(request)
        })
        .await
    }

    async fn token(&self, deadline: Deadline) -> Result<HeaderValue, MetadataError> {
        let mut cached = match tokio::time::timeout_at(deadline.instant(), self.token.lock()).await
        {
            Ok(cached) => cached,
            Err(_) => return Err(transport(TOKEN_PATH, TransportError::Deadline)),
        };
        if let Some(token) = &*cached
            && Instant::now() < token.until
        {
            return Ok(token.value.clone());
        }
        let until = Instant::now() + TOKEN_USE;
        let reply = self
            .attempt(TOKEN_PATH, deadline, || {
                let mut request = self.request(Method::PUT, TOKEN_PATH)?;
                let ttl = HeaderValue::from(TOKEN_TTL.as_secs());
                request.headers_mut().insert(TTL_HEADER, ttl);
                Some(request)
            })
            .await?;
        let text = text_of(TOKEN_PATH, &reply)?;
        let value = HeaderValue::from_str(text.trim()).ok();
        let mut value = value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| malformed(TOKEN_PATH, "", "a session token"))?;
        value.set_sensitive(true);
        *cached = Some(Token {
            value: value.clone(),
            until,
        });
        Ok(value)
    }

    /// Sends until there is an answer worth reading, at most as often as [`Retries`] says.
    async fn attempt(
        &self,
        path: &str,
        deadline: Deadline,
        request: impl Fn() -> Option<Request<Bytes>>,
    ) -> Result<Reply, MetadataError> {
        let mut pause = self.retries.first_pause;
        let mut left = self.retries.attempts;
        loop {
            let request = request().ok_or_else(|| malformed(path, path, "a path"))?;
            let capped = deadline.capped(EXCHANGE_TIMEOUT);
            let outcome = self.exchanger.exchange(request, capped).await;
            left = left.saturating_sub(1);
            let again = match &outcome {
                Ok(reply) => reply.status.as_u16() == 429 || reply.status.is_server_error(),
                Err(_) => true,
            };
            if !again || left == 0 || Instant::now() + pause >= deadline.instant() {
                return outcome.map_err(|source| transport(path, source));
            }
            tokio::time::sleep(pause).await;
            pause += pause / 5;
        }
    }

    fn request(&self, method: Method, path: &str) -> Option<Request<Bytes>> {
        let uri: Uri = format!("{}{path}", self.base).parse().ok()?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        Some(request)
    }
}

fn text_of(path: &str, reply: &Reply) -> Result<String, MetadataError> {
    match reply.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(MetadataError::Absent { path: path.into() }),
        status => {
            return Err(MetadataError::Refused {
                path: path.into(),
                status: status.as_u16(),
            });
        }
    }
    String::from_utf8(reply.body.to_vec()).map_err(|_| malformed(path, "", "UTF-8 text"))
}

fn transport(path: &str, source: TransportError) -> MetadataError {
    MetadataError::Transport {
        path: path.into(),
        source,
    }
}

fn malformed(path: &str, text: &str, expected: &'static str) -> MetadataError {
    MetadataError::Malformed {
        path: path.into(),
        text: text.chars().take(48).collect(),
        expected,
    }
}
