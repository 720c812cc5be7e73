//! What can go wrong between us and the kernel, one variant per failed step.
//!
//! Every message names the operation and its object ("adding route 10.0.0.5/32 dev cali0 table 254"),
//! so that a log line is enough to repeat it by hand. Nothing here decides what to do about it.

use std::{fmt, io};

use model::{InterfaceName, Mac};

/// The result of an operation on the kernel.
pub type Result<T> = std::result::Result<T, Error>;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket to the kernel could be made or set up.
    #[error("setting up a netlink socket ({step}): {source}")]
    Socket {
        /// Which call.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A descriptor that was handed over is something else than it should be.
    #[error(
        "the descriptor handed over as a netlink socket is {found}; it must be an AF_NETLINK socket \
         of protocol NETLINK_ROUTE, opened inside the pod's network namespace"
    )]
    NotRouteSocket {
        /// What it is instead.
        found: String,
    },
    /// The kernel took no request or gave no answer.
    #[error("{doing}: talking to the kernel ({step}): {source}")]
    Transport {
        /// The operation.
        doing: String,
        /// Which call.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused the operation.
    #[error("{doing}: {source}{}", Detail(.detail))]
    Refused {
        /// The operation.
        doing: String,
        /// The kernel's error number.
        source: io::Error,
        /// The kernel's own words, when it gave some (netlink extended acknowledgement).
        detail: Option<String>,
    },
    /// The kernel's answer is not of the form the protocol promises.
    #[error("{doing}: the kernel's answer cannot be read: {what}")]
    Malformed {
        /// The operation.
        doing: String,
        /// What is wrong with it.
        what: String,
    },
    /// A list changed under every attempt to read it.
    #[error("{doing}: the list changed during each of {attempts} attempts; try again")]
    Unstable {
        /// The operation.
        doing: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A link the plan names does not exist.
    #[error("{doing}: there is no link {link}")]
    NoLink {
        /// The operation.
        doing: String,
        /// The missing link.
        link: InterfaceName,
    },
    /// A name is taken by a link that is not ours to remove.
    #[error("{doing} {link}: the name is taken {place} by {holder}; remove or rename that link")]
    NameTaken {
        /// What the name is for.
        doing: &'static str,
        /// The name.
        link: InterfaceName,
        /// In which namespace.
        place: &'static str,
        /// What holds it.
        holder: String,
    },
    /// The device of an ENI is nowhere it could be taken from.
    #[error(
        "moving the ENI {mac} into the pod: neither the node nor the pod has a link with that MAC; is the \
         ENI attached to this node?"
    )]
    NoDevice {
        /// The MAC.
        mac: Mac,
    },
    /// The device of an ENI is in a pod's namespace that lives on and was not handed over.
    #[error(
        "taking the ENI {mac} back: it is in the pod's network namespace, which still exists; it is \
         taken when the runtime sends DEL with CNI_NETNS, and comes by itself when the namespace ends"
    )]
    DeviceAway {
        /// The MAC.
        mac: Mac,
    },
    /// The plan itself cannot be put into kernel terms.
    #[error("{object} cannot be applied: {why}")]
    Plan {
        /// The object of the plan.
        object: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tag is asked for where no trunk ENI is.
    #[error("adding {tag}: the trunk ENI of this node is not set up yet; try again when it is")]
    NoTrunk {
        /// The tag.
        tag: String,
    },
    /// The kernel or a capability in the way of eBPF.
    #[error(
        "loading eBPF programs ({step}): the agent needs CAP_BPF beside \
         CAP_NET_ADMIN, a kernel of 5.8 or later and, before 5.11, an unlimited RLIMIT_MEMLOCK"
    )]
    Bpf {
        /// Which step.
        step: &'static str,
        /// What was said.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// A map of an eBPF program would not be read or written.
    #[error("{doing} in the eBPF map {map}")]
    Map {
        /// The operation.
        doing: String,
        /// The map.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<aya::maps::MapError>,
    },
    /// A value under `/proc/sys` could not be written.
    #[error(
        "writing sysctl {path} = {value} (the plugin writes it with the node's next pod, or `sysctl -w` by hand)"
    )]
    Sysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// What was to stand there.
        value: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel was built without something.
    #[error("this kernel has no {what}")]
    Unsupported {
        /// What it lacks.
        what: &'static str,
    },
}

impl Error {
    /// The kernel's error number, when it was the kernel that refused.
    pub fn os_error(&self) -> Option<i32> {
        match self {
            Error::Socket { source, .. }
            | Error::Transport { source, .. }
            | Error::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// The kernel's words behind its error number, if there are any.
struct Detail<'a>(&'a Option<String>);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(out, ": {text}"),
            None => Ok(()),
        }
    }
}

/// Everything that failed in an operation that goes on after a failure. Never empty.
#[derive(Debug)]
pub struct Failures(Vec<Error>);

impl Failures {
    /// `Ok` without failures, else all of them.
    pub(crate) fn from_list(list: Vec<Error>) -> std::result::Result<(), Failures> {
        if list.is_empty() {
            Ok(())
        } else {
            Err(Failures(list))
        }
    }

    /// The failures, in the order they happened.
    pub fn list(&self) -> &[Error] {
        &self.0
    }
}

impl From<Error> for Failures {
    fn from(error: Error) -> Self {
        Failures(vec![error])
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("; ")?;
            }
            write!(out, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failures {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.first().map(|error| error as _)
    }
}
