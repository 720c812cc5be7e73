//! What a node's agent says of its pool, asked at the agent's own socket with a reading of the contract
//! of our own (docs/protocol.md): one sequenced packet each way.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with, sockopt,
};
use serde_json::{Value, json};

/// Longest answer of the contract.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// How long the agent may take; it answers from memory.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The view of the agent on the node whose first process is `pid`. Blocks for the answer.
///
/// # Errors
/// When the agent does not answer, or answers something else.
pub(super) fn view(pid: u32) -> Result<Value> {
    let path = format!("/proc/{pid}/root/run/eni/terway.sock");
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_MAX))?;
    connect(&socket, &SocketAddrUnix::new(Path::new(&path))?)
        .context("the agent does not serve")?;
    let request = json!({
        "contract": 1, "started": 0, "patience": { "secs": ANSWER_MAX.as_secs(), "nanos": 0 },
        "verb": "View",
    });
    let text = serde_json::to_vec(&request)?;
    let mut nothing = SendAncillaryBuffer::default();
    sendmsg(
        &socket,
        &[IoSlice::new(&text)],
        &mut nothing,
        SendFlags::NOSIGNAL,
    )?;
    let mut answer = vec![0; ANSWER_BYTES_MAX];
    let mut space: [MaybeUninit<u8>; 0] = [];
    let mut nothing = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut answer)];
    let got = recvmsg(&socket, &mut slices, &mut nothing, RecvFlags::empty())?.bytes;
    let answer: Value = serde_json::from_slice(&answer[..got]).context("the answer is no JSON")?;
    match answer.get("View") {
        Some(view) => Ok(view.clone()),
        None => bail!("the agent answers {answer}"),
    }
}
