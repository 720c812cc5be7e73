//! Probes over HTTP, as a kubelet asks them.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::template::Probe;

/// Bytes of an answer that are read: a kubelet's 10 KiB.
const ANSWER_MAX: u64 = 10 * 1024;

/// Asks once.
///
/// # Errors
/// When the answer is not one of success; with what it says.
pub(super) async fn ask(probe: &Probe, address: Ipv4Addr) -> Result<()> {
    let limit = Duration::from_secs(probe.timeout);
    let asked = timeout(limit, exchange(probe, address));
    let answer = asked
        .await
        .with_context(|| format!("no answer within {limit:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let code = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(200..400) => Ok(()),
        Some(code) => bail!("HTTP {code}: {}", body.trim()),
        None => bail!("the answer is no HTTP: {head}"),
    }
}

async fn exchange(probe: &Probe, address: Ipv4Addr) -> Result<String> {
    let Probe { path, port, .. } = probe;
    let mut stream = TcpStream::connect((address, *port))
        .await
        .context("nobody listens")?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
