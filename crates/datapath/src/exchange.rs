//! rtnetlink requests and their outcomes: what is asked of which object, and how it went.

use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    batch::{self, Packet},
    error::Result,
    frame::Ack,
    netlink::{Netlink, malformed},
    object::Object,
};

/// An object with this key is overwritten.
const NLM_F_REPLACE: u16 = 0x100;
/// An object with this key is an error.
const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
/// A rule goes behind those that are there.
pub(crate) const NLM_F_APPEND: u16 = 0x800;

/// What shall happen when the object is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfPresent {
    Overwrite,
    Refuse,
    /// Another one is made beside it.
    Duplicate,
}

/// One request and how to speak of it.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    verb: &'static str,
    object: Object<'a>,
    packet: Packet,
}

impl<'a> Request<'a> {
    /// A request that creates nothing.
    pub(crate) fn new(
        verb: &'static str,
        object: Object<'a>,
        message: &RouteNetlinkMessage,
    ) -> Self {
        Self {
            verb,
            object,
            packet: packet(message, 0),
        }
    }

    /// A request that creates `object`.
    pub(crate) fn create(
        object: Object<'a>,
        message: &RouteNetlinkMessage,
        if_present: IfPresent,
    ) -> Self {
        let flags = match if_present {
            IfPresent::Overwrite => NLM_F_CREATE | NLM_F_REPLACE,
            IfPresent::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            IfPresent::Duplicate => NLM_F_CREATE,
        };
        Self {
            verb: "adding",
            object,
            packet: packet(message, flags),
        }
    }

    /// The operation in words.
    pub(crate) fn doing(&self) -> String {
        format!("{} {}", self.verb, self.object)
    }
}

/// How one request went.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Done, with the object it asked for, if it asked for one.
    Done(Option<RouteNetlinkMessage>),
    /// The kernel said no.
    Refused(Ack),
}

impl Outcome {
    /// An error unless done or refused for one of the reasons in `fine`.
    pub(crate) fn accept(self, request: &Request<'_>, fine: &[i32]) -> Result<()> {
        match self {
            Outcome::Refused(ack) if !fine.iter().any(|errno| ack.refuses_with(*errno)) => {
                Err(ack.into_error(request.doing()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the kernel refused with `errno`.
    pub(crate) fn is_refusal(&self, errno: i32) -> bool {
        matches!(self, Outcome::Refused(ack) if ack.refuses_with(errno))
    }
}

impl Netlink {
    /// Carries out `requests` in order; the outcomes are in the same order.
    pub(crate) fn exchange(&mut self, requests: &[Request<'_>]) -> Result<Vec<Outcome>> {
        let doing = |at: usize| requests.get(at).map(Request::doing).unwrap_or_default();
        let packets = requests.iter().map(|request| &request.packet);
        let answers = batch::carry_out(&mut self.socket, packets, &doing)?;
        let outcomes = answers.into_iter().enumerate().map(|(at, answer)| {
            if answer.ack.code != 0 {
                return Ok(Outcome::Refused(answer.ack));
            }
            let object = answer.object.map(|(kind, payload)| parse(kind, &payload));
            let object = object.transpose();
            object
                .map(Outcome::Done)
                .map_err(|what| malformed(doing(at), what))
        });
        outcomes.collect()
    }

    /// Carries out one request.
    pub(crate) fn exchange_one(&mut self, request: Request<'_>) -> Result<Outcome> {
        let doing = request.doing();
        let outcome = self.exchange(&[request])?.pop();
        outcome.ok_or_else(|| malformed(doing, "it is missing"))
    }

    /// Carries out `requests`. The first that was refused, for another reason than those in `fine`, is
    /// the error; the others were carried out.
    pub(crate) fn carry_out(&mut self, requests: &[Request<'_>], fine: &[i32]) -> Result<()> {
        let outcomes = self.exchange(requests)?;
        let mut results = outcomes.into_iter().zip(requests);
        results.try_for_each(|(outcome, request)| outcome.accept(request, fine))
    }

    /// Reads the whole list that `message` asks for.
    pub(crate) fn list(
        &mut self,
        sort: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let doing = || format!("listing {}", Object::All(sort));
        batch::list(&mut self.socket, &packet(message, 0), &doing, |frame| {
            parse(frame.kind, frame.payload)
                .map(Some)
                .map_err(|what| malformed(doing(), what))
        })
    }
}

fn packet(message: &RouteNetlinkMessage, flags: u16) -> Packet {
    let mut payload = vec![0; message.buffer_len()];
    message.serialize(&mut payload);
    Packet {
        kind: message.message_type(),
        flags,
        payload,
    }
}

pub(crate) fn parse(kind: u16, payload: &[u8]) -> std::result::Result<RouteNetlinkMessage, String> {
    let mut header = NetlinkHeader::default();
    header.message_type = kind;
    RouteNetlinkMessage::deserialize(&header, payload).map_err(|error| error.to_string())
}
