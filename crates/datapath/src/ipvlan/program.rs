//! The eBPF program that leads packets for the node to the node, and its one map. It translates between
//! networks and bytes in the map, and decides nothing.

use std::{net::IpAddr, os::fd::BorrowedFd};

use aya::maps::{
    MapData,
    lpm_trie::{Key, LpmTrie},
};
use ipnet::IpNet;

use crate::{
    ebpf::{ANY, Loaded, absent, map_failed},
    error::Result,
    filter::{Hook, Way},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ipvlan.bpf.o"));
const NETWORKS: &str = "networks";

/// What goes to the VPC. Before the filters by which the Go Terway does the same (40000), which may be there.
pub(super) const TO_HOST: Hook = Hook {
    program: "to_host",
    priority: 39_999,
    way: Way::Out,
};

/// What of `struct network` in `bpf/ipvlan.bpf.c` the bits are counted of: an ENI, and an IPv6 address or
/// an IPv4 one as `::ffff:a.b.c.d`, in network order.
type NetworkBytes = [u8; 20];
const ENI_BITS: u32 = 32;
/// How many bits make an IPv4 address one of IPv6.
const MAPPED_BITS: u32 = 96;

pub(super) struct Program {
    object: Loaded,
    networks: LpmTrie<MapData, NetworkBytes, u32>,
}

impl Program {
    pub(super) fn load() -> Result<Self> {
        let mut object = Loaded::load(OBJECT, &[TO_HOST])?;
        Ok(Self {
            networks: object.take(NETWORKS)?,
            object,
        })
    }

    /// Descriptor and id.
    pub(super) fn running(&mut self) -> Result<(BorrowedFd<'_>, u32)> {
        self.object.program(TO_HOST)
    }

    /// Leads exactly what is for `networks` and leaves by the ENI with index `eni` to the device with index
    /// `slave`.
    pub(super) fn lead(&mut self, eni: u32, networks: &[IpNet], slave: u32) -> Result<()> {
        let wanted: Vec<_> = networks.iter().map(|network| bytes(eni, network)).collect();
        for ((bits, data), network) in wanted.iter().zip(networks) {
            self.networks
                .insert(&Key::new(*bits, *data), slave, ANY)
                .map_err(map_failed(format!("adding {network}"), NETWORKS))?;
        }
        let doing = || format!("removing networks of the link with index {eni}");
        let present = self
            .networks
            .keys()
            .collect::<std::result::Result<Vec<_>, _>>();
        for key in present.map_err(map_failed(doing(), NETWORKS))? {
            let (bits, data) = (key.prefix_len(), key.data());
            if data.starts_with(&eni.to_be_bytes()) && !wanted.contains(&(bits, data)) {
                absent(self.networks.remove(&key)).map_err(map_failed(doing(), NETWORKS))?;
            }
        }
        Ok(())
    }
}

/// The key of a network of an ENI: how many bits count, and of what.
fn bytes(eni: u32, network: &IpNet) -> (u32, NetworkBytes) {
    let (mapped, address) = match network.network() {
        IpAddr::V4(v4) => (MAPPED_BITS, v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => (0, v6),
    };
    let mut data = NetworkBytes::default();
    let (of_eni, of_address) = data.split_at_mut(size_of::<u32>());
    of_eni.copy_from_slice(&eni.to_be_bytes());
    of_address.copy_from_slice(&address.octets());
    (ENI_BITS + mapped + u32::from(network.prefix_len()), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_share_one_key_space_behind_the_eni() {
        let (bits, data) = bytes(7, &"10.96.0.1/16".parse().unwrap());
        assert_eq!(bits, 32 + 96 + 16);
        let expected = [
            0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 96, 0, 0,
        ];
        assert_eq!(data, expected);
        let (bits, data) = bytes(7, &"fd01::/112".parse().unwrap());
        assert_eq!((bits, &data[4..6]), (32 + 112, &[0xfd, 1][..]));
    }
}
