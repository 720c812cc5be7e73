//! The socket the plugin speaks to: one thread a connection reads the request, makes sure the pod
//! exists, and hands everything to the driver, which answers on the same connection.

use std::{
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use engine::node::Input;
use model::Timestamp;
use wire::{
    cni::{Code, Error},
    message::{CONTRACT, Reply, Request, Verb},
    socket::{Connection, Listener, SocketError},
};

use crate::{
    driver::{Asked, Message},
    incumbent::Term,
    kernel::PodDescriptors,
    metrics::Metrics,
    pods::{Expected, Pods},
};

/// Connections at once: kubelet's most pods a node, 256, an ADD and a DEL of each.
pub(crate) const CONNECTIONS_MAX: usize = 512;

/// What a peer may take to send its request, and to take its answer: both are one packet of a program
/// on the same machine.
const EXCHANGE: Duration = Duration::from_secs(5);

/// A rest when no connection can be taken, so that a lack of descriptors does not become a lack of CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A reading thread needs the message buffer on the heap and little else.
const STACK_BYTES: usize = 256 * 1024;

/// Accepts connections until another agent takes over.
pub(crate) fn serve(
    listener: &Listener,
    pods: &Arc<Pods>,
    driver: &SyncSender<Message>,
    term: &Arc<Term>,
) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let connection = match listener.accept(EXCHANGE) {
            Ok(connection) => connection,
            Err(error @ SocketError::Accept(_)) => {
                tracing::error!(error = %crate::cause::chain(&error), "plugin socket");
                thread::sleep(ACCEPT_PAUSE);
                continue;
            }
            Err(error) => {
                tracing::warn!(error = %crate::cause::chain(&error), "refused a connection");
                continue;
            }
        };
        if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Ordering::Relaxed);
            refuse(
                &connection,
                Error::new(
                    Code::TryLater,
                    "the agent serves as many requests as it can",
                ),
            );
            continue;
        }
        let (pods, driver, term) = (Arc::clone(pods), driver.clone(), Arc::clone(term));
        let held = Arc::clone(&open);
        let reader = thread::Builder::new()
            .name("request".into())
            .stack_size(STACK_BYTES);
        let spawned = reader.spawn(move || {
            read(connection, &pods, &driver, &term);
            held.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            open.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(%error, "starting a thread for a request");
        }
    }
}

fn read(connection: Connection, pods: &Pods, driver: &SyncSender<Message>, term: &Term) {
    let received = Instant::now();
    let (request, descriptors) = match connection.receive::<Request>() {
        Ok(received) => received,
        Err(SocketError::Closed) => return,
        Err(error) => {
            let error = Error::new(Code::Undecodable, crate::cause::chain(&error));
            return refuse(&connection, error);
        }
    };
    let expected = match check(&request, pods) {
        Ok(expected) => expected,
        Err(error) => {
            // A pod that is refused must not be kept alive by us.
            drop(descriptors);
            if let Verb::Add { pod, .. } = request.verb {
                let input = Input::Refused(pod, error.to_string());
                let _ = driver.send(Message::Input(input));
            }
            return refuse(&connection, error);
        }
    };
    if request.verb == Verb::HandOver {
        answer(&connection, &Reply::Done);
        term.hand_over();
    }
    if request.verb == Verb::Dump {
        return answer(&connection, &dump(descriptors, driver));
    }
    let asked = Asked {
        request,
        descriptors: pair(descriptors),
        connection,
        received,
        expected,
    };
    // The driver is gone only when the agent ends; the plugin sees the connection close.
    let _ = driver.send(Message::Asked(Box::new(asked)));
}

fn check(request: &Request, pods: &Pods) -> Result<Expected, Error> {
    if request.contract != CONTRACT {
        let message = format!(
            "the plugin speaks contract {}, this agent speaks {CONTRACT}; one of them is to be upgraded",
            request.contract
        );
        return Err(Error::new(Code::TryLater, message));
    }
    match &request.verb {
        Verb::Add { pod, uid, .. } => pods.expect(pod, uid.as_ref()),
        _ => Ok(Expected::default()),
    }
}

/// Writes what the driver recorded into the file that came with the request.
fn dump(descriptors: Vec<OwnedFd>, driver: &SyncSender<Message>) -> Reply {
    let written = || -> Result<(), String> {
        let file = descriptors.into_iter().next();
        let mut file = File::from(file.ok_or("no file came with the request")?);
        let told = |error: std::io::Error| format!("writing the recording: {error}");
        if !file.metadata().map_err(told)?.is_file() {
            // Nobody may read a pipe's other end, and this thread would wait for that for ever.
            return Err("what came with the request is no regular file".into());
        }
        let (answer, recording) = mpsc::sync_channel(1);
        let gone = "the agent is ending";
        driver.send(Message::Dump(answer)).map_err(|_| gone)?;
        let recording = recording.recv().map_err(|_| gone)?;
        file.write_all(&recording).map_err(told)
    };
    match written() {
        Ok(()) => Reply::Done,
        Err(why) => Error::new(Code::Io, why).into(),
    }
}

fn pair(descriptors: Vec<OwnedFd>) -> Option<PodDescriptors> {
    let mut descriptors = descriptors.into_iter();
    let namespace = descriptors.next()?;
    let netlink = descriptors.next()?;
    Some(PodDescriptors { namespace, netlink })
}

fn refuse(connection: &Connection, error: Error) {
    answer(connection, &Reply::from(error));
}

/// A request whose answer takes a while.
pub(crate) struct Caller {
    pub(crate) connection: Connection,
    pub(crate) verb: &'static str,
    /// When the plugin started, which may be long before an agent listened.
    pub(crate) started: Timestamp,
    pub(crate) received: Instant,
}

impl Caller {
    pub(crate) fn answer(&self, reply: &Reply, failed: bool, metrics: &Metrics) {
        answer(&self.connection, reply);
        metrics.rpc(self.verb, self.received.elapsed(), failed);
        metrics.waited(self.verb, now().since(self.started), failed);
    }
}

/// Sends the answer. Nobody there to take it is no failure: the runtime gave up and sends DEL.
pub(crate) fn answer(connection: &Connection, reply: &Reply) {
    if let Err(error) = connection.send(reply, &[]) {
        tracing::debug!(error = %crate::cause::chain(&error), "the plugin did not take its answer");
    }
}

/// The node's wall clock, on which plugin and agent agree.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::EPOCH.after(since.unwrap_or_default())
}
