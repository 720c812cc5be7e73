//! What is said to a lab that is up: one JSON line each way, over its control socket, and between
//! the region and its nodes over pipes.

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long the region may take to answer. Taking the lab down is the slowest: every node's processes
/// end at once, within the 10 s that a node gets.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What the lab may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum Request {
    /// How many nodes there are, and how many of them are ready; cheap, for whoever waits.
    Ready,
    /// Everything there is, as one document.
    Status,
    /// Kill something that runs on a node without warning; the node starts it again.
    Kill {
        /// The node.
        node: String,
        /// `terwayd`; with a real Kubernetes also `kubelet`, `kube-proxy` or `containerd`.
        component: String,
    },
    /// Where a pod's namespaces are.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Make a call to the cloud as the account's owner.
    Call {
        /// Its name.
        action: String,
        /// Its parameters.
        parameters: Vec<(String, String)>,
    },
    /// Switch an ENI's source and destination check on or off, in the VPC only.
    SourceDestCheck {
        /// The ENI.
        eni: String,
        /// Whether its packets are checked.
        enabled: bool,
    },
    /// Take everything down.
    Down,
}

/// What a node may be asked by the region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub(crate) enum NodeRequest {
    /// Configure the primary ENI and start what runs on a node.
    Boot {
        /// Address of the primary ENI.
        address: Ipv4Addr,
        /// The gateway of its vSwitch.
        gateway: Ipv4Addr,
    },
    /// The agent's process and how often it was started again.
    Agent,
    /// See [`Request::Kill`].
    Kill {
        /// What.
        component: String,
    },
    /// The network namespace file of a pod, as the node sees it.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// The answer to either.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// What was asked for.
    Ok(Value),
    /// Why not.
    Error(String),
}

impl From<Result<Value>> for Answer {
    fn from(outcome: Result<Value>) -> Self {
        match outcome {
            Ok(value) => Self::Ok(value),
            Err(error) => Self::Error(format!("{error:#}")),
        }
    }
}

impl Answer {
    /// The answer on a line as it came.
    pub(crate) fn read(line: &str) -> Result<Value> {
        match serde_json::from_str(line).context("an answer that cannot be read")? {
            Self::Ok(value) => Ok(value),
            Self::Error(why) => Err(anyhow!(why)),
        }
    }
}

/// `message` as a line.
pub(crate) fn line(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Asks the lab behind `socket`.
///
/// # Errors
/// When nobody answers in time, or the answer is no.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Value> {
    let what = || format!("the lab does not answer at {}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(what)?;
    stream
        .set_read_timeout(Some(ANSWER_MAX))
        .with_context(what)?;
    stream
        .set_write_timeout(Some(ANSWER_MAX))
        .with_context(what)?;
    stream.write_all(&line(request)?).with_context(what)?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .with_context(what)?;
    Answer::read(&answer)
}
