//! Where eBPF programs hang: filters of traffic control on an ENI's link, beside whatever filters others
//! have there.
//!
//! Priority and handle are ours and fixed, so that a new process takes the place of the old one's
//! filter in one step and no frame passes in between. Knows nothing of what the programs do.

use std::os::fd::{AsRawFd, BorrowedFd};

use model::InterfaceName;
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage,
        TcOption,
    },
};

use crate::{
    error::{Error, Result},
    exchange::{IfPresent, Outcome, Request},
    netlink::{
        Netlink,
        io_errno::{EEXIST, EINVAL, ENODEV, ENOENT},
    },
    object::Object,
};

/// ETH_P_ALL in network order (include/uapi/linux/if_ether.h): the program looks for itself.
const EVERY_PROTOCOL: u16 = 3_u16.to_be();
const HANDLE: u32 = 1;

/// One of our filters: each has a priority that no other has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The program in its object, and the filter's name.
    pub(crate) program: &'static str,
    pub(crate) priority: u16,
    pub(crate) way: Way,
}

/// Which frames of a link a filter sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Those that come from the VPC.
    In,
    /// Those that go there.
    Out,
}

impl Hook {
    const fn parent(self) -> u16 {
        match self.way {
            Way::In => TcHandle::MIN_INGRESS,
            Way::Out => TcHandle::MIN_EGRESS,
        }
    }
}

/// A link by the name people know and the index that stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) link: InterfaceName,
    pub(crate) index: u32,
}

impl Place {
    fn message(&self, parent: TcHandle, handle: TcHandle, info: u32) -> TcMessage {
        let header = TcHeader {
            index: self.index.cast_signed(),
            handle,
            parent,
            info,
            ..TcHeader::default()
        };
        TcMessage::from_parts(header, Vec::new())
    }

    fn filter(&self, hook: Hook) -> TcMessage {
        let parent = TcHandle {
            major: TcHandle::CLSACT.major,
            minor: hook.parent(),
        };
        let info = u32::from(hook.priority) << 16 | u32::from(EVERY_PROTOCOL);
        let mut message = self.message(parent, HANDLE.into(), info);
        message.attributes = vec![TcAttribute::Kind(TcFilterBpf::KIND.into())];
        message
    }

    fn object(&self, hook: Hook) -> Object<'_> {
        Object::Filter(&self.link, hook.program)
    }

    /// Puts `program` there, in the place of an older one of ours.
    pub(crate) fn put(
        &self,
        host: &mut Netlink,
        hook: Hook,
        program: BorrowedFd<'_>,
    ) -> Result<()> {
        self.make_room(host)?;
        let mut message = self.filter(hook);
        let options = [
            // A descriptor is never negative, and the attribute is unsigned.
            TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
            TcFilterBpfOption::ProgName(format!("terway_{}", hook.program)),
            // The program's verdict is the filter's.
            TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
        ];
        let options = options.map(TcOption::Bpf).into();
        message.attributes.push(TcAttribute::Options(options));
        let message = RouteNetlinkMessage::NewTrafficFilter(message);
        let request = Request::create(self.object(hook), &message, IfPresent::Overwrite);
        host.carry_out(&[request], &[])
            .map_err(lacks("eBPF filters (CONFIG_NET_CLS_BPF)"))
    }

    /// The place for filters; one that is there has others' filters and stays as it is.
    fn make_room(&self, host: &mut Netlink) -> Result<()> {
        let handle = TcHandle {
            minor: 0,
            ..TcHandle::CLSACT
        };
        let mut message = self.message(TcHandle::CLSACT, handle, 0);
        message.attributes = vec![TcAttribute::Kind("clsact".into())];
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        let object = Object::Clsact(&self.link);
        host.carry_out(
            &[Request::create(object, &message, IfPresent::Refuse)],
            &[EEXIST],
        )
        .map_err(lacks("qdisc clsact (CONFIG_NET_SCH_INGRESS)"))
    }

    /// Whether the program with `id` is there.
    pub(crate) fn has(&self, host: &mut Netlink, hook: Hook, id: u32) -> Result<bool> {
        let message = RouteNetlinkMessage::GetTrafficFilter(self.filter(hook));
        let request = Request::new("reading", self.object(hook), &message);
        let doing = request.doing();
        match host.exchange_one(request)? {
            Outcome::Done(Some(RouteNetlinkMessage::NewTrafficFilter(found))) => {
                Ok(program_of(&found) == Some(id))
            }
            Outcome::Done(_) => Ok(false),
            Outcome::Refused(ack) if absent(|errno| ack.refuses_with(errno)) => Ok(false),
            Outcome::Refused(ack) => Err(ack.into_error(doing)),
        }
    }

    /// Takes our filter away; others and the place for them stay.
    pub(crate) fn clear(&self, host: &mut Netlink, hook: Hook) -> Result<()> {
        let message = RouteNetlinkMessage::DelTrafficFilter(self.filter(hook));
        let request = Request::new("deleting", self.object(hook), &message);
        host.carry_out(&[request], &NOT_THERE)
    }
}

/// How the kernel says that filter, qdisc or link are not there.
const NOT_THERE: [i32; 3] = [ENOENT, EINVAL, ENODEV];

fn absent(refused_with: impl Fn(i32) -> bool) -> bool {
    NOT_THERE.into_iter().any(refused_with)
}

fn program_of(filter: &TcMessage) -> Option<u32> {
    let options = filter
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
    options?.iter().find_map(|option| match option {
        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
        _ => None,
    })
}

/// Makes [`Error::Unsupported`] of the refusal that means it: a kind the kernel does not know.
fn lacks(what: &'static str) -> impl Fn(Error) -> Error {
    move |error| match error.os_error() {
        Some(ENOENT) => Error::Unsupported { what },
        _ => error,
    }
}
