//! Which vSwitch a pod's ENI is made in: one of those asked for, in the node's zone, with an address left
//! as far as is known.

use std::{cmp::Reverse, collections::BTreeMap};

use model::{DualStack, Timestamp, VSwitch, VSwitchId, ZoneId, podnetworking::VSwitchPreference};

use ipnet::IpNet;

use super::earlier;
use crate::retry::Dice;

/// What is known of a vSwitch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVSwitch {
    /// As the cloud described it.
    pub described: VSwitch,
    /// Left alone until then: it refused an ENI for want of addresses, or somebody finds out whether it
    /// still does.
    pub full_until: Timestamp,
}

impl KnownVSwitch {
    /// Whether nothing may be asked of it: past `full_until` it is described anew, and the answer tells.
    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        self.full_until > now || self.described.available_addresses == 0
    }
}

/// The vSwitches the control plane knows.
pub type VSwitches = BTreeMap<VSwitchId, KnownVSwitch>;

/// What a choice among vSwitches came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one.
    Take {
        /// Its id.
        vswitch: VSwitchId,
        /// Its blocks.
        blocks: DualStack<IpNet>,
    },
    /// None can serve.
    None {
        /// When one may, if time alone can mend it.
        until: Option<Timestamp>,
        /// Why, each named.
        why: String,
    },
}

/// Chooses one of `asked` for a pod in `zone`. `seed` decides where chance does.
pub(crate) fn choose(
    now: Timestamp,
    asked: &[VSwitchId],
    preference: VSwitchPreference,
    zone: &ZoneId,
    known: &VSwitches,
    seed: u64,
) -> Choice {
    let (mut usable, mut obstacles, mut until) = (Vec::new(), Vec::new(), None::<Timestamp>);
    for id in asked {
        match known.get(id) {
            None => obstacles.push(format!("{id} is not known in the region")),
            Some(one) if one.described.zone != *zone => {
                obstacles.push(format!("{id} is in zone {}", one.described.zone));
            }
            Some(one) if one.is_full(now) => {
                obstacles.push(format!("{id} has no free address"));
                // Past that time the answer to the description wakes who waits.
                until = earlier(until, Some(one.full_until).filter(|at| *at > now));
            }
            Some(one) => usable.push(one),
        }
    }
    let chosen = match preference {
        VSwitchPreference::Ordered => usable.first(),
        VSwitchPreference::Random if usable.is_empty() => None,
        VSwitchPreference::Random => {
            let at = Dice::new(seed).roll() % (usable.len() as u64);
            usable.get(usize::try_from(at).unwrap_or(0))
        }
        VSwitchPreference::Most => {
            let ranked = usable.iter().enumerate();
            let best =
                ranked.max_by_key(|(at, one)| (one.described.available_addresses, Reverse(*at)));
            best.map(|(_, one)| one)
        }
    };
    match chosen {
        Some(one) => Choice::Take {
            vswitch: one.described.id.clone(),
            blocks: DualStack {
                v4: Some(IpNet::V4(one.described.cidr)),
                v6: one.described.ipv6_cidr.map(IpNet::V6),
            },
        },
        None if asked.is_empty() => Choice::None {
            until: None,
            why: "no vSwitch is configured for the pod".into(),
        },
        None => Choice::None {
            until,
            why: format!("no vSwitch serves zone {zone}: {}", obstacles.join(", ")),
        },
    }
}
