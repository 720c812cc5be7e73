//! Pods on ipvlan devices, and the node's own device on their ENI, by which they and the node talk.
//!
//! Applying is safe to repeat and ends complete from any half-done state; removing is safe to repeat. What
//! pods send to the node or to a Service is led there by an eBPF program at the ENI's link
//! (`bpf/ipvlan.bpf.c`). Never knows what a Service is.

mod probe;
mod program;
mod slave;

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use model::{
    InterfaceName,
    ipvlan::{IpvlanEni, IpvlanPod},
};

pub use self::{probe::probe_ipvlan, slave::ipvlan_devices_of_pods};

use self::program::{Program, TO_HOST};
use crate::{
    check::{Difference, LinkPlan, Side, diff_addresses, diff_link, diff_routes},
    decode::LinkDetail,
    encode,
    error::{Error, Failures, Result},
    exchange::Request,
    filter::Place,
    netlink::{
        Netlink,
        io_errno::{EADDRINUSE, ENODEV},
    },
    object::Object,
    observe::observe,
    pod::{add_address, add_route, remove_route},
};

/// The program at the ENIs of a node, shared by all threads. Costs nothing until a plan names one.
///
/// Dropping it leaves filters and map in the kernel: pods reach Services while no agent runs, and the next
/// one takes over with a map of its own.
#[derive(Default)]
pub struct HostStack {
    loaded: Mutex<Option<Loaded>>,
}

struct Loaded {
    program: Program,
    /// The ENIs it serves, by the index of each one's link.
    enis: BTreeMap<u32, IpvlanEni>,
}

/// Where the filter of the ENI hangs whose link has this index.
fn place(link: &InterfaceName, index: u32) -> Place {
    let link = link.clone();
    Place { link, index }
}

impl std::fmt::Debug for HostStack {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("HostStack").finish_non_exhaustive()
    }
}

impl HostStack {
    fn lock(&self) -> MutexGuard<'_, Option<Loaded>> {
        // What a thread that panicked left is whole: each change of the map is one system call.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leads what the plan names to the node's slave, and nothing else any more.
    fn lead(&self, host: &mut Netlink, plan: &IpvlanEni, eni: u32, slave: u32) -> Result<()> {
        let mut guard = self.lock();
        let loaded = match &mut *guard {
            Some(loaded) => loaded,
            none => none.insert(Loaded {
                program: Program::load()?,
                enis: BTreeMap::new(),
            }),
        };
        // Networks before the filter, so that a new process's never lacks one.
        loaded.program.lead(eni, &plan.to_host, slave)?;
        let place = place(&plan.link, eni);
        place.put(host, TO_HOST, loaded.program.running()?.0)?;
        loaded.enis.insert(eni, plan.clone());
        Ok(())
    }

    fn leave(&self, host: &mut Netlink, link: &InterfaceName, eni: u32) -> Result<()> {
        if let Some(loaded) = &mut *self.lock() {
            loaded.program.lead(eni, &[], 0)?;
            loaded.enis.remove(&eni);
        }
        place(link, eni).clear(host, TO_HOST)
    }

    /// Puts back filters that somebody took from their links, and the node's slaves, whose routes to pods come
    /// back with each pod's check; safe to repeat. Returns what was missing.
    ///
    /// # Errors
    /// The first step that failed. A link that is gone is none: it comes back with a plan.
    pub fn keep(&self, host: &mut Netlink) -> Result<Vec<String>> {
        let mut lacked = Vec::new();
        let mut guard = self.lock();
        let Some(Loaded { program, enis }) = &mut *guard else {
            return Ok(lacked);
        };
        for (eni, plan) in enis {
            let stands = host.link(&plan.slave)?;
            if !stands.is_some_and(|link| link.ipvlan && link.peer == Some(*eni)) {
                match slave::ensure_on_node(host, plan, *eni) {
                    Err(error) if error.os_error() == Some(ENODEV) => continue,
                    made => program.lead(*eni, &plan.to_host, made?)?,
                }
                lacked.push(Object::Slave(&plan.slave, &plan.link).to_string());
            }
            let (place, (fd, id)) = (place(&plan.link, *eni), program.running()?);
            if place.has(host, TO_HOST, id)? {
                continue;
            }
            match place.put(host, TO_HOST, fd) {
                Err(error) if error.os_error() == Some(ENODEV) => continue,
                put => put?,
            }
            lacked.push(Object::Filter(&plan.link, TO_HOST.program).to_string());
        }
        Ok(lacked)
    }
}

/// Sets the ENI's link up, gives the node its slave on it and leads to it what is the node's to take.
///
/// # Errors
/// The first step that failed; [`Error::NoLink`] without the ENI's link, [`Error::Unsupported`] when the
/// kernel has no ipvlan.
pub fn apply_ipvlan_eni(host: &mut Netlink, stack: &HostStack, plan: &IpvlanEni) -> Result<()> {
    let eni = parent(host, &plan.link, "setting up")?;
    let message = encode::set_up(eni.index, plan.mtu);
    let request = Request::new("setting up", Object::Link(&plan.link), &message);
    host.carry_out(&[request], &[])?;
    let slave = slave::ensure_on_node(host, plan, eni.index)?;
    stack.lead(host, plan, eni.index, slave)
}

/// Takes the node's slave and our filter off the ENI. The link stays; what is not there is fine.
///
/// # Errors
/// Everything that could not be removed; the rest is.
pub fn remove_ipvlan_eni(
    host: &mut Netlink,
    stack: &HostStack,
    plan: &IpvlanEni,
) -> std::result::Result<(), Failures> {
    let Some(eni) = host.link(&plan.link)? else {
        return Ok(());
    };
    let mut failures = Vec::new();
    failures.extend(stack.leave(host, &plan.link, eni.index).err());
    if let Some(slave) = host.link(&plan.slave)?.filter(|link| link.ipvlan) {
        let message = encode::delete_link(slave.index);
        let object = Object::Slave(&plan.slave, &plan.link);
        let request = Request::new("deleting", object, &message);
        failures.extend(host.carry_out(&[request], &[ENODEV]).err());
    }
    Failures::from_list(failures)
}

/// Builds the attachment: the pod's slave, what is in the pod, then the node's routes to it. `host` is a
/// socket of the node's namespace, `pod` one of the pod's, `pod_netns` the pod's namespace itself.
///
/// # Errors
/// The first step that failed; those before it are done. The caller undoes them with
/// [`remove_ipvlan_pod`].
pub fn apply_ipvlan_pod(
    host: &mut Netlink,
    pod: &mut Netlink,
    pod_netns: BorrowedFd<'_>,
    plan: &IpvlanPod,
) -> Result<()> {
    let eni = parent(host, &plan.link, "adding a slave of")?;
    let index = slave::ensure_in_pod(host, pod, pod_netns, plan, eni.index)?;
    let message = slave::set_up(plan, index);
    let object = Object::Slave(&plan.device, &plan.link);
    pod.carry_out(&[Request::new("setting up", object, &message)], &[])?;
    match add_addresses(pod, plan, index) {
        // The kernel keeps an address for one slave of an ENI.
        Err(error) if error.os_error() == Some(EADDRINUSE) => {
            for found in slave::in_all_pods(host, plan, eni.index)? {
                if !found.is_of(plan) && slave::holds(host, &found, plan)? {
                    slave::delete(host, plan, &found)?;
                }
            }
            add_addresses(pod, plan, index)?;
        }
        added => added?,
    }
    let routes = plan.pod_routes.iter().map(|route| add_route(route, index));
    pod.carry_out(&Vec::from_iter(routes), &[])?;
    let mut requests = Vec::new();
    for route in &plan.host_routes {
        let index = host.index_of(&route.link, Object::Route(route))?;
        requests.push(add_route(route, index));
    }
    host.carry_out(&requests, &[])
}

fn add_addresses(pod: &mut Netlink, plan: &IpvlanPod, index: u32) -> Result<()> {
    let requests = plan
        .addresses
        .iter()
        .map(|address| add_address(address, index));
    pod.carry_out(&Vec::from_iter(requests), &[])
}

/// Removes the attachment, with no socket of the pod's at hand: the node's routes, and the pod's slave if
/// the pod is still there. A newer sandbox's slave stays; its routes, which are the same, stay with it.
///
/// # Errors
/// Everything that could not be removed; the rest is.
pub fn remove_ipvlan_pod(
    host: &mut Netlink,
    plan: &IpvlanPod,
) -> std::result::Result<(), Failures> {
    let Some(eni) = host.link(&plan.link)? else {
        // Slaves and routes went with it.
        return Ok(());
    };
    let (mut failures, mut taken) = (Vec::new(), false);
    for found in slave::in_all_pods(host, plan, eni.index)? {
        if found.is_of(plan) {
            failures.extend(slave::delete(host, plan, &found).err());
        } else {
            taken |= slave::holds(host, &found, plan)?;
        }
    }
    if !taken {
        let routes = plan.host_routes.iter();
        failures.extend(routes.filter_map(|route| remove_route(host, route).err()));
    }
    Failures::from_list(failures)
}

/// Observes node and pod and compares both with the plan: CNI's CHECK.
///
/// # Errors
/// When either cannot be observed.
pub fn check_ipvlan_pod(
    host: &mut Netlink,
    pod: &mut Netlink,
    plan: &IpvlanPod,
) -> Result<Vec<Difference>> {
    let node = observe(host)?;
    let mut enis = node.links.iter().map(|seen| &seen.link);
    let eni = enis.find(|link| link.name == plan.link);
    let ours = pod.link(&plan.device)?.filter(|link| {
        let owned = link.alias.as_ref() == Some(&plan.owner);
        link.ipvlan && owned && link.peer == eni.map(|eni| eni.index)
    });
    let mut differences = Vec::new();
    if ours.is_none() {
        differences.push(Difference::LinkMissing {
            side: Side::Pod,
            link: plan.device.clone(),
        });
    } else {
        let inside = observe(pod)?;
        let link = LinkPlan {
            name: &plan.device,
            // Every slave has the ENI's.
            mac: eni.map(|eni| eni.mac),
            mtu: plan.mtu,
        };
        differences.extend(diff_link(Side::Pod, &link, &inside));
        differences.extend(diff_addresses(Side::Pod, &plan.addresses, &inside));
        differences.extend(diff_routes(Side::Pod, &plan.pod_routes, &inside));
    }
    differences.extend(diff_routes(Side::Node, &plan.host_routes, &node));
    Ok(differences)
}

/// The ENI's link.
fn parent(host: &mut Netlink, link: &InterfaceName, doing: &str) -> Result<LinkDetail> {
    host.link(link)?.ok_or_else(|| Error::NoLink {
        doing: format!("{doing} {}", Object::Link(link)),
        link: link.clone(),
    })
}
