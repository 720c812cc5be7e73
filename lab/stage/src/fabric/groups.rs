//! Security groups as `bpf/groups.bpf.h` reads them: numbers for names, and one rank for each rule.
//!
//! A rank is twice a rule's priority, and one more if it accepts: of the rules that fit, the lowest priority
//! number has the lowest rank, of equal ones Drop's is lower, and the lowest bit is the verdict. It decides no
//! packet and reads no map.

use std::{collections::BTreeMap, net::IpAddr};

use cloudsim::{Direction, GroupKind, Policy, RULES_MAX, Remote, Rule, SecurityGroup};
use ipnet::IpNet;
use model::SecurityGroupId;

use super::layout::{self, AddressBytes};

/// `struct rule`.
type RuleBytes = [u8; 12 + 2 * size_of::<AddressBytes>()];
/// `struct group`.
pub(super) type GroupBytes = [u8; 4 + RULES_MAX * size_of::<RuleBytes>()];

/// The number of every group that was ever named; 0 is none. 65,535 of them outlast any lab.
#[derive(Default)]
pub(super) struct Numbers(BTreeMap<SecurityGroupId, u16>);

impl Numbers {
    pub(super) fn of(&mut self, group: &SecurityGroupId) -> u16 {
        let next = u16::try_from(self.0.len() + 1).unwrap_or(u16::MAX);
        *self.0.entry(group.clone()).or_insert(next)
    }

    pub(super) fn encode(&mut self, group: &SecurityGroup) -> Box<GroupBytes> {
        let mut bytes = Box::new([0; size_of::<GroupBytes>()]);
        let (head, rules) = bytes.split_at_mut(4);
        let count = u16::try_from(group.rules.len()).unwrap_or(0).to_be_bytes();
        let outbound = group.kind == GroupKind::Basic;
        let [inner, outbound] = [group.inner_access, outbound].map(u8::from);
        head.copy_from_slice(&[inner, outbound, count[0], count[1]]);
        let places = rules.chunks_exact_mut(size_of::<RuleBytes>());
        for (place, known) in places.zip(&group.rules) {
            place.copy_from_slice(&self.rule(&known.rule));
        }
        bytes
    }

    fn rule(&mut self, rule: &Rule) -> RuleBytes {
        let direction = match rule.direction {
            Direction::Outbound => 0,
            Direction::Inbound => 1,
        };
        let rank = 2 * u16::from(rule.priority) + u16::from(rule.policy == Policy::Accept);
        let (group, network, mask) = match &rule.remote {
            Remote::Group(id) => (
                self.of(id),
                AddressBytes::default(),
                AddressBytes::default(),
            ),
            Remote::Net(net) => (0, layout::address(net.network()), mask(*net)),
        };
        let numbers = [rank, *rule.ports.start(), *rule.ports.end(), group];
        let mut bytes = [0; size_of::<RuleBytes>()];
        let (head, remote) = bytes.split_at_mut(12);
        head[..2].copy_from_slice(&[direction, rule.protocol.unwrap_or(0)]);
        for (place, number) in head[2..].chunks_exact_mut(2).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        remote.copy_from_slice(&[network, mask].concat());
        bytes
    }
}

/// The bits of a mapped address that a network fixes.
fn mask(net: IpNet) -> AddressBytes {
    match net {
        IpNet::V4(net) => {
            let mut mask = layout::address(IpAddr::V4(net.netmask()));
            mask[..12].fill(0xff);
            mask
        }
        IpNet::V6(net) => net.netmask().octets(),
    }
}
