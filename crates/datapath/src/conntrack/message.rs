//! Messages of connection tracking (include/uapi/linux/netfilter/nfnetlink_conntrack.h). Pure.

use std::net::IpAddr;

use crate::{
    frame::{FLAG_NESTED, Frame, attributes, push_attribute, push_bytes},
    netfilter::{GENERIC_HEADER_LEN, header},
};

/// NFNL_SUBSYS_CTNETLINK, the upper byte of every type here.
const SUBSYSTEM: u16 = 1 << 8;
/// IPCTNL_MSG_CT_NEW: one flow of a list.
const NEW: u16 = SUBSYSTEM;
/// IPCTNL_MSG_CT_GET.
pub(super) const GET: u16 = SUBSYSTEM | 1;
/// IPCTNL_MSG_CT_DELETE.
pub(super) const DELETE: u16 = SUBSYSTEM | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
/// CTA_FILTER_F_CTA_IP_SRC (net/netfilter/nf_internals.h): compare the source.
const COMPARE_SOURCE: u32 = 1 << 0;
/// CTA_FILTER_F_CTA_IP_DST: compare the destination.
const COMPARE_DESTINATION: u32 = 1 << 1;

/// Where in a flow an address may stand. With translation all four can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    reply: bool,
    destination: bool,
}

impl Position {
    pub(super) const ALL: [Position; 4] = [
        Position {
            reply: false,
            destination: false,
        },
        Position {
            reply: false,
            destination: true,
        },
        Position {
            reply: true,
            destination: false,
        },
        Position {
            reply: true,
            destination: true,
        },
    ];

    fn tuple(self) -> u16 {
        if self.reply {
            CTA_TUPLE_REPLY
        } else {
            CTA_TUPLE_ORIG
        }
    }

    fn address_kind(self, address: IpAddr) -> u16 {
        match (address, self.destination) {
            (IpAddr::V4(_), false) => CTA_IP_V4_SRC,
            (IpAddr::V4(_), true) => CTA_IP_V4_DST,
            (IpAddr::V6(_), false) => CTA_IP_V6_SRC,
            (IpAddr::V6(_), true) => CTA_IP_V6_DST,
        }
    }
}

/// What identifies a flow, as the kernel wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    family: u8,
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    addresses: Vec<IpAddr>,
}

impl Flow {
    /// Whether `address` stands anywhere in the flow.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

fn push_ip(out: &mut Vec<u8>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => push_bytes(out, kind, &ip.octets()),
        IpAddr::V6(ip) => push_bytes(out, kind, &ip.octets()),
    }
}

fn family_of(address: IpAddr) -> u8 {
    let family = match address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    family as u8
}

/// The payload that asks for flows with `address` at `position`.
pub(super) fn ask(address: IpAddr, position: Position) -> Vec<u8> {
    let mut out = header(family_of(address), 0);
    push_attribute(&mut out, position.tuple() | FLAG_NESTED, |out| {
        push_attribute(out, CTA_TUPLE_IP | FLAG_NESTED, |out| {
            push_ip(out, position.address_kind(address), address);
        });
    });
    let compare = if position.destination {
        COMPARE_DESTINATION
    } else {
        COMPARE_SOURCE
    };
    let (original, reply) = if position.reply {
        (0, compare)
    } else {
        (compare, 0)
    };
    push_attribute(&mut out, CTA_FILTER | FLAG_NESTED, |out| {
        push_bytes(out, CTA_FILTER_ORIG_FLAGS, &original.to_ne_bytes());
        push_bytes(out, CTA_FILTER_REPLY_FLAGS, &reply.to_ne_bytes());
    });
    out
}

/// The payload that deletes exactly this flow: without its id a new flow of the same ports could be
/// hit.
pub(super) fn delete(flow: &Flow) -> Vec<u8> {
    let mut out = header(flow.family, 0);
    push_bytes(&mut out, CTA_TUPLE_ORIG | FLAG_NESTED, &flow.original);
    if let Some(zone) = &flow.zone {
        push_bytes(&mut out, CTA_ZONE, zone);
    }
    if let Some(id) = &flow.id {
        push_bytes(&mut out, CTA_ID, id);
    }
    out
}

/// Reads one flow of a list; `None` when the frame is none.
pub(super) fn flow(frame: &Frame<'_>) -> Option<Flow> {
    if frame.kind != NEW {
        return None;
    }
    let mut flow = Flow {
        family: *frame.payload.first()?,
        original: Vec::new(),
        zone: None,
        id: None,
        addresses: Vec::new(),
    };
    for (kind, value) in attributes(frame.payload.get(GENERIC_HEADER_LEN..)?) {
        match kind {
            CTA_TUPLE_ORIG => {
                flow.original = value.to_vec();
                flow.addresses.extend(addresses_in(value));
            }
            CTA_TUPLE_REPLY => flow.addresses.extend(addresses_in(value)),
            CTA_ZONE => flow.zone = Some(value.to_vec()),
            CTA_ID => flow.id = Some(value.to_vec()),
            _ => {}
        }
    }
    (!flow.original.is_empty()).then_some(flow)
}

fn addresses_in(tuple: &[u8]) -> impl Iterator<Item = IpAddr> {
    attributes(tuple)
        .filter(|(kind, _)| *kind == CTA_TUPLE_IP)
        .flat_map(|(_, ips)| attributes(ips))
        .filter_map(|(_, bytes)| match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame_of(kind: u16, payload: &[u8]) -> Frame<'_> {
        Frame {
            kind,
            flags: 0,
            sequence: 1,
            payload,
        }
    }

    /// A flow as the kernel lists it: client, service address; the reply comes from the pod.
    fn listed(client: IpAddr, service: IpAddr, pod: IpAddr) -> Vec<u8> {
        let mut out = header(family_of(client), 0);
        for (tuple, source, destination) in [
            (CTA_TUPLE_ORIG, client, service),
            (CTA_TUPLE_REPLY, pod, client),
        ] {
            push_attribute(&mut out, tuple | FLAG_NESTED, |out| {
                push_attribute(out, CTA_TUPLE_IP | FLAG_NESTED, |out| {
                    let [from, to] = [false, true].map(|destination| Position {
                        reply: false,
                        destination,
                    });
                    push_ip(out, from.address_kind(source), source);
                    push_ip(out, to.address_kind(destination), destination);
                });
            });
        }
        push_bytes(&mut out, CTA_ID, &[1, 2, 3, 4]);
        out
    }

    #[test]
    fn a_translated_flow_has_all_its_addresses() {
        for [client, service, pod, other] in [
            ["10.0.0.1", "172.16.0.1", "10.0.0.2", "10.0.0.3"],
            ["fd00::1", "fd01::1", "fd00::2", "fd00::3"],
        ] {
            let [client, service, pod, other] =
                [client, service, pod, other].map(|text| text.parse::<IpAddr>().unwrap());
            let payload = listed(client, service, pod);
            let found = flow(&frame_of(NEW, &payload)).unwrap();
            assert!([client, service, pod].iter().all(|ip| found.has(*ip)));
            assert!(!found.has(other));

            let deletion = delete(&found);
            let again = flow(&frame_of(NEW, &deletion)).unwrap();
            assert_eq!((again.original, again.id), (found.original, found.id));
        }
    }

    #[test]
    fn what_is_cut_short_is_no_flow_or_a_smaller_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let whole = listed(ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.2"));
        for end in 0..whole.len() {
            if let Some(found) = flow(&frame_of(NEW, &whole[..end])) {
                assert!(found.addresses.len() <= 4);
            }
        }
        assert_eq!(flow(&frame_of(GET, &whole)), None);
    }
}
