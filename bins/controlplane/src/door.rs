//! The door for whoever looks: probes, Prometheus, and what a pod waits for.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use model::PodKey;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{driver::Message, metrics::Metrics, notices::Notices};

/// How long the driver may take to answer before it counts as stuck: it never waits for anybody.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How often the port is tried when somebody else has it: a predecessor that is about to end.
const BIND_PERIOD: Duration = Duration::from_millis(200);

/// What the door needs.
pub(crate) struct Door {
    pub(crate) driver: OnceLock<mpsc::Sender<Message>>,
    pub(crate) notices: OnceLock<Notices>,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether all there is in the API server is known, so that pods can be admitted.
    pub(crate) listed: AtomicBool,
}

impl Door {
    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let driver = self.driver.get()?;
        driver.try_send(message(answer)).ok()?;
        timeout(ANSWER_MAX, answered).await.ok()?.ok()
    }
}

/// Serves probes and answers at `address` for ever.
pub(crate) async fn serve(address: SocketAddr, door: Arc<Door>, key: &'static str) {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/explain/{namespace}/{name}", get(explain))
        .with_state(door);
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                if let Err(error) = axum::serve(listener, routes.clone()).await {
                    tracing::error!(%error, %address, "serving probes and metrics");
                }
            }
            Err(error) if !said => {
                said = true;
                tracing::error!(%error, %address, "cannot be served yet; key {key} changes the address");
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PERIOD).await;
    }
}

fn unavailable(text: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{text}\n")).into_response()
}

/// Alive: the driver answers, or has not started because something is waited for.
async fn healthz(State(door): State<Arc<Door>>) -> Response {
    match (door.driver.get(), door.ask(Message::Observe).await) {
        (None, _) | (_, Some(_)) => "ok\n".into_response(),
        (Some(_), None) => unavailable("the driver does not answer"),
    }
}

/// Ready: what admission stands on is known. Whether this replica leads is no part of it.
async fn readyz(State(door): State<Arc<Door>>) -> Response {
    match door.listed.load(Ordering::Relaxed) {
        true => "ok\n".into_response(),
        false => unavailable("the API server's objects are not all known yet"),
    }
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let view = door.ask(Message::Observe).await.unwrap_or_default();
    let notices = door.notices.get().map(Notices::counts).unwrap_or_default();
    door.metrics.text(&view, &notices).into_response()
}

async fn explain(
    State(door): State<Arc<Door>>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    let Ok(pod) = PodKey::new(namespace, name) else {
        return (StatusCode::BAD_REQUEST, "not the name of a pod\n").into_response();
    };
    match door.ask(|answer| Message::Explain(pod, answer)).await {
        Some(Some(waiting)) => format!("{}\n", waiting.why).into_response(),
        Some(None) => "nothing is being waited for\n".into_response(),
        None => unavailable("the driver does not answer"),
    }
}
