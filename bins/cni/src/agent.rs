//! Talking to the agent, also when it is being restarted, and remembering a DEL when it is not there.

use std::{
    os::fd::BorrowedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use model::{AttachmentKey, Timestamp};
use wire::{
    SOCKET_PATH, TOMBSTONE_DIR,
    cni::{Code, Error},
    message::{CONTRACT, Reply, Request, Verb},
    socket::{Connection, SocketError},
    tombstone::Tombstone,
};

/// How long an agent may be away before an ADD gives up: an upgrade takes a restart of well under a
/// second plus the image's unpacking, a crash loop backs off 10 s first.
const ABSENCE_MAX: Duration = Duration::from_secs(30);

/// How often the socket is tried meanwhile: 50 ms is what a pod may lose to an agent's restart.
const ABSENCE_POLL: Duration = Duration::from_millis(50);

/// What the agent may take beyond the request's patience to say that it ran out.
const GRACE: Duration = Duration::from_secs(2);

/// Asks the agent, waiting a bounded time for one that is away.
pub(crate) fn ask(request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Reply, Error> {
    let waits = matches!(request.verb, Verb::Add { .. } | Verb::Check { .. });
    let began = Instant::now();
    // From when nobody has answered: a request may have been with an agent for long before it went away.
    let mut away = None;
    loop {
        let left = request.patience.saturating_sub(began.elapsed());
        let asked = Instant::now();
        match exchange(request, left, descriptors) {
            Ok(reply) => return Ok(reply),
            Err(error) if waits && !left.is_zero() && is_away(&error) => {
                // One that took the request was there until now.
                let since = match error.is_severed() {
                    true => *away.insert(Instant::now()),
                    false => *away.get_or_insert(asked),
                };
                if since.elapsed() >= ABSENCE_MAX {
                    return Err(unreachable_agent(&error));
                }
                thread::sleep(ABSENCE_POLL);
            }
            Err(error) => return Err(unreachable_agent(&error)),
        }
    }
}

/// Whether the same request may be sent again: nobody took it, or whoever did is gone, also one that
/// handed over with the request still in its queue. An ADD is the same ADD when it is repeated, by
/// sandbox and interface.
fn is_away(error: &SocketError) -> bool {
    error.is_nobody() || error.is_severed()
}

fn exchange(
    request: &Request,
    left: Duration,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Reply, SocketError> {
    let connection = Connection::connect(Path::new(SOCKET_PATH))?;
    connection.limit(left + GRACE)?;
    connection.send(request, descriptors)?;
    connection.receive().map(|(reply, _)| reply)
}

fn unreachable_agent(error: &SocketError) -> Error {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    let what = format!("{error}{}", source.unwrap_or_default());
    Error::new(
        Code::TryLater,
        format!("the agent terwayd does not answer at {SOCKET_PATH}"),
    )
    .with_details(what)
}

/// DEL. If the agent is not there, or dies over it, the deletion is written down and counts as done:
/// a pod must be deletable while the agent is away.
pub(crate) fn del(
    key: AttachmentKey,
    started: Timestamp,
    patience: Duration,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Error> {
    let verb = Verb::Del { key: key.clone() };
    let request = Request {
        contract: CONTRACT,
        started,
        patience,
        verb,
    };
    match exchange(&request, patience, descriptors) {
        Ok(Reply::Failed {
            code,
            message,
            details,
        }) => Err(Error {
            code,
            message,
            details,
        }),
        Ok(Reply::Done | Reply::Attached { .. } | Reply::View(_)) => Ok(()),
        Err(_) => bury(key, started),
    }
}

fn bury(key: AttachmentKey, deleted: Timestamp) -> Result<(), Error> {
    Tombstone { key, deleted }
        .write(Path::new(TOMBSTONE_DIR))
        .map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            Error::new(
                Code::TryLater,
                "the agent terwayd does not answer, and the deletion cannot be noted",
            )
            .with_details(format!("{error}{}", source.unwrap_or_default()))
        })
}
