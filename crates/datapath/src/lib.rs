//! The only kernel I/O of the node: links, addresses, neighbours, routes, rules and marks by netlink.
//!
//! Callers hand in plans (`model::net`) and get them applied, removed, observed and compared. What a
//! plan should say is decided elsewhere; nothing here knows pods, ENI ids, the cloud or Kubernetes.
//!
//! Every call blocks for the time the kernel takes (about a millisecond), so an asynchronous caller
//! runs it on a thread of its own. Work inside a pod goes through a socket that somebody else opened
//! there: a netlink socket acts in the namespace it was opened in, so CAP_NET_ADMIN is enough and no
//! thread ever changes its namespace.

mod batch;
mod check;
mod conntrack;
mod decode;
mod device;
mod ebpf;
mod encode;
mod eni;
mod error;
mod exchange;
mod filter;
mod frame;
mod ipvlan;
mod leftover;
mod masquerade;
mod mend;
mod netfilter;
mod netlink;
mod nftables;
mod object;
mod observe;
mod pod;
mod return_path;
mod rules;
mod service_path;
mod socket;
mod sysctl;
mod trunk;
mod veth;
mod watch;

pub use check::{Difference, Side, check_pod, diff_eni, diff_pod};
pub use conntrack::Conntrack;
pub use device::bring_devices_home;
pub use eni::{apply_eni, remove_eni};
pub use error::{Error, Failures, Result};
pub use ipvlan::{
    HostStack, apply_ipvlan_eni, apply_ipvlan_pod, check_ipvlan_pod, ipvlan_devices_of_pods,
    probe_ipvlan, remove_ipvlan_eni, remove_ipvlan_pod,
};
pub use leftover::{Leftover, leftovers, remove_leftover};
pub use masquerade::keep_masquerade;
pub use mend::{diff_on_node, is_cut_off, mend_pod};
pub use netlink::Netlink;
pub use nftables::Nftables;
pub use observe::{Observed, ObservedLink, observe, routed_over};
pub use pod::{apply_pod, remove_pod};
pub use return_path::keep_return_path;
pub use service_path::keep_service_path;
pub use sysctl::{write_sysctl, wrong_sysctls};
pub use trunk::{Trunk, TrunkCounters};
pub use watch::{News, Watch};
