//! ipvlan devices: the node's on an ENI, and the pods', of which the node holds no end. A pod's is found from
//! outside by the number under which the node's namespace knows the pod's.
//!
//! Knows no routes and no eBPF.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use model::{
    InterfaceName,
    ipvlan::{IpvlanEni, IpvlanPod},
};
use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        InfoData, InfoIpVlan, InfoKind, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
    nsid::{NsidAttribute, NsidMessage},
};

use crate::{
    decode::{self, LinkDetail},
    encode,
    error::{Error, Result},
    exchange::{IfPresent, Outcome, Request},
    netlink::{
        Netlink,
        io_errno::{EEXIST, EINVAL, ENODEV, EOPNOTSUPP},
    },
    object::Object,
};

/// IFA_TARGET_NETNSID (include/uapi/linux/if_addr.h): of which namespace addresses are asked.
const ADDRESS_TARGET_NAMESPACE: u16 = 10;
/// The kernel chooses the number of a namespace (NETNSA_NSID_NOT_ASSIGNED).
const ANY_NUMBER: i32 = -1;

/// A pod's slave as seen from the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    namespace: i32,
    index: u32,
    /// Whose it is; one that is half made is nobody's yet.
    owner: Option<String>,
}

impl Found {
    /// Whether it is the plan's own.
    pub(super) fn is_of(&self, plan: &IpvlanPod) -> bool {
        self.owner.as_ref() == Some(&plan.owner)
    }
}

fn create(name: &InterfaceName, parent: u32, mtu: u32) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::Link(parent),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::IpVlan),
            LinkInfo::Data(InfoData::IpVlan(vec![InfoIpVlan::Mode(IpVlanMode::L2)])),
        ]),
    ];
    link
}

/// Makes sure the node's slave on the link with index `parent` stands, is up and asks nobody for MACs:
/// whoever it talks to has its own. Returns its index.
pub(super) fn ensure_on_node(host: &mut Netlink, plan: &IpvlanEni, parent: u32) -> Result<u32> {
    let object = Object::Slave(&plan.slave, &plan.link);
    match host.link(&plan.slave)? {
        Some(link) if link.ipvlan && link.peer == Some(parent) => {}
        Some(link) if !link.ipvlan => {
            return Err(Error::NameTaken {
                doing: "creating ipvlan",
                link: plan.slave.clone(),
                place: "on the node",
                holder: "a link that is no ipvlan device".into(),
            });
        }
        other => {
            if let Some(link) = other {
                let message = encode::delete_link(link.index);
                host.carry_out(&[Request::new("deleting", object, &message)], &[ENODEV])?;
            }
            let message = RouteNetlinkMessage::NewLink(create(&plan.slave, parent, plan.mtu));
            let request = Request::create(object, &message, IfPresent::Refuse);
            host.carry_out(&[request], &[]).map_err(lacks_ipvlan)?;
        }
    }
    let index = host.index_of(&plan.slave, object)?;
    // In this order: coming up, a device of this mode forgets that it does not ask.
    let requests = [encode::set_up(index, plan.mtu), ask_nobody(index)]
        .map(|message| Request::new("setting up", object, &message));
    host.carry_out(&requests, &[])?;
    Ok(index)
}

fn ask_nobody(index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Noarp;
    link.header.change_mask = LinkFlags::Noarp;
    RouteNetlinkMessage::SetLink(link)
}

/// Makes sure the pod has its slave of the link with index `parent`; returns its index in the pod. It is
/// not up yet and may be nobody's.
pub(super) fn ensure_in_pod(
    host: &mut Netlink,
    pod: &mut Netlink,
    netns: BorrowedFd<'_>,
    plan: &IpvlanPod,
    parent: u32,
) -> Result<u32> {
    let object = Object::Slave(&plan.device, &plan.link);
    let ours = |link: &LinkDetail| {
        link.ipvlan && link.peer == Some(parent) && link.alias.as_ref() == Some(&plan.owner)
    };
    match pod.link(&plan.device)? {
        Some(link) if ours(&link) => return Ok(link.index),
        Some(link) if link.ipvlan => {
            let message = encode::delete_link(link.index);
            pod.carry_out(&[Request::new("deleting", object, &message)], &[ENODEV])?;
        }
        Some(_) => {
            return Err(Error::NameTaken {
                doing: "creating ipvlan",
                link: plan.device.clone(),
                place: "in the pod",
                holder: "a link that is no ipvlan device".into(),
            });
        }
        None => {}
    }
    let mut message = create(&plan.device, parent, plan.mtu);
    let namespace = LinkAttribute::NetNsFd(netns.as_raw_fd());
    message.attributes.push(namespace);
    let message = RouteNetlinkMessage::NewLink(message);
    let number = number_of(netns);
    let requests = [
        // So that the slave can be found when only the node is at hand.
        Request::create(Object::NamespaceId, &number, IfPresent::Refuse),
        Request::create(object, &message, IfPresent::Refuse),
    ];
    let outcomes = host.exchange(&requests)?.into_iter().zip(&requests);
    for ((outcome, request), fine) in outcomes.zip([&[EEXIST][..], &[]]) {
        outcome.accept(request, fine).map_err(lacks_ipvlan)?;
    }
    pod.index_of(&plan.device, object)
}

fn number_of(netns: BorrowedFd<'_>) -> RouteNetlinkMessage {
    let mut message = NsidMessage::default();
    message.attributes = vec![
        // A descriptor is never negative, and the attribute is unsigned.
        NsidAttribute::Fd(netns.as_raw_fd().cast_unsigned()),
        NsidAttribute::Id(ANY_NUMBER),
    ];
    RouteNetlinkMessage::NewNsId(message)
}

/// Sets the pod's slave up and writes on it whose it is.
pub(super) fn set_up(plan: &IpvlanPod, index: u32) -> RouteNetlinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfAlias(plan.owner.clone()),
        LinkAttribute::Mtu(plan.mtu),
    ];
    RouteNetlinkMessage::SetLink(link)
}

/// The slaves of the link with index `parent` that are called as in `plan`, in whatever pod.
pub(super) fn in_all_pods(host: &mut Netlink, plan: &IpvlanPod, parent: u32) -> Result<Vec<Found>> {
    let numbers = namespaces(host)?;
    let object = Object::Slave(&plan.device, &plan.link);
    let requests: Vec<_> = numbers
        .iter()
        .map(|number| {
            let mut message = encode::get_link(&plan.device);
            if let RouteNetlinkMessage::GetLink(link) = &mut message {
                link.attributes.push(LinkAttribute::IfNetnsId(*number));
            }
            Request::new("reading", object, &message)
        })
        .collect();
    let mut found = Vec::new();
    for ((outcome, request), namespace) in host
        .exchange(&requests)?
        .into_iter()
        .zip(&requests)
        .zip(numbers)
    {
        let link = match outcome {
            Outcome::Done(Some(message)) => decode::link_detail(&message),
            // No such device there, or the namespace went away meanwhile.
            refused => refused.accept(request, &[ENODEV, EINVAL]).map(|()| None)?,
        };
        let link = link.filter(|link| link.ipvlan && link.peer == Some(parent));
        found.extend(link.map(|link| Found {
            namespace,
            index: link.index,
            owner: link.alias,
        }));
    }
    Ok(found)
}

/// The ipvlan devices in all pods: what is written on each, and its addresses.
///
/// # Errors
/// When a list cannot be read.
pub fn ipvlan_devices_of_pods(host: &mut Netlink) -> Result<BTreeMap<String, BTreeSet<IpAddr>>> {
    let mut found = BTreeMap::new();
    for number in namespaces(host)? {
        // A namespace may go away while it is read.
        let gone = |error: &Error| error.os_error() == Some(EINVAL);
        let mut ask = LinkMessage::default();
        ask.attributes = vec![LinkAttribute::IfNetnsId(number)];
        let list = match host.list("links of a pod", &RouteNetlinkMessage::GetLink(ask)) {
            Err(error) if gone(&error) => continue,
            list => list?,
        };
        let links = list.iter().filter_map(decode::link_detail);
        for link in links.filter(|link| link.ipvlan) {
            let held = match addresses_in(host, number, link.index) {
                Err(error) if gone(&error) => continue,
                held => held?,
            };
            if let Some(owner) = link.alias {
                found.insert(owner, held);
            }
        }
    }
    Ok(found)
}

/// The numbers under which the node's namespace knows others.
fn namespaces(host: &mut Netlink) -> Result<Vec<i32>> {
    let ask = RouteNetlinkMessage::GetNsId(NsidMessage::default());
    let list = host.list("ids of network namespaces", &ask)?;
    Ok(list.iter().filter_map(decode::namespace_id).collect())
}

/// The addresses of the device with `index` in another namespace.
fn addresses_in(host: &mut Netlink, namespace: i32, index: u32) -> Result<BTreeSet<IpAddr>> {
    let mut ask = AddressMessage::default();
    ask.attributes = vec![AddressAttribute::Other(DefaultNla::new(
        ADDRESS_TARGET_NAMESPACE,
        namespace.to_ne_bytes().to_vec(),
    ))];
    let ask = RouteNetlinkMessage::GetAddress(ask);
    let list = host.list("addresses of another pod", &ask)?;
    let own = list.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
            Some(message.attributes)
        }
        _ => None,
    });
    let of = own.flatten().filter_map(|attribute| match attribute {
        AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => Some(ip),
        _ => None,
    });
    Ok(of.collect())
}

/// Whether a slave in some pod holds an address of the plan.
pub(super) fn holds(host: &mut Netlink, found: &Found, plan: &IpvlanPod) -> Result<bool> {
    let held = addresses_in(host, found.namespace, found.index)?;
    let mut wanted = plan.addresses.iter();
    Ok(wanted.any(|it| held.contains(&it.address.addr())))
}

/// Deletes a slave wherever it is. One that went away with its pod is fine.
pub(super) fn delete(host: &mut Netlink, plan: &IpvlanPod, found: &Found) -> Result<()> {
    let mut message = encode::delete_link(found.index);
    if let RouteNetlinkMessage::DelLink(link) = &mut message {
        link.attributes = vec![LinkAttribute::IfNetnsId(found.namespace)];
    }
    let object = Object::Slave(&plan.device, &plan.link);
    let request = Request::new("deleting", object, &message);
    host.carry_out(&[request], &[ENODEV, EINVAL])
}

/// Makes [`Error::Unsupported`] of the refusal of a kernel that does not know the kind.
fn lacks_ipvlan(error: Error) -> Error {
    match error.os_error() {
        Some(EOPNOTSUPP) => Error::Unsupported {
            what: "ipvlan devices (CONFIG_IPVLAN)",
        },
        _ => error,
    }
}
