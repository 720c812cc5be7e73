//! A vSwitch's addresses: which it gives out, which are taken.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{config::VSwitchSpec, dice::Dice};

/// Addresses at the end of a block that the cloud keeps (VPC documents: the first and the last three
/// addresses of a vSwitch are reserved).
const RESERVED_LAST: u32 = 3;

/// A vSwitch and what it has given out.
#[derive(Debug, Clone)]
pub(crate) struct VSwitch {
    pub(crate) spec: VSwitchSpec,
    taken: BTreeSet<Ipv4Addr>,
}

impl VSwitch {
    pub(crate) fn new(spec: VSwitchSpec) -> Self {
        Self {
            spec,
            taken: BTreeSet::new(),
        }
    }

    fn bounds(&self) -> (u32, u32) {
        let cidr: Ipv4Net = self.spec.cidr;
        let (first, last) = (u32::from(cidr.network()), u32::from(cidr.broadcast()));
        (first + 1, last - RESERVED_LAST)
    }

    /// The gateway: the first of the three reserved at the end, `.253` of a /24.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.bounds().1 + 1)
    }

    /// Whether the vSwitch ever gives `address` out.
    pub(crate) fn gives(&self, address: Ipv4Addr) -> bool {
        let (first, last) = self.bounds();
        (first..=last).contains(&u32::from(address))
    }

    pub(crate) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    pub(crate) fn free(&self) -> usize {
        let (first, last) = self.bounds();
        (last - first + 1) as usize - self.taken.len()
    }

    /// Marks an address as taken; false when it was already, or is none of this vSwitch.
    pub(crate) fn take(&mut self, address: Ipv4Addr) -> bool {
        self.gives(address) && self.taken.insert(address)
    }

    /// Takes any free address. The cloud chooses at random, so nobody may count on an order.
    pub(crate) fn take_any(&mut self, dice: &mut Dice) -> Option<Ipv4Addr> {
        if self.free() == 0 {
            return None;
        }
        let (first, last) = self.bounds();
        let span = last - first + 1;
        let start = dice.below(span);
        let address = (0..span)
            .map(|step| Ipv4Addr::from(first + (start + step) % span))
            .find(|address| !self.taken.contains(address))?;
        self.taken.insert(address);
        Some(address)
    }

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RegionConfig;

    fn vswitch(cidr: &str) -> VSwitch {
        let mut spec = RegionConfig::lab(1).vswitches.remove(0);
        spec.cidr = cidr.parse().unwrap();
        VSwitch::new(spec)
    }

    #[test]
    fn first_and_last_three_are_reserved() {
        let mut vswitch = vswitch("10.0.1.0/24");
        assert_eq!(vswitch.free(), 252);
        assert_eq!(vswitch.gateway().to_string(), "10.0.1.253");
        for (text, given) in [
            ("10.0.1.0", false),
            ("10.0.1.1", true),
            ("10.0.1.252", true),
            ("10.0.1.253", false),
            ("10.0.1.255", false),
            ("10.0.2.1", false),
        ] {
            assert_eq!(vswitch.take(text.parse().unwrap()), given, "{text}");
        }
    }

    #[test]
    fn every_address_is_given_once_and_then_none() {
        let mut vswitch = vswitch("10.0.1.0/29");
        let mut dice = Dice::new(3);
        let mut given = BTreeSet::new();
        while let Some(address) = vswitch.take_any(&mut dice) {
            assert!(given.insert(address), "{address} was given twice");
        }
        assert_eq!((given.len(), vswitch.free()), (4, 0));
        let back = given.pop_first().unwrap();
        vswitch.give_back(back);
        assert_eq!(vswitch.take_any(&mut dice), Some(back));
    }
}
