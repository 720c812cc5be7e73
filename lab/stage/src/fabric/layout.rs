//! The byte layouts shared with `bpf/fabric.bpf.c`, as plain arrays in network order.
//!
//! Arrays have no holes and no host byte order, so the two sides can only differ in what is written
//! here and there, which the tests pin. It knows nothing of links, owners or maps.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use model::Mac;

/// `struct address`: an IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`.
pub(super) type AddressBytes = [u8; 16];
/// `struct port`.
pub(super) type PortBytes = [u8; 8];
/// `struct place`.
pub(super) type PlaceBytes = [u8; 16];
/// `struct settings`.
pub(super) type SettingsBytes = [u8; 2 + 2 * GROUPS_MAX];
/// `struct counters`: host order, in the order of [`super::PortCounters`].
pub(super) type CounterWords = [u64; 11];

/// Security groups an ENI may be in (ECS, "Security group rules": at most 10).
pub(super) const GROUPS_MAX: usize = 10;

/// How many bits of a mapped IPv4 address come before the address itself.
const MAPPED_PREFIX_BITS: u32 = 96;

/// An ENI as the program sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortId {
    /// Index of the near end.
    pub(super) ifindex: u32,
    /// The VLAN of a trunk's member; 0 for an ENI with a link of its own.
    pub(super) vlan: u16,
}

/// Where an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The ENI that owns it.
    pub(super) port: PortId,
    /// The Ethernet address frames to it carry.
    pub(super) mac: Mac,
}

impl PortId {
    pub(super) fn encode(self) -> PortBytes {
        let [a, b, c, d] = self.ifindex.to_be_bytes();
        let [e, f] = self.vlan.to_be_bytes();
        [a, b, c, d, e, f, 0, 0]
    }
}

impl Place {
    pub(super) fn encode(self) -> PlaceBytes {
        let mut bytes = [0; 16];
        let (port, rest) = bytes.split_at_mut(size_of::<PortBytes>());
        let (mac, _zero) = rest.split_at_mut(size_of::<Mac>());
        port.copy_from_slice(&self.port.encode());
        mac.copy_from_slice(&self.mac.0);
        bytes
    }
}

/// The key of an address.
pub(super) fn address(address: IpAddr) -> AddressBytes {
    mapped(address).octets()
}

/// Bits and address of a route's key.
pub(super) fn prefix(net: IpNet) -> (u32, AddressBytes) {
    let bits = u32::from(net.prefix_len());
    match net {
        IpNet::V4(_) => (MAPPED_PREFIX_BITS + bits, address(net.network())),
        IpNet::V6(_) => (bits, address(net.network())),
    }
}

/// What the program reads of an ENI's settings; of more groups than an ENI may be in, the first ones.
pub(super) fn settings(source_dest_check: bool, groups: &[u16]) -> SettingsBytes {
    let mut bytes = [0; size_of::<SettingsBytes>()];
    let (head, numbers) = bytes.split_at_mut(2);
    let count = u8::try_from(groups.len().min(GROUPS_MAX)).unwrap_or(0);
    head.copy_from_slice(&[u8::from(source_dest_check), count]);
    for (place, group) in numbers.chunks_exact_mut(2).zip(groups) {
        place.copy_from_slice(&group.to_be_bytes());
    }
    bytes
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_its_port_then_its_mac_then_zeroes() {
        let place = Place {
            port: PortId {
                ifindex: 0x0102_0304,
                vlan: 0x0506,
            },
            mac: "00:16:3e:0d:7b:c2".parse().unwrap(),
        };
        let bytes = [
            1, 2, 3, 4, 5, 6, 0, 0, 0, 0x16, 0x3e, 0x0d, 0x7b, 0xc2, 0, 0,
        ];
        assert_eq!(place.encode(), bytes);
    }

    #[test]
    fn both_families_share_one_key_space() {
        let v4 = address("192.168.1.10".parse().unwrap());
        assert_eq!(v4[..10], [0; 10]);
        assert_eq!(v4[10..], [0xff, 0xff, 192, 168, 1, 10]);
        let v6 = address("2408::1".parse().unwrap());
        assert_eq!((v6[0], v6[1], v6[15]), (0x24, 0x08, 1));
    }

    #[test]
    fn a_route_is_a_prefix_of_the_mapped_address() {
        let (bits, bytes) = prefix("10.1.2.3/24".parse().unwrap());
        assert_eq!(bits, 96 + 24);
        assert_eq!(
            bytes[12..],
            [10, 1, 2, 0],
            "host bits must not reach the key"
        );
        assert_eq!(prefix("2408::/56".parse().unwrap()).0, 56);
    }
}
