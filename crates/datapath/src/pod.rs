//! One pod: everything its plan names, on the node and in its namespace.
//!
//! Applying is safe to repeat and ends complete from any half-done state; removing is safe to repeat
//! and goes on after a failure. Undoing a failed application is the caller's, by removing.

use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use model::{
    InterfaceName,
    net::{Device, LinkAddress, Neighbour, PodNet, Route, Rule, VethPair},
};
use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    device, encode,
    error::{Error, Failures, Result},
    exchange::{IfPresent, Request},
    netlink::{
        Netlink,
        io_errno::{ENODEV, ENOENT, ESRCH},
    },
    object::Object,
    rules,
    trunk::Trunk,
    veth::{self, Ends},
};

/// How the kernel says that what shall be removed is not there: a rule, a route, a link.
const GONE: [i32; 3] = [ENOENT, ESRCH, ENODEV];

/// The pairs of a plan as they now stand, and the indexes of its devices in the pod.
#[derive(Default)]
struct Joined<'a> {
    pairs: Vec<(&'a VethPair, Ends)>,
    devices: Vec<(&'a Device, u32)>,
}

impl Joined<'_> {
    /// Index of the node's end that is called `link`.
    fn host(&self, link: &InterfaceName) -> Option<u32> {
        let mut all = self.pairs.iter();
        all.find_map(|(pair, ends)| (pair.host == *link).then_some(ends.host))
    }

    /// Index of the pod's end or device that is called `link`.
    fn pod(&self, link: &InterfaceName) -> Option<u32> {
        let pairs = self.pairs.iter();
        let ends = pairs.map(|(pair, ends)| (&pair.pod, ends.pod));
        let devices = self.devices.iter();
        let devices = devices.map(|(device, index)| (&device.pod, *index));
        let mut all = ends.chain(devices);
        all.find_map(|(name, index)| (name == link).then_some(index))
    }

    /// Whether no packet has used any of them yet.
    fn fresh(&self) -> bool {
        self.pairs.iter().all(|(_, ends)| ends.fresh)
    }
}

/// Builds the attachment: the pairs and devices, then what is in the pod, then what leads to it on the node.
///
/// `host` is a socket of the node's namespace, `trunk` its trunk ENI, `pod` one of the pod's, `pod_netns` the pod's
/// namespace itself. Costs three batches when nothing stands in the way; each further interface one more.
///
/// # Errors
/// The first step that failed; those before it are done. The caller undoes them with [`remove_pod`].
pub fn apply_pod(
    host: &mut Netlink,
    trunk: &Trunk,
    pod: &mut Netlink,
    pod_netns: BorrowedFd<'_>,
    plan: &PodNet,
) -> Result<()> {
    // Refuses an impossible plan before anything is made.
    let rule_requests = rules::add_to_new_pod(&plan.host_rules)?;
    let pod_rule_requests = rules::add_to_new_pod(&plan.pod_rules)?;
    trunk.accepts(&plan.tags)?;
    let mut joined = Joined::default();
    for pair in plan.pairs() {
        let ends = veth::ensure(host, pod, pod_netns, pair)?;
        // Before any route leads its packets to the trunk.
        let tags = plan.tags.iter().filter(|tag| tag.link == pair.host);
        trunk.admit(tags, ends.host)?;
        joined.pairs.push((pair, ends));
    }
    // After the pairs: who finds one knows that the namespace lives, and may have the device.
    for device in &plan.devices {
        let index = device::take(host, pod, pod_netns, device)?;
        joined.devices.push((device, index));
    }
    apply_inside(pod, plan, &joined, pod_rule_requests)?;
    apply_on_node(host, plan, &joined, rule_requests)
}

fn apply_inside(
    pod: &mut Netlink,
    plan: &PodNet,
    joined: &Joined<'_>,
    rule_requests: Vec<Request<'_>>,
) -> Result<()> {
    let pairs = joined.pairs.iter();
    let ends = pairs.map(|(pair, ends)| (&pair.pod, ends.pod, pair.mtu));
    let devices = joined.devices.iter();
    let devices = devices.map(|(device, index)| (&device.pod, *index, device.mtu));
    let set_up = ends.chain(devices).map(|(name, index, mtu)| {
        let message = encode::set_up(index, mtu);
        Request::new("setting up", Object::Link(name), &message)
    });
    let mut requests: Vec<_> = set_up.collect();
    let index = |netlink: &mut Netlink, link: &InterfaceName, object| match joined.pod(link) {
        Some(index) => Ok(index),
        None => netlink.index_of(link, object),
    };
    for address in &plan.pod_addresses {
        let index = index(pod, &address.link, Object::Address(address))?;
        requests.push(add_address(address, index));
    }
    for neighbour in &plan.pod_neighbours {
        let index = index(pod, &neighbour.link, Object::Neighbour(neighbour))?;
        requests.push(add_neighbour(neighbour, index));
    }
    for route in &plan.pod_routes {
        let index = index(pod, &route.link, Object::Route(route))?;
        requests.push(add_route(route, index));
    }
    finish(pod, joined, requests, rule_requests, &plan.pod_rules)
}

fn apply_on_node(
    host: &mut Netlink,
    plan: &PodNet,
    joined: &Joined<'_>,
    rule_requests: Vec<Request<'_>>,
) -> Result<()> {
    let neighbours = node_neighbours(plan);
    let mut requests = Vec::new();
    for neighbour in &neighbours {
        let index = joined.host(&neighbour.link);
        requests.extend(index.map(|index| add_neighbour(neighbour, index)));
    }
    for route in &plan.host_routes {
        let index = match joined.host(&route.link) {
            Some(index) => index,
            None => host.index_of(&route.link, Object::Route(route))?,
        };
        requests.push(add_route(route, index));
    }
    finish(host, joined, requests, rule_requests, &plan.host_rules)
}

/// Puts back what leads to the pod on the node, whose ends of the plan's pairs have the indexes `ends`.
pub(crate) fn lead_to(host: &mut Netlink, plan: &PodNet, ends: &[u32]) -> Result<()> {
    let pairs = plan.pairs().zip(ends).map(|(pair, host)| {
        let ends = Ends {
            host: *host,
            // Nothing in the pod is asked for.
            pod: 0,
            fresh: false,
        };
        (pair, ends)
    });
    let joined = Joined {
        pairs: pairs.collect(),
        devices: Vec::new(),
    };
    apply_on_node(host, plan, &joined, Vec::new())
}

/// Carries out `requests`, then sees to it that exactly `rules` stand: by `rule_requests` in the same
/// batch while nothing can be in their way.
fn finish<'a>(
    netlink: &mut Netlink,
    joined: &Joined<'_>,
    mut requests: Vec<Request<'a>>,
    rule_requests: Vec<Request<'a>>,
    rules: &[Rule],
) -> Result<()> {
    if rules.is_empty() {
        return netlink.carry_out(&requests, &[]);
    }
    if !joined.fresh() {
        netlink.carry_out(&requests, &[])?;
        return rules::reconcile(netlink, rules);
    }
    let first_rule = requests.len();
    requests.extend(rule_requests);
    let mut outcomes = netlink.exchange(&requests)?;
    let rule_outcomes = outcomes.split_off(first_rule);
    for (outcome, request) in outcomes.into_iter().zip(&requests) {
        outcome.accept(request, &[])?;
    }
    if rules::added_cleanly(rule_outcomes, &requests[first_rule..])? {
        return Ok(());
    }
    rules::reconcile(netlink, rules)
}

/// How the node reaches the pod's addresses on the link between them, which nobody else is on: the
/// MAC is in the plan, so the node never asks. Asking would not even work at first, because the node's
/// end has no usable IPv6 source until duplicate address detection is through (measured: 2 s).
pub(crate) fn node_neighbours(plan: &PodNet) -> Vec<Neighbour> {
    let direct = plan.host_routes.iter().filter(|route| {
        route.gateway.is_none() && route.destination == IpNet::from(route.destination.addr())
    });
    direct
        .filter_map(|route| {
            let pair = plan.pairs().find(|pair| pair.host == route.link)?;
            Some(Neighbour {
                address: route.destination.addr(),
                mac: pair.pod_mac,
                link: pair.host.clone(),
            })
        })
        .collect()
}

/// An address, whether or not the link has it.
pub(crate) fn add_address(address: &LinkAddress, index: u32) -> Request<'_> {
    let message = RouteNetlinkMessage::NewAddress(encode::address(address, index));
    Request::create(Object::Address(address), &message, IfPresent::Overwrite)
}

/// A permanent neighbour in the place of whatever is known of its address.
fn add_neighbour(neighbour: &Neighbour, index: u32) -> Request<'_> {
    let message = RouteNetlinkMessage::NewNeighbour(encode::neighbour(neighbour, index));
    Request::create(Object::Neighbour(neighbour), &message, IfPresent::Overwrite)
}

/// A route that takes the place of another to the same destination in its table.
pub(crate) fn add_route(route: &Route, index: u32) -> Request<'_> {
    let message = RouteNetlinkMessage::NewRoute(encode::route(route, index));
    Request::create(Object::Route(route), &message, IfPresent::Overwrite)
}

/// Removes the attachment from the node, its devices being home already
/// ([`crate::bring_devices_home`]): the pairs (the pod's end dies with the node's, and the routes
/// over it too), the rules, the routes over other links and the tags. What is not there is fine.
///
/// A link that has the name of the node's end but another MAC is a newer sandbox's and stays, with
/// its routes.
///
/// # Errors
/// Everything that could not be removed; the rest is.
pub fn remove_pod(
    host: &mut Netlink,
    trunk: &Trunk,
    plan: &PodNet,
) -> std::result::Result<(), Failures> {
    let mut failures = Vec::new();
    failures.extend(remove_rules(host, &plan.host_rules));
    for pair in plan.pairs() {
        failures.extend(remove_pair(host, pair).err());
    }
    for route in &plan.host_routes {
        if plan.pairs().all(|pair| pair.host != route.link) {
            failures.extend(remove_route(host, route).err());
        }
    }
    // Last: a frame on its way leaves under its VLAN or not at all.
    let forgotten = plan.tags.iter().map(|tag| trunk.forget(tag));
    failures.extend(forgotten.filter_map(Result::err));
    Failures::from_list(failures)
}

/// Removes rules in one batch and returns what failed.
fn remove_rules(host: &mut Netlink, rules: &[Rule]) -> Vec<Error> {
    let (mut requests, mut failures) = (Vec::new(), Vec::new());
    for rule in rules {
        match rules::delete_in_any_table(rule) {
            Ok(request) => requests.push(request),
            Err(error) => failures.push(error),
        }
    }
    match host.exchange(&requests) {
        Ok(outcomes) => failures.extend(
            outcomes
                .into_iter()
                .zip(&requests)
                .filter_map(|(outcome, request)| outcome.accept(request, &GONE).err()),
        ),
        Err(error) => failures.push(error),
    }
    failures
}

fn remove_pair(host: &mut Netlink, pair: &VethPair) -> Result<()> {
    match host.link(&pair.host)? {
        Some(link) if link.veth && link.mac == Some(pair.host_mac) => veth::delete(host, &link),
        _ => Ok(()),
    }
}

/// Removes a route of ours; without its link or its table it is gone already.
pub(crate) fn remove_route(netlink: &mut Netlink, route: &Route) -> Result<()> {
    let Some(link) = netlink.link(&route.link)? else {
        return Ok(());
    };
    let message = RouteNetlinkMessage::DelRoute(encode::route(route, link.index));
    let request = Request::new("deleting", Object::Route(route), &message);
    remove(netlink, request)
}

/// Carries out a removal that may find nothing.
pub(crate) fn remove(netlink: &mut Netlink, request: Request<'_>) -> Result<()> {
    netlink.carry_out(&[request], &GONE)
}
