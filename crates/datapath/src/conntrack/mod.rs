//! Flows the kernel remembers, forgotten for an address that changes its owner: the next pod with it
//! must not get what the last one's peers still send, translated as it was for the last one.

mod message;

use std::net::IpAddr;

use self::message::{Flow, Position};
use crate::{
    batch::{self, Answer, Packet},
    error::Result,
    netfilter,
    netlink::io_errno::ENOENT,
    socket::Socket,
};

/// What a kernel without it lacks.
const LACKS: &str = "connection tracking over netlink (CONFIG_NF_CT_NETLINK)";

/// A conversation with connection tracking in one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens a socket in the network namespace of this thread.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] when the kernel has no netfilter netlink.
    pub fn open() -> Result<Self> {
        let socket = netfilter::open(LACKS)?;
        Ok(Self { socket })
    }

    /// Deletes every flow from or to `address`, in either direction and before or after translation.
    /// Returns how many.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] when the kernel has no ctnetlink; else when it refuses.
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
        flows.map_err(netfilter::lacks(LACKS))
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
