//! One message each way over a SOCK_SEQPACKET unix socket, with descriptors beside the request.
//!
//! A sequenced packet is a frame by itself: it arrives whole or not at all, and what does not fit is
//! reported, not cut.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, sockopt,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use crate::message::MESSAGE_BYTES_MAX;

/// Descriptors beside a request: the pod's network namespace and a netlink socket inside it.
pub const DESCRIPTORS_MAX: usize = 2;

/// Connections that may wait to be accepted: a node's pods, all started at once.
const BACKLOG: i32 = 256;

/// Why a message did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit a socket address (107 bytes).
    #[error("{path} cannot be the address of a unix socket")]
    Address {
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// The kernel refused.
    #[error("{doing} {path}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// On which socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// Sending failed.
    #[error("sending a message of {bytes} bytes")]
    Send {
        /// Its size.
        bytes: usize,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// No connection can be taken; it may pass, for example when descriptors ran out.
    #[error("accepting a connection")]
    Accept(#[source] Errno),
    /// The kernel does not say who is at the other end.
    #[error("asking who connected")]
    Peer(#[source] nix::errno::Errno),
    /// Nothing came in time, or receiving failed.
    #[error("waiting for a message")]
    Receive(#[source] Errno),
    /// The other side closed without a word: it was killed, or did not like us.
    #[error("the other side closed the connection without an answer")]
    Closed,
    /// The message is longer than a message may be.
    #[error("a message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// The message is not one of ours.
    #[error("a message cannot be read")]
    Undecodable(#[source] serde_json::Error),
    /// The other side is another user.
    #[error("the other side runs as user {0}; only root may speak to the agent")]
    Stranger(u32),
}

impl SocketError {
    /// Whether nobody listens: the agent is not running, or is being replaced.
    pub fn is_nobody(&self) -> bool {
        matches!(
            self,
            SocketError::Kernel {
                source: Errno::NOENT | Errno::CONNREFUSED,
                ..
            }
        )
    }

    /// Whether whoever took the connection went away over it. Which error it is says how far the message
    /// came: nobody may write to a closed connection (`EPIPE`), what lies unread in one when it is closed
    /// resets it (`ECONNRESET`, unix(7)), and one closed after reading just ends.
    pub fn is_severed(&self) -> bool {
        match self {
            SocketError::Closed => true,
            SocketError::Send { source, .. } | SocketError::Receive(source) => {
                matches!(*source, Errno::PIPE | Errno::CONNRESET)
            }
            _ => false,
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// A connection, good for one request and one reply.
#[derive(Debug)]
pub struct Connection(OwnedFd);

fn open(path: &Path) -> Result<(OwnedFd, SocketAddrUnix), SocketError> {
    let address = SocketAddrUnix::new(path).map_err(|source| SocketError::Address {
        path: path.into(),
        source,
    })?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    let socket = socket.map_err(failed("opening a socket for", path))?;
    Ok((socket, address))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(Errno) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Kernel {
        doing,
        path,
        source,
    }
}

impl Listener {
    /// Listens at `path`. A socket left there by an agent that died is replaced; mode 0600.
    ///
    /// # Errors
    /// When the path or the kernel does not allow it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let draft = path.with_extension("draft");
        let (socket, address) = open(&draft)?;
        if let Err(error) = rustix::fs::unlink(&draft)
            && error != Errno::NOENT
        {
            return Err(failed("clearing", &draft)(error));
        }
        rustix::net::bind(&socket, &address).map_err(failed("binding", &draft))?;
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::chmod(&draft, mode).map_err(failed("restricting", &draft))?;
        rustix::net::listen(&socket, BACKLOG).map_err(failed("listening at", &draft))?;
        // Renaming it into place last means that whoever finds the socket is answered.
        rustix::fs::rename(&draft, path).map_err(failed("renaming into place", path))?;
        Ok(Self(socket))
    }

    /// The next connection, from root only. `timeout` bounds how long the peer may take to send its
    /// request and to take its reply.
    ///
    /// # Errors
    /// When accepting fails or the peer is not root; the listener goes on.
    pub fn accept(&self, timeout: Duration) -> Result<Connection, SocketError> {
        let socket = loop {
            match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC) {
                Ok(socket) => break socket,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SocketError::Accept(error)),
            }
        };
        // Not rustix's: a peer in a process namespace of which this one sees nothing has process id 0,
        // which its type cannot hold, and that is every plugin when the agent runs in a pod.
        let peer = getsockopt(&socket, PeerCredentials).map_err(SocketError::Peer)?;
        if peer.uid() != 0 {
            return Err(SocketError::Stranger(peer.uid()));
        }
        let connection = Connection(socket);
        connection.limit(timeout)?;
        Ok(connection)
    }
}

impl Connection {
    /// Connects to the agent at `path`.
    ///
    /// # Errors
    /// When nobody listens there ([`SocketError::is_nobody`]) or the kernel refuses.
    pub fn connect(path: &Path) -> Result<Self, SocketError> {
        let (socket, address) = open(path)?;
        rustix::net::connect(&socket, &address).map_err(failed("connecting to", path))?;
        Ok(Self(socket))
    }

    /// Bounds every later send and receive.
    ///
    /// # Errors
    /// When the kernel refuses the number.
    pub fn limit(&self, timeout: Duration) -> Result<(), SocketError> {
        for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            sockopt::set_socket_timeout(&self.0, which, Some(timeout))
                .map_err(SocketError::Receive)?;
        }
        Ok(())
    }

    /// Sends `message` with `descriptors` beside it.
    ///
    /// # Errors
    /// When it is too long or the kernel refuses.
    pub fn send<M: Serialize>(
        &self,
        message: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SocketError> {
        let bytes = serde_json::to_vec(message).map_err(SocketError::Undecodable)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(SocketError::TooLong);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(SocketError::TooLong);
        }
        let slices = [IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL).map_err(
            |source| SocketError::Send {
                bytes: bytes.len(),
                source,
            },
        )?;
        Ok(())
    }

    /// Receives one message and the descriptors beside it.
    ///
    /// # Errors
    /// When nothing comes in time, the other side closed, or what came is no message.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<(M, Vec<OwnedFd>), SocketError> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut slices, &mut control, flags) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(error) => return Err(SocketError::Receive(error)),
            }
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received.bytes == 0 {
            return Err(SocketError::Closed);
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(SocketError::TooLong);
        }
        let text = bytes.get(..received.bytes).unwrap_or_default();
        let message = serde_json::from_slice(text).map_err(SocketError::Undecodable)?;
        Ok((message, descriptors))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{CONTRACT, Reply, Request, Verb};
    use model::Timestamp;
    use std::{fs::File, thread};

    fn request() -> Request {
        Request {
            contract: CONTRACT,
            started: Timestamp::EPOCH,
            patience: Duration::from_secs(1),
            verb: Verb::Status,
        }
    }

    #[test]
    fn a_request_with_descriptors_is_answered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        assert!(Connection::connect(&path).unwrap_err().is_nobody());
        let listener = Listener::bind(&path).unwrap();
        drop(Listener::bind(&path).unwrap());
        let _ = listener;
        let listener = Listener::bind(&path).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let connection = listener.accept(Duration::from_secs(5)).unwrap();
                let (got, descriptors) = connection.receive::<Request>().unwrap();
                assert_eq!((got, descriptors.len()), (request(), 2));
                connection.send(&Reply::Done, &[]).unwrap();
            });
            let connection = Connection::connect(&path).unwrap();
            connection.limit(Duration::from_secs(5)).unwrap();
            let file = File::open("/dev/null").unwrap();
            connection
                .send(&request(), &[file.as_fd(), file.as_fd()])
                .unwrap();
            assert_eq!(connection.receive::<Reply>().unwrap().0, Reply::Done);
        });
    }

    #[test]
    fn an_agent_that_goes_away_is_told_from_one_that_says_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let connect = || {
            let client = Connection::connect(&path).unwrap();
            client.limit(Duration::from_millis(20)).unwrap();
            client
        };

        let listener = Listener::bind(&path).unwrap();
        let (unread, unsent) = (connect(), connect());
        unread.send(&request(), &[]).unwrap();
        let silence = unread.receive::<Reply>().unwrap_err();
        assert!(!silence.is_severed(), "{silence:?}");
        drop(listener);
        let reset = unread.receive::<Reply>().unwrap_err();
        assert!(reset.is_severed(), "{reset:?}");
        let pipe = unsent.send(&request(), &[]).unwrap_err();
        assert!(pipe.is_severed(), "{pipe:?}");

        let listener = Listener::bind(&path).unwrap();
        let client = connect();
        client.send(&request(), &[]).unwrap();
        let server = listener.accept(Duration::from_secs(5)).unwrap();
        server.receive::<Request>().unwrap();
        drop(server);
        let closed = client.receive::<Reply>().unwrap_err();
        assert!(closed.is_severed(), "{closed:?}");
    }

    #[test]
    fn silence_junk_and_excess_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let listener = Listener::bind(&path).unwrap();
        let client = Connection::connect(&path).unwrap();
        let server = listener.accept(Duration::from_millis(20)).unwrap();
        assert!(matches!(
            server.receive::<Request>(),
            Err(SocketError::Receive(Errno::AGAIN))
        ));
        client.send(&"junk", &[]).unwrap();
        assert!(matches!(
            server.receive::<Request>(),
            Err(SocketError::Undecodable(_))
        ));
        let long = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(client.send(&long, &[]), Err(SocketError::TooLong)));
        drop(client);
        assert!(matches!(
            server.receive::<Request>(),
            Err(SocketError::Closed)
        ));
    }
}
