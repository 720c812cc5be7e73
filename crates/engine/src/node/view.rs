//! What a person may ask a node: its ENIs, what each address does, who waits and for what.

use std::{collections::BTreeMap, net::IpAddr};

use model::{EniId, Mac, Timestamp, VSwitchId};
use serde::{Deserialize, Serialize};

use super::{Exhaustion, Node};
use crate::ledger::{AddressState, EniStage};

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its ENIs.
    pub enis: Vec<EniView>,
    /// Addresses ready for the next pod.
    pub idle: u32,
    /// Addresses held by pods.
    pub assigned: u32,
    /// Addresses at rest.
    pub resting: u32,
    /// ADDs that wait for an address of the pool.
    pub waiting: u32,
    /// What they wait for.
    pub waiting_for: Option<String>,
    /// ADDs of trunk pods that wait, each for its PodENI.
    #[serde(default)]
    pub trunk_waiting: u32,
    /// Why the pool cannot grow though it should, if it cannot.
    pub exhausted: Option<Exhaustion>,
    /// Calls that create something and have no answer yet.
    pub open_calls: u32,
}

/// An ENI of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniView {
    /// Its id.
    pub id: EniId,
    /// Its MAC.
    pub mac: Mac,
    /// Its vSwitch.
    pub vswitch: VSwitchId,
    /// How far it has come.
    pub stage: EniStage,
    /// Whether it is the trunk.
    #[serde(default)]
    pub trunk: bool,
    /// Whether pods can use it.
    pub usable: bool,
    /// Its link on the node.
    pub link: Option<String>,
    /// What each address does: `idle`, `resting`, `new`, `releasing`, or the pod that holds it.
    pub addresses: BTreeMap<IpAddr, String>,
    /// Addresses of the member ENIs it carries, with the pod of each and its VLAN.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<IpAddr, String>,
}

impl Node {
    /// The node as it is at `now`.
    pub fn view(&self, now: Timestamp) -> View {
        let (mut assigned, mut resting) = (0, 0);
        for entry in self.ledger.addresses() {
            match entry.state {
                AddressState::Assigned { .. } => assigned += 1,
                AddressState::Resting { until } if until > now => resting += 1,
                _ => {}
            }
        }
        let waiting = u32::try_from(self.waiting_count()).unwrap_or(u32::MAX);
        View {
            enis: self
                .ledger
                .enis()
                .map(|eni| self.eni_view(&eni.id, now))
                .collect::<Option<_>>()
                .unwrap_or_default(),
            idle: self.idle(now),
            assigned,
            resting,
            waiting,
            trunk_waiting: u32::try_from(self.waiting.len())
                .unwrap_or(u32::MAX)
                .saturating_sub(waiting),
            waiting_for: (waiting > 0).then(|| self.waiting_for(now)),
            exhausted: self.told(now),
            open_calls: u32::try_from(self.ledger.intents().count()).unwrap_or(u32::MAX),
        }
    }

    fn eni_view(&self, id: &EniId, now: Timestamp) -> Option<EniView> {
        let eni = self.ledger.eni(id)?;
        let addresses = self.ledger.addresses_of(id).map(|entry| {
            let doing = match &entry.state {
                _ if entry.unseen > 0 => "uncertain".into(),
                AddressState::Fresh => "new".into(),
                AddressState::Idle { .. } => "idle".into(),
                AddressState::Resting { until } if *until > now => "resting".into(),
                AddressState::Resting { .. } => "idle".into(),
                AddressState::Releasing => "releasing".into(),
                AddressState::Assigned { to } => match self.ledger.attachment(to) {
                    Some(it) if it.joint.is_veth() => it.pod.to_string(),
                    Some(it) => format!("{} (ipvlan)", it.pod),
                    None => to.to_string(),
                },
            };
            (entry.address, doing)
        });
        Some(EniView {
            id: eni.id.clone(),
            mac: eni.mac,
            vswitch: eni.vswitch.clone(),
            stage: eni.stage,
            trunk: eni.trunk,
            usable: self.eni_usable(id),
            link: self.eni_link(id).map(|link| link.name.to_string()),
            addresses: addresses.collect(),
            members: self.members_of(id),
        })
    }
}
