//! Address families, and values that exist once per family.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, in the order results list them.
    pub const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bits of an address of this family.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// `address` alone, as a network of one: `/32` or `/128`.
pub fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// One optional value a family. A pod, an ENI or a node has an IPv4 side, an IPv6 side or both, and
/// code that handles one handles the other by iterating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DualStack<T> {
    /// The IPv4 value.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub v4: Option<T>,
    /// The IPv6 value.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub v6: Option<T>,
}

impl<T> Default for DualStack<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

impl<T> DualStack<T> {
    /// A value for `family` only.
    pub fn only(family: Family, value: T) -> Self {
        let mut set = Self::default();
        set.set(family, value);
        set
    }

    /// The value of `family`.
    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// Sets the value of `family`.
    pub fn set(&mut self, family: Family, value: T) {
        match family {
            Family::V4 => self.v4 = Some(value),
            Family::V6 => self.v6 = Some(value),
        }
    }

    /// Whether neither family has a value.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// The families that have a value, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::BOTH
            .into_iter()
            .filter_map(|family| Some((family, self.get(family)?)))
    }
}
