//! The door for whoever looks: probes, Prometheus, and what `terway-cli` is shown of the agent.
//!
//! Nothing that is asked here changes anything, and nothing is answered from memory: every look goes
//! through the driver, so an answer also proves that it turns.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock, mpsc::SyncSender},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use datapath::TrunkCounters;
use engine::node::{Happening, View};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};

use crate::{
    driver::Message,
    health::Health,
    metrics::{Limits, Metrics},
};

/// How long the driver may take to answer before it counts as stuck. Its longest step is a sync of the
/// disk, which takes seconds on a disk in trouble.
const ANSWER_MAX: Duration = Duration::from_secs(8);

/// How often the port is tried when somebody else has it: a predecessor that is about to end.
const BIND_PERIOD: Duration = Duration::from_millis(200);

/// What the driver sees at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) view: View,
    pub(crate) limits: Limits,
    pub(crate) cloud_failure: Option<Happening>,
    pub(crate) notices: BTreeMap<&'static str, u64>,
    /// Frames at the trunk ENI, if there is one.
    pub(crate) frames: Option<TrunkCounters>,
}

/// What the door needs.
pub(crate) struct Door {
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// The driver, once there is one.
    pub(crate) driver: OnceLock<SyncSender<Message>>,
}

impl Door {
    /// What the driver sees; nothing before there is one, an error when it does not answer.
    async fn observe(&self) -> Result<Option<Observation>, ()> {
        let Some(driver) = self.driver.get() else {
            return Ok(None);
        };
        let (answer, answered) = oneshot::channel();
        // A full queue counts as no answer: the driver has 2,048 inputs to work off.
        driver.try_send(Message::Observe(answer)).map_err(|_| ())?;
        match timeout(ANSWER_MAX, answered).await {
            Ok(Ok(seen)) => Ok(Some(*seen)),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

/// Where the door is: the first of these that can be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(Vec<SocketAddr>);

/// Reads `HOST:PORT` or `:PORT`; the latter is every address of the node, of both families where it
/// has both.
pub(crate) fn address(text: &str) -> Result<Address, String> {
    let wrong = |_| format!("{text} is no address; expected for example :9190 or 127.0.0.1:9190");
    if let Some(port) = text.strip_prefix(':') {
        let port: u16 = port.parse().map_err(|_| wrong(()))?;
        let every: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(Address(every.map(|host| (host, port).into()).to_vec()));
    }
    let one = text.parse().map_err(|_| wrong(()))?;
    Ok(Address(vec![one]))
}

/// Serves the door at `address` for ever.
pub(crate) async fn serve(address: Address, door: Arc<Door>) {
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(door);
    let mut said = false;
    loop {
        match TcpListener::bind(&*address.0).await {
            Ok(listener) => {
                if let Err(error) = axum::serve(listener, routes.clone()).await {
                    tracing::error!(%error, ?address, "serving probes and metrics");
                }
            }
            Err(error) if !said => {
                said = true;
                tracing::error!(%error, ?address, "probes and metrics cannot be served yet; --listen changes the address");
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PERIOD).await;
    }
}

/// Alive: the driver answers, or has not started because something is waited for.
async fn healthz(State(door): State<Arc<Door>>) -> Response {
    match door.observe().await {
        Ok(_) => "ok\n".into_response(),
        Err(()) => {
            let text = format!(
                "the driver has not answered for {} s\n",
                ANSWER_MAX.as_secs()
            );
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn readyz(State(door): State<Arc<Door>>) -> Response {
    match door.health.not_ready() {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let seen = door.observe().await.ok().flatten();
    let text = door
        .metrics
        .text(seen.as_ref(), door.health.config_error().is_some());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_every_address() {
        let every = address(":9190").unwrap().0;
        assert_eq!(every.len(), 2);
        assert!(
            every
                .iter()
                .all(|at| at.port() == 9190 && at.ip().is_unspecified())
        );
        assert_eq!(address("127.0.0.1:1").unwrap().0.len(), 1);
        for wrong in ["9190", ":x", "localhost:9190", ":99999", ""] {
            assert!(
                address(wrong).is_err_and(|error| error.contains("expected")),
                "{wrong}"
            );
        }
    }
}
