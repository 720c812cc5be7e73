//! The threads that change the kernel: one sets up, a few take down, one forgets flows. One is enough to
//! set up, because the kernel takes one change of links at a time (rtnl_lock). Deleting a link waits
//! tens of milliseconds for packets under way, without that lock: several deletions wait together, and
//! no ADD waits behind them.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
};

use datapath::{Conntrack, HostStack, Leftover, Netlink, Nftables, Trunk};
use engine::{
    netplan::{self, POD_LINK_PREFIX, SLAVE_PREFIX},
    node::{Input, KernelView, Leftovers, OpNumber, Remedy},
};
use model::{
    AttachmentKey, EniId,
    family::host_net,
    net::{EniNet, PodPlan},
};

use crate::{cause::chain, driver::Message, heal};

/// Threads that take down. A deletion waits about 30 ms, so eight take down 250 pods a second, more
/// than a node that is drained asks for.
pub(crate) const TAKE_DOWN_THREADS: usize = 8;

/// How many flows this network namespace has (Documentation/networking/nf_conntrack-sysctl.rst).
const FLOW_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Work that may wait for the kernel: as many as requests may wait ([`crate::plugin::CONNECTIONS_MAX`])
/// and an action for every ENI.
pub(crate) const QUEUE_MAX: usize = 1024;

/// The eBPF programs at the node's ENIs.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// At the trunk.
    pub(crate) trunk: Trunk,
    /// At those whose addresses pods on ipvlan have.
    pub(crate) host_stack: HostStack,
}

/// The descriptors the plugin sent with a request. Dropped as soon as the work is done, because a held
/// one keeps a dead pod's namespace alive.
pub(crate) struct PodDescriptors {
    pub(crate) namespace: OwnedFd,
    pub(crate) netlink: OwnedFd,
}

/// One piece of work.
pub(crate) enum Work {
    ReadLinks,
    ApplyEni(EniId, EniNet),
    ApplyPod(AttachmentKey, Box<PodPlan>, Option<PodDescriptors>),
    CheckPod(AttachmentKey, Box<PodPlan>, Option<PodDescriptors>),
    RemovePod(AttachmentKey, Box<PodPlan>, Option<PodDescriptors>),
    Observe(OpNumber),
    RemoveLeftovers(OpNumber, Leftovers),
    Heal(Remedy),
}

/// The addresses the kernel routes to pods, whoever made the routes: pods of the Go project live on a
/// node that is moved over, and theirs are not ours to give.
pub(crate) fn occupied(netlink: &mut Netlink) -> datapath::Result<BTreeSet<IpAddr>> {
    let mut networks = datapath::routed_over(netlink, POD_LINK_PREFIX)?;
    networks.extend(datapath::routed_over(netlink, SLAVE_PREFIX)?);
    let hosts = networks
        .into_iter()
        .filter(|network| *network == host_net(network.addr()));
    Ok(hosts.map(|network| network.addr()).collect())
}

/// What the kernel has, as far as pods are concerned.
fn look(netlink: &mut Netlink) -> datapath::Result<KernelView> {
    let observed = datapath::observe(netlink)?;
    Ok(KernelView {
        links: observed.links.into_iter().map(|seen| seen.link).collect(),
        routed: occupied(netlink)?,
        slaves: datapath::ipvlan_devices_of_pods(netlink)?,
        routes: observed.routes,
        rules: observed.rules,
    })
}

fn remove_leftovers(netlink: &mut Netlink, leftovers: Leftovers) -> Result<(), String> {
    let routes = leftovers.routes.into_iter().map(Leftover::Route);
    let rules = leftovers.rules.into_iter().map(Leftover::Rule);
    let failures: Vec<String> = routes
        .chain(rules)
        .filter_map(|leftover| {
            let error = datapath::remove_leftover(netlink, &leftover).err()?;
            Some(format!("{leftover}: {}", chain(&error)))
        })
        .collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ")),
    }
}

/// Works until nobody can send work any more. Addresses of removed pods go to `released`.
pub(crate) fn run(
    mut netlink: Netlink,
    programs: &Programs,
    work: &Mutex<Receiver<Work>>,
    done: &SyncSender<Message>,
    released: &SyncSender<IpAddr>,
) {
    while let Some(work) = next(work) {
        let input = match work {
            Work::ReadLinks => match netlink.links() {
                Ok(links) => Input::Links(links),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "listing links");
                    Input::Links(Vec::new())
                }
            },
            Work::ApplyEni(eni, net) => {
                let result = set_up(&mut netlink, programs, &net);
                Input::EniApplied(eni, result.map_err(|error| chain(&error)))
            }
            Work::ApplyPod(key, net, pod) => {
                let result = in_pod(pod, |pod, namespace| {
                    if !net.devices().is_empty() {
                        keep_service_path(&mut netlink)?;
                    }
                    apply(&mut netlink, programs, (pod, namespace), &net)
                });
                Input::PodApplied(key, result)
            }
            Work::CheckPod(key, net, pod) => {
                let result = in_pod(pod, |pod, namespace| {
                    let lacked = match &*net {
                        PodPlan::Veth(net) => {
                            datapath::check_pod(&mut netlink, &programs.trunk, pod, net)?
                        }
                        PodPlan::Ipvlan(net) => datapath::check_ipvlan_pod(&mut netlink, pod, net)?,
                    };
                    if !lacked.is_empty() {
                        apply(&mut netlink, programs, (pod, namespace), &net)?;
                    }
                    Ok(lacked.iter().map(ToString::to_string).collect())
                });
                Input::PodChecked(key, result)
            }
            Work::Heal(remedy) => {
                Input::Heal(heal::carry_out(&mut netlink, &programs.trunk, remedy))
            }
            Work::Observe(op) => {
                let seen = look(&mut netlink);
                Input::Kernel(op, seen.map_err(|error| chain(&error)))
            }
            Work::RemoveLeftovers(op, leftovers) => {
                Input::LeftoversRemoved(op, remove_leftovers(&mut netlink, leftovers))
            }
            Work::RemovePod(key, net, pod) => {
                let result = take_down(&mut netlink, programs, &net, pod);
                for entry in net.addresses().iter().filter(|_| result.is_ok()) {
                    // A full queue means that hundreds wait already; the address rests anyway.
                    let _ = released.try_send(entry.address.addr());
                }
                Input::PodRemoved(key, result)
            }
        };
        if done.send(Message::Input(input)).is_err() {
            return;
        }
    }
}

fn set_up(netlink: &mut Netlink, programs: &Programs, net: &EniNet) -> datapath::Result<()> {
    datapath::apply_eni(netlink, &programs.trunk, net)?;
    match &net.ipvlan {
        Some(plan) => datapath::apply_ipvlan_eni(netlink, &programs.host_stack, plan),
        None => Ok(()),
    }
}

fn apply(
    netlink: &mut Netlink,
    programs: &Programs,
    (pod, namespace): (&mut Netlink, &OwnedFd),
    plan: &PodPlan,
) -> datapath::Result<()> {
    let namespace = namespace.as_fd();
    match plan {
        PodPlan::Veth(net) => datapath::apply_pod(netlink, &programs.trunk, pod, namespace, net),
        PodPlan::Ipvlan(net) => datapath::apply_ipvlan_pod(netlink, pod, namespace, net),
    }
}

/// Makes sure that pods with an ENI wholly their own reach Services by the node; says what was missing.
pub(crate) fn keep_service_path(netlink: &mut Netlink) -> datapath::Result<Vec<String>> {
    let mut nftables = Nftables::open()?;
    datapath::keep_service_path(netlink, &mut nftables, &netplan::service_path())
}

fn take_down(
    netlink: &mut Netlink,
    programs: &Programs,
    plan: &PodPlan,
    pod: Option<PodDescriptors>,
) -> Result<(), String> {
    let net = match plan {
        PodPlan::Veth(net) => net,
        PodPlan::Ipvlan(net) => {
            let removed = datapath::remove_ipvlan_pod(netlink, net);
            return removed.map_err(|failures| failures.to_string());
        }
    };
    let inside = pod.map(|it| Netlink::from_fd(it.netlink)).transpose();
    let mut inside = inside.map_err(|error| chain(&error))?;
    let home = datapath::bring_devices_home(netlink, inside.as_mut(), net);
    home.map_err(|error| chain(&error))?;
    let removed = datapath::remove_pod(netlink, &programs.trunk, net);
    removed.map_err(|failures| failures.to_string())
}

fn in_pod<T>(
    descriptors: Option<PodDescriptors>,
    work: impl FnOnce(&mut Netlink, &OwnedFd) -> datapath::Result<T>,
) -> Result<T, String> {
    let Some(PodDescriptors { namespace, netlink }) = descriptors else {
        return Err("the plugin sent no descriptors of the pod's namespace".into());
    };
    let mut pod = Netlink::from_fd(netlink).map_err(|error| chain(&error))?;
    work(&mut pod, &namespace).map_err(|error| chain(&error))
}

/// The next piece of work, for whichever thread of a kind asks first.
fn next(work: &Mutex<Receiver<Work>>) -> Option<Work> {
    // A thread that panics ends the agent, so nobody is left to care about a poisoned lock.
    let queue = work.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}

/// Forgets the flows of every address that comes in: one that outlives its pod would carry packets of
/// the next holder of the address, who comes after the address has rested.
pub(crate) fn forget_flows(released: &Receiver<IpAddr>) {
    let mut conntrack = match Conntrack::open() {
        Ok(conntrack) => conntrack,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "flows of released addresses are not forgotten");
            return;
        }
    };
    while let Ok(address) = released.recv() {
        // Listing walks the whole table, so an empty one is not listed.
        if std::fs::read_to_string(FLOW_COUNT).is_ok_and(|count| count.trim() == "0") {
            continue;
        }
        match conntrack.flush(address) {
            Ok(count) => tracing::debug!(%address, count, "forgot flows"),
            Err(error) => tracing::warn!(%address, error = %chain(&error), "forgetting flows"),
        }
    }
}
