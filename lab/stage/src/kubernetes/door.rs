//! A way from loopback into the VPC, for people and tests: TCP, passed on as it comes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinSet};

use crate::netns;

/// How long the other side may take to accept; it is on this machine.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Listens on loopback and connects whoever comes with `target` in `netns`. Returns where.
///
/// # Errors
/// When there is no free port.
pub(crate) async fn open(
    netns: OwnedFd,
    target: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("cannot listen on loopback")?;
    let door = listener.local_addr()?;
    let netns = Arc::new(netns);
    tasks.spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let netns = Arc::clone(&netns);
            tokio::spawn(async move {
                if let Err(error) = pass(outside, netns, target).await {
                    tracing::debug!(%error, "a connection through the door has ended");
                }
            });
        }
    });
    Ok(door)
}

async fn pass(
    mut outside: tokio::net::TcpStream,
    netns: Arc<OwnedFd>,
    target: SocketAddr,
) -> io::Result<()> {
    let connect = move || {
        let connect = || TcpStream::connect_timeout(&target, CONNECT_MAX);
        netns::inside(netns.as_fd(), connect).and_then(|stream| stream)
    };
    let inside = tokio::task::spawn_blocking(connect).await??;
    inside.set_nonblocking(true)?;
    let mut inside = tokio::net::TcpStream::from_std(inside)?;
    copy_bidirectional(&mut outside, &mut inside).await?;
    Ok(())
}
