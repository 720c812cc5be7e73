//! One agent a node: the lock, and how an agent takes it over from the one that serves.
//!
//! In a rolling update the new agent may start while the old one serves. It asks the old one to hand
//! over; the old one starts itself anew as a standby, which drops its lock, sockets and files all at
//! once, exactly as a crash would, and waits for the lock without ever asking for it. If the new agent
//! dies, the kernel gives the lock to the standby, which serves on.
//!
//! An agent that is told to end while it serves goes on for a while, so that the next one can take over
//! from it even where the last pod is ended before the next one is started.

use std::{
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use wire::{
    SOCKET_PATH,
    message::{CONTRACT, Reply, Request, Verb},
    socket::{Connection, SocketError},
};

use crate::{cause::chain, plugin::now};

/// The flag of a standby.
pub(crate) const STANDBY: &str = "--standby";

/// How often the lock is tried: what a pod may lose to a hand-over, beside the start itself.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// How often the one that holds the lock is asked to hand over, and how long it may take to answer.
const ASK_PERIOD: Duration = Duration::from_secs(5);
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// How long an agent that is told to end waits for the next one. Below the 10 s of the DaemonSet's
/// `terminationGracePeriodSeconds`; a pod that is given less is killed, which is as good.
const LINGER: Duration = Duration::from_secs(8);

/// Waits until this is the node's only serving agent. The lock is held until the descriptor closes.
pub(crate) fn lock(state: &Path, standby: bool) -> anyhow::Result<OwnedFd> {
    std::fs::create_dir_all(state).with_context(|| format!("making {}", state.display()))?;
    let path = state.join("terwayd.lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
        // A disk that turned read-only still tells who serves.
        Err(rustix::io::Errno::ROFS) => {
            rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        }
        other => other,
    };
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let mut ask_at = Instant::now();
    if standby {
        tracing::info!("standby: another agent serves this node");
    }
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        if !standby && ask_at <= Instant::now() {
            ask_at = Instant::now() + ASK_PERIOD;
            match ask() {
                Ok(()) => tracing::info!("the agent that serves this node hands over"),
                Err(why) => tracing::warn!(
                    why,
                    "another agent holds the lock and does not hand over; waiting"
                ),
            }
        }
        thread::sleep(LOCK_POLL);
    }
}

fn ask() -> Result<(), String> {
    let reply = exchange().map_err(|error| chain(&error))?;
    match reply {
        Reply::Failed { message, .. } => Err(message),
        Reply::Done | Reply::Attached { .. } | Reply::View(_) => Ok(()),
    }
}

fn exchange() -> Result<Reply, SocketError> {
    let connection = Connection::connect(Path::new(SOCKET_PATH))?;
    connection.limit(ANSWER_MAX)?;
    let request = Request {
        contract: CONTRACT,
        started: now(),
        patience: ANSWER_MAX,
        verb: Verb::HandOver,
    };
    connection.send(&request, &[])?;
    connection.receive().map(|(reply, _)| reply)
}

/// An agent's time of service.
#[derive(Debug, Default)]
pub(crate) struct Term {
    serves: AtomicBool,
    ends: AtomicBool,
}

impl Term {
    /// This agent holds the lock.
    pub(crate) fn begin(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// Ends the process when it is told to. Nothing has to be put away: what must survive is on disk. As
    /// the first process of a container it would not end at all without asking for the signals.
    pub(crate) fn end_when_told(self: &Arc<Self>, runtime: &Runtime) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
        let term = Arc::clone(self);
        runtime.spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {
                    term.ends.store(true, Ordering::Relaxed);
                    if term.serves.load(Ordering::Relaxed) {
                        tracing::info!("told to end; serving until another agent takes over, at most {LINGER:?}");
                        tokio::time::sleep(LINGER).await;
                    }
                }
                _ = interrupt.recv() => {}
            }
            tracing::info!("ending");
            std::process::exit(0);
        });
        Ok(())
    }

    /// Leaves the node to the agent that asked for it.
    pub(crate) fn hand_over(&self) -> ! {
        if self.ends.load(Ordering::Relaxed) {
            tracing::info!("another agent takes over; ending");
            std::process::exit(0);
        }
        let error = stand_by();
        tracing::error!(%error, "cannot start anew as a standby");
        // The one that asked serves from here on; two must not.
        std::process::exit(1);
    }
}

/// Starts this program anew as a standby. Comes back only if that fails.
fn stand_by() -> std::io::Error {
    tracing::info!("handing over to another agent");
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|argument| argument == STANDBY) {
        arguments.push(STANDBY.into());
    }
    // By its own path, so that it keeps its name; that fails when the file was replaced meanwhile.
    let again = |program: &Path| Command::new(program).args(&arguments).exec();
    if let Ok(path) = std::env::current_exe() {
        let error = again(&path);
        tracing::warn!(%error, path = %path.display(), "cannot start anew by path");
    }
    again(Path::new("/proc/self/exe"))
}
