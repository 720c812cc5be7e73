//! Every way in which the fabric fails, one variant for each step.

use std::{io, net::IpAddr};

use aya::{EbpfError, maps::MapError, programs::ProgramError};
use model::KeyError;

/// Why the fabric could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// No thread for the namespace.
    #[error("cannot start the thread of VPC {vpc:?}: is the process limit reached?")]
    Thread {
        /// Name of the VPC.
        vpc: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No network namespace.
    #[error("cannot make a network namespace for VPC {vpc:?}: the lab needs root (CAP_SYS_ADMIN)")]
    Namespace {
        /// Name of the VPC.
        vpc: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A value under `/proc/sys` would not be written.
    #[error("cannot write {path} in the VPC's namespace: is /proc mounted read-write?")]
    Sysctl {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The eBPF object would not load.
    #[error("cannot load the fabric's eBPF object: it needs CAP_BPF and CAP_NET_ADMIN")]
    Load(#[source] Box<EbpfError>),
    /// The object lacks a program or a map that user space relies on.
    #[error("the fabric's eBPF object has no {0:?}: clean and build again")]
    Missing(&'static str),
    /// The verifier or the kernel refused the program.
    #[error("the kernel refused the fabric's eBPF program")]
    Program(#[source] Box<ProgramError>),
    /// A map would not be read or written.
    #[error("cannot {what} in the fabric's map {map:?}")]
    Map {
        /// What was tried.
        what: &'static str,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// The program would not attach to a near end.
    #[error("cannot attach the fabric's program to the near end {link} of {eni}")]
    Attach {
        /// The ENI.
        eni: String,
        /// Its near end.
        link: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The link's name is not one the kernel takes.
    #[error("cannot plug {eni}: bad link name")]
    LinkName {
        /// The ENI.
        eni: String,
        /// What is wrong with the name.
        #[source]
        source: KeyError,
    },
    /// `ip` would not start.
    #[error("cannot run `{command}`: run `apt-get install iproute2`")]
    Ip {
        /// The command line.
        command: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// `ip` said no.
    #[error("`{command}` failed: {said}")]
    IpRefused {
        /// The command line.
        command: String,
        /// Its standard error.
        said: String,
    },
    /// A link's index could not be asked for.
    #[error("cannot find the index of link {link} in the VPC's namespace")]
    Index {
        /// The link.
        link: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The ENI is plugged already; an ENI is attached to one instance at a time.
    #[error("{eni} is plugged already: unplug it first")]
    AlreadyPlugged {
        /// The ENI.
        eni: String,
    },
    /// The ENI is not plugged.
    #[error("{eni} is not plugged into the VPC")]
    NotPlugged {
        /// The ENI.
        eni: String,
    },
    /// The member cannot ride on the trunk with this VLAN.
    #[error(
        "{eni} cannot have VLAN {vlan} on {trunk}: it must be 1 to 4094, free, and not on a member"
    )]
    Vlan {
        /// The member.
        eni: String,
        /// Its trunk.
        trunk: String,
        /// The VLAN asked for.
        vlan: u16,
    },
    /// The address belongs to another ENI; an address has one owner.
    #[error("{address} belongs to {owner}, so {eni} cannot own it: disown it there first")]
    Owned {
        /// The address.
        address: IpAddr,
        /// The ENI that asked.
        eni: String,
        /// The ENI that owns it.
        owner: String,
    },
    /// The thread of the namespace is gone.
    #[error("the thread of VPC {vpc:?} has ended: see its panic above, then start the lab again")]
    Stopped {
        /// Name of the VPC.
        vpc: String,
    },
}
