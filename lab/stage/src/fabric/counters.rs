//! What the fabric counts for each ENI.
//!
//! It only names the words of `struct counters` in `bpf/fabric.bpf.c`; it reads no map.

use serde::Serialize;

use super::layout::CounterWords;

/// Counters of one ENI since it was plugged, from the VPC's side.
///
/// A packet is what the node's kernel hands over: with segmentation offload one packet may be up to
/// 64 KiB. Bytes include the Ethernet header. Over all ENIs, `received_packets` equals the sum of
/// `delivered_packets` and of everything answered or dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PortCounters {
    /// Packets that came from the ENI.
    pub received_packets: u64,
    /// Bytes that came from the ENI.
    pub received_bytes: u64,
    /// Packets handed to the ENI, ARP answers not included.
    pub delivered_packets: u64,
    /// Bytes handed to the ENI, ARP answers not included.
    pub delivered_bytes: u64,
    /// ARP requests of the ENI answered on behalf of the gateway.
    pub arp_answered: u64,
    /// Dropped: the source is not an address of the ENI, or the VLAN is no member's.
    pub spoofed: u64,
    /// Dropped: nobody owns the destination, and no route leads to it.
    pub unowned: u64,
    /// Dropped: cut short, or headers that contradict each other.
    pub malformed: u64,
    /// Dropped: what the VPC does not carry (gratuitous ARP, ARP probes and replies, protocols other
    /// than IPv4 and ARP), or a VLAN tag that could not be rewritten for lack of memory.
    pub refused: u64,
    /// Dropped: what the ENI sent and its security groups do not let out.
    pub denied_out: u64,
    /// Dropped: what came for the ENI and its security groups do not let in.
    pub denied_in: u64,
}

impl PortCounters {
    /// Adds up the copies of all CPUs.
    pub(super) fn sum<'a>(cpus: impl IntoIterator<Item = &'a CounterWords>) -> Self {
        cpus.into_iter().fold(Self::default(), |sum, words| {
            let [
                rx,
                rx_bytes,
                tx,
                tx_bytes,
                arp,
                spoofed,
                unowned,
                malformed,
                refused,
                denied_out,
                denied_in,
            ] = *words;
            Self {
                received_packets: sum.received_packets + rx,
                received_bytes: sum.received_bytes + rx_bytes,
                delivered_packets: sum.delivered_packets + tx,
                delivered_bytes: sum.delivered_bytes + tx_bytes,
                arp_answered: sum.arp_answered + arp,
                spoofed: sum.spoofed + spoofed,
                unowned: sum.unowned + unowned,
                malformed: sum.malformed + malformed,
                refused: sum.refused + refused,
                denied_out: sum.denied_out + denied_out,
                denied_in: sum.denied_in + denied_in,
            }
        })
    }

    /// Packets of this ENI, or for it, that the fabric did not carry.
    pub fn dropped(&self) -> u64 {
        let denied = self.denied_out + self.denied_in;
        self.spoofed + self.unowned + self.malformed + self.refused + denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_add_up_field_by_field() {
        let sum = PortCounters::sum(&[[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [10; 11]]);
        assert_eq!(sum.received_packets, 11);
        assert_eq!(sum.received_bytes, 12);
        assert_eq!(sum.delivered_packets, 13);
        assert_eq!(sum.delivered_bytes, 14);
        assert_eq!(sum.arp_answered, 15);
        assert_eq!(sum.dropped(), 16 + 17 + 18 + 19 + 20 + 21);
    }
}
