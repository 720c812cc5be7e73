//! The byte layouts shared with `bpf/trunk.bpf.c`, as plain arrays in network order: arrays have no
//! holes and no host byte order.
//!
//! Knows no maps and no programs.

use std::net::IpAddr;

use model::Mac;

/// `struct address`: an IPv6 address, or an IPv4 one as `::ffff:a.b.c.d`.
pub(super) type AddressBytes = [u8; 16];
/// `struct member`.
pub(super) type MemberBytes = [u8; 12];
/// A key of `links`.
pub(super) type LinkBytes = [u8; 4];
/// `struct counters`: host order, in the order of [`super::TrunkCounters`].
pub(super) type CounterWords = [u64; 6];

/// Who may use an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Index of the node's end of the pod's link.
    pub(super) ifindex: u32,
    pub(super) vlan: u16,
    /// MAC of that end.
    pub(super) link_mac: Mac,
}

impl Member {
    pub(super) fn encode(self) -> MemberBytes {
        let ([a, b, c, d], [e, f]) = (self.ifindex.to_be_bytes(), self.vlan.to_be_bytes());
        let [g, h, i, j, k, l] = self.link_mac.0;
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    pub(super) fn decode(bytes: MemberBytes) -> Self {
        let [a, b, c, d, e, f, mac @ ..] = bytes;
        Self {
            ifindex: u32::from_be_bytes([a, b, c, d]),
            vlan: u16::from_be_bytes([e, f]),
            link_mac: Mac(mac),
        }
    }
}

/// The key of an address.
pub(super) fn address(address: IpAddr) -> AddressBytes {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The key of a link.
pub(super) fn link(ifindex: u32) -> LinkBytes {
    ifindex.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_its_link_its_vlan_and_its_mac() {
        let member = Member {
            ifindex: 0x0102_0304,
            vlan: 0x0506,
            link_mac: Mac([7, 8, 9, 10, 11, 12]),
        };
        let bytes = member.encode();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Member::decode(bytes), member);
    }

    #[test]
    fn both_families_share_one_key_space() {
        let v4 = address("192.168.1.10".parse().unwrap());
        assert_eq!(
            v4,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 168, 1, 10]
        );
        assert_eq!(address("2408::1".parse().unwrap())[..2], [0x24, 0x08]);
    }
}
