//! One HTTP exchange, within a deadline and a size. Knows neither the API nor the metadata service.

use core::time::Duration;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{self, connect::Connect},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::Instant;

/// How long a connection may take to open. Both services are in the node's own network, a round trip
/// of milliseconds; one lost SYN is sent again after 1 s and the next after 3 s.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept: one minute covers the gap between pool refills, and load
/// balancers close idle connections later than that.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Unused connections kept to one server: as many as there are kinds of calls in flight at once
/// (create, attach, assign, describe).
const IDLE_CONNECTIONS_MAX: usize = 4;

/// When an answer stops being of use. A call that is not back by then ends with class Unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline at `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The deadline `budget` from now.
    pub fn within(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The earlier of this deadline and the one `budget` from now.
    #[must_use]
    pub fn capped(self, budget: Duration) -> Self {
        self.min(Self::within(budget))
    }

    /// The instant it falls on.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// Why an exchange has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The deadline passed first.
    #[error("no answer before the deadline")]
    Deadline,
    /// The request could not be sent or the answer not be received.
    #[error("the connection failed")]
    Exchange(#[source] legacy::Error),
    /// The body ended early, or is larger than any answer we ask for.
    #[error("the answer's body is incomplete or longer than {limit} bytes")]
    Body {
        /// The most that is read.
        limit: usize,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Sends requests over kept connections.
pub(crate) struct Exchanger<C> {
    client: legacy::Client<C, Full<Bytes>>,
    body_limit: usize,
}

impl<C: Connect + Clone + Send + Sync + 'static> Exchanger<C> {
    pub(crate) fn new(connector: C, body_limit: usize) -> Self {
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client, body_limit }
    }

    pub(crate) async fn exchange(
        &self,
        request: Request<Bytes>,
        deadline: Deadline,
    ) -> Result<Reply, TransportError> {
        tokio::time::timeout_at(deadline.0, self.converse(request.map(Full::new)))
            .await
            .unwrap_or(Err(TransportError::Deadline))
    }

    async fn converse(&self, request: Request<Full<Bytes>>) -> Result<Reply, TransportError> {
        let response = self
            .client
            .request(request)
            .await
            .map_err(TransportError::Exchange)?;
        let status = response.status();
        let limit = self.body_limit;
        let body = Limited::new(response.into_body(), limit)
            .collect()
            .await
            .map_err(|source| TransportError::Body { limit, source })?
            .to_bytes();
        Ok(Reply { status, body })
    }
}
