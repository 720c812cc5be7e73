//! The webhooks: what the API server asks before it stores a pod, a PodNetworking or an edited PodENI.
//!
//! Serves them over TLS with a certificate the program keeps itself. What is answered is decided by
//! `engine::admission`; here reviews are read, what the decision stands on is looked up, and answers are
//! written. Every replica serves, leader or not. Must not know: the machine, the cloud.

mod account;
mod certificate;
mod defaults;
mod networking;
mod patch;
mod pod;
mod podeni;
mod review;
mod standing;
#[cfg(test)]
pub(crate) mod tests;
mod users;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use axum_server::{Handle, tls_rustls};
use kube::Client;
use tokio::sync::watch;

use self::{
    certificate::{Keeper, Served},
    review::{Answer, Operation, Review, ReviewError},
    standing::{Asking, Lookup},
};

pub(crate) use self::{
    standing::{Known, Publisher},
    users::Users,
};

/// Longest review: an object of the API server has at most 1.5 MiB (what etcd takes), an update brings it
/// twice, and the JSON form may be longer by a half.
const BODY_MAX: usize = 5 * 1024 * 1024;

/// How long requests are still taken when the program is to end: until then the API server may not know that
/// this replica goes. Seconds of the pod's 10: 3 to give up the lead, these, and those below.
const LINGER: Duration = Duration::from_secs(2);

/// What requests under way may take after that.
const GRACE: Duration = Duration::from_secs(4);

/// Wait between looks at `eni_conf`.
const DEFAULTS_EVERY: Duration = Duration::from_secs(60);

/// Wait between tries to get a certificate before the first one is there.
const RETRY: Duration = Duration::from_secs(2);

/// What the webhooks need to know of the program.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Name of the program: of its Service, its webhook configurations, and of its Secret with a suffix.
    pub(crate) controller: String,
    /// The namespace of Service and Secret.
    pub(crate) namespace: String,
    /// The domain of the cluster, for the certificate's names.
    pub(crate) cluster_domain: String,
    /// Where to listen.
    pub(crate) listen: SocketAddr,
}

/// Why the webhooks are not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// The port cannot be had.
    #[error("listening for webhooks on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The listener ended.
    #[error("serving webhooks: {0}")]
    Serve(#[source] io::Error),
}

/// Serves the webhooks until `stop` is done.
///
/// # Errors
/// When the port cannot be had or the listener ends by itself. An API server that does not answer is no
/// error: it is asked again.
pub(crate) async fn serve(
    settings: Settings,
    client: Client,
    known: Publisher,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), WebhookError> {
    let mut stop = std::pin::pin!(stop);
    let (name, namespace) = (&settings.controller, &settings.namespace);
    let keeper = Keeper::new(client.clone(), name, namespace, &settings.cluster_domain);
    let mut defaults = std::pin::pin!(follow_defaults(&client, namespace, &known));
    let mut certificate = tokio::select! {
        first = first(&keeper) => first,
        never = &mut defaults => never,
        () = &mut stop => return Ok(()),
    };
    let routes = routes(Webhooks {
        known: known.subscribe(),
        lookup: Asking::new(client.clone()),
        writer: account::name(),
    });
    let handle = Handle::new();
    let served = listen(settings.listen, &certificate, routes, handle.clone())?;
    let mut served = std::pin::pin!(served);
    let mut upkeep = std::pin::pin!(async {
        loop {
            let wait = certificate.look(&keeper, SystemTime::now()).await;
            tokio::time::sleep(wait).await;
        }
    });
    let ending = async {
        stop.await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        ended = &mut served => return ended,
        never = &mut upkeep => never,
        never = &mut defaults => never,
        () = ending => {}
    }
    handle.graceful_shutdown(Some(GRACE));
    served.await
}

/// Follows `eni_conf`; what it last said counts while it cannot be read.
async fn follow_defaults(client: &Client, namespace: &str, known: &Publisher) -> ! {
    loop {
        match defaults::read(client, namespace).await {
            Ok(found) => known.defaults(found),
            Err(error) => tracing::warn!(%error, "networks that leave something open get nothing"),
        }
        tokio::time::sleep(DEFAULTS_EVERY).await;
    }
}

/// The first certificate, however long the API server takes.
async fn first(keeper: &Keeper) -> Served {
    loop {
        match Served::start(keeper, SystemTime::now()).await {
            Ok(served) => return served,
            Err(error) => tracing::warn!(%error, "the webhooks have no certificate yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Listens at once; the future serves.
fn listen(
    address: SocketAddr,
    certificate: &Served,
    routes: Router,
    handle: Handle<SocketAddr>,
) -> Result<impl Future<Output = Result<(), WebhookError>> + use<>, WebhookError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tls_rustls::from_tcp_rustls(listener, certificate.config())
    });
    let server = bound.map_err(|source| WebhookError::Listen { address, source })?;
    let service = routes.into_make_service();
    Ok(async move {
        let served = server.handle(handle).serve(service).await;
        served.map_err(WebhookError::Serve)
    })
}

/// What every request needs.
struct Webhooks<L> {
    known: watch::Receiver<Arc<Known>>,
    lookup: L,
    writer: Option<String>,
}

fn routes<L: Lookup>(webhooks: Webhooks<L>) -> Router {
    Router::new()
        .route("/mutating", post(mutate::<L>))
        .route("/validate", post(validate::<L>))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(Arc::new(webhooks))
}

async fn mutate<L: Lookup>(State(all): State<Arc<Webhooks<L>>>, body: Bytes) -> Response {
    match Review::parse(&body) {
        Ok(review) => Json(review.answered(mutation(&all, &review).await)).into_response(),
        Err(error) => refused(&error),
    }
}

async fn validate<L: Lookup>(State(all): State<Arc<Webhooks<L>>>, body: Bytes) -> Response {
    match Review::parse(&body) {
        Ok(review) => Json(review.answered(validation(&all, &review))).into_response(),
        Err(error) => refused(&error),
    }
}

async fn mutation<L: Lookup>(all: &Webhooks<L>, review: &Review) -> Answer {
    let (request, known) = (&review.request, all.known.borrow().clone());
    match (request.resource(), request.operation()) {
        ("pods", Operation::Create) => pod::mutate(request, &known, &all.lookup).await,
        ("podnetworkings", Operation::Create | Operation::Update) => {
            networking::mutate(request, &known)
        }
        _ => Answer::unchanged(),
    }
}

fn validation<L: Lookup>(all: &Webhooks<L>, review: &Review) -> Answer {
    let request = &review.request;
    match (request.resource(), request.operation()) {
        ("podnetworkings", Operation::Create | Operation::Update) => {
            networking::validate(request, &all.known.borrow())
        }
        ("podnetworkings", Operation::Delete) => networking::leave(request, &all.known.borrow()),
        ("podenis", Operation::Update) => podeni::validate(request, all.writer.as_deref()),
        _ => Answer::unchanged(),
    }
}

fn refused(error: &ReviewError) -> Response {
    tracing::warn!(%error, "what was sent to a webhook is no review");
    (StatusCode::BAD_REQUEST, error.to_string()).into_response()
}
