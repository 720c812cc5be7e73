//! The veth pair of a pod: made in one request, or kept, or cleared of what a crash left.
//!
//! Knows no addresses, routes or rules.

use std::os::fd::BorrowedFd;

use model::net::VethPair;

use crate::{
    decode::{self, LinkDetail},
    encode,
    error::{Error, Result},
    exchange::{IfPresent, Outcome, Request},
    netlink::{
        Netlink,
        io_errno::{EEXIST, ENODEV},
        malformed,
    },
    object::Object,
};

/// A creation can fail for the old node end, then for the old pod end, and once more because the end
/// of a namespace that is being deleted went away by itself between look and deletion.
const ATTEMPTS: u32 = 4;

/// The two ends as they now are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Index of the node's end, on the node.
    pub(crate) host: u32,
    /// Index of the pod's end, in the pod.
    pub(crate) pod: u32,
    /// Whether the pair was made just now, so that no packet has used it yet.
    pub(crate) fresh: bool,
}

/// Makes sure the pair of the plan stands between node and pod, the node's end up. The pod's end is
/// set up with the first batch in the pod.
pub(crate) fn ensure(
    host: &mut Netlink,
    pod: &mut Netlink,
    netns: BorrowedFd<'_>,
    pair: &VethPair,
) -> Result<Ends> {
    for _ in 0..ATTEMPTS {
        if let Some(ends) = create(host, netns, pair)? {
            return Ok(ends);
        }
        if let Some(ends) = keep_or_clear(host, pod, netns, pair)? {
            return Ok(ends);
        }
    }
    Err(Error::NameTaken {
        doing: "creating veth",
        link: pair.host.clone(),
        place: "on the node or in the pod",
        holder: format!("a link that came back after each of {ATTEMPTS} removals"),
    })
}

/// Creates the pair; `None` when one of the two names is taken.
///
/// The index of both ends comes with the same system call: the node's end names the index of its
/// peer, so the pod is not asked at all.
fn create(host: &mut Netlink, netns: BorrowedFd<'_>, pair: &VethPair) -> Result<Option<Ends>> {
    let requests = [
        Request::create(
            Object::Veth(pair),
            &encode::create_veth(pair, netns),
            IfPresent::Refuse,
        ),
        Request::new(
            "reading",
            Object::Link(&pair.host),
            &encode::get_link(&pair.host),
        ),
    ];
    let [create, read] = &requests;
    let mut outcomes = host.exchange(&requests)?.into_iter();
    match outcomes.next() {
        Some(outcome) if outcome.is_refusal(EEXIST) => return Ok(None),
        Some(outcome) => outcome.accept(create, &[])?,
        None => return Err(malformed(create.doing(), "it is missing")),
    }
    let link = match outcomes.next() {
        Some(Outcome::Done(Some(message))) => decode::link_detail(&message),
        Some(outcome) => return outcome.accept(read, &[]).map(|()| None),
        None => None,
    };
    match link {
        Some(LinkDetail {
            index,
            peer: Some(peer),
            ..
        }) => Ok(Some(Ends {
            host: index,
            pod: peer,
            fresh: true,
        })),
        _ => Err(malformed(read.doing(), "it names no peer")),
    }
}

/// With a name taken: keeps the pair when it is the one of the plan, else removes what stands in the
/// way, as far as it is ours, and returns `None`.
fn keep_or_clear(
    host: &mut Netlink,
    pod: &mut Netlink,
    netns: BorrowedFd<'_>,
    pair: &VethPair,
) -> Result<Option<Ends>> {
    let namespace = namespace_id(host, netns)?;
    let on_node = host.link(&pair.host)?;
    let in_pod = pod.link(&pair.pod)?;
    match (on_node, in_pod) {
        (Some(node_end), Some(pod_end))
            if joined(&node_end, &pod_end, namespace) && macs_match(&node_end, &pod_end, pair) =>
        {
            let message = encode::restore(node_end.index, pair);
            let request = Request::new("setting up", Object::Link(&pair.host), &message);
            host.carry_out(&[request], &[])?;
            Ok(Some(Ends {
                host: node_end.index,
                pod: pod_end.index,
                fresh: false,
            }))
        }
        // The name is computed from the pod's, so a veth that has it is an earlier sandbox's.
        (Some(node_end), _) if node_end.veth => delete(host, &node_end).map(|()| None),
        (Some(node_end), _) => Err(taken(&node_end, "on the node")),
        (None, Some(pod_end)) if pod_end.veth && pod_end.mac == Some(pair.pod_mac) => {
            delete(pod, &pod_end).map(|()| None)
        }
        (None, Some(pod_end)) => Err(taken(&pod_end, "in the pod")),
        (None, None) => Ok(None),
    }
}

fn joined(node_end: &LinkDetail, pod_end: &LinkDetail, namespace: Option<i32>) -> bool {
    node_end.veth
        && namespace.is_some()
        && node_end.peer_namespace == namespace
        && node_end.peer == Some(pod_end.index)
}

fn macs_match(node_end: &LinkDetail, pod_end: &LinkDetail, pair: &VethPair) -> bool {
    node_end.mac == Some(pair.host_mac) && pod_end.mac == Some(pair.pod_mac)
}

fn taken(link: &LinkDetail, place: &'static str) -> Error {
    Error::NameTaken {
        doing: "creating veth",
        link: link.name.clone(),
        place,
        holder: match (link.veth, link.mac) {
            (true, Some(mac)) => format!("another veth with MAC {mac}"),
            _ => "a link that is no veth".into(),
        },
    }
}

/// Deletes one end, and with it the other. An end that went away by itself is fine.
pub(crate) fn delete(netlink: &mut Netlink, link: &LinkDetail) -> Result<()> {
    let message = encode::delete_link(link.index);
    let request = Request::new("deleting", Object::Link(&link.name), &message);
    netlink.carry_out(&[request], &[ENODEV])
}

/// The id under which the node's namespace knows the pod's; it has none before they share a link.
fn namespace_id(host: &mut Netlink, netns: BorrowedFd<'_>) -> Result<Option<i32>> {
    let message = encode::get_namespace_id(netns);
    let request = Request::new("reading", Object::NamespaceId, &message);
    let doing = request.doing();
    match host.exchange_one(request)? {
        Outcome::Done(Some(message)) => Ok(decode::namespace_id(&message)),
        Outcome::Done(None) => Err(malformed(doing, "it is empty")),
        Outcome::Refused(ack) => Err(ack.into_error(doing)),
    }
}
