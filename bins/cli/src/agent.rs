//! Asks the agent of this node over its socket, and reads what it answers, of whatever release it is.
//!
//! Knows no API server and prints nothing.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use model::{PodKey, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use wire::{
    message::{CONTRACT, Reply, Request, Verb},
    socket::{Connection, SocketError},
};

/// What the agent may take. It answers from memory in milliseconds; its longest pause is one write of
/// the ledger.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where it answers probes (`--listen` in deploy/base/daemonset.yaml), how long that may take, and how much
/// is read: a few sentences.
const PROBES: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9190);
const PROBE_MAX: Duration = Duration::from_secs(1);
const PROBE_BYTES_MAX: u64 = 16 * 1024;

/// Why the agent of this node has not answered.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nobody listens: it is not installed, not running, or being replaced.
    Nobody(PathBuf),
    /// It runs, and waits for what its readiness probe names.
    NotReady(String),
    /// It listens, and there is no answer.
    Broken(SocketError),
    /// It answered that it will not.
    Refused(String),
}

impl std::fmt::Display for Silence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Silence::Nobody(path) => write!(
                f,
                "no agent listens at {}: it is not installed or not running",
                path.display()
            ),
            Silence::NotReady(why) => write!(f, "the agent runs and cannot serve yet: {why}"),
            Silence::Broken(error) => write!(f, "the agent did not answer: {}", chain(error)),
            Silence::Refused(text) => write!(f, "the agent refused to answer: {text}"),
        }
    }
}

/// Asks the agent at `socket` and returns its document.
pub(crate) fn ask(socket: &Path, verb: Verb) -> Result<Value, Silence> {
    match exchange(socket, verb, &[])? {
        Reply::View(document) => Ok(document),
        other => Err(refused(other)),
    }
}

/// Asks the agent at `socket`, with `descriptors` beside the question.
pub(crate) fn exchange(
    socket: &Path,
    verb: Verb,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Reply, Silence> {
    let request = Request {
        contract: CONTRACT,
        started: now(),
        patience: PATIENCE,
        verb,
    };
    let exchange = || {
        let connection = Connection::connect(socket)?;
        connection.limit(PATIENCE)?;
        connection.send(&request, descriptors)?;
        connection.receive::<Reply>().map(|(reply, _)| reply)
    };
    exchange().map_err(|error| {
        if !error.is_nobody() {
            return Silence::Broken(error);
        }
        not_ready().map_or_else(|| Silence::Nobody(socket.into()), Silence::NotReady)
    })
}

/// What an answer means that is not the one the question wants.
pub(crate) fn refused(reply: Reply) -> Silence {
    Silence::Refused(match reply {
        Reply::Failed {
            message, details, ..
        } if details.is_empty() => message,
        Reply::Failed {
            message, details, ..
        } => format!("{message}: {details}"),
        _ => {
            "its answer belongs to another question; agent and terway-cli are of different releases"
                .into()
        }
    })
}

/// What the readiness probe says of an agent that has not opened its socket.
fn not_ready() -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&PROBES, PROBE_MAX).ok()?;
    stream.set_read_timeout(Some(PROBE_MAX)).ok()?;
    let request = format!("GET /readyz HTTP/1.0\r\nHost: {PROBES}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream
        .take(PROBE_BYTES_MAX)
        .read_to_string(&mut answer)
        .ok()?;
    let (head, why) = answer.split_once("\r\n\r\n")?;
    head.lines()
        .next()?
        .contains(" 503 ")
        .then(|| why.trim().to_owned())
}

/// What the agent says about a pod. Fields an agent does not send are empty.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Explanation {
    pub(crate) state: PodState,
    pub(crate) addresses: Vec<String>,
    pub(crate) eni: Option<String>,
    /// In words, of a pod that has several.
    pub(crate) interfaces: Vec<String>,
    /// How it is joined to the node, if not by a veth pair.
    pub(crate) link: Option<String>,
    pub(crate) since: Option<u64>,
    pub(crate) tried: Vec<Happening>,
    pub(crate) missing: Option<String>,
    pub(crate) next: String,
}

/// How far the agent has brought a pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PodState {
    /// It has its addresses.
    Attached,
    /// It waits for one.
    Waiting,
    /// Its last ADD failed.
    Failed,
    /// It is being taken down.
    Detaching,
    /// The agent was never asked, or says something this release does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

/// Something the agent did for a pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Happening {
    /// Seconds since the Unix epoch.
    pub(crate) at: u64,
    pub(crate) what: String,
}

/// What the agent at `socket` knows of `pod`. An agent that does not know the question is asked for
/// its view, which names the pod that holds each address.
pub(crate) fn explain(socket: &Path, pod: &PodKey) -> Result<Value, Silence> {
    match ask(socket, Verb::Explain { pod: pod.clone() }) {
        Err(Silence::Refused(refusal)) => match ask(socket, Verb::View) {
            Ok(view) => Ok(from_view(&view, pod)),
            Err(_) => Err(Silence::Refused(refusal)),
        },
        other => other,
    }
}

/// What an agent's view tells of `pod`, in the form of an explanation.
fn from_view(view: &Value, pod: &PodKey) -> Value {
    let name = pod.to_string();
    let enis = view["enis"].as_array().into_iter().flatten();
    let held = enis.flat_map(|eni| {
        let addresses = eni["addresses"].as_object().into_iter().flatten();
        let mine = addresses.filter(|(_, holder)| **holder == *name);
        mine.map(|(address, _)| (address.clone(), eni["id"].clone()))
    });
    let held: Vec<(String, Value)> = held.collect();
    let addresses: Vec<&String> = held.iter().map(|(address, _)| address).collect();
    let state = if held.is_empty() {
        "unknown"
    } else {
        "attached"
    };
    serde_json::json!({
        "pod": name, "state": state, "addresses": addresses,
        "eni": held.first().map(|(_, eni)| eni),
        "missing": held.is_empty().then_some(
            "the agent is older than terway-cli and tells only of pods that have an address"),
        "next": "",
    })
}

/// The wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::EPOCH.after(since.unwrap_or_default())
}

/// The wall clock in seconds since the Unix epoch.
pub(crate) fn now_seconds() -> u64 {
    now().since(Timestamp::EPOCH).as_secs()
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // Some libraries repeat their cause in their own text.
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_of_another_release_is_read() {
        let text =
            json!({ "state": "levitating", "tried": [{ "what": "x", "by": "y" }], "new": 1 });
        let read: Explanation = serde_json::from_value(text).unwrap();
        assert_eq!(read.state, PodState::Unknown);
        assert_eq!(read.tried[0].what, "x");
    }

    #[test]
    fn a_view_tells_who_has_an_address() {
        let view = json!({ "enis": [
            { "id": "eni-1", "addresses": { "10.0.0.1": "idle", "10.0.0.2": "default/web" } } ] });
        let pod = PodKey::new("default", "web").unwrap();
        let read: Explanation = serde_json::from_value(from_view(&view, &pod)).unwrap();
        assert_eq!(read.state, PodState::Attached);
        assert_eq!(read.addresses, ["10.0.0.2"]);
        assert_eq!(read.eni.as_deref(), Some("eni-1"));
        let other = PodKey::new("default", "other").unwrap();
        let read: Explanation = serde_json::from_value(from_view(&view, &other)).unwrap();
        assert_eq!(read.state, PodState::Unknown);
    }
}
