//! The VPC: a network namespace in which every ENI is a veth pair, and an eBPF program that does to
//! packets what the cloud's virtual switch does.
//!
//! It enforces what it is told about ENIs, addresses and security groups and must never know nodes, pods, Kubernetes
//! or the cloud's API; nor may it use the code under test, whose errors it is there to find.
//!
//! The namespace has no name. To look into it: `nsenter --net=/proc/PID/fd/FD` with the
//! lab's process and the number behind [`Fabric::netns`]; each near end carries its ENI as alias.

mod counters;
mod error;
mod groups;
mod layout;
mod links;
mod program;
mod vpc;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use cloudsim::SecurityGroup;
use ipnet::IpNet;
use model::{Mac, SecurityGroupId};
use rustix::thread::UnshareFlags;

pub use self::{counters::PortCounters, error::FabricError};
use self::{links::Links, program::Program, vpc::Vpc};

/// The gateway's Ethernet address, the same in every vSwitch: source of all frames from the VPC.
pub const GATEWAY_MAC: Mac = Mac([0xee, 0xff, 0xff, 0xff, 0xff, 0xff]);

/// IPv6 is not carried yet, and neighbour discovery of the near ends would disturb the counters.
const IPV6_OFF: [&str; 2] = [
    "/proc/sys/net/ipv6/conf/all/disable_ipv6",
    "/proc/sys/net/ipv6/conf/default/disable_ipv6",
];

/// An ENI with a link of its own, as it appears in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its id. Anything else that has an address in the VPC (metadata, the API server) is plugged
    /// in the same way under a name of its own.
    pub eni: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Name of the link inside the target, for example `eth1`.
    pub link: String,
    /// Whether it may only send from and receive for its own addresses (ECS API, attribute
    /// `SourceDestCheck`).
    pub source_dest_check: bool,
    /// Its security groups. Without one nothing is asked on its side: it is no ENI of the account.
    pub groups: Vec<SecurityGroupId>,
}

/// An ENI that rides on a trunk ENI's link under a VLAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub eni: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The trunk ENI, which must be plugged.
    pub trunk: String,
    /// Its VLAN, 1 to 4094, unique on the trunk.
    pub vlan: u16,
    /// As for [`Port::source_dest_check`].
    pub source_dest_check: bool,
    /// As for [`Port::groups`].
    pub groups: Vec<SecurityGroupId>,
}

type Job = Box<dyn FnOnce(&mut Vpc) + Send>;

/// Handle of a VPC. May be shared between threads; calls are carried out one after the other on the
/// VPC's own thread. Dropping it removes the namespace and every link plugged into it.
#[derive(Debug)]
pub struct Fabric {
    name: String,
    netns: OwnedFd,
    /// `None` only while dropping.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Fabric {
    /// Makes the namespace of the VPC `name` and loads the program.
    ///
    /// # Errors
    /// When the process may not make namespaces or load eBPF.
    pub fn start(name: &str) -> Result<Self, FabricError> {
        let (jobs, inbox) = channel();
        let (ready, started) = channel();
        let vpc = name.to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("vpc-{name}"))
            .spawn(move || match enter(&vpc) {
                Ok((netns, vpc)) => {
                    if ready.send(Ok(netns)).is_ok() {
                        work(vpc, &inbox);
                    }
                }
                // The receiver waits below until one of the two is sent.
                Err(error) => drop(ready.send(Err(error))),
            })
            .map_err(|source| FabricError::Thread {
                vpc: name.to_owned(),
                source,
            })?;
        let stopped = || FabricError::Stopped {
            vpc: name.to_owned(),
        };
        let netns = started.recv().map_err(|_| stopped())??;
        Ok(Self {
            name: name.to_owned(),
            netns,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Plugs an ENI: its link appears in the namespace `target`, down and without an address. From
    /// then on its addresses are reachable, those given to it earlier included.
    ///
    /// # Errors
    /// When the ENI is plugged already, or the link cannot be made (its name is taken there).
    pub fn plug(&self, port: Port, target: OwnedFd) -> Result<(), FabricError> {
        self.call(move |vpc| vpc.plug(&port, &target))
    }

    /// Plugs a member ENI: no link appears, its packets are those of the trunk's link that carry
    /// its VLAN.
    ///
    /// # Errors
    /// When the ENI is plugged already, the trunk is not, or the VLAN is bad or taken.
    pub fn plug_member(&self, member: Member) -> Result<(), FabricError> {
        self.call(move |vpc| vpc.plug_member(&member))
    }

    /// Unplugs an ENI: its link vanishes from the node, as do a trunk's members. It keeps its
    /// addresses for the next plug; its counters are gone.
    ///
    /// # Errors
    /// When it is not plugged. After any other error the call may be repeated.
    pub fn unplug(&self, eni: &str) -> Result<(), FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| vpc.unplug(&eni))
    }

    /// Whether the ENI is plugged and its link is gone all the same: a veth dies with the namespace it is
    /// in.
    ///
    /// # Errors
    /// When the VPC's thread is gone.
    pub fn is_cut(&self, eni: &str) -> Result<bool, FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| Ok(vpc.is_cut(&eni)))
    }

    /// Gives `address` to `eni`, plugged or not. To give it again changes nothing.
    ///
    /// # Errors
    /// When another ENI owns it.
    pub fn own(&self, address: IpAddr, eni: &str) -> Result<(), FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| vpc.own(address, &eni))
    }

    /// Takes `address` from `eni`; nothing happens when it is not the owner.
    ///
    /// # Errors
    /// When the kernel's map cannot be changed.
    pub fn disown(&self, address: IpAddr, eni: &str) -> Result<(), FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| vpc.disown(address, &eni))
    }

    /// Writes the VPC route table: `net` is behind `eni`, plugged or not. An owned address goes
    /// before any route; an ENI with SourceDestCheck on receives nothing by a route. Replaces the
    /// route to the same network.
    ///
    /// # Errors
    /// When the kernel's map cannot be changed.
    pub fn route(&self, net: IpNet, eni: &str) -> Result<(), FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| vpc.route(net, &eni))
    }

    /// Removes the route to `net`, if there is one.
    ///
    /// # Errors
    /// When the kernel's map cannot be changed.
    pub fn unroute(&self, net: IpNet) -> Result<(), FabricError> {
        self.call(move |vpc| vpc.unroute(net))
    }

    /// Switches SourceDestCheck of a plugged ENI.
    ///
    /// # Errors
    /// When it is not plugged.
    pub fn source_dest_check(&self, eni: &str, on: bool) -> Result<(), FabricError> {
        let eni = eni.to_owned();
        self.call(move |vpc| vpc.source_dest_check(&eni, on))
    }

    /// Puts a plugged ENI into these security groups, and no others.
    ///
    /// # Errors
    /// When it is not plugged.
    pub fn join(&self, eni: &str, groups: &[SecurityGroupId]) -> Result<(), FabricError> {
        let (eni, groups) = (eni.to_owned(), groups.to_vec());
        self.call(move |vpc| vpc.join(&eni, &groups))
    }

    /// Makes a security group, or makes it what it says now. Flows under way are asked again.
    ///
    /// # Errors
    /// When the kernel's map cannot be changed.
    pub fn set_group(&self, group: SecurityGroup) -> Result<(), FabricError> {
        self.call(move |vpc| vpc.set_group(&group))
    }

    /// Removes a security group: to ENIs that are in it still, it says nothing any more.
    ///
    /// # Errors
    /// When the kernel's map cannot be changed.
    pub fn remove_group(&self, group: &SecurityGroupId) -> Result<(), FabricError> {
        let group = group.clone();
        self.call(move |vpc| vpc.remove_group(&group))
    }

    /// The counters of every plugged ENI.
    ///
    /// # Errors
    /// When the kernel's map cannot be read.
    pub fn counters(&self) -> Result<BTreeMap<String, PortCounters>, FabricError> {
        self.call(|vpc| vpc.counters())
    }

    /// Who owns what, ENIs that are not plugged included.
    ///
    /// # Errors
    /// When the VPC's thread is gone.
    pub fn owners(&self) -> Result<BTreeMap<IpAddr, String>, FabricError> {
        self.call(|vpc| Ok(vpc.owners()))
    }

    /// The VPC's network namespace.
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Vpc) -> Result<R, FabricError> + Send + 'static,
    ) -> Result<R, FabricError> {
        let stopped = || FabricError::Stopped {
            vpc: self.name.clone(),
        };
        let (answer, answered) = channel();
        // A caller that is gone needs no answer.
        let job: Job = Box::new(move |vpc| drop(answer.send(job(vpc))));
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).map_err(|_| stopped())?;
        answered.recv().map_err(|_| stopped())?
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        // Without a sender the thread's loop ends, and with it the VPC.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!(vpc = self.name, "the VPC's thread had panicked");
        }
    }
}

fn work(mut vpc: Vpc, inbox: &Receiver<Job>) {
    while let Ok(job) = inbox.recv() {
        job(&mut vpc);
    }
}

/// Moves the calling thread into a new namespace and sets the VPC up there.
fn enter(name: &str) -> Result<(OwnedFd, Vpc), FabricError> {
    let failed = |source: io::Error| FabricError::Namespace {
        vpc: name.to_owned(),
        source,
    };
    unshare_network().map_err(|errno| failed(errno.into()))?;
    let netns = File::open("/proc/thread-self/ns/net").map_err(failed)?;
    for path in IPV6_OFF {
        match fs::write(path, "1") {
            // A kernel without IPv6 has nothing to switch off.
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(FabricError::Sysctl { path, source });
            }
            _ => {}
        }
    }
    let links = Links::open().map_err(failed)?;
    Ok((netns.into(), Vpc::new(Program::load()?, links)))
}

#[expect(
    deprecated,
    reason = "deprecated because CLONE_FILES is unsound through it; a network namespace is not, and the lab has no unsafe code"
)]
fn unshare_network() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}
