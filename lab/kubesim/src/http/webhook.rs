//! A question to a webhook over TLS: one connection each, closed by the answer.

use std::{io, net::SocketAddr, net::TcpStream, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_blocking,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::BODY_LIMIT;
use crate::admission::Webhook;

/// How a program of the cluster is reached. May block.
pub(super) type Dial = Arc<dyn Fn(SocketAddr) -> io::Result<TcpStream> + Send + Sync>;

/// Asks `webhook`.
///
/// # Errors
/// When no answer comes in time, in the API server's words where there are any.
pub(super) async fn ask(dial: &Dial, webhook: &Webhook, review: &Value) -> Result<Value, String> {
    let Webhook {
        host,
        path,
        timeout: limit,
        ..
    } = webhook;
    let url = format!("https://{host}:443{path}?timeout={}s", limit.as_secs());
    let answer = match timeout(*limit, exchange(dial, webhook, review)).await {
        Err(_) => Err("context deadline exceeded".to_owned()),
        Ok(answer) => answer,
    };
    answer.map_err(|why| format!("Post \"{url}\": {why}"))
}

async fn exchange(dial: &Dial, webhook: &Webhook, review: &Value) -> Result<Value, String> {
    let text = |error: io::Error| error.to_string();
    let (addresses, dial) = (webhook.addresses.clone()?, Arc::clone(dial));
    let stream = spawn_blocking(move || first(&dial, &addresses)).await;
    let stream = stream.map_err(|error| error.to_string())??;
    stream.set_nonblocking(true).map_err(text)?;
    let stream = tokio::net::TcpStream::from_std(stream).map_err(text)?;
    let name = ServerName::try_from(webhook.host.clone()).map_err(|e| e.to_string())?;
    let connector = TlsConnector::from(Arc::new(trusting(&webhook.authority)?));
    let mut stream = connector.connect(name, stream).await.map_err(text)?;
    let body = review.to_string();
    // In HTTP/1.0 no server answers in chunks.
    let request = format!(
        "POST {} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        webhook.path,
        webhook.host,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::new();
    let limit = u64::try_from(BODY_LIMIT).unwrap_or(u64::MAX);
    stream
        .take(limit)
        .read_to_end(&mut answer)
        .await
        .map_err(text)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => serde_json::from_str(body).map_err(|error| error.to_string()),
        Some(code) => Err(format!("the server answers {code}")),
        None => Err("the answer is no HTTP".to_owned()),
    }
}

/// A connection to the first of several that takes one.
fn first(dial: &Dial, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = String::new();
    for address in addresses {
        match dial(*address) {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("dial tcp {address}: {error}"),
        }
    }
    Err(why)
}

/// Trusts these certificates and no other.
fn trusting(authority: &[u8]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        let certificate = certificate.map_err(|e| format!("caBundle: {e}"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("caBundle: {e}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
