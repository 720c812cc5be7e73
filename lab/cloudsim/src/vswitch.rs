//! A vSwitch's addresses: which it gives out, which are taken.

use std::{collections::BTreeSet, net::Ipv4Addr};

use model::Ipv4Prefix;

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
    prefixes: BTreeSet<Ipv4Prefix>,
}

impl VSwitch {
    pub(crate) fn new(spec: VSwitchSpec) -> Self {
        Self {
            spec,
            taken: BTreeSet::new(),
            prefixes: BTreeSet::new(),
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
        (first..=last).contains(&u32::from(address)) && !self.is_reserved(address)
    }

    /// Whether `address` is kept for prefixes.
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.spec
            .reserved
            .iter()
            .any(|block| block.contains(&address))
    }

    /// The prefixes nobody has, lowest first.
    pub(crate) fn free_prefixes(&self) -> impl Iterator<Item = Ipv4Prefix> {
        let blocks = self.spec.reserved.iter().flat_map(|block| {
            let (first, last) = (u32::from(block.network()), u32::from(block.broadcast()));
            (first..=last).step_by(Ipv4Prefix::ADDRESSES as usize)
        });
        blocks
            .map(|first| Ipv4Prefix::around(Ipv4Addr::from(first)))
            .filter(|prefix| !self.prefixes.contains(prefix))
    }

    /// Takes any free prefix. Like an address, it is the cloud's choice.
    pub(crate) fn take_prefix(&mut self, dice: &mut Dice) -> Option<Ipv4Prefix> {
        let free = u32::try_from(self.free_prefixes().count()).ok()?;
        let at = (free > 0).then(|| dice.below(free))?;
        let prefix = self.free_prefixes().nth(at as usize)?;
        self.prefixes.insert(prefix);
        Some(prefix)
    }

    pub(crate) fn give_prefix_back(&mut self, prefix: Ipv4Prefix) {
        self.prefixes.remove(&prefix);
    }

    pub(crate) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    pub(crate) fn free(&self) -> usize {
        let (first, last) = self.bounds();
        let reserved = self.spec.reserved.iter();
        let reserved: usize = reserved.map(|block| 1 << (32 - block.prefix_len())).sum();
        (last - first + 1) as usize - reserved - self.taken.len()
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
            .find(|address| !self.taken.contains(address) && !self.is_reserved(*address))?;
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
    fn reserved_blocks_are_for_prefixes_alone() {
        let mut vswitch = vswitch("10.0.1.0/24");
        vswitch.spec.reserved = vec!["10.0.1.64/27".parse().unwrap()];
        let mut dice = Dice::new(3);
        assert_eq!(vswitch.free(), 252 - 32);
        assert!(!vswitch.take("10.0.1.70".parse().unwrap()));
        let mut given = BTreeSet::new();
        while let Some(prefix) = vswitch.take_prefix(&mut dice) {
            assert!(given.insert(prefix), "{prefix} was given twice");
        }
        let all: Vec<String> = given.iter().map(Ipv4Prefix::to_string).collect();
        assert_eq!(all, ["10.0.1.64/28", "10.0.1.80/28"]);
        vswitch.give_prefix_back(all[0].parse().unwrap());
        assert_eq!(vswitch.take_prefix(&mut dice).unwrap().to_string(), all[0]);
        while let Some(address) = vswitch.take_any(&mut dice) {
            assert!(!vswitch.is_reserved(address), "{address}");
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
