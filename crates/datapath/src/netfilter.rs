//! What the netlink protocols of netfilter have in common (include/uapi/linux/netfilter/nfnetlink.h).
//!
//! Knows no message of any of them.

use rustix::{io::Errno, net::netlink::NETFILTER};

use crate::{
    error::{Error, Result},
    netlink::io_errno::EINVAL,
    socket::Socket,
};

/// `struct nfgenmsg`: family, version, resource id.
pub(crate) const GENERIC_HEADER_LEN: usize = 4;

/// The start of every payload.
pub(crate) fn header(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

/// Opens a socket in the network namespace of this thread.
///
/// # Errors
/// [`Error::Unsupported`] with `what` when the kernel has no netfilter netlink.
pub(crate) fn open(what: &'static str) -> Result<Socket> {
    Socket::open(Some(NETFILTER)).map_err(|source| match source.raw_os_error() {
        Some(errno) if errno == Errno::PROTONOSUPPORT.raw_os_error() => Error::Unsupported { what },
        _ => Error::Socket {
            step: "opening NETLINK_NETFILTER",
            source,
        },
    })
}

/// Makes [`Error::Unsupported`] with `what` of a refusal that means it: a request for a subsystem the
/// kernel has not got is answered with EINVAL and no word.
pub(crate) fn lacks(what: &'static str) -> impl Fn(Error) -> Error {
    move |error| match &error {
        Error::Refused { detail: None, .. } if error.os_error() == Some(EINVAL) => {
            Error::Unsupported { what }
        }
        _ => error,
    }
}
