//! The OpenAPI endpoint: HTTP in, [`ApiRequest`] through, HTTP out.

use std::io;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::any,
};

use super::Shared;
use crate::{ApiRequest, ApiResponse, Delivery};

/// ECS and VPC on one listener: version and action of a call tell them apart.
pub fn openapi_router(shared: Shared) -> Router {
    Router::new().route("/", any(serve)).with_state(shared)
}

async fn serve(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let request = ApiRequest {
        method: method.to_string(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body: body.to_vec(),
    };
    let answer = shared.with(|now, region| region.handle(now, &request));
    tracing::debug!(query = %request.query, status = answer.status, "call");
    tokio::time::sleep(answer.latency).await;
    respond(answer)
}

fn respond(answer: ApiResponse) -> Response {
    if answer.delivery == Delivery::Lost {
        // A body that fails before its first byte makes the server drop the connection.
        let broken = futures::stream::once(async {
            Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
        });
        return Body::from_stream(broken).into_response();
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = [(CONTENT_TYPE, "application/json;charset=utf-8")];
    (status, kind, answer.body).into_response()
}
