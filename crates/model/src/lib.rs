//! The vocabulary every other package speaks: ids, addresses, limits, time and error classes.
//!
//! Nothing here does I/O, reads a clock or takes a decision, and nothing here knows Kubernetes, the
//! cloud's wire formats or netlink. Whatever comes from outside becomes one of these types at the
//! border and is trusted afterwards.

pub mod cloud;
pub mod family;
pub mod fault;
pub mod id;
pub mod ipvlan;
pub mod mac;
pub mod net;
pub mod pod;
pub mod podeni;
pub mod podnetworking;
pub mod prefix;
pub mod route;
pub mod time;

pub use cloud::{Eni, EniKind, EniStatus, InstanceLimits, PrivateIp, VSwitch};
pub use family::{DualStack, Family};
pub use fault::{Exhausted, FaultClass};
pub use id::{
    ClientToken, EniId, IdError, InstanceId, RegionId, RequestId, RouteEntryId, RouteTableId,
    SecurityGroupId, VSwitchId, VpcId, ZoneId,
};
pub use mac::{Mac, MacError};
pub use pod::{AttachmentKey, ContainerId, InterfaceName, KeyError, PodKey, PodUid};
pub use prefix::{Ipv4Prefix, PrefixError};
pub use route::{NextHop, RouteEntry};
pub use time::Timestamp;
