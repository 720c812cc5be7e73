//! A prefix: sixteen addresses in a row that the cloud gives to an ENI, and takes back, as one.
//!
//! IPv4 only: an IPv6 prefix of the cloud (/80) is too large to be a list of addresses. Nothing here
//! knows whose the addresses are.

use core::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A block of a vSwitch with 28 bits of mask (ECS API, `Ipv4Prefix`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Ipv4Net", into = "Ipv4Net")]
pub struct Ipv4Prefix(Ipv4Net);

/// Why a block is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// It is of another size, or does not begin where one of its size begins.
    #[error("{0} is not a prefix: expected 28 bits of mask and the first address of such a block")]
    Block(Ipv4Net),
    /// It is no block at all.
    #[error("{0:?} is not a prefix: expected a block such as 10.0.0.16/28")]
    Text(String),
}

impl Ipv4Prefix {
    /// Bits of its mask.
    pub const LENGTH: u8 = 28;
    /// Addresses in it. All of them serve pods: a prefix has no network and no broadcast address.
    pub const ADDRESSES: u32 = 1 << (32 - Self::LENGTH);

    /// Takes `block` as a prefix.
    ///
    /// # Errors
    /// When it has not 28 bits of mask, or bits behind them.
    pub fn new(block: Ipv4Net) -> Result<Self, PrefixError> {
        if block.prefix_len() != Self::LENGTH || block.addr() != block.network() {
            return Err(PrefixError::Block(block));
        }
        Ok(Self(block))
    }

    /// The prefix that `address` would be in.
    pub fn around(address: Ipv4Addr) -> Self {
        Self(Ipv4Net::new_assert(address, Self::LENGTH).trunc())
    }

    /// Its addresses, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let first = u32::from(self.0.network());
        (0..Self::ADDRESSES).map(move |offset| IpAddr::V4(Ipv4Addr::from(first + offset)))
    }

    /// The block.
    pub fn block(self) -> Ipv4Net {
        self.0
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::str::FromStr for Ipv4Prefix {
    type Err = PrefixError;
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let block = text.parse();
        Self::new(block.map_err(|_| PrefixError::Text(text.chars().take(48).collect()))?)
    }
}

impl TryFrom<Ipv4Net> for Ipv4Prefix {
    type Error = PrefixError;
    fn try_from(block: Ipv4Net) -> Result<Self, PrefixError> {
        Self::new(block)
    }
}

impl From<Ipv4Prefix> for Ipv4Net {
    fn from(prefix: Ipv4Prefix) -> Ipv4Net {
        prefix.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_sixteen_addresses_from_a_multiple_of_sixteen() {
        let prefix: Ipv4Prefix = "10.0.0.16/28".parse().unwrap();
        let all: Vec<String> = prefix.addresses().map(|ip| ip.to_string()).collect();
        assert_eq!((all.len(), all[0].as_str()), (16, "10.0.0.16"));
        assert_eq!(all[15], "10.0.0.31");
        assert_eq!(Ipv4Prefix::around("10.0.0.31".parse().unwrap()), prefix);
        for bad in ["10.0.0.16/27", "10.0.0.17/28", "10.0.0.16", "fd00::/28", ""] {
            assert!(bad.parse::<Ipv4Prefix>().is_err(), "{bad:?}");
        }
    }
}
