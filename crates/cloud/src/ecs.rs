//! The ECS calls that make, find and undo network interfaces, as values.
//!
//! Parameter and field names are those of the official SDK's generated models
//! (`alibabacloud-ecs20140526` 7.11.8). Nothing here sends, retries or decides.

mod address;
mod describe;
mod document;
mod instance_type;
mod interface;
mod prefix;

pub use address::{AssignPrivateIpAddresses, AssignedAddresses, UnassignPrivateIpAddresses};
pub use describe::{DescribeNetworkInterfaces, DescribedEni, Page};
pub use instance_type::DescribeInstanceTypes;
pub use interface::{
    AttachNetworkInterface, CreateNetworkInterface, DeleteNetworkInterface, DetachNetworkInterface,
    ModifyNetworkInterfaceAttribute, NewEniKind,
};
pub use prefix::{AssignIpv4Prefixes, AssignedPrefixes, UnassignIpv4Prefixes};

/// Most secondary addresses one CreateNetworkInterface brings (documented range 1 to 49).
pub const SECONDARY_ADDRESSES_PER_CREATE_MAX: usize = 49;
/// Most IPv4 prefixes one call gives or takes back (documented range 1 to 10).
pub const PREFIXES_PER_CALL_MAX: usize = 10;
/// Most items one page of DescribeNetworkInterfaces holds, and what we ask for (documented range 10
/// to 500).
pub const INTERFACES_PER_PAGE: usize = 500;
/// Most ENIs one DescribeNetworkInterfaces may ask for by id (documented range 1 to 100).
pub const INTERFACE_IDS_PER_DESCRIBE_MAX: usize = 100;
/// Most types one DescribeInstanceTypes may ask for by name (documented range 1 to 10).
pub const INSTANCE_TYPES_PER_DESCRIBE_MAX: usize = 10;
/// Most tags a call may carry (documented range of N in `Tag.N`: 1 to 20).
pub const TAGS_MAX: usize = 20;
/// Longest ClientToken the API takes, in ASCII characters.
pub const CLIENT_TOKEN_LENGTH_MAX: usize = 64;
