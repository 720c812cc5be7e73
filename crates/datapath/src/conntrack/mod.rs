//! Flows the kernel remembers, forgotten for an address that changes its owner: the next pod with it
//! must not get what the last one's peers still send, translated as it was for the last one.

mod message;

use std::net::IpAddr;

use rustix::{io::Errno, net::netlink::NETFILTER};

use self::message::{Flow, Position};
use crate::{
    batch::{self, Answer, Packet},
    error::{Error, Result},
    netlink::io_errno::{EINVAL, ENOENT},
    socket::Socket,
};

/// A conversation with connection tracking in one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no netfilter netlink.
    pub fn open() -> Result<Self> {
        match Socket::open(Some(NETFILTER)) {
            Ok(socket) => Ok(Self { socket }),
            Err(error) if error.raw_os_error() == Some(Errno::PROTONOSUPPORT.raw_os_error()) => {
                Err(UNSUPPORTED)
            }
            Err(source) => Err(Error::Socket {
                step: "opening NETLINK_NETFILTER",
                source,
            }),
        }
    }

    /// Deletes every flow from or to `address`, in either direction and before or after translation.
    /// Returns how many.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the kernel has no ctnetlink; else when it refuses.
    pub fn flush(&mut self, address: IpAddr) -> Result<usize> {
        let mut deleted = 0;
        for position in Position::ALL {
            let flows = self.flows(address, position)?;
            deleted += self.delete(address, &flows)?;
        }
        Ok(deleted)
    }

    /// The flows that have `address` at `position`.
    fn flows(&mut self, address: IpAddr, position: Position) -> Result<Vec<Flow>> {
        let packet = Packet {
            kind: message::GET,
            flags: 0,
            payload: message::ask(address, position),
        };
        let doing = || format!("listing flows of {address}");
        let flows = batch::list(&mut self.socket, &packet, &doing, |frame| {
            // The kernel filters; one that did not would hand out everybody's flows.
            Ok(message::flow(frame).filter(|flow| flow.has(address)))
        });
        flows.map_err(unsupported)
    }

    /// Deletes `flows`; one that ended meanwhile is fine and not counted.
    fn delete(&mut self, address: IpAddr, flows: &[Flow]) -> Result<usize> {
        let packets: Vec<_> = flows
            .iter()
            .map(|flow| Packet {
                kind: message::DELETE,
                flags: 0,
                payload: message::delete(flow),
            })
            .collect();
        let doing = |_| format!("deleting flows of {address}");
        let answers = batch::carry_out(&mut self.socket, packets.iter(), &doing)?;
        let mut deleted = 0;
        for Answer { ack, .. } in answers {
            match ack.code {
                0 => deleted += 1,
                _ if ack.refuses_with(ENOENT) => {}
                _ => return Err(ack.into_error(doing(0))),
            }
        }
        Ok(deleted)
    }
}

const UNSUPPORTED: Error = Error::Unsupported {
    what: "connection tracking over netlink (CONFIG_NF_CT_NETLINK)",
};

/// nfnetlink answers a request for a subsystem it has not got with EINVAL and no word.
fn unsupported(error: Error) -> Error {
    match &error {
        Error::Refused { detail: None, .. } if error.os_error() == Some(EINVAL) => UNSUPPORTED,
        _ => error,
    }
}
