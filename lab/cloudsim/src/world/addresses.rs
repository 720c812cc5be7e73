//! Whose an address or a prefix is: taking, assigning, returning, and how many an ENI may have.

use std::net::{IpAddr, Ipv4Addr};

use model::{EniId, EniStatus, Ipv4Prefix, Timestamp, VSwitchId};

use super::World;
use crate::{
    effect::Effect,
    refusal::{Outcome, Refusal},
    state::{Eni, status_word},
};

/// Addresses of an ENI that is attached to nothing: the primary one and the 49 secondary ones that
/// CreateNetworkInterface can bring (ECS API, SecondaryPrivateIpAddressCount). Once it is attached
/// the instance type decides.
pub(crate) const ADDRESSES_UNATTACHED: u32 = 50;

/// Which addresses a call asks for: these, and so many more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) named: Vec<Ipv4Addr>,
    pub(crate) any: usize,
}

impl Wanted {
    fn len(&self) -> usize {
        self.named.len() + self.any
    }
}

impl World {
    /// Takes addresses of a vSwitch, all of them or none: the named ones come first.
    pub(crate) fn take(&mut self, id: &VSwitchId, wanted: &Wanted) -> Outcome<Vec<Ipv4Addr>> {
        let full = self.faults.is_full(id);
        let Some(vswitch) = self.vswitches.get_mut(id) else {
            return Err(Refusal::no_vswitch(id));
        };
        for address in &wanted.named {
            if !vswitch.gives(*address) {
                return Err(Refusal::address_outside(id, address));
            }
            if vswitch.is_taken(*address) {
                return Err(Refusal::address_taken(address));
            }
        }
        let free = if full { 0 } else { vswitch.free() };
        if wanted.len() > free {
            return Err(Refusal::vswitch_full(id, wanted.len(), free));
        }
        let mut taken = wanted.named.clone();
        taken.retain(|address| vswitch.take(*address));
        taken.extend((0..wanted.any).filter_map(|_| vswitch.take_any(&mut self.dice)));
        Ok(taken)
    }

    /// Takes prefixes of a vSwitch's reserved blocks, all of them or none.
    pub(crate) fn take_prefixes(
        &mut self,
        id: &VSwitchId,
        count: usize,
    ) -> Outcome<Vec<Ipv4Prefix>> {
        self.has_prefixes(id, count)?;
        let Some(vswitch) = self.vswitches.get_mut(id) else {
            return Err(Refusal::no_vswitch(id));
        };
        Ok((0..count)
            .filter_map(|_| vswitch.take_prefix(&mut self.dice))
            .collect())
    }

    /// Refuses what [`World::take_prefixes`] would, and takes nothing.
    pub(crate) fn has_prefixes(&self, id: &VSwitchId, count: usize) -> Outcome<()> {
        let free = match self.vswitches.get(id) {
            Some(vswitch) if !self.faults.is_full(id) => vswitch.free_prefixes().count(),
            Some(_) | None => 0,
        };
        if count > free {
            return Err(Refusal::no_block(id, count, free));
        }
        Ok(())
    }

    pub(super) fn give_prefix_back(
        &mut self,
        vswitch: &VSwitchId,
        prefix: Ipv4Prefix,
        eni: &EniId,
    ) {
        if let Some(vswitch) = self.vswitches.get_mut(vswitch) {
            vswitch.give_prefix_back(prefix);
        }
        for address in prefix.addresses() {
            let eni = eni.clone();
            self.effects.push_back(Effect::Disown { address, eni });
        }
    }

    pub(super) fn own_prefix(&mut self, prefix: Ipv4Prefix, eni: &EniId) {
        for address in prefix.addresses() {
            let eni = eni.clone();
            self.effects.push_back(Effect::Own { address, eni });
        }
    }

    pub(super) fn give_back(&mut self, vswitch: &VSwitchId, address: Ipv4Addr, eni: &EniId) {
        if let Some(vswitch) = self.vswitches.get_mut(vswitch) {
            vswitch.give_back(address);
        }
        let (address, eni) = (IpAddr::V4(address), eni.clone());
        self.effects.push_back(Effect::Disown { address, eni });
    }

    pub(super) fn own(&mut self, address: Ipv4Addr, eni: &EniId) {
        let (address, eni) = (IpAddr::V4(address), eni.clone());
        self.effects.push_back(Effect::Own { address, eni });
    }

    /// How many addresses an ENI may have where it is.
    pub(crate) fn address_limit(&self, eni: &Eni) -> u32 {
        let instance_type = eni.instance.as_ref().and_then(|id| self.type_of(id));
        instance_type.map_or(ADDRESSES_UNATTACHED, |t| t.limits.ipv4_per_eni)
    }

    pub(crate) fn assign(
        &mut self,
        now: Timestamp,
        id: &EniId,
        wanted: &Wanted,
    ) -> Outcome<Vec<Ipv4Addr>> {
        let vswitch = self.room_for(id, wanted.len())?;
        let addresses = self.take(&vswitch, wanted)?;
        for address in &addresses {
            self.own(*address, id);
        }
        self.change(now, id, |eni| {
            eni.secondary.extend(addresses.iter().copied())
        });
        Ok(addresses)
    }

    /// The vSwitch of an ENI that has that many places left.
    fn room_for(&self, id: &EniId, places: usize) -> Outcome<VSwitchId> {
        let eni = self.eni(id.as_str())?;
        settled(eni)?;
        let limit = self.address_limit(eni);
        if eni.places() + places > limit as usize {
            return Err(Refusal::too_many_addresses(id, limit));
        }
        Ok(eni.vswitch.clone())
    }

    pub(crate) fn assign_prefixes(
        &mut self,
        now: Timestamp,
        id: &EniId,
        count: usize,
    ) -> Outcome<Vec<Ipv4Prefix>> {
        let vswitch = self.room_for(id, count)?;
        let prefixes = self.take_prefixes(&vswitch, count)?;
        for prefix in &prefixes {
            self.own_prefix(*prefix, id);
        }
        self.change(now, id, |eni| eni.prefixes.extend(prefixes.iter().copied()));
        Ok(prefixes)
    }

    /// Takes addresses and prefixes from an ENI, all of them or none.
    pub(crate) fn unassign(
        &mut self,
        now: Timestamp,
        id: &EniId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Prefix],
    ) -> Outcome<()> {
        let eni = self.eni(id.as_str())?;
        settled(eni)?;
        let vswitch = eni.vswitch.clone();
        for address in addresses {
            if *address == eni.primary {
                return Err(Refusal::invalid(
                    "PrivateIpAddress.N",
                    "secondary addresses only",
                ));
            }
            if !eni.secondary.contains(address) {
                return Err(Refusal::address_unassigned(address));
            }
        }
        if let Some(prefix) = prefixes.iter().find(|it| !eni.prefixes.contains(it)) {
            return Err(Refusal::address_unassigned(prefix));
        }
        for address in addresses {
            self.give_back(&vswitch, *address, id);
        }
        for prefix in prefixes {
            self.give_prefix_back(&vswitch, *prefix, id);
        }
        self.change(now, id, |eni| {
            eni.secondary.retain(|kept| !addresses.contains(kept));
            eni.prefixes.retain(|kept| !prefixes.contains(kept));
        });
        Ok(())
    }
}

/// Addresses change only while the ENI is not on its way anywhere.
fn settled(eni: &Eni) -> Outcome<()> {
    if matches!(eni.status, EniStatus::Available | EniStatus::InUse) {
        return Ok(());
    }
    Err(Refusal::eni_state(
        &eni.id,
        status_word(eni.status),
        "Available or InUse",
    ))
}
