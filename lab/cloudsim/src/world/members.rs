//! Members: secondary ENIs that ride on a trunk under a VLAN.

use model::{EniId, EniKind, EniStatus, InstanceId, InstanceLimits};

use super::{World, life::wants};
use crate::{
    refusal::{Outcome, Refusal},
    state::{Eni, Ride, kind_word},
};

/// VLAN ids there are (IEEE 802.1Q: 0 is none, 4095 is reserved).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// The parameter as the API spells it.
const TRUNK: &str = "TrunkNetworkInstanceId";

impl World {
    /// Where `eni` would ride: on that trunk, which is in use on that instance, under the lowest free
    /// VLAN. Unconfirmed: how the cloud chooses; the lowest free one is soonest used again by another.
    pub(super) fn ride(
        &self,
        eni: &Eni,
        instance: &InstanceId,
        trunk: &EniId,
        limits: &InstanceLimits,
    ) -> Outcome<Ride> {
        let trunk = self.eni(trunk.as_str())?;
        for (one, wanted) in [(eni, EniKind::Secondary), (trunk, EniKind::Trunk)] {
            if one.kind != wanted {
                return Err(Refusal::eni_kind(&one.id, kind_word(one.kind)));
            }
        }
        wants(trunk, EniStatus::InUse)?;
        if trunk.instance.as_ref() != Some(instance) {
            return Err(Refusal::invalid(TRUNK, "a trunk ENI of the instance"));
        }
        let most = limits.enis_total - limits.enis;
        let members = self.enis_of(instance).filter(|other| other.ride.is_some());
        if members.count() >= most as usize {
            return Err(Refusal::too_many_on_instance(instance, most));
        }
        let taken = |vlan: &u16| {
            let mut rides = self.enis_of(instance).filter_map(|eni| eni.ride.as_ref());
            rides.any(|ride| ride.vlan == *vlan)
        };
        let vlan = VLANS.clone().find(|vlan| !taken(vlan));
        Ok(Ride {
            trunk: trunk.id.clone(),
            vlan: vlan.ok_or_else(|| Refusal::too_many_on_instance(instance, most))?,
        })
    }

    /// The members of a trunk, those on their way included.
    pub(super) fn members_of(&self, trunk: &EniId) -> Vec<EniId> {
        let rides = |eni: &&Eni| eni.ride.as_ref().is_some_and(|ride| ride.trunk == *trunk);
        self.enis
            .values()
            .filter(rides)
            .map(|eni| eni.id.clone())
            .collect()
    }
}

/// A member leaves the trunk it rides on, and no other ENI names one.
pub(super) fn rides_on(eni: &Eni, trunk: Option<&EniId>) -> Outcome<()> {
    match (&eni.ride, trunk) {
        (None, None) => Ok(()),
        (Some(ride), Some(trunk)) if ride.trunk == *trunk => Ok(()),
        (Some(_), None) => Err(Refusal::missing(TRUNK)),
        (Some(_), Some(_)) => Err(Refusal::invalid(TRUNK, "the trunk ENI of the member")),
        (None, Some(_)) => Err(Refusal::eni_kind(&eni.id, kind_word(eni.kind))),
    }
}
