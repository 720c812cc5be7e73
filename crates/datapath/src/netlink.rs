//! A NETLINK_ROUTE socket: the handle callers hold, and its link look-ups.

use std::{io, os::fd::OwnedFd};

use model::{InterfaceName, Mac, net::Link};

use crate::{
    decode::{LinkDetail, link_detail},
    encode,
    error::{Error, Result},
    exchange::{Outcome, Request},
    object::Object,
    observe,
    socket::Socket,
};

/// A conversation with the kernel about one network namespace: the one the socket was opened in,
/// whatever thread or process uses it.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) socket: Socket,
}

impl Netlink {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open() -> Result<Self> {
        let socket = Socket::open(None).map_err(|source| Error::Socket {
            step: "opening NETLINK_ROUTE",
            source,
        })?;
        Ok(Self { socket })
    }

    /// Takes over a socket that another process opened inside a pod's network namespace.
    ///
    /// # Errors
    /// [`Error::NotRouteSocket`] when the descriptor is anything but a NETLINK_ROUTE socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self> {
        Ok(Self {
            socket: Socket::adopt_route(fd)?,
        })
    }

    /// The Ethernet links of the namespace, by name. Those on ipvlan are not among them: each has the MAC of
    /// the link it is a slave of, which would not be found by it any more.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let links = observe::links(self)?;
        Ok(links.into_iter().map(|observed| observed.link).collect())
    }

    /// The link that carries `mac`, how an ENI is found on its node. Of several the lowest name.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn link_by_mac(&mut self, mac: Mac) -> Result<Option<Link>> {
        Ok(self.links()?.into_iter().find(|link| link.mac == mac))
    }

    /// Whether any link is in `group`.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn has_group(&mut self, group: u32) -> Result<bool> {
        let links = observe::link_details(self)?;
        Ok(links.iter().any(|link| link.group == group))
    }

    /// The namespace it is about.
    pub(crate) fn namespace(&self) -> Result<OwnedFd> {
        self.socket.namespace().map_err(|source| Error::Socket {
            step: "asking for its network namespace",
            source,
        })
    }

    /// Everything known of one link.
    pub(crate) fn link(&mut self, name: &InterfaceName) -> Result<Option<LinkDetail>> {
        let request = Request::new("reading", Object::Link(name), &encode::get_link(name));
        let doing = request.doing();
        match self.exchange_one(request)? {
            Outcome::Done(Some(message)) => link_detail(&message)
                .map(Some)
                .ok_or_else(|| malformed(doing, "it describes no link")),
            Outcome::Done(None) => Err(malformed(doing, "it is empty")),
            Outcome::Refused(ack) if ack.refuses_with(io_errno::ENODEV) => Ok(None),
            Outcome::Refused(ack) => Err(ack.into_error(doing)),
        }
    }

    /// The index of a link the plan names; `doing` says what for.
    pub(crate) fn index_of(&mut self, name: &InterfaceName, doing: Object<'_>) -> Result<u32> {
        match self.link(name)? {
            Some(link) => Ok(link.index),
            None => Err(Error::NoLink {
                doing: format!("adding {doing}"),
                link: name.clone(),
            }),
        }
    }
}

/// The error numbers this crate tells apart.
pub(crate) mod io_errno {
    use rustix::io::Errno;

    pub(crate) const EADDRINUSE: i32 = Errno::ADDRINUSE.raw_os_error();
    pub(crate) const EBUSY: i32 = Errno::BUSY.raw_os_error();
    pub(crate) const EEXIST: i32 = Errno::EXIST.raw_os_error();
    pub(crate) const EINVAL: i32 = Errno::INVAL.raw_os_error();
    pub(crate) const ENODEV: i32 = Errno::NODEV.raw_os_error();
    pub(crate) const ENOENT: i32 = Errno::NOENT.raw_os_error();
    pub(crate) const ESRCH: i32 = Errno::SRCH.raw_os_error();
    pub(crate) const EAFNOSUPPORT: i32 = Errno::AFNOSUPPORT.raw_os_error();
    pub(crate) const EOPNOTSUPP: i32 = Errno::OPNOTSUPP.raw_os_error();
    pub(crate) const EADDRNOTAVAIL: i32 = Errno::ADDRNOTAVAIL.raw_os_error();
}

/// An answer that breaks the protocol.
pub(crate) fn malformed(doing: String, what: impl Into<String>) -> Error {
    Error::Malformed {
        doing,
        what: what.into(),
    }
}

/// A failure below the protocol.
pub(crate) fn transport(doing: String, step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Transport {
        doing,
        step,
        source,
    }
}
