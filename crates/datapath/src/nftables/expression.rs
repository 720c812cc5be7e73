//! What a rule does, as the kernel's little machine of registers takes it
//! (include/uapi/linux/netfilter/nf_tables.h). Pure.
//!
//! One register is enough: each step loads it, tests it, changes it or stores it, and a test that fails
//! ends the rule for this packet.

use ipnet::IpNet;
use model::InterfaceName;

use crate::frame::{FLAG_NESTED, push_attribute, push_bytes};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_SREG: u16 = 4;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_MASQ_FLAGS: u16 = 1;
const NFT_REG_1: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
/// The address family, one byte.
const NFT_META_NFPROTO: u32 = 15;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
/// NF_NAT_RANGE_PROTO_RANDOM_FULLY: two connections that begin at once are less likely to want one port.
const RANDOM_FULLY: u32 = 1 << 4;
const NFT_META_MARK: u32 = 3;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_IIFGROUP: u32 = 21;
const NFT_META_OIFGROUP: u32 = 22;
const NFT_CT_DIRECTION: u32 = 1;
const NFT_CT_MARK: u32 = 3;
/// IFNAMSIZ: names of links are compared with their padding.
const LINK_NAME_LEN: usize = 16;
/// Which way of its connection a packet goes (`enum ip_conntrack_dir`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// As the first packet.
    Original = 0,
    /// Back.
    Reply = 1,
}

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// The steps of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Expressions(pub(super) Vec<u8>);

impl Expressions {
    /// Goes on if the packet came in by `link`.
    pub(crate) fn came_by(self, link: &InterfaceName) -> Self {
        let mut name = link.as_str().as_bytes().to_vec();
        name.resize(LINK_NAME_LEN, 0);
        self.meta(NFTA_META_DREG, NFT_META_IIFNAME).equals(&name)
    }

    /// Goes on if the packet came in by a link whose name begins with `prefix`.
    pub(crate) fn came_by_any(self, prefix: &str) -> Self {
        self.meta(NFTA_META_DREG, NFT_META_IIFNAME)
            .equals(prefix.as_bytes())
    }

    /// Goes on if the packet came in by a link of this group.
    pub(crate) fn came_by_group(self, group: u32) -> Self {
        self.meta(NFTA_META_DREG, NFT_META_IIFGROUP)
            .equals(&group.to_ne_bytes())
    }

    /// Goes on if the packet leaves by a link of this group.
    pub(crate) fn leaves_by_group(self, group: u32) -> Self {
        self.meta(NFTA_META_DREG, NFT_META_OIFGROUP)
            .equals(&group.to_ne_bytes())
    }

    /// Goes on if its own mark has `bit`.
    pub(crate) fn packet_has(self, bit: u32) -> Self {
        self.meta(NFTA_META_DREG, NFT_META_MARK)
            .bitwise(bit, 0)
            .equals(&bit.to_ne_bytes())
    }

    /// Goes on if the packet goes this way of a connection that is tracked.
    pub(crate) fn goes(self, direction: Direction) -> Self {
        self.conntrack(NFTA_CT_DREG, NFT_CT_DIRECTION)
            .equals(&[direction as u8])
    }

    /// Goes on if its connection's mark has `bit`.
    pub(crate) fn connection_has(self, bit: u32) -> Self {
        self.conntrack(NFTA_CT_DREG, NFT_CT_MARK)
            .bitwise(bit, 0)
            .equals(&bit.to_ne_bytes())
    }

    /// Sets `bit` in its connection's mark.
    pub(crate) fn mark_connection(self, bit: u32) -> Self {
        self.conntrack(NFTA_CT_DREG, NFT_CT_MARK)
            .bitwise(!bit, bit)
            .conntrack(NFTA_CT_SREG, NFT_CT_MARK)
    }

    /// Sets `bit` in its own mark.
    pub(crate) fn mark_packet(self, bit: u32) -> Self {
        self.meta(NFTA_META_DREG, NFT_META_MARK)
            .bitwise(!bit, bit)
            .meta(NFTA_META_SREG, NFT_META_MARK)
    }

    /// Goes on if the packet is of the family of `net`.
    pub(crate) fn of_family(self, net: IpNet) -> Self {
        let family = match net {
            IpNet::V4(_) => NFPROTO_IPV4,
            IpNet::V6(_) => NFPROTO_IPV6,
        };
        self.meta(NFTA_META_DREG, NFT_META_NFPROTO)
            .equals(&[family])
    }

    /// Goes on if this address of the packet is in `net`, or is not, as `inside` says; of packets of its
    /// family.
    pub(crate) fn address(self, end: End, net: IpNet, inside: bool) -> Self {
        // RFC 791, 3.1; RFC 8200, 3.
        let (source, length) = match net {
            IpNet::V4(_) => (12, 4),
            IpNet::V6(_) => (8, 16),
        };
        let offset = match end {
            End::Source => source,
            End::Destination => source + length,
        };
        let bytes = |address: std::net::IpAddr| match address {
            std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
            std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let (mask, network) = (bytes(net.netmask()), bytes(net.network()));
        let operation = if inside { NFT_CMP_EQ } else { NFT_CMP_NEQ };
        self.step("payload", |out| {
            push_number(out, NFTA_PAYLOAD_DREG, NFT_REG_1);
            push_number(out, NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
            push_number(out, NFTA_PAYLOAD_OFFSET, offset);
            push_number(out, NFTA_PAYLOAD_LEN, length);
        })
        .masked(&mask, &vec![0; mask.len()])
        .compares(operation, &network)
    }

    /// Gives the packet's connection an address of the node as source, of the link it leaves by if that has one.
    /// `drawn` says that its port is drawn by lot, not kept where it is free.
    pub(crate) fn masquerade(self, drawn: bool) -> Self {
        self.step("masq", |out| {
            if drawn {
                push_number(out, NFTA_MASQ_FLAGS, RANDOM_FULLY)
            }
        })
    }

    fn step(mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        push_attribute(&mut self.0, NFTA_LIST_ELEM | FLAG_NESTED, |out| {
            push_bytes(out, NFTA_EXPR_NAME, format!("{name}\0").as_bytes());
            push_attribute(out, NFTA_EXPR_DATA | FLAG_NESTED, fill);
        });
        self
    }

    /// Loads or stores what the kernel knows of the packet; `way` is the attribute of the register.
    fn meta(self, way: u16, key: u32) -> Self {
        self.step("meta", |out| {
            push_number(out, way, NFT_REG_1);
            push_number(out, NFTA_META_KEY, key);
        })
    }

    /// The same for its connection.
    fn conntrack(self, way: u16, key: u32) -> Self {
        self.step("ct", |out| {
            push_number(out, way, NFT_REG_1);
            push_number(out, NFTA_CT_KEY, key);
        })
    }

    fn equals(self, bytes: &[u8]) -> Self {
        self.compares(NFT_CMP_EQ, bytes)
    }

    fn compares(self, operation: u32, bytes: &[u8]) -> Self {
        self.step("cmp", |out| {
            push_number(out, NFTA_CMP_SREG, NFT_REG_1);
            push_number(out, NFTA_CMP_OP, operation);
            push_data(out, NFTA_CMP_DATA, bytes);
        })
    }

    fn bitwise(self, mask: u32, xor: u32) -> Self {
        self.masked(&mask.to_ne_bytes(), &xor.to_ne_bytes())
    }

    /// register = (register & mask) ^ xor, over as many bytes as these have.
    fn masked(self, mask: &[u8], xor: &[u8]) -> Self {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.step("bitwise", |out| {
            push_number(out, NFTA_BITWISE_SREG, NFT_REG_1);
            push_number(out, NFTA_BITWISE_DREG, NFT_REG_1);
            push_number(out, NFTA_BITWISE_LEN, length);
            push_data(out, NFTA_BITWISE_MASK, mask);
            push_data(out, NFTA_BITWISE_XOR, xor);
        })
    }
}

/// Numbers of nf_tables are in network order, but for what is in a register.
pub(super) fn push_number(out: &mut Vec<u8>, kind: u16, value: u32) {
    push_bytes(out, kind, &value.to_be_bytes());
}

fn push_data(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push_attribute(out, kind | FLAG_NESTED, |out| {
        push_bytes(out, NFTA_DATA_VALUE, value);
    });
}
