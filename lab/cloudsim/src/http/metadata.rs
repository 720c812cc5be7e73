//! The metadata endpoint: who asks is told by the address the question comes from.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use model::InstanceId;

use super::Shared;
use crate::MetadataRequest;

type Resolve = Arc<dyn Fn(IpAddr) -> Option<InstanceId> + Send + Sync>;

/// The metadata service for all instances. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`; `resolve` says whose address a caller has,
/// and a caller it doesn't know gets 404.
pub fn metadata_router(
    shared: Shared,
    resolve: impl Fn(IpAddr) -> Option<InstanceId> + Send + Sync + 'static,
) -> Router {
    let resolve: Resolve = Arc::new(resolve);
    Router::new().fallback(serve).with_state((shared, resolve))
}

async fn serve(
    State((shared, resolve)): State<(Shared, Resolve)>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(caller) = resolve(peer.ip().to_canonical()) else {
        tracing::warn!(%peer, "metadata was asked from an address that no instance has");
        return StatusCode::NOT_FOUND.into_response();
    };
    let field = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let request = MetadataRequest {
        method: method.to_string(),
        path: uri.path().to_owned(),
        token: field("x-aliyun-ecs-metadata-token"),
        token_ttl: field("x-aliyun-ecs-metadata-token-ttl-seconds"),
    };
    let answer = shared.with(|now, region| region.metadata(now, &caller, &request));
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, answer.body).into_response()
}
